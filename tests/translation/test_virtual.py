"""The virtual directory `.elmer`: what stands there, that it is not listed, that nothing is made there."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable

import pytest

from crdt.facts import ROOT, Ino
from crdt.orphans import ORPHANS
from tests.shell import CALLER, Shell, exchange, shells
from translation.listing import Conflict
from translation.virtual import ELMER, link_name, path_of

FIRST_OF_REPLICA_1 = 1 << 40


def names(shell: Shell, path: str) -> list[str]:
    return sorted(name.decode() for name, _ in shell.list(shell.stat(path).ino))


def target(shell: Shell, path: str) -> str:
    """Return the path from the root that a link in `.elmer/conflicts` leads to."""
    link = shell.fs.readlink(shell.stat(path).ino).decode()
    return os.path.normpath(f".elmer/conflicts/{link}")


def in_conflict(path: str) -> tuple[Shell, Shell]:
    """Return two that wrote to one file at once."""
    a, b = shells(0, 0)
    *above, _ = path.split("/")
    for depth in range(len(above)):
        a.mkdir("/".join(above[: depth + 1]))
    a.create(path)
    b.hear(a)
    a.write(path, "from A")
    b.write(path, "from B")
    exchange(a, b)
    return a, b


def orphan(a: Shell, b: Shell, name: str = "f") -> str:
    """Have a file without a name; return how it is listed."""
    a.write(name, "text")
    a.link(name, f"{name}-2")
    b.hear(a)
    ino = a.stat(name).ino
    a.remove(name)
    b.remove(f"{name}-2")
    exchange(a, b)
    return f"{name}-2.orphan-{ino}"


# -- what is there -------------------------------------------------------------------------------------


def test_it_is_found_and_not_listed():
    (a,) = shells(0)
    a.write("f", "text")
    assert names(a, "") == ["f"]
    assert names(a, ".elmer") == ["conflicts", "orphans", "status.json"]
    assert names(a, ".elmer/conflicts") == names(a, ".elmer/orphans") == []
    with pytest.raises(FileNotFoundError):
        a.stat(".elmer/nothing")


def test_its_numbers_are_of_no_replica_and_are_listed_as_they_are():
    a, b = in_conflict("d/f")
    orphan(a, b, "g")
    found = []
    for directory in (".elmer", ".elmer/conflicts", ".elmer/orphans"):
        for name, listed in a.list(a.stat(directory).ino):
            attributes = a.stat(f"{directory}/{name.decode()}")
            assert attributes.ino == listed.ino
            assert stat.S_IFMT(attributes.mode) == stat.S_IFMT(listed.mode)
            found.append(attributes)
    virtual = [each for each in found if not stat.S_ISREG(each.mode) or each.size > 4]
    assert len(virtual) == 4
    assert all(1 < each.ino < FIRST_OF_REPLICA_1 for each in virtual)
    assert len({each.ino for each in found}) == len(found) == 5


def test_it_belongs_to_whom_the_root_belongs_to():
    """The names of others' files are for nobody else to see; an orphan may be taken by its owner only."""
    a, _ = in_conflict("f")
    a.fs.setattr(ROOT, uid=1000, gid=1001)
    modes = {"": 0o40555, "/conflicts": 0o40500, "/orphans": 0o41777, "/status.json": 0o100400}
    for path, mode in modes.items():
        found = a.stat(f".elmer{path}")
        assert (found.mode, found.uid, found.gid) == (mode, 1000, 1001), path
    assert a.stat(".elmer").nlink == 4
    assert a.stat(".elmer/conflicts").nlink == 2
    assert a.stat("").nlink == 2, "it is not listed"


def test_dots_lead_where_they_should():
    (a,) = shells(0)
    conflicts = a.stat(".elmer/conflicts").ino
    assert a.fs.lookup(conflicts, b".").ino == conflicts
    assert a.fs.lookup(conflicts, b"..").ino == ELMER
    assert a.fs.lookup(ELMER, b"..").ino == ROOT


# -- conflicts -----------------------------------------------------------------------------------------


PATHS = ["f", "d/e/f.txt", "100%/a=b/%3D=25.c", "a%/x", "a/%x", "x" * 200 + "/" + "y" * 200]


