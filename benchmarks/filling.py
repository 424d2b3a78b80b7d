"""A process that fills a store with files, or changes some of them and is killed.

    python -m benchmarks.filling fill ROWS COUNT
    python -m benchmarks.filling change ROWS COUNT

`fill` makes COUNT files in directories of 1,000, and ends in order.  `change` gives files new contents COUNT
times, then one to the file `newest`, prints that, and ends by SIGKILL: what it wrote is in the log of the
store, as after a kill of the daemon.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.divergence import CALLER, Clock, Site
from crdt.facts import ROOT, Ino

IN_A_DIRECTORY = 1000
FILE_BYTES = 1000
NEWEST = b"newest"


def fill(rows: Path, count: int) -> None:
    with Site(rows, Clock(time.time_ns())) as site:
        for number in range(0, count, IN_A_DIRECTORY):
            directory = Ino(site.fs.mkdir(ROOT, b"d%d" % number, 0o755, CALLER).ino)
            site.make_files(directory, "file", min(IN_A_DIRECTORY, count - number), FILE_BYTES)


def change(rows: Path, count: int) -> None:
    site = Site(rows, Clock(time.time_ns()))
    directories = [entry for entry in listed(site, ROOT) if entry[0].startswith(b"d")]
    left = count
    while left > 0:
        for _, directory in directories:
            files = [ino for _, ino in listed(site, directory)][:left]
            site.overwrite(files, FILE_BYTES)
            left -= len(files)
    fh, _ = site.fs.create(ROOT, NEWEST, 0o644, os.O_WRONLY, CALLER)
    content = os.urandom(FILE_BYTES // 2).hex()
    site.fs.write(fh, 0, content.encode())
    site.fs.flush(fh)
    print(content, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def listed(site: Site, directory: Ino) -> list[tuple[bytes, Ino]]:
    fh = site.fs.opendir(directory)
    found = [(name, Ino(there.ino)) for name, there, _ in site.fs.readdir(fh, 0) if name not in (b".", b"..")]
    site.fs.releasedir(fh)
    return found


if __name__ == "__main__":
    {"fill": fill, "change": change}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
