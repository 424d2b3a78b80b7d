"""Where histories are played: a mount, and a tmpfs beside it as the host's file system."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.host.pair import Pair
from tests.system.sites import Site, Sites


@contextmanager
def mounted_tmpfs(where: Path) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "host", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
        where.rmdir()


@contextmanager
def paired(host: Path, mount: Path, series: str) -> Iterator[Pair]:
    pair = Pair(host, mount, series)
    try:
        yield pair
    finally:
        pair.close()


@contextmanager
def beside(site: Site, series: str = "history") -> Iterator[Pair]:
    host = site.mountpoint.parent / "host"
    with mounted_tmpfs(host), paired(host, site.mountpoint, series) as pair:
        yield pair


@contextmanager
def pair_of_sides() -> Iterator[Pair]:
    """With a site of its own, whose store must pass fsck in the end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # take the mounts away then, too
    with tempfile.TemporaryDirectory(prefix="elmer-") as directory:
        Path(directory).chmod(0o755)
        sites = Sites(Path(directory))
        try:
            with beside(sites.found("a")) as pair:
                yield pair
            sites.close()
        finally:
            sites.end()
