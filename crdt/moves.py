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
KEPT_ROWS_MAX = 1 << 17  # of the log in one replay: some 30 MB
TOOK = pack(True)  # the end of the row of a move that took effect  # noqa: FBT003
DOT, HLC, INO, PARENT, NAME = 0, 1, 4, 6, 7  # where the row of a stamped placement has them
TOP, MET = 0, 1  # numbers in a replay: of the root, and of no directory; each is its own parent


class Logged(NamedTuple):
    move: Stamped[Placement]
    old: MoveKey | None
    took: bool


def log_key(move: Stamped[Placement]) -> bytes:
    return _row_key(move.hlc, move.dot, move.fact.ino)


def _row_key(hlc: int, dot: int, ino: int) -> bytes:
    return LOG_START + hlc.to_bytes(8, "big") + dot.to_bytes(8, "big") + ino.to_bytes(8, "big")


def _move_key(row_key: bytes) -> MoveKey:
    return int.from_bytes(row_key[1:9], "big"), int.from_bytes(row_key[9:COMMIT_SIZE], "big")


def decode_logged(data: bytes) -> Logged:
    move, old, took = cast(Row, unpack(data))
    return Logged(stamped_of(move), old, took)


class Replay:
    """One batch of moves on its way into the log.

    Of the part of the log that is replayed a bounded number of rows is kept and, for each directory in it,
    the move that is in effect: memory is bounded by the directories that moved, not by their moves.  Moves
    are rows here, as they lie in the log: to make each a fact would be most of the cost.  The tree, which
    every move is checked against up to the root, is a list: directories are counted, in the order in which
    they are met.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.current: dict[Ino, MoveKey | None] = {}  # the move in effect by now; None: the creation
        self.before: dict[Ino, MoveKey | None] = {}  # what was in effect before the batch
        self.numbers: dict[Ino, int] = {ROOT: TOP}
        self._kept: list[tuple[bytes, bytes]] = []  # the first rows of the log that are replayed
        self.parents: list[int] = [TOP, MET]  # by number, what each is in by now

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

    def _log_from(self, first: bytes, *, keep: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows of the log from this key on.  So many are kept, and need not be read again."""
        yield from self._kept
        if self._kept:
            first = self._kept[-1][0] + b"\0"
        for row in self.state.store.scan(first, LOG_END):
            if len(self._kept) < keep:
                self._kept.append(row)
            yield row

    def _undo(self, first: bytes) -> bool:
        """Take back the effects of the moves from this key on; return whether there are any."""
        newest: dict[Ino, bytes] = {}
        for key, data in self._log_from(first, keep=KEPT_ROWS_MAX):
            ino = Ino(int.from_bytes(key[COMMIT_SIZE:], "big"))
            if ino not in self.current:
                self.current[ino] = cast(LoggedRow, unpack(data))[1]
            if data[-1:] == TOOK:  # what it says else is the key's, and unpacking it would be half of this
                newest[ino] = key
        self.before = {**self.current, **{ino: _move_key(key) for ino, key in newest.items()}}
        return bool(self.current)

    def _merged(self, new: list[tuple[bytes, Row]], first: bytes) -> Iterator[Step]:
        """Yield the new moves and those of the log from `first` on, in order of their keys."""
        coming = iter(new)
        next_key, next_move = next(coming)
        for key, data in self._log_from(first):
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
        into = self._number(group[0][1][PARENT])
        members = [self._number(move[INO]) for _, move, _ in group]
        takes = not self._is_within(into, members)
        for member, (key, move, logged) in zip(members, group, strict=True):
            ino = move[INO]
            old = self.current[ino] if ino in self.current else self._standing(ino)
            if logged != (old, takes):
                self.state.put(key, pack((move, old, takes)))
            if takes:
                self.current[ino] = (move[HLC], move[DOT])
                self.parents[member] = into

    def _standing(self, ino: Ino) -> MoveKey | None:
        """Return the move in effect of a directory that is not in this part of the log."""
        created, at = self.state.places(ino)
        assert at is not None, ino
        key = None if at == created else (at[HLC], at[DOT])
        self.current[ino] = self.before[ino] = key
        return key

    def _is_within(self, directory: int, members: list[int]) -> bool:
        """Is it one of these, or inside one, at this point of the replay?

        This walk is most of the cost where paths are long: eight steps up at a time, since it stays where it
        has come to the root or met one of these.
        """
        parents = self.parents
        were = [parents[member] for member in members]
        for member in members:
            parents[member] = MET
        at = directory
        for _ in repeat(None, len(parents)):
            if at <= MET:
                break
            at = parents[parents[parents[parents[parents[parents[parents[parents[at]]]]]]]]
        for member, parent in zip(members, were, strict=True):
            parents[member] = parent
        assert at <= MET, "there is a cycle"
        return at == MET

    def _number(self, ino: Ino) -> int:
        """Return the number of a directory, having counted it, and all above it, where it is new.

        What was not met in this replay stands where it stood when the replay began.
        """
        found = self.numbers.get(ino)
        if found is None:
            found = len(self.parents)
            while ino not in self.numbers:
                self.numbers[ino] = len(self.parents)
                self.parents.append(len(self.parents) + 1)  # what is above it is the next, if it is new
                ino = self._parent(ino)
            self.parents[-1] = self.numbers[ino]
        return found

    def _parent(self, ino: Ino) -> Ino:
        """Where a directory stands that was not met in this replay yet."""
        if ino in self.current:
            return self._place(ino).fact.parent
        _, at = self.state.places(ino)
        return ROOT if at is None else at[PARENT]

    def _place(self, ino: Ino) -> Stamped[Placement]:
        """Where the move put it that is in effect at this point."""
        key = self.current[ino]
        if key is None:
            created, _ = self.state.places(ino)
            assert created is not None, ino
            return stamped_of(created)
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
