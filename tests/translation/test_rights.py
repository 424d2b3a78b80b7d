"""Rows 14 and 15: who may write, whose right a concurrent change took, and what set-user-id needs."""

import os
import stat

import pytest

from crdt.facts import Caller
from tests.shell import Shell, conflict, exchange, shells

ALICE, BOB = Caller(1000, 100), Caller(1001, 100)
CAPABILITY = b"security.capability"


def write_as(shell: Shell, who: Caller, path: str, text: str, *, append: bool = False) -> None:
    """Open, write and close; the kernel has let them."""
    flags = os.O_WRONLY | (os.O_APPEND if append else 0)
    fh = shell.fs.open(shell.stat(path).ino, flags, who)
    shell.world.tick()
    shell.fs.write(fh, 0, text.encode())
    shell.close(fh)


def chown(shell: Shell, path: str, owner: Caller) -> None:
    shell.world.tick()
    shell.fs.setattr(shell.stat(path).ino, uid=owner.uid, gid=owner.gid)


def mode(shell: Shell, path: str) -> int:
    return stat.S_IMODE(shell.stat(path).mode)


def told(*peers: Shell) -> list[tuple[str, str, str]]:
    """What all list: (path, what was overruled, by what)."""
    exchange(*peers)
    listed = [shell.fs.records() for shell in peers]
    assert all(records == listed[0] for records in listed), listed
    return [
        (r.path.decode(), f"{r.overruled.replica} {r.overruled.did}", f"{r.by.replica} {r.by.did}")
        for r in listed[0]
    ]


def shared(mode: int = 0o666, count: int = 2) -> list[Shell]:
    """A file of root that all may write."""
    first, *others = peers = shells(*[0] * count)
    first.write("f", "old")
    first.chmod("f", mode)
    exchange(first, *others)
    return peers


LOST = ("f", "B wrote", "A changed the mode of")


# -- row 15 --------------------------------------------------------------------------------------------


def test_row_15_a_write_by_somebody_who_lost_the_right_stays_and_is_recorded():
    a, b = shared()
    a.chmod("f", 0o644)
    write_as(b, ALICE, "f", "new")
    assert told(a, b) == [LOST]
    assert (b.shows, mode(b, "f")) == ({"f": "new"}, 0o644)
    assert [record.id for record in a.fs.records()] == ["rights-B-2"]


@pytest.mark.parametrize(
    ("was", "bits", "becomes", "says"),
    [
        (ALICE, 0o600, {"uid": 1001}, "A changed the owner of"),
        (ALICE, 0o600, {"uid": 1001, "gid": 200}, "A changed the owner of"),
        (BOB, 0o060, {"gid": 200}, "A changed the group of"),
    ],
)
def test_row_15_a_change_of_owner_or_group_takes_the_right(was, bits, becomes, says):
    a, b = shells(0, 0)
    a.write("f", "old")
    chown(a, "f", was)
    a.chmod("f", bits)
    exchange(a, b)
    a.world.tick()
    a.fs.setattr(a.stat("f").ino, **becomes)
    write_as(b, ALICE, "f", "new")
    assert told(a, b) == [("f", "B wrote", says)]


def test_a_change_that_leaves_the_right_takes_none():
    a, b = shared()
    a.chmod("f", 0o602)
    write_as(b, ALICE, "f", "new")
    assert told(a, b) == []


def test_a_right_that_is_taken_after_a_write_was_seen_is_no_record():
    a, b = shared()
    write_as(b, ALICE, "f", "new")
    a.hear(b)
    a.chmod("f", 0o600)
    assert told(a, b) == []


def test_a_setting_from_before_a_write_is_not_concurrent_with_it():
    """The mode is older than her write, and lets only the owner; who is the owner changed after it."""
    a, b = shells(0, 0)
    a.write("f", "old")
    chown(a, "f", ALICE)
    a.chmod("f", 0o644)
    b.hear(a)
    write_as(b, ALICE, "f", "new")
    a.hear(b)
    chown(a, "f", BOB)
    assert told(a, b) == []


