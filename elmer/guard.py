"""A process that ends the connection of a mount whose daemon was killed, where the kernel does not.

The kernel ends it as soon as nobody has /dev/fuse open any more.  But a daemon that is killed while it tells
the kernel of an entry (elmer.invalidate) may wait for the lock of a directory, which a program has that waits
for the daemon: neither goes on, the store stays in use, and the program cannot be killed.  `umount -f` ends
that, by root; so only his daemons have a guard (fs/fuse/dir.c, fuse_reverse_inval_entry; umount2(2)).

It has nothing open of the daemon, and learns of its death by a signal (PR_SET_PDEATHSIG of prctl(2)), which
comes when the thread that started it ends: a pipe would stay open with the thread that hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from elmer import mounts
from elmer.directory import hangs

PR_SET_PDEATHSIG = 1  # prctl(2)
DIED = signal.SIGUSR1
PATIENCE_S = 1.0  # threads of a killed process that do not hang are gone much sooner
LOOK_S = 0.01


@contextlib.contextmanager
def guarded(mountpoint: Path) -> Iterator[None]:
    """Have a guard meanwhile.  For the main thread, which ends with the process."""
    if os.geteuid() != 0:
        yield
        return
    command = [sys.executable, "-S", "-P", "-m", "elmer.guard", str(os.getpid()), str(mountpoint)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as guard:
        try:
            yield
        finally:
            guard.kill()


def main(pid: int, mountpoint: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {DIED})
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, DIED)
    if os.getppid() == pid:  # else it died before it was to be told
        signal.sigwait({DIED})
    died_s = time.monotonic()
    while hangs(pid):
        if time.monotonic() > died_s + PATIENCE_S:
            mounts.abort(mountpoint)
            return
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
