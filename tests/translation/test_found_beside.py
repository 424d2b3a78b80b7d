"""Histories that random runs found, of what stands beside a file when something is done to the file.

A file shows the same as a conflict entry beside it while a program has it open from before the merge that let
another branch lead, or while the content that leads is not here.  Who then replaced or removed the file got
ENOENT.  Of what stands beside it, or of the file itself, nobody here may know the content.
"""

import os
import stat
from collections.abc import Callable

import pytest

from crdt.facts import ROOT, Register
from crdt.rights import CAPABILITY
from tests.shell import CALLER, Shell, conflict, entry_of, exchange, shells

ENTRY = "f.conflict-B-2"


def save(shell: Shell) -> None:
    shell.save("f", "saved")


def move_symlink_over(shell: Shell) -> None:
    shell.symlink("g", "elsewhere")
    shell.move("g", "f")


def move_fifo_over(shell: Shell) -> None:
    shell.fs.mknod(1, b"g", stat.S_IFIFO | 0o600, 0, CALLER)
    shell.move("g", "f")


REPLACE = {save: "saved", move_symlink_over: "-> elsewhere", move_fifo_over: "special"}


def opened_before_a_merge() -> tuple[Shell, Shell, int, str]:
    """B has f open and wrote to it; A's branch leads, so what B wrote shows as f and as an entry."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = b.open_file("f")
    b.write("f", "from B")
    a.write("f", "from A")
    b.hear(a)
    entry = entry_of(b.shows, "f", "B")
    assert b.shows == {"f": "from B", entry: "from B"}
    return a, b, fh, entry


@pytest.mark.parametrize("replace", REPLACE)
def test_to_replace_an_open_file_leaves_the_entry_that_shows_the_same(replace: Callable[[Shell], None]):
    """The new file settled what f showed, and so what the entry showed, which nobody had touched.  To hold
    that the entry became a file of its own, which showed nowhere, and rename(2) failed."""
    a, b, fh, entry = opened_before_a_merge()
    replace(b)
    assert b.shows["f"] == REPLACE[replace]
    assert b.shows[entry] == "from B"
    b.close(fh)
    shown = exchange(a, b)
    assert shown.pop("f") == REPLACE[replace]
    assert shown.pop(entry) == "from B"
    assert list(shown.values()) == ["from A"]


def test_to_replace_a_log_whose_newest_content_is_not_here_leaves_the_entry_that_shows_the_same():
    """What B added to a log shows alone, for want of A's blocks.  Cut off it is a branch of its own, and
    shows as the log and as an entry beside it."""
    a, b = shells(0, 0)
    a.write("f", "log")
    a.fs.setxattr(a.stat("f").ino, b"user.elmer.merge", b"append")
    b.hear(a)
    b.append("f", "from B")
    a.append("f", "from A" * 10_000)
    b.hear(a, blocks=False)
    b.fs.setattr(b.stat("f").ino, size=7)
    entry = entry_of(b.shows, "f", "B")
    assert b.shows == {"f": "logfrom", entry: "logfrom"}
    b.save("f", "saved")
    assert b.read("f") == b"saved"
    assert b.read(entry) == b"logfrom"
    assert sorted(map(len, exchange(a, b).values())) == [5, 7, 60_003]


def test_a_commit_that_lets_go_what_an_entry_shows_without_meaning_the_entry_is_done_all_the_same():
    """What locality cannot hold it leaves: an error would leave an open file that nobody could ever close."""
    _, b, entry = conflict()
    names = b.fs.names
    file, beside = names.find(ROOT, b"f"), names.find(ROOT, os.fsencode(entry))
    inode, moment = names.inode(file.ino), b.replica.begin()
    version = names.version(moment, file.ino, names.head_of(file), [names.head_of(beside)])
    names.commit(moment, [version, names.remove(inode, file.link)])
    assert b.shows == {"f": "from B"}
    assert b.findings() == []


# -- twins -------------------------------------------------------------------------------------------


ACTS: dict[str, tuple[Callable[[Shell], None], dict[str, str]]] = {
    "write": (lambda b: b.write("f", "more"), {"f": "more"}),
    "save": (lambda b: b.save("f", "saved"), {"f": "saved"}),
    "chmod": (lambda b: b.chmod("f", 0o600), {"f": "same"}),
    "rename": (lambda b: b.move("f", "g"), {"g": "same"}),
    "remove": (lambda b: b.remove("f"), {}),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_is_done_to_twins_leaves_the_entry_that_an_open_one_shows(act: str):
    """A's f and B's have one content since C's edit of B's, and show as one.  A program at B has the hidden
    one open, which shows what B wrote, as an entry does.  Whoever parted the twins settled that content,
    which the name did not show: the requests failed (ENOENT), the close of a file among them; a removal
    removed nothing."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "same")
    b.write("f", "old")
    c.hear(b)
    fh = b.open_file("f")
    b.write("f", "from B")
    c.write("f", "same")
    b.hear(c, a)
    entry = entry_of(b.shows, "f", "B")
    assert b.shows == {"f": "same", entry: "from B"}
    do, left = ACTS[act]
    do(b)
    assert b.shows == left | {entry: "from B"}
    b.close(fh)
    assert exchange(a, b, c) == left | {entry: "from B"}