def test_what_a_descriptor_writes_that_was_open_before_the_right_went_is_no_record():
    """As on any file system: the right is asked for by open(2)."""
    a, b = shared()
    fh = b.fs.open(b.stat("f").ino, os.O_WRONLY, ALICE)
    a.chmod("f", 0o600)
    b.hear(a)
    b.world.tick()
    b.fs.write(fh, 0, b"new")
    b.close(fh)
    assert told(a, b) == []


def test_what_was_written_before_the_right_went_and_closed_after_is_recorded():
    a, b = shared()
    fh = b.fs.open(b.stat("f").ino, os.O_WRONLY, ALICE)
    b.world.tick()
    b.fs.write(fh, 0, b"1")
    a.chmod("f", 0o600)
    b.hear(a)
    b.fs.write(fh, 1, b"2")
    b.close(fh)
    assert told(a, b) == [LOST]


def test_the_author_of_what_a_crash_left_behind_is_known():
    a, b = shared()
    fh = b.fs.open(b.stat("f").ino, os.O_WRONLY, ALICE)
    b.world.tick()
    b.fs.write(fh, 0, b"new")
    b.world.now_ns += 6_000_000_000
    b.fs.tick()  # writes it out
    a.chmod("f", 0o600)
    b.open()  # without a close, as after a crash
    assert told(a, b) == [LOST]


def test_a_truncation_is_a_write():
    a, b = shared()
    a.chmod("f", 0o600)
    b.world.tick()
    b.fs.setattr(b.stat("f").ino, size=0, caller=ALICE)
    assert told(a, b) == [LOST]


def test_root_needs_no_right():
    a, b = shared()
    a.chmod("f", 0o444)
    b.write("f", "new")
    assert told(a, b) == []


def test_whoever_may_write_by_a_right_that_is_not_known_is_not_recorded():
    """By one of their other groups, or by a capability: the mode did not let them in the first place."""
    a, b = shared(0o664)
    a.chmod("f", 0o600)
    write_as(b, ALICE, "f", "new")
    assert told(a, b) == []


def test_a_write_over_it_by_somebody_who_had_not_heard_either_hides_nothing():
    a, b = shared()
    a.chmod("f", 0o600)
    write_as(b, ALICE, "f", "new")
    b.append("f", ", more")
    assert told(a, b) == [LOST]
    assert [record.id for record in a.fs.records()] == ["rights-B-2"]


def test_of_several_writes_the_last_one_is_recorded():
    a, b = shared()
    a.chmod("f", 0o600)
    write_as(b, ALICE, "f", "1")
    write_as(b, BOB, "f", "2")
    assert [record.id for record in a.fs.records()] == []
    assert told(a, b) == [LOST]
    assert [record.id for record in a.fs.records()] == ["rights-B-3"]


def test_of_two_who_write_into_one_version_root_is_not_the_one():
    a, b = shared()
    a.chmod("f", 0o600)
    ino = b.stat("f").ino
    first, second = b.fs.open(ino, os.O_WRONLY, ALICE), b.fs.open(ino, os.O_WRONLY)
    b.world.tick()
    b.fs.write(first, 0, b"1")
    b.fs.write(second, 1, b"2")
    b.close(second)
    b.close(first)
    assert told(a, b) == [LOST]


def test_what_the_first_of_two_had_heard_of_is_what_counts_for_their_version():
    a, b = shared()
    ino = b.stat("f").ino
    first, second = (b.fs.open(ino, os.O_WRONLY, who) for who in (ALICE, BOB))
    b.world.tick()
    b.fs.write(first, 0, b"1")
    a.chmod("f", 0o600)
    b.hear(a)
    b.fs.write(second, 1, b"2")
    b.close(second)
    b.close(first)
    assert told(a, b) == [LOST]


