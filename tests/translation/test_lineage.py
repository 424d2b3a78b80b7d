"""How programs save a file: whatever way two replicas save one file, they wrote two versions of it.

One of these shows, the other is a conflict entry, and their common past is the version that both began with:
so the first save after it decides which leads, and the entry says who made it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from crdt.facts import Ref
from crdt.names import Entry
from crdt.versions import Step, fork_of_any, line
from tests.shell import Shell, entry_of, exchange, shells

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


SAVES = [in_place, rename_over, remove_and_create, remove_and_rename]
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