@pytest.mark.parametrize("path", PATHS)
def test_each_conflict_entry_has_a_link_that_leads_to_it(path: str):
    a, b = in_conflict(path)
    for shell in (a, b):
        (conflict,) = shell.fs.conflicts()
        (name,) = names(shell, ".elmer/conflicts")
        assert len(name) <= 255
        assert target(shell, f".elmer/conflicts/{name}") == conflict.path.decode()
        assert shell.read(target(shell, f".elmer/conflicts/{name}")) == b"from A"
        link = shell.stat(f".elmer/conflicts/{name}")
        assert link.mtime_ns == conflict.wall_ns
        assert link.size == len(shell.fs.readlink(link.ino))


def test_names_of_links_say_the_path_and_no_two_are_one():
    assert link_name(b"photos/2026/sea.conflict-b-4.jpg") == b"photos%2026%sea.conflict-b-4.jpg"
    paths = [b"a%/x", b"a/%x", b"a=25/x", b"a%25/x", b"a/x", b"a%x", b"a=x", b"a=3Dx", b"%/%%", b"==x"]
    assert len({link_name(path) for path in paths}) == len(paths)
    assert [path_of(link_name(path)) for path in paths] == paths
    long = [b"d/" * 200 + b"x", b"e/" * 200 + b"x", b"\xc3\xa4" * 300]
    assert len({link_name(path) for path in long}) == len(long)
    assert all(len(link_name(path)) == 255 for path in long)


def test_a_file_that_only_looks_like_a_conflict_entry_has_no_link():
    a, _ = in_conflict("f")
    (entry,) = (name for name in a.shows if name != "f")
    a.remove("f")  # the entry is a file of its own now
    a.write("g.conflict-A-9", "somebody's")
    assert names(a, ".elmer/conflicts") == []
    for name in (entry, "g.conflict-A-9", "f", "d%f", "%", "=="):
        with pytest.raises(FileNotFoundError):
            a.stat(f".elmer/conflicts/{name}")


def test_what_was_overruled_is_no_entry_and_has_no_link():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    exchange(a, b)
    assert [record.kind for record in a.fs.records()] == ["move"]
    assert names(a, ".elmer/conflicts") == []


def test_a_link_is_forgotten_with_the_kernel():
    a, _ = in_conflict("f")
    (name,) = names(a, ".elmer/conflicts")
    found = a.fs.lookup(a.stat(".elmer/conflicts").ino, name.encode())
    assert a.fs.getattr(found.ino) == found
    a.fs.forget(found.ino, 1)
    with pytest.raises(FileNotFoundError):
        a.fs.getattr(found.ino)


def test_two_links_of_one_number_are_two():
    """Numbers of links are made of their names; the second to come takes the next."""
    a, _ = in_conflict("f")
    (name,) = names(a, ".elmer/conflicts")
    first = a.stat(f".elmer/conflicts/{name}")
    a.fs.virtual.links[first.ino] = a.fs.virtual.links[first.ino]._replace(target=b"elsewhere")
    second = a.stat(f".elmer/conflicts/{name}")
    assert second.ino != first.ino
    assert second.ino < FIRST_OF_REPLICA_1
    assert a.fs.readlink(first.ino) == b"elsewhere"
    assert a.fs.readlink(second.ino) == b"../../" + name.encode()


# -- orphans -------------------------------------------------------------------------------------------


def test_an_orphan_is_found_and_read_on_all_replicas():
    a, b = shells(0, 0)
    name = orphan(a, b)
    for shell in (a, b):
        assert names(shell, ".elmer/orphans") == [name]
        assert shell.read(f".elmer/orphans/{name}") == b"text"


def test_what_is_no_orphan_is_not_found_among_them():
    a, b = shells(0, 0)
    name = orphan(a, b)
    a.write("g", "text")
    ino = a.stat("g").ino
    wrong = [name + "x", "x" + name, f"g.orphan-{ino}", f"g.orphan-{1 << 63}", "f", "f.orphan-", "f.orphan-1"]
    for each in wrong:
        with pytest.raises(FileNotFoundError):
            a.stat(f".elmer/orphans/{each}")


def test_a_long_list_is_read_in_parts():
    a, b = shells(0, 0)
    for number in range(7):
        a.write(f"f{number}", "text")
        a.link(f"f{number}", f"g{number}")
    b.hear(a)
    a.write("f3", "from A")
    b.write("g3", "from B")
    for number in range(7):
        a.remove(f"f{number}")
        b.remove(f"g{number}")
    exchange(a, b)
    directory = a.stat(".elmer/orphans").ino
    fh = a.fs.opendir(directory)
    whole = list(a.fs.readdir(fh, 0))
    assert len({name for name, _, _ in whole[2:]}) == 8, "of one there are two contents"
    for at, (_, _, following) in enumerate(whole, 1):
        assert list(a.fs.readdir(fh, following)) == whole[at:]
    a.fs.releasedir(fh)
    assert a.fs.lists == {}


