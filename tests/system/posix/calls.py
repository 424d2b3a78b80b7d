"""What the tests of this folder are written with: system calls, and what is expected of them."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.waiting import until

NOBODY = 65_534


@contextmanager
def opened(path: Path | bytes | str, flags: int, mode: int = 0o644) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def fails_with(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        yield


def result(call: Callable[..., object], *arguments: object, **named: object) -> str:
    """Return how a call ends: `done`, or the name of its error."""
    try:
        call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


@contextmanager
def as_user(uid: int, gid: int = NOBODY, groups: tuple[int, ...] = ()) -> Iterator[None]:
    """Be somebody else meanwhile, as the kernel sees it, and without the rights of root."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@contextmanager
def umask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def let_time_pass(folder: Path) -> None:
    """Return when what happens next in the file system of a folder has a later time than what was."""
    probe = os.open(folder, os.O_RDONLY)
    try:
        os.fchmod(probe, os.fstat(probe).st_mode & 0o7777)
        before = os.fstat(probe).st_ctime_ns

        def moved() -> bool:
            os.fchmod(probe, os.fstat(probe).st_mode & 0o7777)
            return os.fstat(probe).st_ctime_ns > before

        until(moved, "the clock of the file system goes on", poll_s=0.001)
    finally:
        os.close(probe)


def open_and_close(path: Path | bytes | str, flags: int, mode: int = 0o644) -> None:
    os.close(os.open(path, flags, mode))
