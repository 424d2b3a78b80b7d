"""What a program finds that looks at everything: `find -ls`, and the bytes of each file."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from typing import NamedTuple

from crdt.facts import ROOT, Ino
from translation import merge_policy
from translation.filesystem import Attributes, FileSystem


class Found(NamedTuple):
    """`content` of a symlink is its target, of what is not here None.  Access times are no part of what is
    found: looking moves them, and each replica has its own."""

    attributes: Attributes
    content: bytes | None

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.attributes.mode)


def walk(fs: FileSystem, *, reads: bool = True) -> dict[bytes, Found]:
    """Return path -> what is there.  Asserts that this is a tree: promise P4."""
    found: dict[bytes, Found] = {}
    todo = [(ROOT, b"")]
    while todo:
        directory, at = todo.pop()
        for name, listed in listing(fs, directory).items():
            each = look(fs, directory, name, reads=reads)
            assert each.attributes.ino == listed.ino, (at, name, each.attributes, listed)
            assert stat.S_IFMT(each.attributes.mode) == stat.S_IFMT(listed.mode), (at, name)
            found[at + b"/" + name] = each
            if each.is_directory:
                todo.append((each.attributes.ino, at + b"/" + name))
        assert len(found) < 100_000, "there is no end to this tree"
    check_tree(found)
    return found


def check_tree(found: dict[bytes, Found]) -> None:
    directories = Counter(each.attributes.ino for each in found.values() if each.is_directory)
    twice = [ino for ino, count in directories.items() if count > 1]
    assert not twice, f"directories at two places: {twice}"
    names = Counter(each.attributes.ino for each in found.values() if not each.is_directory)
    for path, each in found.items():
        if not each.is_directory:
            assert each.attributes.nlink == names[each.attributes.ino], (path, each, names)


def listing(fs: FileSystem, directory: Ino) -> dict[bytes, Attributes]:
    """Return the names in a directory, which must be unique, without `.` and `..`."""
    fh = fs.opendir(directory)
    found: dict[bytes, Attributes] = {}
    for name, attributes, _ in fs.readdir(fh, 0):
        assert name not in found, f"{name!r} is listed twice in {directory}"
        if name not in (b".", b".."):
            found[name] = attributes
    fs.releasedir(fh)
    return found


def look(fs: FileSystem, parent: Ino, name: bytes, *, reads: bool) -> Found:
    attributes = fs.lookup(parent, name)
    found = Found(without_atime(attributes), content(fs, attributes) if reads else None)
    fs.forget(attributes.ino, 1)
    return found


def without_atime(attributes: Attributes) -> Attributes:
    return attributes._replace(atime_ns=0)


def orphans(fs: FileSystem) -> dict[bytes, Found]:
    """Return what is listed of files without a name."""
    found: dict[bytes, Found] = {}
    for entry in fs.listing.orphans():
        attributes = fs.getattr(entry.ino)
        assert entry.name not in found, entry
        assert attributes.nlink == 1, entry
        found[entry.name] = Found(without_atime(attributes), content(fs, attributes))
    return found


def policy(fs: FileSystem, attributes: Attributes) -> bytes:
    """Return the merge policy; none where nobody chose one."""
    try:
        return fs.getxattr(attributes.ino, merge_policy.XATTR)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return b""


def content(fs: FileSystem, attributes: Attributes) -> bytes | None:
    if stat.S_ISLNK(attributes.mode):
        return fs.readlink(attributes.ino)
    if not stat.S_ISREG(attributes.mode):
        return b""
    fh = fs.open(attributes.ino, os.O_RDONLY)
    try:
        data = fs.read(fh, 0, attributes.size)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None  # its blocks are on their way, or it was superseded, and what did that is
    finally:
        fs.release(fh)
    assert len(data) == attributes.size, (attributes, len(data))
    return data