def test_a_mode_that_a_write_gives_to_what_were_twins_is_not_concurrent_with_it():
    """Both made the same file with different modes.  What shows is 646, and the write parts them."""
    a, b = shells(0, 0)
    for shell, bits in ((a, 0o666), (b, 0o646)):
        shell.write("f", "same")
        shell.chmod("f", bits)
    exchange(a, b)
    write_as(a, ALICE, "f", "new")
    b.hear(a)
    b.world.tick()
    b.fs.setattr(b.stat("f").ino, gid=ALICE.gid)  # which alone takes her right, and has seen what she wrote
    assert (told(a, b), mode(a, "f")) == ([], 0o646)


def test_whom_the_mode_of_a_twin_had_shut_out_before_does_not_lose_a_right():
    """What shows is 644, so only a descriptor from before lets her write, and B's change takes nothing."""
    a, b = shells(0, 0)
    for shell, bits in ((a, 0o666), (b, 0o644)):
        shell.write("f", "same")
        shell.chmod("f", bits)
    fh = a.fs.open(a.stat("f").ino, os.O_WRONLY, ALICE)
    exchange(a, b)
    b.world.tick()
    b.fs.setattr(b.stat("f").ino, gid=7)
    a.fs.write(fh, 0, b"new")
    a.close(fh)
    assert told(a, b) == []


def test_a_write_that_two_branches_come_of_is_one_record():
    a, b, c = shared(count=3)
    a.chmod("f", 0o600)
    write_as(b, ALICE, "f", "new")
    c.hear(b)
    b.append("f", ", by B")
    c.append("f", ", by C")
    assert told(a, b, c) == [LOST]


def test_a_right_that_is_taken_of_a_conflict_entry_after_the_write_was_seen_is_no_record():
    a, b = shells(0, 0)
    a.write("f", "old")
    a.chmod("f", 0o666)
    b.hear(a)
    write_as(a, ALICE, "f", "from A")
    b.write("f", "from B")
    (entry,) = exchange(a, b).keys() - {"f"}
    b.chmod(entry, 0o600)
    assert told(a, b) == []


def test_of_a_conflict_entry_the_path_is_its_own():
    a, b = shells(0, 0)
    a.write("f", "old")
    a.chmod("f", 0o666)
    b.hear(a)
    write_as(b, ALICE, "f", "from B")
    a.write("f", "from A")
    a.chmod("f", 0o600)
    (entry,) = exchange(a, b).keys() - {"f"}
    assert told(a, b) == [(entry, "B wrote", "A changed the mode of")]


@pytest.mark.parametrize("settle", ["write", "give the right back", "remove", "acknowledge", "own file"])
def test_a_write_without_right_is_settled_by_whoever_saw_both(settle):
    a, b = shared()
    a.chmod("f", 0o600)
    write_as(b, ALICE, "f", "new")
    exchange(a, b)
    if settle == "write":
        b.append("f", ", and seen")
    elif settle == "give the right back":
        b.chmod("f", 0o666)
    elif settle == "remove":
        a.remove("f")
    elif settle == "acknowledge":
        a.fs.acknowledge()
    else:
        chown(a, "f", ALICE)
    assert told(a, b) == []


def test_a_setting_made_after_it_was_seen_settles_nothing_if_another_takes_the_right():
    a, b, c = shared(count=3)
    a.chmod("f", 0o600)
    write_as(b, ALICE, "f", "new")
    c.hear(b)
    chown(c, "f", BOB)
    assert told(a, b, c) == [LOST]


def test_choosing_a_content_is_no_write():
    a, b = shells(0, 0)
    a.write("f", "old")
    a.chmod("f", 0o666)
    b.hear(a)
    write_as(b, ALICE, "f", "from B")
    a.write("f", "from A")
    a.chmod("f", 0o600)
    (entry,) = exchange(a, b).keys() - {"f"}
    a.move(entry, "f")
    assert [path for path, *_ in told(a, b)] == []


# -- row 14: set-user-id and capabilities --------------------------------------------------------------


