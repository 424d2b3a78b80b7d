"""How programs save a file: whatever way two replicas save one file, they wrote two versions of it.

One of these shows, the other is a conflict entry, and their common past is the version that both began with:
so the first save after it decides which leads, and the entry says who made it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from crdt.entries import Entry
from crdt.facts import Ref
from crdt.versions import Step, fork_of_any, line
from tests.shell import CALLER, Shell, entry_of, exchange, shells

# -- the ways ------------------------------------------------------------------------------------------


def in_place(shell: Shell, path: str, text: str):
    """nano, SQLite."""
    shell.write(path, text)


def rename_over(shell: Shell, path: str, text: str):
    """sed -i, rsync, most editors."""
    shell.write(path + ".new", text)
    shell.move(path + ".new", path)


def remove_and_create(shell: Shell, path: str, text: str):
    """git checkout."""
    shell.remove(path)
    shell.write(path, text)


def remove_and_rename(shell: Shell, path: str, text: str):
    shell.write(path + ".new", text)
    shell.remove(path)
    shell.move(path + ".new", path)


def backup_and_create(shell: Shell, path: str, text: str) -> None:
    """vim."""
    shell.move(path, path + "~")
    shell.write(path, text)
    shell.remove(path + "~")


def backup_and_rename(shell: Shell, path: str, text: str) -> None:
    """patch."""
    shell.write(path + ".new", text)
    shell.move(path, path + "~")
    shell.move(path + ".new", path)
    shell.remove(path + "~")


def linked_backup(shell: Shell, path: str, text: str) -> None:
    """dpkg."""
    shell.write(path + ".new", text)
    shell.link(path, path + "~")
    shell.move(path + ".new", path)
    shell.remove(path + "~")


SAVES = [
    in_place,
    rename_over,
    remove_and_create,
    remove_and_rename,
    backup_and_create,
    backup_and_rename,
    linked_backup,
]
Save = Callable[[Shell, str, str], None]
every_way = pytest.mark.parametrize("save", SAVES)
every_pair = pytest.mark.parametrize(("one", "other"), list(itertools.product(SAVES, SAVES)))


# -- what is looked at ---------------------------------------------------------------------------------


def entry_at(shell: Shell, path: str) -> Entry:
    return shell.fs.names.find(*shell.at(path))


def shown_by(shell: Shell, path: str) -> Ref:
    """The version that a file shows."""
    return shell.fs.names.head_of(entry_at(shell, path))


def parted(shell: Shell, left: str, right: str) -> Ref | None:
    """The version at which what two names show parts, None for strangers."""

    def steps(path: str) -> Iterator[Step]:
        entry, state = entry_at(shell, path), shell.replica.state
        inode = shell.fs.names.inode(entry.owner)
        link = entry.link or inode.shown[0].link
        return line(state, shell.fs.names.head_of(entry), inode.links[link].where().fact.via)

    return fork_of_any(list(steps(left)), list(steps(right))).common


def via_of(shell: Shell, path: str) -> Ref | None:
    """The version by which a file goes on from another one, None where it goes on from none."""
    entry = entry_at(shell, path)
    assert entry.link is not None
    return shell.fs.names.inode(entry.ino).links[entry.link].where().fact.via


def apart() -> tuple[Shell, Shell, Shell, Ref]:
    """A, B, and C, who made the file `f` that the others have heard of; and the version that they know."""
    a, b, c = shells(0, 0, 0)
    c.write("f", "old")
    assert exchange(a, b, c) == {"f": "old"}
    return a, b, c, shown_by(c, "f")


# -- two saves at once ---------------------------------------------------------------------------------


@every_pair
def test_two_saves_are_one_conflict_with_a_common_past(one: Save, other: Save):
    a, b, c, old = apart()
    one(a, "f", "from A")
    other(b, "f", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "A")
    assert shown == {"f": "from B", entry: "from A"}
    assert parted(c, "f", entry) == old
    (conflict,) = c.fs.conflicts()
    assert conflict.kind == ("content" if one is other is in_place else "name")


@every_pair
def test_the_first_save_decides_which_leads_and_a_later_one_does_not_flip_it(one: Save, other: Save):
    a, b, c, old = apart()
    one(a, "f", "first from A")
    other(b, "f", "from B")
    one(a, "f", "last from A")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "A")
    assert shown == {"f": "from B", entry: "last from A"}
    assert parted(c, "f", entry) == old


@every_way
def test_who_has_not_saved_has_no_conflict(save: Save):
    a, b, c, _ = apart()
    save(a, "f", "one")
    save(a, "f", "two")
    assert exchange(a, b, c) == {"f": "two"}
    save(b, "f", "three")
    assert exchange(a, b, c) == {"f": "three"}


@every_pair
def test_a_save_that_the_other_side_made_too_is_no_conflict(one: Save, other: Save):
    """A corrected old to new.  B did the same and went on to newer."""
    a, b, c, _ = apart()
    one(a, "f", "new")
    other(b, "f", "new")
    other(b, "f", "newer")
    assert exchange(a, b, c) == {"f": "newer"}


def test_a_save_by_rename_is_no_choice_over_the_past_that_it_shares():
    """It settles what it replaced, and so does the other one: that was no other branch."""
    a, b, _, _ = apart()
    rename_over(a, "f", "new")
    rename_over(b, "f", "new")
    rename_over(b, "f", "newer")
    assert exchange(a, b) == {"f": "newer"}


@every_pair
def test_a_save_takes_no_name_from_another_file(one: Save, other: Save):
    """A's f is a stranger to B's, which is the newer one: A saves its own without having heard of B's."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.write("f", "old, of B")
    one(a, "f", "from A")
    other(b, "f", "from B")
    one(a, "f", "from A again")
    shown = exchange(a, b)
    assert shown == {"f": "from B", entry_of(shown, "f", "A"): "from A again"}


