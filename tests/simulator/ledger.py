"""What programs were promised: promise P3.

Contents are *tokens* of eight bytes, `<000017>`, at multiples of eight; most are written once.  So a content
says whose write is in it.  The ledger notes which tokens a program wrote and closed, and which it had
seen when it overwrote or removed them: all else must be somewhere in the end.  One that several
wrote may be gone with any of them: the same content again adds nothing (absorption, twins).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from crdt.causality import ReplicaId

TOKEN = re.compile(rb"<\d{6}>")
TOKEN_SIZE = 8


def tokens(data: bytes | None) -> set[bytes]:
    return set(TOKEN.findall(data or b""))


class Note(NamedTuple):
    """Holds where the replica still has its commit number `counter`."""

    replica: ReplicaId
    counter: int
    tokens: set[bytes]


class Ledger:
    def __init__(self) -> None:
        self.written: list[Note] = []
        self.gone: list[Note] = []

    def forget(self, replica: ReplicaId, kept: int) -> None:
        """A crash took the commits after `kept`: what they promised, nobody was promised."""
        for notes in (self.written, self.gone):
            notes[:] = [n for n in notes if n.replica != replica or n.counter <= kept]

    def missing_from(self, shown: set[bytes]) -> set[bytes]:
        written = {token for note in self.written for token in note.tokens}
        gone = {token for note in self.gone for token in note.tokens}
        return written - gone - shown
