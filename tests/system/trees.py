"""A tree as a program sees it through a mount, as a value that can be compared."""

import hashlib
import os
import stat
from typing import NamedTuple


class Entry(NamedTuple):
    kind: int
    mode: int
    ino: int
    nlink: int
    uid: int
    gid: int
    size: int
    rdev: int
    mtime_ns: int
    content: bytes  # SHA-256 of the bytes; the target of a symlink
    xattrs: tuple[tuple[str, bytes], ...]


def look(root: str | os.PathLike) -> dict[bytes, Entry]:
    """Return everything below `root` by its relative path, all bytes of all files read."""
    found: dict[bytes, Entry] = {}
    start = os.fsencode(root)
    directories = [start]
    while directories:
        directory = directories.pop()
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            entry = look_at(path)
            found[os.path.relpath(path, start)] = entry
            if entry.kind == stat.S_IFDIR:
                directories.append(path)
    return found


def look_at(path: bytes | str) -> Entry:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    is_directory = kind == stat.S_IFDIR
    content = b""
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    elif kind == stat.S_IFLNK:
        content = os.fsencode(os.readlink(path))
    names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    return Entry(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_ino,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        0 if is_directory else status.st_size,
        status.st_rdev,
        status.st_mtime_ns,
        content,
        tuple(xattrs),
    )


def look_without_numbers(root: str | os.PathLike) -> dict[bytes, Entry]:
    """Return what a copy has in common with its original: all but inode numbers.

    File systems count the links of a directory differently.
    """
    return {
        path: entry._replace(ino=0, nlink=0 if entry.kind == stat.S_IFDIR else entry.nlink)
        for path, entry in look(root).items()
    }


def differences(left: dict[bytes, Entry], right: dict[bytes, Entry]) -> list[str]:
    return [
        f"{path!r}: {left.get(path)} / {right.get(path)}"
        for path in sorted(left.keys() | right.keys())
        if left.get(path) != right.get(path)
    ]


def assert_equal(left: dict[bytes, Entry], right: dict[bytes, Entry]) -> None:
    unequal = differences(left, right)
    assert not unequal, "\n".join([f"{len(unequal)} differences", *unequal[:10]])


def first_difference(found: bytes, expected: bytes) -> str:
    for at, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"other bytes from {at} on, of {len(found)} and {len(expected)}"
    return f"{len(found)} bytes, not {len(expected)}"