# -- removals ----------------------------------------------------------------------------------------


def test_an_entry_is_removed_while_a_program_writes_to_it():
    """What was gathered of a file is written out before one of several names goes: an entry was looked up as
    a file, to see whether it has others, and rm(1) failed (ENOENT)."""
    a, b, entry = conflict()
    fh = b.open_file(entry)
    b.fs.write(fh, 0, b"to be gone")
    b.remove(entry)
    assert b.shows == {"f": "from B"}
    assert b.fs.read(fh, 0, 100) == b"to be gone"
    b.close(fh)
    assert exchange(a, b) == {"f": "from B"}


def listed(shell: Shell) -> dict[str, None]:
    """The names alone: what nobody here knows cannot be read."""
    return {os.fsdecode(name): None for name, _ in shell.list()}


def test_a_file_is_removed_beside_one_whose_content_nobody_here_knows():
    """To remove one of two is to choose the other, and there was nothing to choose: rm(1) failed (EIO), for
    as long as the peer was away that had sent half of what it did."""
    a, b = shells(0, 0)
    a.write("f", "older")
    b.write("f", "from B")
    a.write("f", "newer")
    names = b.fs.names
    for _ in b.hear_one_by_one(a):
        heads = [names.head_of(entry) for entry in names.view.group((1,), b"f")]
        if any(map(names.is_bare, heads)):
            break
    entry = entry_of(listed(b), "f", "A")
    b.remove("f")
    assert listed(b) == {entry: None}
    assert exchange(a, b) == {entry: "newer"}


def test_an_entry_is_removed_beside_a_file_whose_content_nobody_here_knows():
    """The same, of a branch of that file."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    a.write("f", "older")
    a.write("f", "newer")
    next(b.hear_one_by_one(a))
    b.remove(entry_of(listed(b), "f", "B"))
    assert listed(b) == {"f": None}
    assert exchange(a, b) == {"f": "newer"}


@pytest.mark.parametrize("source", ["f", "its entry"])
def test_a_file_whose_content_nobody_here_knows_is_renamed_over_another(source: str):
    """What is replaced was to be settled by a version of what replaces it, and mv(1) failed (EIO)."""
    a, b = shells(0, 0)
    for name in ("f", "g"):
        a.write(name, "old")
    b.hear(a)
    writes = [(b, "from B"), (a, "older"), (a, "newer")]
    for shell, text in writes if source == "f" else writes[1:] + writes[:1]:
        shell.write("f", text)
    next(b.hear_one_by_one(a))
    b.move("f" if source == "f" else entry_of(listed(b), "f", "A"), "g")
    assert len(listed(b)) == 2
    shown = exchange(a, b)
    assert shown.pop("g") == "newer"
    assert list(shown.values()) == ["from B"]


def test_a_file_whose_content_nobody_here_knows_is_renamed_with_what_hides_under_it():
    """B saved over f what A had written to it, and A went on: what B saved hides.  Nothing could settle that
    when f was renamed, and it took the name f."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write_at("f", "same")
    b.save("f", "same")
    a.append("f", "older")
    a.append("f", "newer")
    names = b.fs.names
    for _ in b.hear_one_by_one(a):
        if names.is_bare(names.head_of(names.find(ROOT, b"f"))):
            break
    assert names.find(ROOT, b"f").twins
    b.move("f", "g")
    assert listed(b) == {"g": None}
    assert exchange(a, b) == {"g": "sameoldernewer"}


