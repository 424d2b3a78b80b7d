"""Which names a batch of commits may have changed: those touched, and those that hang together with them.

What stands at one name is worked out from the rows of that name alone, but for one thing: conflict entries
take names that are free.  So where a name with the mark of a conflict comes or goes, the entries of the names
that it may be a conflict name of can be named otherwise; and where the entries of such a name change, or of
one so long that its conflict names are cut, so can those of others.
"""

from __future__ import annotations

from collections.abc import Collection

from crdt.entries import MARK, NAME_MAX
from crdt.facts import Ino, Kind
from crdt.names import View
from crdt.rows import Item, Names
from crdt.state import hash_of_name

NameKey = tuple[Ino, bytes]  # a directory and a name before conflicts

CUT_FROM = NAME_MAX - 64  # bytes; the conflict names of longer ones may be cut


def contested(touched: Collection[NameKey], before: View, after: View) -> set[NameKey]:
    """Return the names at which the rules of conflicts decide, or did, of those touched and those beside."""
    views = (before, after)
    found: set[NameKey] = set()
    todo, known = list(touched), set(touched)
    while todo:
        directory, raw = key = todo.pop()
        decided = any(is_contested(view, directory, raw) for view in views)
        if decided:
            found.add(key)
        if MARK in raw or len(raw) > CUT_FROM:
            near = set().union(*(_beside(view, directory, raw, decided=decided) for view in views))
            todo += near - known
            known |= near
    return found


def is_contested(view: View, directory: Ino, raw: bytes) -> bool:
    """Does another thing stand at this name, a further branch of the file, or is the directory a union?"""
    if not view.marked_rows:
        return False
    items = view.state.names(directory, hash_of_name(raw)).get(raw, ())
    return needs_rules(items) or len(view.members(directory)) > 1


def _beside(view: View, directory: Ino, raw: bytes, *, decided: bool) -> set[NameKey]:
    """Names whose conflict entries may have the names of what stands at this one."""
    members = view.members(directory)
    names = {raw}
    if decided:
        names.update(entry.name for entry in view.group(members, raw))
    return {(member, other) for name in names for other in view.raws_of(members, name) for member in members}


def needs_rules(items: tuple[Item, ...]) -> bool:
    return len(items) > 1 or bool(items and items[0].branches)


def mark_of(names: Names) -> tuple[bool, int]:
    """Does a row of names need the rules of conflicts, and how many of its names have directories to
    share them?"""
    marked = any(map(needs_rules, names.values()))
    if not marked:
        return False, 0
    shared = sum(
        1
        for items in names.values()
        if len(items) > 1 and sum(item.kind == Kind.DIRECTORY for item in items) > 1
    )
    return True, shared
