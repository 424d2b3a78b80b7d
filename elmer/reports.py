"""What `.elmer` shows of a replica that runs, made without the one lock.

A handler asks for it, with the lock held.  To work it out takes the loop, a snapshot and a walk over all
conflicts; so the handler lets go of the lock meanwhile, and nothing that it did before may rest on it.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

from elmer.commands import Commands
from elmer.loop import LoopThread
from translation.listing import Conflict, Listing


class Reports:
    """translation.virtual.Reports; `lock_released` lets go of the lock for as long as it is entered."""

    def __init__(
        self, loop: LoopThread, commands: Commands, lock_released: AbstractContextManager[Any]
    ) -> None:
        self.loop = loop
        self.commands = commands
        self.lock_released = lock_released

    def status(self) -> bytes:
        with self.lock_released:
            said = self.loop.run(self.commands.status({}))
        return json.dumps(said, indent=2).encode() + b"\n"

    def conflicts(self) -> list[Conflict]:
        with self.lock_released:
            return self.loop.run(self.commands.of_tree(Listing.conflicts))