def test_row_14_set_user_id_does_not_show_with_a_content_that_who_set_it_had_not_seen():
    a, b = shared(0o777)
    a.chmod("f", 0o4755)
    write_as(b, ALICE, "f", "evil")
    exchange(a, b)
    assert (mode(a, "f"), a.shows) == (0o755, {"f": "evil"})
    a.chmod("f", 0o4755)  # who has seen it
    exchange(a, b)
    assert mode(b, "f") == 0o4755


def test_row_14_set_user_id_does_not_show_with_what_is_written_and_no_version_yet():
    a, b = shared(0o777)
    fh = b.open_file("f")
    b.fs.write(fh, 0, b"evil")
    a.chmod("f", 0o4755)
    b.hear(a)
    assert mode(b, "f") == 0o755
    b.fs.setattr(b.stat("f").ino, mode=0o4755)  # who has seen it
    assert mode(b, "f") == 0o4755
    b.close(fh)
    exchange(a, b)
    assert (mode(a, "f"), mode(b, "f")) == (0o4755, 0o4755)


def test_set_user_id_stays_with_a_file_that_is_renamed_linked_or_chosen():
    a, b = shells(0, 0)
    a.write("new", "program")
    a.chmod("new", 0o4755)
    a.write("f", "old")
    exchange(a, b)
    a.move("new", "f")
    b.hear(a)
    b.link("f", "g")
    exchange(a, b)
    assert {mode(shell, path) for shell in (a, b) for path in ("f", "g")} == {0o4755}


def test_set_user_id_stays_with_a_content_that_was_chosen():
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    b.write("f", "from B")
    a.write("f", "from A")
    a.chmod("f", 0o4755)
    (entry,) = exchange(a, b).keys() - {"f"}
    assert (mode(b, "f"), mode(b, entry)) == (0o4755, 0o755)
    b.remove(entry)
    exchange(a, b)
    assert mode(a, "f") == 0o4755


def test_set_user_id_shows_with_a_choice_that_who_set_it_had_seen_whoever_made_it_first():
    """A and B choose alike.  C has heard of B's choice when it sets the bit; A's is the older one."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    a.chmod("f", 0o755)
    for other in (b, c):
        other.hear(a)
    b.write("f", "from B")
    a.write("f", "from A")
    (entry,) = exchange(a, b, c).keys() - {"f"}
    a.remove(entry)
    b.remove(entry)
    c.hear(b)
    c.chmod("f", 0o4755)
    exchange(a, b, c)
    assert {mode(shell, "f") for shell in (a, b, c)} == {0o4755}


def test_writing_takes_set_user_id_away():
    a, b = shared(0o4755)
    assert mode(b, "f") == 0o4755
    write_as(b, ALICE, "f", "new")
    exchange(a, b)
    assert mode(a, "f") == 0o755


@pytest.mark.parametrize("act", ["write", "cut"])
def test_taking_set_user_id_from_one_of_twins_gives_no_right_that_did_not_show(act):
    a, b = shells(0, 0)
    for shell, bits in ((a, 0o4755), (b, 0o644)):
        shell.write("f", "same")
        shell.chmod("f", bits)
    exchange(a, b)
    assert mode(a, "f") == 0o644
    if act == "write":
        write_as(a, ALICE, "f", "new")
    else:
        a.fs.setattr(a.stat("f").ino, size=1)
    assert mode(a, "f") == 0o644
    exchange(a, b)
    assert mode(b, "f") == 0o644


@pytest.mark.parametrize("act", ["remove the entry", "move the entry", "link the entry", "remove the file"])
def test_set_user_id_of_one_content_is_not_changed_by_what_is_done_to_another(act):
    """A's content, which whoever set the bit had seen, is the entry's; B's is the file's."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", "from A")
    a.chmod("f", 0o4755)
    b.write("f", "from B")
    (entry,) = exchange(a, b).keys() - {"f"}
    assert (mode(a, "f"), mode(a, entry)) == (0o755, 0o4755)
    if act == "remove the entry":
        b.remove(entry)
    elif act == "move the entry":
        b.move(entry, "g")
    elif act == "link the entry":
        b.link(entry, "g")
    else:
        b.remove("f")
    shown = exchange(a, b)
    expected = {"f": 0o755, entry: 0o4755, "g": 0o4755}
    assert {path: mode(a, path) for path in shown} == {path: expected[path] for path in shown}


