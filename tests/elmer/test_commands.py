"""What the daemon does for people, without a daemon."""

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from crdt.causality import ReplicaId
from elmer.commands import Commands
from elmer.rocks import RocksStore
from translation.replica import Replica, Volume


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collector breaks cycles meanwhile: in a daemon it comes for old objects after hours."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("command", ["digest", "conflicts"])
def test_who_was_told_of_the_tree_does_not_keep_the_store_open(tmp_path: Path, command: str):
    """A replica on a snapshot is in a cycle, and its iterators kept RocksDB open until the process had ended.

    So `elmer fsck` right after `elmer umount` could find the store in use, and each status that a daemon told
    kept the files that were replaced since.
    """
    store = RocksStore(tmp_path / "rows", create=True)
    volume = Volume(b"v" * 16, b"s" * 32, b"d" * 32)
    Replica.create(store, volume, ReplicaId(7), "a", b"i" * 16, time.time_ns())
    commands = Commands(SimpleNamespace(replica=Replica(store, time.time_ns)), "serve", None)
    asyncio.run(commands.table()[command]({}))
    store.close()
    RocksStore(tmp_path / "rows").close()
