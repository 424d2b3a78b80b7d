"""Names at which more than one thing stands, in the whole tree: there may be conflict entries."""

from __future__ import annotations

from crdt.facts import Ino, Kind
from crdt.names import View

Name = tuple[Ino, bytes]  # the lead of a directory, and a name before conflicts


def contested_names(view: View) -> set[Name]:
    found: set[Name] = set()
    shared: list[Ino] = []
    for key, value in view.state.scan(b"Q", b"R"):
        directory, name_hash = Ino(int.from_bytes(key[1:9], "big")), int.from_bytes(key[9:], "big")
        lead = view.members(directory)[0]
        for raw, items in view.state.names(directory, name_hash).items():
            if len(items) > 1 or items[0].branches:
                found.add((lead, raw))
                if value == b"u":
                    shared += [item.ino for item in items if item.kind == Kind.DIRECTORY]
    _add_names_in_unions(view, shared, found)
    return found


def _add_names_in_unions(view: View, todo: list[Ino], found: set[Name]) -> None:
    """In unions names of different members meet, for which there is no mark."""
    seen: set[Ino] = set()
    while todo:
        members = view.members(todo.pop())
        if members[0] in seen or len(members) == 1:
            continue
        seen.add(members[0])
        met: set[bytes] = set()
        for member in members:
            for _, names in view.state.names_from(member, 0):
                for raw in names:
                    if raw in met:
                        found.add((members[0], raw))
                        items = view.items(members, raw)
                        todo += [item.ino for _, item in items if item.kind == Kind.DIRECTORY]
                    met.add(raw)