# -- removed, and made anew ----------------------------------------------------------------------------


def test_a_file_made_at_another_name_continues_nothing():
    a, b, c, _ = apart()
    a.remove("f")
    a.write("g", "from A")
    b.write("g", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "g", "A")
    assert shown == {"g": "from B", entry: "from A"}
    assert parted(c, "g", entry) is None


def test_only_the_first_file_made_there_continues_it():
    """The second one came to a name that nothing had been removed from: a stranger, and the newest one."""
    a, b, c, _ = apart()
    remove_and_create(a, "f", "from A")
    a.move("f", "g")
    a.write("f", "another")
    b.write("f", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "C")  # which made the file
    assert shown == {"f": "another", entry: "from B", "g": "from A"}
    assert parted(c, "f", entry) is None


def test_of_a_file_with_two_names_one_can_be_made_anew_and_the_other_is_as_it_was():
    a, b, c, old = apart()
    c.link("f", "g")
    exchange(a, b, c)
    remove_and_create(a, "f", "from A")
    remove_and_create(b, "f", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "A")
    assert shown == {"f": "from B", entry: "from A", "g": "old"}
    assert parted(c, "f", entry) == old


def test_a_symlink_continues_no_file_and_no_file_a_symlink():
    a, b, c, _ = apart()
    a.remove("f")
    a.symlink("f", "there")
    a.remove("f")
    a.write("f", "from A")
    assert exchange(a, b, c) == {"f": "from A"}
    assert via_of(a, "f") is None


def test_a_file_does_not_continue_itself():
    a, b, c, _ = apart()
    a.link("f", "g")
    a.remove("f")
    a.move("g", "f")
    assert exchange(a, b, c) == {"f": "old"}
    assert via_of(a, "f") is None


def test_a_file_does_not_continue_a_conflict_entry():
    """Who removes one has chosen the other; a file of that name is a new one."""
    a, b, c, _ = apart()
    in_place(a, "f", "from A")
    remove_and_create(b, "f", "from B")
    entry = entry_of(exchange(a, b, c), "f", "A")
    remove_and_create(a, entry, "new")
    assert exchange(a, b, c) == {"f": "from B", entry: "new"}
    assert via_of(a, entry) is None


def test_what_was_removed_long_ago_is_not_continued():
    a, b, c, _ = apart()
    a.remove("f")
    a.world.ticks = itertools.count(2_000_000)  # half an hour later
    a.write("f", "from A")
    assert exchange(a, b, c) == {"f": "from A"}
    assert via_of(a, "f") is None


def test_a_file_that_lives_on_at_another_name_is_not_continued():
    """A removes f, which B has renamed to g: what A makes at f, once it knows, is another file."""
    a, b, c, _ = apart()
    b.move("f", "g")
    a.remove("f")
    a.hear(b)
    a.write("f", "from A")
    assert exchange(a, b, c) == {"f": "from A", "g": "old"}
    assert via_of(a, "f") is None


def test_names_that_were_removed_are_remembered_up_to_a_bound():
    (a,) = shells(0)
    for number in range(1002):
        a.create(f"f{number}")
        a.remove(f"f{number}")
    assert len(a.fs.names.removed.noted) == 1000
    a.create("f1")
    a.create("f2")
    assert via_of(a, "f1") is None
    assert via_of(a, "f2") is not None


# -- a backup, removed in the end ----------------------------------------------------------------------


