"""What stands at one name is found once between two commits, and never kept for longer."""

from __future__ import annotations

import pytest

from crdt.facts import ROOT
from crdt.state import hash_of_name
from tests.shell import Shell, exchange, shells


@pytest.fixture
def conflict() -> list[Shell]:
    """Three replicas that have listed the file `f` that each of them made."""
    made = shells(0, 0, 0)
    for shell in made:
        shell.write("f", f"from {shell.replica.name}")
    exchange(*made)
    for shell in made:
        assert sorted(shell.shows.values()) == ["from A", "from B", "from C"]
    return made


def names(shell: Shell) -> list[bytes]:
    return [entry.name for entry in shell.replica.view.group((ROOT,), b"f")]


def entry_of(shell: Shell, content: str) -> str:
    return next(name for name, shown in shell.shows.items() if shown == content)


def test_a_commit_here_shows_at_once(conflict):
    a, _, _ = conflict
    a.remove(entry_of(a, "from A"))
    assert sorted(a.shows.values()) == ["from B", "from C"]


def test_a_merge_shows_at_once(conflict):
    a, b, _ = conflict
    b.move(entry_of(b, "from A"), "g")
    a.hear(b)
    assert a.shows["g"] == "from A"
    assert len(names(a)) == 2


def test_what_a_commit_is_about_to_change_is_not_kept_where_it_fails(conflict):
    a, _, _ = conflict
    before, state = names(a), a.replica.state
    items = state.names(ROOT, hash_of_name(b"f"))[b"f"]
    state.set_names(ROOT, hash_of_name(b"f"), {b"f": items[:2]})
    assert len(names(a)) == 2
    state.rollback()
    assert names(a) == before


def test_it_is_found_once(conflict):
    view = conflict[0].replica.view
    assert view.group((ROOT,), b"f") is view.group((ROOT,), b"f")
