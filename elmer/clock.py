"""The clock that a mount shares with the kernel.

`touch` and utimensat(2) with UTIME_NOW come with a time of the kernel's coarse clock, which goes on with each
tick (1 to 10 ms), as are the times on the host's other file systems.  With a finer clock of ours a file would
be older after `touch` than before, and one on ext4 that was made of another here older than that one.
"""

from __future__ import annotations

import time

CLOCK_REALTIME_COARSE = 5  # include/uapi/linux/time.h; Python has no name for it


def now_ns() -> int:
    return time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