def test_a_directory_that_is_read_again_shows_what_came_meanwhile():
    a, b = shells(0, 0)
    orphan(a, b)
    fh = a.fs.opendir(a.stat(".elmer/orphans").ino)
    *dots, (first, _, following) = a.fs.readdir(fh, 0)
    assert [(dot, attributes.ino) for dot, attributes, _ in dots] == [(b".", ORPHANS), (b"..", ELMER)]
    name = orphan(a, b, "g")
    assert list(a.fs.readdir(fh, following)) == []
    assert {found for found, _, _ in a.fs.readdir(fh, 0)} == {b".", b"..", first, name.encode()}
    a.fs.releasedir(fh)


# -- status --------------------------------------------------------------------------------------------


class Counting:
    """Reports that are never the same twice."""

    def __init__(self) -> None:
        self.count = 0

    def status(self) -> bytes:
        self.count += 1
        return b"x" * self.count

    def conflicts(self) -> list[Conflict]:
        return []


def test_the_status_says_how_the_replica_stands():
    a, b = in_conflict("f")
    orphan(a, b, "g")
    said = json.loads(b.read(".elmer/status.json"))
    assert said == {"replica": {"name": "B", "id": 2}, "conflicts": 1, "orphans": 1}


def test_the_status_is_made_at_each_look_and_stays_for_who_has_it_open():
    """The kernel keeps pages and size by number: a number that was opened has one content for ever."""
    (a,) = shells(0)
    a.fs.virtual.reports = Counting()
    looked = a.stat(".elmer/status.json")
    again = a.stat(".elmer/status.json")
    assert (looked.ino, looked.size) == (again.ino, 1)
    assert again.size == 2
    fh = a.fs.open(again.ino, os.O_RDONLY)
    other = a.stat(".elmer/status.json")
    assert other.ino != again.ino
    assert other.size == 3
    assert a.fs.getattr(again.ino).size == 2
    assert a.fs.read(fh, 0, 10) == b"xx"
    assert a.fs.read(fh, 1, 10) == b"x"
    a.fs.flush(fh)
    a.fs.fsync(fh)
    a.fs.release(fh)
    assert a.stat(".elmer/status.json").ino == other.ino, "nobody has opened it yet"
    assert a.read(".elmer/status.json") == b"xxxxx"


def test_a_status_is_forgotten_with_the_kernel():
    (a,) = shells(0)
    for _ in range(10):
        a.read(".elmer/status.json")
    for ino, count in list(a.fs.known.items()):
        a.fs.forget(ino, count)
    assert a.fs.virtual.statuses == {}


# -- nothing can be made or changed there --------------------------------------------------------------


REFUSED: dict[str, Callable[[Shell], object]] = {
    "create": lambda a: a.create(".elmer/new"),
    "mkdir": lambda a: a.mkdir(".elmer/conflicts/new"),
    "symlink": lambda a: a.symlink(".elmer/orphans/new", "f"),
    "mknod": lambda a: a.fs.mknod(ELMER, b"new", stat.S_IFIFO, 0, CALLER),
    "link into": lambda a: a.link("f", ".elmer/orphans/new"),
    "link out": lambda a: a.link(".elmer/status.json", "new"),
    "move into": lambda a: a.move("f", ".elmer/new"),
    "move out": lambda a: a.move(".elmer/status.json", "new"),
    "move it": lambda a: a.move(".elmer", "new"),
    "rmdir it": lambda a: a.rmdir(".elmer"),
    "unlink it": lambda a: a.remove(".elmer"),
    "rmdir inside": lambda a: a.rmdir(".elmer/conflicts"),
    "unlink inside": lambda a: a.remove(".elmer/status.json"),
    "chmod": lambda a: a.chmod(".elmer/conflicts", 0o777),
    "truncate": lambda a: a.fs.setattr(a.stat(".elmer/status.json").ino, size=0),
    "open to write": lambda a: a.open_file(".elmer/status.json", os.O_WRONLY),
    "open to truncate": lambda a: a.open_file(".elmer/status.json", os.O_RDONLY | os.O_TRUNC),
    "setxattr": lambda a: a.fs.setxattr(ELMER, b"user.k", b"v"),
    "removexattr": lambda a: a.fs.removexattr(ELMER, b"user.k"),
}


