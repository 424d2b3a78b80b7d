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
from itertools import groupby, repeat
from typing import NamedTuple, cast

from crdt.codec import pack, unpack
from crdt.facts import ROOT, Ino, Placement
from crdt.rows import Inode, Row, Stamped, stamped_of, stamped_row
from crdt.state import State

MoveKey = tuple[int, int]  # hlc and dot of a move
LoggedRow = tuple[Row, MoveKey | None, bool]  # of the log, as it is packed
Outcome = tuple[MoveKey | None, bool]
Step = tuple[bytes, Row, Outcome | None]  # of a replay: key, move, and what the log says came of it

LOG_START, LOG_END = b"G", b"H"
COMMIT_SIZE = 17  # of the part of a key that says which commit it is
DOT, HLC, INO, PARENT, NAME = 0, 1, 4, 6, 7  # where the row of a stamped placement has them
MET = Ino(-1)  # no number of an inode
DEPTH_MAX = 1 << 24  # of a tree: what is deeper is a cycle


class Logged(NamedTuple):
    move: Stamped[Placement]
    old: MoveKey | None
    took: bool


def log_key(move: Stamped[Placement]) -> bytes:
    return _row_key(move.hlc, move.dot, move.fact.ino)


def _row_key(hlc: int, dot: int, ino: int) -> bytes:
    return LOG_START + hlc.to_bytes(8, "big") + dot.to_bytes(8, "big") + ino.to_bytes(8, "big")


def decode_logged(data: bytes) -> Logged:
    move, old, took = cast(Row, unpack(data))
    return Logged(stamped_of(move), old, took)


class Replay:
    """One batch of moves on its way into the log.

    Of the part of the log that is replayed nothing is kept but, for each directory in it, the move that is
    in effect: memory is bounded by the directories that moved, not by their moves.  Moves are rows here,
    as they lie in the log: to make each a fact would be most of the cost.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.current: dict[Ino, MoveKey | None] = {}  # the move in effect by now; None: the creation
        self.parents: dict[Ino, Ino] = {}  # where that move put it, as far as somebody asked
        self.before: dict[Ino, MoveKey | None] = {}  # what was in effect before the batch

    def run(self, new: Iterable[Stamped[Placement]]) -> dict[Ino, Stamped[Placement]]:
        """Merge these moves; return the directories that stand elsewhere now, and where."""
        moves = sorted((log_key(move), stamped_row(move)) for move in new)
        if not moves:
            return {}
        first = moves[0][0]
        steps = self._merged(moves, first) if self._undo(first) else ((*move, None) for move in moves)
        for group in _groups(steps):
            self._redo(group)
        return {ino: self._place(ino) for ino, key in self.current.items() if key != self.before[ino]}

    def _undo(self, first: bytes) -> bool:
        """Take back the effects of the moves from this key on; return whether there are any."""
        for _, data in self.state.store.scan(first, LOG_END):
            move, old, took = cast(LoggedRow, unpack(data))
            ino = move[INO]
            if ino not in self.current:
                self.current[ino] = self.before[ino] = old
            if took:
                self.before[ino] = (move[HLC], move[DOT])
        return bool(self.current)

    def _merged(self, new: list[tuple[bytes, Row]], first: bytes) -> Iterator[Step]:
        """Yield the new moves and those of the log from `first` on, in order of their keys."""
        coming = iter(new)
        next_key, next_move = next(coming)
        for key, data in self.state.store.scan(first, LOG_END):
            while next_key <= key:
                assert next_key != key, "a move is merged twice"
                yield next_key, next_move, None
                next_key, next_move = next(coming, (LOG_END, ()))
            move, old, took = cast(LoggedRow, unpack(data))
            yield key, move, (old, took)
        while next_move:
            yield next_key, next_move, None
            next_key, next_move = next(coming, (LOG_END, ()))

    def _redo(self, group: list[Step]) -> None:
        """Do the moves of one commit to one name, all or none."""
        takes = not self._is_within(group[0][1][PARENT], [move[INO] for _, move, _ in group])
        for key, move, logged in group:
            ino = move[INO]
            old = self.current[ino] if ino in self.current else self._standing(ino)
            if logged != (old, takes):
                self.state.put(key, pack((move, old, takes)))
            if takes:
                self.current[ino] = (move[HLC], move[DOT])
                self.parents[ino] = move[PARENT]

    def _standing(self, ino: Ino) -> MoveKey | None:
        """Return the move in effect of a directory that is not in this part of the log."""
        inode = self.state.inode(ino)
        assert inode is not None, ino
        assert inode.at is not None, ino
        at = None if inode.at == inode.created else (inode.at.hlc, inode.at.dot)
        self.current[ino] = self.before[ino] = at
        return at

    def _is_within(self, directory: Ino, members: list[Ino]) -> bool:
        """Is it one of these, or inside one, at this point of the replay?"""
        parents = self.parents
        were = [(ino, parents.get(ino)) for ino in members]
        for ino in members:
            parents[ino] = MET  # so that each step up is one look-up and one comparison
        at = directory
        for _ in repeat(None, DEPTH_MAX):
            if at <= ROOT:
                break
            at = parents[at] if at in parents else self._parent(at)
        for ino, parent in were:
            if parent is None:
                del parents[ino]
            else:
                parents[ino] = parent
        assert at <= ROOT, f"there is a cycle above {directory}"
        return at == MET

    def _parent(self, directory: Ino) -> Ino:
        """Where it stands at this point of the replay, not having been moved in it yet."""
        found = ROOT
        if directory in self.current:
            found = self._place(directory).fact.parent
        else:
            inode = self.state.inode(directory)
            if inode is not None and inode.at is not None:
                found = inode.at.fact.parent
        self.parents[directory] = found
        return found

    def _place(self, ino: Ino) -> Stamped[Placement]:
        """Where the move put it that is in effect at this point."""
        key = self.current[ino]
        if key is None:
            inode = self.state.inode(ino)
            assert inode is not None, ino
            assert inode.created is not None, ino
            return inode.created
        data = self.state.get(_row_key(*key, ino))
        assert data is not None, f"the log lacks a move of {ino}"
        return decode_logged(data).move


def _groups(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Put together what one commit moved to one name."""
    for _, commit in groupby(steps, lambda step: step[0][:COMMIT_SIZE]):
        moves = list(commit)
        if len(moves) == 1:
            yield moves
        else:
            moves.sort(key=_target)
            yield from (list(group) for _, group in groupby(moves, _target))


def _target(step: Step) -> tuple[Ino, bytes]:
    return step[1][PARENT], step[1][NAME]


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
