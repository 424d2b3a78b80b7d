"""Trees with all that programs copy, and what a copy has in common with its original."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

from tests.system.trees import assert_equal, look, look_without_numbers


def make_tree(root: Path, seed: int, directories: int = 12) -> None:
    """Make a tree with modes, times, links of both kinds, holes, xattrs, owners, special files."""
    chance = random.Random(seed)
    root.mkdir()
    for number in range(directories):
        directory = root / f"d{number % 4}" / f"e{number}"
        directory.mkdir(parents=True)
        for file in range(6):
            path = directory / f"f{file}.txt"
            path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 4_096, 70_000])))
            path.chmod(chance.choice([0o644, 0o600, 0o755, 0o444]))
        (directory / "link").symlink_to("f0.txt")
        (directory / "dangling").symlink_to("no/such/file")
    (root / "hard1").hardlink_to(root / "d0" / "e0" / "f1.txt")
    (root / "hard2").hardlink_to(root / "d0" / "e0" / "f1.txt")
    (root / "empty").mkdir(mode=0o700)
    (root / "name with blanks, ünïcode").write_bytes(b"x")
    with (root / "sparse").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "block", 0o660 | stat.S_IFBLK, os.makedev(7, 200))
    os.chown(root / "d1", 1001, 1002)
    os.lchown(root / "d2" / "e2" / "link", 1001, 1002)
    (root / "d0" / "e0" / "f5.txt").chmod(0o4755)
    (root / "d3").chmod(0o3777)
    os.setxattr(root / "hard1", "user.note", b"kept \x00 whole")
    os.setxattr(root / "d2", "user.note", b"of a directory")
    os.setxattr(root / "d0" / "e0" / "f4.txt", "trusted.note", b"by root")
    # cap_net_raw+ep, see capabilities(7)
    os.setxattr(
        root / "d0" / "e0" / "f3.txt",
        "security.capability",
        bytes.fromhex("010000020020000000000000" + 16 * "0"),
    )
    # Old ones, of directories and symlinks too: rsync takes two times in one second for equal.
    for directory, names, files in os.walk(root, topdown=False):
        for name in [*names, *files]:
            stamp = chance.randrange(1_000_000_000, 1_600_000_000) * 10**9 + 123_456_789
            os.utime(Path(directory, name), ns=(stamp, stamp), follow_symlinks=False)


def hard_link_groups(root: Path) -> list[list[bytes]]:
    """Return which names are names of one file."""
    groups: dict[int, list[bytes]] = {}
    for path, entry in look(root).items():
        if entry.nlink > 1 and entry.rdev == 0 and not os.path.isdir(os.fsencode(root) + b"/" + path):
            groups.setdefault(entry.ino, []).append(path)
    return sorted(sorted(paths) for paths in groups.values())


def assert_same(original: Path, copy: Path) -> None:
    assert_equal(look_without_numbers(original), look_without_numbers(copy))
    assert hard_link_groups(original) == hard_link_groups(copy)
