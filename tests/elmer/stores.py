"""What the tests of the store on disk share."""

import shutil
import time
from pathlib import Path

import pytest

from elmer.rocks import RocksStore, StoreError

ROOT = Path(__file__).parent.parent.parent
DEADLINE_S = 60


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.002)


def open_and_close(path, **options):
    RocksStore(path, **options).close()


def refused(path, **options):
    """Open a store that must be refused, and return why."""
    with pytest.raises(StoreError) as info:
        open_and_close(path, **options)
    assert str(info.value).startswith(f"{path}: ")
    assert info.value.path == path
    return info.value.refusal


def copied(path, image):
    """Return a copy of a store: what is left when its process is killed now."""
    shutil.rmtree(image, ignore_errors=True)
    return shutil.copytree(path, image)