def test_a_file_replaces_the_old_one_with_the_removal_of_the_backup_and_not_before():
    """With `set backup` vim keeps it: these are two files, and what B writes goes to the old one."""
    a, b, c, old = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    assert exchange(a, b, c) == {"f": "from A", "f~": "old"}
    assert via_of(a, "f") is None
    b.write("f~", "from B")
    a.remove("f~")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "B")
    assert shown == {"f": "from A", entry: "from B"}
    assert parted(c, "f", entry) == old


@every_way
def test_nothing_of_the_old_file_is_left(save: Save):
    a, b, c, _ = apart()
    save(a, "f", "from A")
    assert exchange(a, b, c) == {"f": "from A"}
    assert list(c.fs.listing.orphans()) == []
    b.remove("f")
    assert exchange(a, b, c) == {}


def test_an_edit_that_came_to_the_backup_is_left_as_an_orphan():
    """B's edit came after vim had looked at f, and it was what f~ showed when that was removed.

    Nothing but f~ may go or come for a program here.  B's next edit was shown to nobody who removed.
    """
    a, b, c, old = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    b.write("f", "from B")
    a.hear(b)
    assert a.shows == {"f": "from A", "f~": "from B"}
    a.remove("f~")
    assert a.shows == {"f": "from A"}
    (orphan,) = a.fs.listing.orphans()
    assert a.fs.read(a.fs.open(orphan.ino, os.O_RDONLY), 0, 100) == b"from B"
    b.append("f", " again")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "B")
    assert shown == {"f": "from A", entry: "from B again"}
    assert parted(c, "f", entry) == old


def test_an_edit_of_the_backup_by_who_removes_it_goes_with_it():
    a, b, c, _ = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    a.write("f~", "not wanted")
    a.remove("f~")
    assert exchange(a, b, c) == {"f": "from A"}
    assert list(c.fs.listing.orphans()) == []


@pytest.mark.parametrize("other", SAVES)
def test_a_backup_over_an_older_one_is_a_backup(other):
    """A has a f~ already, which the old f replaces: its past is that of f all the same."""
    a, b, c, old = apart()
    a.write("f~", "older")
    backup_and_create(a, "f", "from A")
    other(b, "f", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "A")
    assert shown == {"f": "from B", entry: "from A"}
    assert parted(c, "f", entry) == old


def test_a_backup_in_another_directory_is_one():
    a, b, c, old = apart()
    c.mkdir("backups")
    exchange(a, b, c)
    a.move("f", "backups/f")
    a.write("f", "from A")
    a.remove("backups/f")
    b.write("f", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "A")
    assert shown == {"backups": "dir", "f": "from B", entry: "from A"}
    assert parted(c, "f", entry) == old


def test_a_rename_beats_a_save_with_a_backup_as_it_beats_a_save_by_rename():
    a, b, c, _ = apart()
    backup_and_create(a, "f", "from A")
    b.move("f", "g")
    assert exchange(a, b, c) == {"f": "from A", "g": "old"}


def test_a_save_with_a_backup_survives_the_removal_of_the_file():
    a, b, c, _ = apart()
    backup_and_create(a, "f", "from A")
    b.remove("f")
    assert exchange(a, b, c) == {"f": "from A"}


def test_what_somebody_else_made_has_not_replaced_the_backup():
    a, b, c, _ = apart()
    b.write("g", "from B")
    a.hear(b)
    a.move("f", "f~")
    a.move("g", "f")
    a.remove("f~")
    assert exchange(a, b, c) == {"f": "from B"}
    assert via_of(a, "f") is None


def test_what_somebody_else_put_at_the_name_has_not_replaced_the_backup():
    a, b, c, _ = apart()
    a.write("g", "from A")
    a.move("f", "f~")
    b.hear(a)
    b.move("g", "f")
    a.hear(b)
    a.remove("f~")
    assert exchange(a, b, c) == {"f": "from A"}
    assert via_of(a, "f") is None


def test_a_symlink_has_not_replaced_the_backup():
    a, b, c, _ = apart()
    a.move("f", "f~")
    a.symlink("f", "there")
    a.remove("f~")
    assert exchange(a, b, c) == {"f": "-> there"}
    assert via_of(a, "f") is None


def test_a_conflict_entry_has_not_replaced_the_backup():
    """A's own f lost its name to B's, and has got the very name that the backup had."""

    def conflict_of(name: str) -> tuple[Shell, str]:
        a, b = shells(0, 0)
        a.write(name, "old")
        a.move(name, "backup")
        a.write("f", "from A")
        b.write("f", "from B")
        a.hear(b)
        return a, entry_of(a.shows, "f", "A")

    _, name = conflict_of("any")
    a, entry = conflict_of(name)
    assert entry == name
    a.remove("backup")
    assert via_of(a, entry) is None
    (conflict,) = a.fs.conflicts()
    assert os.fsdecode(conflict.path) == entry


