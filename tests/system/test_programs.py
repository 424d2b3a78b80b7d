"""Programs that people use work on a mount as they do on the host's own file system.

The cases are in `tests/programs`; `scripts/programs` runs those too that take long or need more packages.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.programs.case import Case, Place, prepared, run
from tests.programs.catalogue import QUICK
from tests.programs.crashes import CRASHES
from tests.programs.trees import make_tree
from tests.system.sites import Site

KILLS = [
    "SQLite, delete: kill -9 of the program",
    "SQLite, wal: kill -9 of the program",
    "RocksDB: kill -9 of the program",
    "SQLite, delete: kill -9 of the daemon",
    "SQLite, wal: kill -9 of the daemon",
    "RocksDB: kill -9 of the daemon",
]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_a_program_works_as_on_the_host(shared_site: Site, tmp_path: Path, case: Case):
    place = prepared(case, shared_site / f"case-{QUICK.index(case)}", tmp_path)
    case.work(place)
    if case.check is not None:
        case.check(place)


@pytest.mark.parametrize("name", KILLS)
def test_what_was_committed_survives(shared_site: Site, tmp_path: Path, name: str):
    root = shared_site / f"kill-{KILLS.index(name)}"
    root.mkdir()
    CRASHES[name](shared_site, Place(root, tmp_path))


def test_rsync_says_that_acls_are_not_taken_and_copies_all_else(shared_site: Site, tmp_path: Path):
    """-A does no harm where there is no ACL.  Where there is one rsync names the file, and ends with 23."""
    original, copied = tmp_path / "original", shared_site / "without-acls"
    make_tree(original, seed=2, directories=4)
    # user:1001:rw- beside owner, group, mask and others; <linux/posix_acl_xattr.h>
    entries = [(1, 6, -1), (2, 6, 1001), (4, 4, -1), (16, 6, -1), (32, 4, -1)]
    acl = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little", signed=True)
        for tag, bits, who in entries
    )
    listed = original / "d0" / "e0" / "f0.txt"
    os.setxattr(listed, "system.posix_acl_access", acl)
    done = subprocess.run(
        ["rsync", "-aHAX", f"{original}/", f"{copied}/"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 23
    complaints = [line for line in done.stderr.splitlines() if "Operation not supported" in line]
    assert len(complaints) == 1, done.stderr
    assert "f0.txt" in complaints[0] or "acl" in complaints[0]
    run("diff", "-r", "--no-dereference", "-x", "fifo", "-x", "null", "-x", "block", original, copied)


def test_touch_never_makes_a_file_older(shared_site: Site, tmp_path: Path):
    """The kernel's time for `touch` is that of its last tick: ours is no finer."""
    for number in range(50):
        path = shared_site / f"touched-{number}"
        path.write_bytes(b"text")
        before = path.stat()
        assert before.st_ctime_ns == before.st_mtime_ns
        os.utime(path)
        after = path.stat()
        assert after.st_mtime_ns >= before.st_mtime_ns
        # One that is made of it elsewhere is not older than it, or make(1) would make it for ever.
        (tmp_path / "made").write_bytes(b"of it")
        assert (tmp_path / "made").stat().st_mtime_ns >= after.st_mtime_ns
    # Not that of the last tick: kernels since 6.13 may have told a finer time meanwhile.
    assert after.st_mtime_ns <= time.time_ns()
