"""A site whose daemon is recorded, and whose power can be cut."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from elmer.directory import StoreDirectory
from elmer.volume import found
from tests.crashes.recording import Disk, Loss, Recorder, states
from tests.system.sites import Sites

WRITES_OUT_EARLY = [sys.executable, "-P", "-m", "tests.crashes.daemon"]


class Recorded:
    """From its first start on."""

    def __init__(self, sites: Sites, library: Path, scratch: Path) -> None:
        self.site = sites.add("a")
        found(StoreDirectory(self.site.store), "a")
        self.recorder = Recorder(library, self.site.store, scratch)
        self.site.variables = self.recorder.environment
        self.begin()

    def begin(self) -> None:
        """Record from here on, all that is there being durable."""
        self.recorder.log.unlink(missing_ok=True)
        self.base = Disk(self.site.store)

    def disk_now(self) -> Disk:
        """Return what the disk has, and what of it is durable."""
        disk = copy.deepcopy(self.base)
        for _ in states(disk, self.recorder.events()):
            pass
        return disk

    def lose_power(self, scratch: Path) -> None:
        """Give the store that a killed daemon left the content that a power cut leaves at the worst."""
        image = self.disk_now().image(scratch / "image", Loss.ALL, Random(0))
        shutil.rmtree(self.site.store)
        shutil.move(image, self.site.store)
        self.begin()


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory for images of stores: in memory, where a sync costs nothing."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="elmer-", dir=parent) as directory:
        yield Path(directory)