def test_a_backup_of_a_file_that_went_on_from_another_leaves_edits_at_its_name():
    """The new f was itself saved, before the backup went: its lineage is the one before it."""
    a, b, c, _ = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    rename_over(a, "f", "from A again")
    a.remove("f~")
    b.write("f", "from B")
    shown = exchange(a, b, c)
    entry = entry_of(shown, "f", "A")  # which put it back there
    assert shown == {"f": "from A again", entry: "from B"}
    assert parted(c, "f", entry) is None


def test_a_backup_goes_though_content_of_the_new_file_is_on_its_way():
    """B wrote twice before A heard: the first commit comes without its content."""
    a, b, c, _ = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    b.hear(a)
    b.write("f", "1")
    b.write("f", "2")
    coming = a.hear_one_by_one(b)
    while a.shows["f"] == "from A" and a.fs.names.state.version(shown_by(a, "f")).fact.bare is False:
        next(coming)
    assert a.fs.names.state.version(shown_by(a, "f")).fact.bare
    a.remove("f~")
    assert exchange(a, b, c) == {"f": "2"}


def test_an_edit_of_the_old_file_has_the_past_that_it_had_before():
    """A has saved f twice.  B wrote into the file before both saves, C into the one between.

    What A and C have is of one branch against B's: that of A's first save.
    """
    a, b, c, old = apart()
    rename_over(a, "f", "from A")
    c.hear(a)
    second = shown_by(c, "f")
    backup_and_create(a, "f", "from A again")
    b.write("f", "from B")
    c.write("f", "from C")
    shown = exchange(a, b, c)
    assert shown.pop("f") == "from B"
    one, other = shown
    assert sorted(shown.values()) == ["from A again", "from C"]
    assert other == one + "-2"
    assert parted(c, "f", one) == parted(c, "f", other) == old
    assert parted(c, one, other) == second


def test_a_file_that_was_there_for_long_has_not_replaced_the_backup():
    """Somebody puts another of his files in the place of f, as he may."""
    a, b, c, _ = apart()
    a.write("g", "other")
    a.world.ticks = itertools.count(2_000_000)  # half an hour later
    a.move("f", "f~")
    a.move("g", "f")
    a.remove("f~")
    assert exchange(a, b, c) == {"f": "other"}
    assert via_of(a, "f") is None


def test_a_backup_with_a_further_name_only_loses_one():
    a, b, c, _ = apart()
    c.link("f", "g")
    exchange(a, b, c)
    backup_and_create(a, "f", "from A")
    b.append("g", " and new")
    assert exchange(a, b, c) == {"f": "from A", "g": "old and new"}


def test_a_backup_that_somebody_moved_on_is_none():
    a, b, c, _ = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    b.hear(a)
    b.move("f~", "g")
    a.hear(b)
    a.remove("g")
    assert exchange(a, b, c) == {"f": "from A"}
    assert via_of(a, "f") is None


def test_a_save_with_a_backup_takes_the_old_files_place_in_a_conflict():
    """B's f is a stranger, and newer than A's old one: A's new file competes as the old one did."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.write("f", "from B")
    backup_and_create(a, "f", "from A")
    shown = exchange(a, b)
    assert shown == {"f": "from B", entry_of(shown, "f", "A"): "from A"}


def test_what_is_still_being_written_goes_on_when_the_backup_is_removed():
    a, b, c, _ = apart()
    a.move("f", "f~")
    fh, _ = a.fs.create(1, b"f", 0o644, os.O_WRONLY | os.O_EXCL, CALLER)
    a.fs.write(fh, 0, b"from ")
    a.remove("f~")
    a.fs.write(fh, 5, b"A")
    a.close(fh)
    assert exchange(a, b, c) == {"f": "from A"}


def test_the_kernel_hears_that_the_new_file_changed():
    a, _, _, _ = apart()
    a.move("f", "f~")
    a.write("f", "from A")
    before = a.stat("f")
    a.replica.take_changes()
    a.remove("f~")
    assert a.stat("f").ctime_ns > before.ctime_ns
    assert a.stat("f") == before._replace(ctime_ns=a.stat("f").ctime_ns)
    assert dict(a.replica.take_changes().inodes) == {before.ino: False}


def test_conflict_entries_beside_a_backup_keep_their_names():
    """B's edit was concurrent with one of A, and came when A's was a backup already."""
    a, b, c, _ = apart()
    a.write("f", "from A")
    b.write("f", "from B")
    a.move("f", "f~")
    a.write("f", "from A again")
    a.hear(b)
    before = a.shows
    assert sorted(before.values()) == ["from A", "from A again", "from B"]
    shown = {path: text for path, text in before.items() if path != "f~"}
    a.remove("f~")
    assert a.shows == shown
    assert exchange(a, b, c) == shown
