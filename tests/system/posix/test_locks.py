"""Locks between the programs of one machine.  Another machine does not see them (README)."""

import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.posix.calls import opened, result

OTHER = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
how = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX}
for line in sys.stdin:
    kind, call, *region = line.split()
    operation = fcntl.LOCK_UN if kind == "unlock" else how[kind] | fcntl.LOCK_NB
    try:
        if call == "flock":
            fcntl.flock(file, operation)
        else:
            fcntl.lockf(file, operation, *map(int, region))
        print("done", flush=True)
    except BlockingIOError:
        print("blocked", flush=True)
"""


class Other:
    """Another process that locks a file."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", OTHER, path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def does(self, what: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()


@contextmanager
def other_process(path: Path) -> Iterator[Other]:
    other = Other(path)
    try:
        yield other
    finally:
        other.end()


def test_flock_holds_between_processes_until_it_is_given_back(folder: Path):
    (folder / "f").touch()
    with opened(folder / "f", os.O_RDWR) as file, other_process(folder / "f") as other:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert other.does("exclusive flock") == other.does("shared flock") == "blocked"
        fcntl.flock(file, fcntl.LOCK_SH)
        assert other.does("exclusive flock") == "blocked"
        assert other.does("shared flock") == "done"
        assert result(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB) == "EAGAIN"
        assert other.does("unlock flock") == "done"
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(os.dup(file))
        assert other.does("shared flock") == "blocked", "the lock is of the open file, not of a descriptor"
    with opened(folder / "f", os.O_RDWR) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_parts_of_a_file_are_locked_apart(folder: Path):
    (folder / "f").write_bytes(b"text" * 100)
    with opened(folder / "f", os.O_RDWR) as file, other_process(folder / "f") as other:
        fcntl.lockf(file, fcntl.LOCK_EX, 100, 0)
        assert other.does("exclusive lockf 100 100") == "done"
        assert other.does("shared lockf 1 99") == "blocked"
        assert result(fcntl.lockf, file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 150) == "EAGAIN"
        fcntl.lockf(file, fcntl.LOCK_UN, 50, 50)
        assert other.does("shared lockf 50 50") == "done"
        assert other.does("shared lockf 1 49") == "blocked"
        # Whichever descriptor of the file a process closes, its locks are gone.
        with opened(folder / "f", os.O_RDONLY):
            pass
        assert other.does("exclusive lockf 0 0") == "done"


def test_locks_go_with_their_process(folder: Path):
    (folder / "f").touch()
    with opened(folder / "f", os.O_RDWR) as file:
        for call, lock in (("flock", fcntl.flock), ("lockf", fcntl.lockf)):
            with other_process(folder / "f") as other:
                assert other.does(f"exclusive {call}") == "done"
                assert result(lock, file, fcntl.LOCK_EX | fcntl.LOCK_NB) == "EAGAIN"
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_holds_whatever_name_the_file_has(folder: Path):
    (folder / "f").touch()
    (folder / "g").hardlink_to(folder / "f")
    with opened(folder / "f", os.O_RDWR) as file, other_process(folder / "g") as other:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert other.does("exclusive lockf") == "blocked"
        os.rename(folder / "f", folder / "h")
        os.unlink(folder / "g")
        assert other.does("exclusive lockf") == "blocked"
        os.write(file, b"text")
        assert other.does("exclusive lockf") == "blocked"


def test_a_lock_of_an_open_file_is_seen_by_another(folder: Path):
    """OFD locks: of the open file, as flock, but of parts."""
    (folder / "f").touch()
    with opened(folder / "f", os.O_RDWR) as one, opened(folder / "f", os.O_RDWR) as two:
        assert fcntl.fcntl(one, F_OFD_SETLK, lock_of(fcntl.F_WRLCK, 0, 10))
        assert result(fcntl.fcntl, two, F_OFD_SETLK, lock_of(fcntl.F_WRLCK, 5, 10)) == "EAGAIN"
        assert fcntl.fcntl(two, F_OFD_SETLK, lock_of(fcntl.F_WRLCK, 10, 10))


F_OFD_SETLK = 37


def lock_of(kind: int, start: int, length: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