@pytest.mark.parametrize(
    ("act", "names"),
    [
        ("rename", {"f", "g"}),
        ("link", {"f", ENTRY, "g"}),
        ("chmod", {"f", ENTRY}),
        ("setxattr", {"f", ENTRY}),
        ("rename the file", {"g", ENTRY}),
    ],
)
def test_what_hides_under_an_entry_whose_content_nobody_here_knows_does_not_come_out(
    act: str, names: set[str]
):
    """A wrote what B had in between: that hides under B's entry, of whose content C has heard only.

    What hides is settled by a version of what it hides under, where that becomes a file of its own.  Without
    one it came out by a rename of the entry or of the file, and a change of the entry was EIO.
    """
    a, b, c = shells(0, 0, 0)
    a.create("f")
    exchange(a, b, c)
    a.write("f", "same")
    b.write("f", "same")
    b.append("f", " older")
    b.append("f", " newer")
    c.write("f", "from C")
    c.hear(a)
    next(c.hear_one_by_one(b))
    assert listed(c) == {"f": None, ENTRY: None}
    if act == "rename":
        c.move(ENTRY, "g")
    elif act == "link":
        c.link(ENTRY, "g")
    elif act == "chmod":
        c.chmod(ENTRY, 0o600)
    elif act == "setxattr":
        c.fs.setxattr(c.stat(ENTRY).ino, b"user.a", b"b")
    else:
        c.move("f", "g")
    assert set(listed(c)) == names
    shown = exchange(a, b, c)
    assert set(shown) == names
    assert set(shown.values()) == {"from C", "same older newer"}


@pytest.mark.parametrize("right", ["set-user-id", "capability"])
def test_an_entry_keeps_the_rights_of_its_content_when_another_of_its_branch_is_made_the_file(right: str):
    """A and C went on from what C wrote, and A gave its content a right that shows with no other one.  At B,
    C's entry is renamed over f, and becomes a file: A's, a branch of that now, lost the right."""
    a, b, c = shells(0, 0, 0)
    a.create("f", 0o755)
    exchange(a, b, c)
    c.write("f", "one")
    a.hear(c)
    a.append("f", " A")
    if right == "capability":
        a.fs.setxattr(a.stat("f").ino, CAPABILITY, b"rights")
    else:
        a.chmod("f", 0o4755)
    c.append("f", " C")
    b.write("f", "from B")
    b.hear(c, a)
    assert b.shows["f"] == "from B"
    entry = entry_of(b.shows, "f", "A")
    before = seen_rights(b, entry)
    assert before != seen_rights(b, "f")
    b.move(entry_of(b.shows, "f", "C"), "f")
    assert b.shows == {"f": "one C", entry: "one A"}
    assert seen_rights(b, entry) == before
    exchange(a, b, c)
    assert seen_rights(a, entry) == before


def seen_rights(shell: Shell, path: str) -> tuple[int, list[bytes]]:
    attributes = shell.stat(path)
    return attributes.mode, shell.fs.listxattr(attributes.ino)


def test_two_files_at_a_name_that_one_was_pinned_to_are_removed_on_two_sites_and_both_stay():
    """The entry stays at its name when f moves away; C has made a file of that name.  To remove C's chose the
    other one, and to remove that one chose nothing: done on two sites at once, both were gone."""
    a, b, c = shells(0, 0, 0)
    a.create("f")
    b.hear(a)
    a.write("f", "from A")
    b.write("f", "from B")
    entry = entry_of(exchange(a, b), "f", "A")
    a.move("f", "g")
    c.write(entry, "from C")
    shown = exchange(a, b, c)
    paths = {text: path for path, text in shown.items()}
    a.remove(paths["from A"])
    b.remove(paths["from C"])
    assert sorted(exchange(a, b, c).values()) == ["from A", "from B", "from C"]


