"""A process whose disk fails at fsync: python -m tests.elmer.failing_disk PATH.

The kernel answers EIO to fsync and fdatasync from a certain moment on (seccomp(2)).  Says what becomes of
the store's calls.
"""

import ctypes
import errno
import platform
import struct
import sys
from pathlib import Path

from elmer.rocks import RocksStore

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of struct sock_filter: see bpf(4)
NUMBERS = {"x86_64": (74, 75), "aarch64": (82, 83)}  # of fsync and fdatasync


def fail_every_fsync() -> None:
    """From now on, in this thread and those it starts."""
    fsync, fdatasync = NUMBERS[platform.machine()]
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, 0),
            (JUMP_IF_EQUAL, 1, 0, fsync),
            (JUMP_IF_EQUAL, 0, 1, fdatasync),
            (RETURN, 0, 0, FAIL_WITH | errno.EIO),
            (RETURN, 0, 0, ALLOW),
        )
    )
    instructions = ctypes.create_string_buffer(program)
    # struct sock_fprog: a count, and a pointer after padding.
    arguments = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, arguments, 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def outcome(name, call):
    try:
        call()
    except OSError as error:
        return f"{name}:{errno.errorcode[error.errno]}"
    return name


def main() -> None:
    store = RocksStore(Path(sys.argv[1]))
    store.commit({b"Da": b"synced"}, sync=True)
    sys.stdout.write("synced\n")
    fail_every_fsync()
    store.commit({b"Db": b"not synced"})
    for _ in range(3):
        sys.stdout.write(outcome("sync", store.sync) + "\n")
        sys.stdout.write(outcome("commit", lambda: store.commit({b"Dc": b"too late"})) + "\n")
        assert [store.get(key) for key in (b"Da", b"Db", b"Dc")] == [b"synced", b"not synced", None]
        sys.stdout.write("read\n")


if __name__ == "__main__":
    main()
