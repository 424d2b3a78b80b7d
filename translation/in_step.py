"""Is what is in memory what was committed?

A commit goes to the store first and is known in memory after that.  Where a fault of ours comes between the
two, the next commit would use its dot again, and one of the two would be lost on every replica.  So from
then on nothing is changed: what is committed stays, can be read, and is known again at the next start.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crdt.state import State

LOST = "a commit was written that this process lost track of: it changes nothing more until the next start"


class InStep:
    """`abandon` forgets what a commit was about to change."""

    def __init__(self, state: State, abandon: Callable[[], None]) -> None:
        self.state = state
        self.abandon = abandon
        self.is_lost = False
        self.on_lost: Callable[[], None] = lambda: None

    def check(self) -> None:
        """Raises OSError (EROFS) where nothing may be changed any more."""
        if self.is_lost:
            raise OSError(errno.EROFS, LOST)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """A commit, and all by which it becomes known here.  Raises what the block raises, and as `check`."""
        self.check()
        count = self.state.commit_count
        try:
            yield
        except BaseException:
            self.abandon()
            if self.state.commit_count != count:
                self.is_lost = True
                self.state.forget()  # what is read from now on is what is stored
                self.on_lost()
            raise
