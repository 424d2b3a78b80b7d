"""`elmer` with a daemon that answers no create, and tells the kernel of an entry beside it meanwhile: as one
does that is killed at that moment."""

import sys
import time
from typing import NoReturn

from elmer import daemon
from elmer.cli import main
from elmer.kernel import Kernel
from translation.filesystem import FileSystem

KERNELS: list[Kernel] = []


class NotedKernel(Kernel):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        KERNELS.append(self)


def create(_self: FileSystem, parent: int, *_: object) -> NoReturn:
    KERNELS[0].invalidator.tell({(parent, b"of a peer")}, {})
    while True:
        time.sleep(1)


daemon.Kernel = NotedKernel  # type: ignore[misc]
FileSystem.create = create  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