def test_a_capability_does_not_show_with_another_content_or_owner():
    for act in ("write", "chown", "nothing"):
        a, b = shared(0o777)
        a.world.tick()
        a.fs.setxattr(a.stat("f").ino, CAPABILITY, b"caps")
        if act == "write":
            write_as(b, ALICE, "f", "evil")
        elif act == "chown":
            chown(b, "f", ALICE)
        exchange(a, b)
        shows = [CAPABILITY in shell.fs.listxattr(shell.stat("f").ino) for shell in (a, b)]
        assert shows == [act == "nothing"] * 2
        b.world.tick()
        b.fs.setxattr(b.stat("f").ino, CAPABILITY, b"caps")  # who has seen it
        exchange(a, b)
        assert a.fs.getxattr(a.stat("f").ino, CAPABILITY) == b"caps"


def test_a_capability_that_is_set_before_the_file_is_closed_stays():
    """As by who copies a file, and then its attributes, through one descriptor."""
    a, b = shared(0o755)
    fh = b.open_file("f")
    b.fs.write(fh, 0, b"mine")
    b.fs.setxattr(b.stat("f").ino, CAPABILITY, b"caps")
    b.close(fh)
    exchange(a, b)
    assert {shell.fs.getxattr(shell.stat("f").ino, CAPABILITY) for shell in (a, b)} == {b"caps"}


def test_a_capability_does_not_show_with_what_is_written_and_no_version_yet():
    a, b = shared(0o777)
    fh = b.open_file("f")
    b.fs.write(fh, 0, b"evil")
    a.fs.setxattr(a.stat("f").ino, CAPABILITY, b"caps")
    b.hear(a)
    assert CAPABILITY not in b.fs.listxattr(b.stat("f").ino)
    b.close(fh)
    assert CAPABILITY not in b.fs.listxattr(b.stat("f").ino)


def test_a_capability_of_a_conflict_entry_stays_when_that_becomes_a_file():
    a, b, entry = conflict()
    ino = a.stat("f").ino
    a.fs.setxattr(ino, CAPABILITY, b"caps")
    exchange(a, b)
    assert b.fs.getxattr(b.stat(entry).ino, CAPABILITY) == b"caps"
    b.move(entry, "g")
    exchange(a, b)
    assert a.fs.getxattr(a.stat("g").ino, CAPABILITY) == b"caps"


# -- what is set on a conflict entry -------------------------------------------------------------------


def test_what_is_set_on_a_conflict_entry_holds_over_what_its_file_had():
    """The entry becomes a file in the same commit, with a copy of what the file has: that must not win."""
    a, b, entry = conflict()
    file = a.stat("f").ino
    a.fs.setattr(file, mtime_ns=5)
    a.fs.setxattr(file, b"user.k", b"of the file")
    exchange(a, b)
    ino = b.stat(entry).ino
    b.fs.setattr(ino, mtime_ns=7, mode=0o600)
    exchange(a, b)
    assert (a.stat(entry).mtime_ns, mode(a, entry)) == (7, 0o600)
    assert a.fs.getxattr(a.stat(entry).ino, b"user.k") == b"of the file"


def test_an_attribute_set_on_a_conflict_entry_holds_over_the_one_of_its_file():
    a, b, entry = conflict()
    a.fs.setxattr(a.stat("f").ino, b"user.k", b"of the file")
    exchange(a, b)
    b.fs.setxattr(b.stat(entry).ino, b"user.k", b"of the entry")
    exchange(a, b)
    assert a.fs.getxattr(a.stat(entry).ino, b"user.k") == b"of the entry"
    assert a.fs.getxattr(a.stat("f").ino, b"user.k") == b"of the file"
