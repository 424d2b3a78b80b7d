"""Files that programs of one site hold open for long, while much happens beside them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crdt.facts import Ino
from tests.simulator.laws import require
from tests.simulator.ledger import TOKEN_SIZE, tokens
from translation.filesystem import Attributes, Caller

if TYPE_CHECKING:
    from tests.simulator.programs import Programs

CALLERS = Caller(1000, 1000), Caller(1001, 1001)  # who runs programs


@dataclass
class Handle:
    fh: int
    ino: Ino
    appends: bool
    mine: set[bytes] = field(default_factory=set)  # tokens written through it
    is_unlinked: bool = False  # by a program here: what it writes now stays here
    expected: bytes | None = None  # what it showed last, while nobody else here writes


class Handles:
    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.opened: list[Handle] = []

    def __len__(self) -> int:
        return len(self.opened)

    def of(self, ino: int) -> Iterator[Handle]:
        return (handle for handle in self.opened if handle.ino == ino)

    def on_branch_of(self, ino: Ino) -> list[Handle]:
        """Those of a file, and of another that goes on from the same version: two names of one branch."""
        held = self.programs.fs.content.held
        mine = held(ino) or self.programs.fs.base.shown(ino)
        bases = [(handle, held(handle.ino)) for handle in self.opened]
        return [h for h, base in bases if h.ino == ino or (base is not None and base.head == mine.head)]

    def open(self, known: Attributes, *, appends: bool) -> None:
        flags, caller = os.O_RDWR | (os.O_APPEND if appends else 0), CALLERS[len(self.opened) % 2]
        fh = self.programs.fs.open(known.ino, flags, caller)
        self.opened.append(Handle(fh, Ino(known.ino), appends))

    def write(self, index: int, data: bytes, salt: int) -> None:
        handle, programs = self.pick(index), self.programs
        old = self._read(handle)
        if handle.expected is not None and not handle.appends:
            # What was written to a file that had gone is nobody's when it is brought back (row 28).
            same = old == handle.expected or (handle.is_unlinked and self._is_back(handle))
            require(same, "POSIX", "a file that is open for writing changed under its writer")
        end = len(old) // TOKEN_SIZE * TOKEN_SIZE
        at = len(old) if handle.appends or not old else salt * TOKEN_SIZE % (end + TOKEN_SIZE)
        before, overwritten = programs.commits(), self._overwritten(handle, at, len(data))
        programs.fs.write(handle.fh, at, data)
        new = self._read(handle)
        require(data in new, "POSIX", "a program does not read what it has just written")
        handle.mine |= tokens(data)
        programs.note_gone(before, tokens(old) - tokens(new) | overwritten, for_ever=True)
        self.expect_anything(handle.ino)
        handle.expected = new

    def _overwritten(self, handle: Handle, at: int, size: int) -> set[bytes]:
        """What others wrote here under another name of the branch, and a write takes that has not seen it."""
        found: set[bytes] = set()
        for other in self.on_branch_of(handle.ino):
            if other.ino != handle.ino:
                shown = self._read(other)
                found |= tokens(shown) - tokens(shown[:at]) - tokens(shown[at + size :])
        return found

    def _is_back(self, handle: Handle) -> bool:
        return any(found.attributes.ino == handle.ino for found in self.programs.look().values())

    def expect_anything(self, ino: int) -> None:
        """A program here writes to this file: other descriptors of it see that at once."""
        for handle in self.on_branch_of(Ino(ino)):
            handle.expected = None

    def mark_unlinked(self, ino: int) -> None:
        for handle in self.of(ino):
            handle.is_unlinked = True

    def fsync(self, index: int) -> None:
        handle = self.pick(index)
        left = self._left(handle)
        self.programs.fs.fsync(handle.fh)
        self.programs.site.replica.sync()
        self._promise(handle, left)

    def close(self, index: int) -> None:
        handle = self.pick(index)
        left = self._left(handle)
        self.programs.fs.flush(handle.fh)
        self.programs.fs.release(handle.fh)
        self.opened.remove(handle)
        self._promise(handle, left)

    def close_all(self) -> None:
        self.programs.acts()
        while self.opened:
            self.close(0)

    def pick(self, index: int) -> Handle:
        if not self.opened:
            raise OSError(errno.EBADF, "nothing is open")
        return self.opened[index % len(self.opened)]

    def _read(self, handle: Handle) -> bytes:
        size = self.programs.fs.getattr(handle.ino, handle.fh).size
        return self.programs.fs.read(handle.fh, 0, size)

    def _left(self, handle: Handle) -> set[bytes]:
        """Return which of its tokens are still in it; none where nobody can say."""
        try:
            return tokens(self._read(handle)) & handle.mine
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return set()

    def _promise(self, handle: Handle, left: set[bytes]) -> None:
        if not handle.is_unlinked:
            self.programs.note_written(left)