@pytest.mark.parametrize("request_name", REFUSED)
def test_nothing_can_be_changed_in_it(request_name: str):
    (a,) = shells(0)
    a.write("f", "text")
    with pytest.raises(PermissionError) as refused:
        REFUSED[request_name](a)
    assert refused.value.errno == errno.EPERM
    assert a.shows == {"f": "text"}
    assert names(a, ".elmer") == ["conflicts", "orphans", "status.json"]
    assert a.fs.listxattr(ELMER) == []
    assert a.findings() == []


TAKEN: dict[str, Callable[[Shell], object]] = {
    "create": lambda a: a.create(".elmer"),
    "mkdir": lambda a: a.mkdir(".elmer"),
    "symlink": lambda a: a.symlink(".elmer", "f"),
    "mknod": lambda a: a.fs.mknod(ROOT, b".elmer", stat.S_IFIFO, 0, CALLER),
    "link": lambda a: a.link("f", ".elmer"),
    "move": lambda a: a.move("d", ".elmer"),
}


@pytest.mark.parametrize("request_name", TAKEN)
def test_its_name_is_taken_in_the_root_and_nowhere_else(request_name: str):
    (a,) = shells(0)
    a.write("f", "text")
    a.mkdir("d")
    with pytest.raises(FileExistsError):
        TAKEN[request_name](a)
    a.mkdir("d/.elmer")
    assert a.shows == {"d": "dir", "d/.elmer": "dir", "f": "text"}


# -- what a peer has made at its name ------------------------------------------------------------------


def made_by_another_release(kind: int = stat.S_IFDIR) -> tuple[Shell, Shell]:
    """Return two, of which B knows nothing of virtual directories and made something of that name."""
    a, b = shells(0, 0)
    b.world.tick()
    ino = b.fs.names.make(ROOT, b".elmer", kind | 0o755, CALLER)
    if kind == stat.S_IFDIR:
        b.fs.names.make(ino, b"kept", stat.S_IFREG | 0o644, CALLER)
    a.hear(b)
    return a, b


def test_what_came_at_its_name_is_beneath_it():
    a, b = made_by_another_release()
    for shell in (a, b):
        assert names(shell, "") == []
        assert names(shell, ".elmer") == ["beneath", "conflicts", "orphans", "status.json"]
        assert names(shell, ".elmer/beneath") == ["kept"]
        assert shell.stat(".elmer").nlink == 5
        assert shell.stat("").nlink == 2, "it is not listed in the root"


def test_what_came_at_its_name_can_be_moved_away():
    a, b = made_by_another_release()
    a.write(".elmer/beneath/new", "text")
    a.move(".elmer/beneath", "mine")
    assert exchange(a, b) == {"mine": "dir", "mine/kept": "", "mine/new": "text"}
    assert names(b, ".elmer") == ["conflicts", "orphans", "status.json"]


def test_what_came_at_its_name_can_be_removed():
    a, b = made_by_another_release()
    a.remove(".elmer/beneath/kept")
    a.rmdir(".elmer/beneath")
    assert exchange(a, b) == {}
    assert names(b, ".elmer") == ["conflicts", "orphans", "status.json"]
    a, b = made_by_another_release(stat.S_IFREG)
    assert a.stat(".elmer").nlink == 4
    a.remove(".elmer/beneath")
    assert exchange(a, b) == {}


def test_nothing_can_be_put_beneath_it():
    a, _ = made_by_another_release()
    a.mkdir("d")
    for act in (lambda: a.move("d", ".elmer/beneath"), lambda: a.mkdir(".elmer/beneath")):
        with pytest.raises(PermissionError):
            act()


def test_a_conflict_beneath_it_has_a_link_that_leads_there():
    a, b = made_by_another_release()
    a.write(".elmer/beneath/kept", "from A")
    b.write(".elmer/beneath/kept", "from B")
    exchange(a, b)
    (name,) = names(a, ".elmer/conflicts")
    path = target(a, f".elmer/conflicts/{name}")
    assert path.startswith(".elmer/beneath/kept.conflict-A-")
    assert a.read(path) == b"from A"


def test_numbers_of_the_tree_are_not_taken_for_virtual_ones():
    (a,) = shells(0)
    a.write("f", "text")
    assert a.stat("f").ino >= FIRST_OF_REPLICA_1
    assert a.fs.getattr(ROOT).ino == ROOT
    assert a.fs.forget(Ino(12345), 1) is None