@pytest.mark.parametrize("act", ["unlink", "rename over"])
def test_what_was_saved_over_an_entry_and_renamed_is_removed_though_the_entry_shows_again(act: str):
    """B saves over A's entry and renames that away; A's next edit brings the entry back at its old name.

    To remove what was renamed looked whether a new file had been made at its old name: the entry is none, and
    has no row of its own.  ENOENT.
    """
    a, b = shells(0, 0)
    a.create("f")
    exchange(a, b)
    a.write("f", "from A")
    b.write("f", "from B")
    entry = entry_of(exchange(a, b), "f", "A")
    a.append(entry, ", and more")
    b.save(entry, "saved")
    b.move(entry, "kept")
    assert exchange(a, b) == {"f": "from B", entry: "from A, and more", "kept": "saved"}
    if act == "unlink":
        b.remove("kept")
        assert exchange(a, b) == {"f": "from B", entry: "from A, and more"}
    else:
        b.write("g", "new")
        b.move("g", "kept")
        assert exchange(a, b) == {"f": "from B", entry: "from A, and more", "kept": "new"}


def assert_said_once(shell: Shell) -> None:
    """The newest commit says a thing once, and sets a field of an inode once."""
    commit = shell.replica.latest_commit
    assert commit is not None
    said = [(fact.ino, fact.field) if isinstance(fact, Register) else fact for fact in commit.facts]
    assert len(said) == len(set(said))


@pytest.mark.parametrize("act", ["chmod", "chown", "set-user-id", "setxattr", "link"])
def test_an_entry_with_rights_is_made_a_file_of_its_own_once(act: str):
    """The file beside it has set-user-id.  A change of the entry's own mode came with a second one, the old
    mode, since the entry was split off twice in one commit."""
    a, b = shells(0, 0)
    a.create("f", 0o755)
    exchange(a, b)
    a.write("f", "from A")
    b.write("f", "from B")
    entry = entry_of(exchange(a, b), "f", "A")
    a.chmod("f", 0o4755)
    exchange(a, b)
    ino = a.stat(entry).ino
    if act == "chmod":
        a.chmod(entry, 0o777)
    elif act == "set-user-id":
        a.chmod(entry, 0o2755)
    elif act == "chown":
        a.fs.setattr(ino, uid=7)
    elif act == "setxattr":
        a.fs.setxattr(ino, b"user.a", b"b")
    else:
        a.link(entry, "g")
    assert_said_once(a)


def test_what_holds_a_mode_is_said_once_where_the_change_says_it_too():
    """What B's removal chose hides under what A saved over that, and shows its mode; A wrote to it through an
    open file.  That it leaves the name, and the other keeps the mode, was said twice by one commit."""
    a, b = shells(9, 0)
    b.write("f", "from B")
    a.write("f", "from A")
    fh = a.open_file("f")
    a.chmod("f", 0o600)
    b.remove(entry_of(exchange(a, b), "f", "B"))
    a.save("f", "saved")
    exchange(a, b)
    a.fs.write(fh, 0, b"more")
    a.close(fh)
    assert_said_once(a)
    entry = entry_of(exchange(a, b), "f", "A")
    assert a.shows == {"f": "more A", entry: "saved"}
    assert {a.stat("f").mode, a.stat(entry).mode} == {stat.S_IFREG | 0o600}


def test_what_two_parts_of_a_request_say_is_one_fact():
    """A saved over x and linked that, B saved the same over both its names: twins at a and x, with one mode.

    B renames a file over a: that each of the twins there leaves it said that the one at x keeps its mode.
    """
    a, b = shells(0, 0)
    a.write("t", "old")
    a.link("t", "a")
    exchange(a, b)
    a.move("a", "x")
    b.save("t", "same")
    b.chmod("t", 0o4755)
    a.save("x", "same")
    b.move("t", "x")
    a.link("x", "a")
    b.save("a", "same")
    b.write("t", "new")
    assert exchange(a, b) == {"a": "same", "t": "new", "x": "same"}
    b.move("t", "a")
    assert_said_once(b)
    assert exchange(a, b) == {"a": "new", "x": "same"}
