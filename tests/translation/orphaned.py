"""Files whose names were removed one by one, for the tests of orphans."""

from __future__ import annotations

from tests.shell import Shell, exchange
from tests.walk import orphans


def shown_orphans(*peers: Shell) -> dict[str, str]:
    """Return the contents of the orphans by name, which must be the same on all replicas."""
    found = [{n.decode(): f.content.decode() for n, f in orphans(peer.fs).items()} for peer in peers]
    assert all(one == found[0] for one in found), found
    return found[0]


def without_names(a: Shell, b: Shell, content: str | bytes = "text") -> int:
    """Have a file that A removed under one name and B under the other, last; return its number."""
    a.write("f.txt", content)
    a.link("f.txt", "g.txt")
    b.hear(a)
    ino = a.stat("f.txt").ino
    a.remove("f.txt")
    b.remove("g.txt")
    assert exchange(a, b) == {}
    return ino


def at(name: str) -> str:
    return f".elmer/orphans/{name}"


def orphan_of(a: Shell, b: Shell, content: str = "text") -> str:
    """Return how one is listed that both know."""
    return f"g.orphan-{without_names(a, b, content)}.txt"


def with_two_contents(a: Shell, b: Shell) -> tuple[str, str]:
    """Return how an orphan is listed that holds what B wrote, and beside it what A wrote."""
    a.write("f", "old")
    a.link("f", "g")
    b.hear(a)
    a.write("f", "from A")
    b.write("g", "from B")
    a.remove("f")
    b.remove("g")
    exchange(a, b)
    of_b, of_a = sorted(shown_orphans(a, b), key=len)
    assert [shown_orphans(a)[name] for name in (of_b, of_a)] == ["from B", "from A"]
    return of_b, of_a
