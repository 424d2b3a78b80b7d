"""Directories form a tree: the move operation, in batches.

Every replica applies the moves of directories in stamp order, starting from where each directory was
created; one that would put a directory inside itself is skipped, on every replica alike.  Moves that
arrive late are put in their place by one undo of what is later, one sorted merge, and one redo.  What one
commit moved to one name (a union) goes together or not at all, or a union would be torn in two where only
one of its members makes a cycle.

Creations, and all that happens to files, cannot make a cycle and stay out of the log.

Source: Kleppmann, Mulligan, Gomes, Beresford, "A highly-available move operation for replicated trees",
IEEE TPDS 2021, section 3.  `old` is the paper's oldp.  The paper undoes and redoes once for each late
move; a batch here costs one pass, since a replica that was away for a day brings thousands.

A row of the log, under (hlc, dot, directory): the move, the key of the move that was in effect before it
(None: the creation), and whether it took effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, cast

from crdt.codec import pack, unpack
from crdt.facts import ROOT, Ino, Placement
from crdt.rows import Inode, Row, Stamped, stamped_of, stamped_row
from crdt.state import State

MoveKey = tuple[int, int]  # hlc and dot of a move

LOG_START, LOG_END = b"G", b"H"


class Logged(NamedTuple):
    move: Stamped[Placement]
    old: MoveKey | None
    took: bool


def log_key(move: Stamped[Placement]) -> bytes:
    return b"G" + b"".join(part.to_bytes(8, "big") for part in (move.hlc, move.dot, move.fact.ino))


def encode_logged(logged: Logged) -> bytes:
    return pack((stamped_row(logged.move), logged.old, logged.took))


def decode_logged(data: bytes) -> Logged:
    move, old, took = cast(Row, unpack(data))
    return Logged(stamped_of(move), old, took)


class Replay:
    """One batch of moves on its way into the log."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.placed: dict[Ino, Stamped[Placement] | None] = {}  # None: where it was created
        self.before: dict[Ino, Stamped[Placement] | None] = {}  # as it was when the batch began
        self.known: dict[tuple[int, int, Ino], Stamped[Placement]] = {}

    def run(self, new: Iterable[Stamped[Placement]]) -> set[Ino]:
        """Merge these moves; return the directories that stand elsewhere now."""
        moves = sorted({log_key(move): move for move in new}.items())
        if not moves:
            return set()
        undone = list(self._undo(moves[0][0]))
        for key, move in moves:
            self.known[move.hlc, move.dot, move.fact.ino] = move
            assert self.state.get(key) is None, f"the move {move.dot} is merged twice"
        for logged in undone:
            self.known[logged.move.hlc, logged.move.dot, logged.move.fact.ino] = logged.move
        was = {log_key(logged.move): logged for logged in undone}
        self._redo([move for _, move in moves] + [logged.move for logged in undone], was)
        return {ino for ino, move in self.placed.items() if move != self.before[ino]}

    def place(self, ino: Ino) -> Stamped[Placement]:
        """Where a directory stands after the batch."""
        inode = self.state.inode(ino)
        assert inode is not None
        assert inode.created is not None, ino
        return self.placed[ino] or inode.created

    def _undo(self, first: bytes) -> Iterator[Logged]:
        """Yield the moves from this key on, newest first, having taken their effects back."""
        for key, data in self.state.store.scan(first, LOG_END, reverse=True):
            assert key != first, "a move is merged twice"
            logged = decode_logged(data)
            if logged.took:
                self._put(logged.move.fact.ino, self._at(logged.move.fact.ino, logged.old))
            yield logged

    def _at(self, ino: Ino, key: MoveKey | None) -> Stamped[Placement] | None:
        if key is None:
            return None
        found = self.known.get((*key, ino))
        if found is None:
            row = b"G" + b"".join(part.to_bytes(8, "big") for part in (*key, ino))
            data = self.state.get(row)
            assert data is not None, f"the log lacks a move of {ino}"
            found = self.known[(*key, ino)] = decode_logged(data).move
        return found

    def _put(self, ino: Ino, move: Stamped[Placement] | None) -> None:
        if ino not in self.before:
            self.before[ino] = self._current(ino)
        self.placed[ino] = move

    def _current(self, ino: Ino) -> Stamped[Placement] | None:
        """The move that put it where it stands, None for its creation."""
        if ino in self.placed:
            return self.placed[ino]
        inode = self.state.inode(ino)
        assert inode is not None, ino
        return inode.at if inode.at != inode.created else None

    def _redo(self, moves: list[Stamped[Placement]], was: dict[bytes, Logged]) -> None:
        def together(move: Stamped[Placement]) -> tuple[int, int, Ino, bytes]:
            return (move.hlc, move.dot, move.fact.parent, move.fact.name)

        moves.sort(key=lambda move: (together(move), move.fact.ino))
        for _, group in groupby(moves, together):
            members = list(group)
            takes = not self._is_within(members[0].fact.parent, {m.fact.ino for m in members})
            for move in members:
                old = self._current(move.fact.ino)
                logged = Logged(move, None if old is None else (old.hlc, old.dot), takes)
                key = log_key(move)
                if was.get(key) != logged:
                    self.state.put(key, encode_logged(logged))
                if takes:
                    self._put(move.fact.ino, move)

    def _is_within(self, directory: Ino, members: set[Ino]) -> bool:
        """Is it one of these, or inside one, at this point of the replay?"""
        seen: set[Ino] = set()
        while directory != ROOT:
            if directory in members:
                return True
            assert directory not in seen, f"there is a cycle above {directory}"
            seen.add(directory)
            directory = self._parent(directory)
        return False

    def _parent(self, directory: Ino) -> Ino:
        if directory in self.placed:
            return self.place(directory).fact.parent
        inode = self.state.inode(directory)
        if inode is None or inode.at is None:
            return ROOT
        return inode.at.fact.parent


def is_inside(state: State, directory: Ino, ancestors: set[Ino]) -> bool:
    """Is `directory` one of these, or below one, as the tree stands now?"""
    seen: set[Ino] = set()
    while directory != ROOT and directory not in seen:
        if directory in ancestors:
            return True
        seen.add(directory)
        inode: Inode | None = state.inode(directory)
        if inode is None or inode.at is None:
            return False
        directory = inode.at.fact.parent
    return directory in ancestors


def skipped(state: State) -> Iterator[Stamped[Placement]]:
    """Yield the moves that did not take effect because they would have made a cycle."""
    for _, data in state.store.scan(LOG_START, LOG_END):
        logged = decode_logged(data)
        if not logged.took:
            yield logged.move
