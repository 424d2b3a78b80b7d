"""A file system as dicts: what one replica must look like to a program that is alone on it.

`Model` has the methods of translation.filesystem.FileSystem and raises the errno of the man page.  It
forgets nothing and knows no versions, no links and no commits: an inode is an object, a directory is a
dict.  Access rights are the kernel's business (`default_permissions`), here as there.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

NAME_MAX = 255
TARGET_MAX = 4095
XATTR_CREATE, XATTR_REPLACE = 1, 2
ROOT = 1


class Times(NamedTuple):
    atime_ns: int | None
    mtime_ns: int | None


@dataclass
class Node:
    mode: int  # with the bits of the type
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    target: bytes = b""
    content: bytearray = field(default_factory=bytearray)
    mtime_ns: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, Node] = field(default_factory=dict)
    links: int = 0  # names of a file
    is_removed: bool = False  # of a directory

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def nlink(self) -> int:
        if not self.is_directory:
            return self.links
        return 0 if self.is_removed else 2 + sum(e.is_directory for e in self.entries.values())

    @property
    def size(self) -> int:
        return len(self.target) if stat.S_ISLNK(self.mode) else len(self.content)


class Model:
    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755)

    # -- names -----------------------------------------------------------------------------------

    def lookup(self, parent: Node, name: bytes) -> Node:
        _check_directory(parent, name)
        if name not in parent.entries:
            raise posix_error(errno.ENOENT, name)
        return parent.entries[name]

    def add(self, parent: Node, name: bytes, node: Node) -> Node:
        """mknod(2), mkdir(2) and, with a target, symlink(2)."""
        self._check_free(parent, name)
        parent.entries[name] = node
        node.links = 1
        return node

    def link(self, node: Node, parent: Node, name: bytes) -> Node:
        self._check_free(parent, name)
        if node.is_directory:
            raise posix_error(errno.EPERM, name)
        if not node.links:
            raise posix_error(errno.ENOENT, name)
        parent.entries[name] = node
        node.links += 1
        return node

    def _check_free(self, parent: Node, name: bytes) -> None:
        _check_directory(parent, name)
        if name in parent.entries:
            raise posix_error(errno.EEXIST, name)
        if parent.is_removed:
            raise posix_error(errno.ENOENT, name)

    def unlink(self, parent: Node, name: bytes) -> None:
        node = self.lookup(parent, name)
        if node.is_directory:
            raise posix_error(errno.EISDIR, name)
        del parent.entries[name]
        node.links -= 1

    def rmdir(self, parent: Node, name: bytes) -> None:
        node = self.lookup(parent, name)
        if not node.is_directory:
            raise posix_error(errno.ENOTDIR, name)
        if node.entries:
            raise posix_error(errno.ENOTEMPTY, name)
        del parent.entries[name]
        node.is_removed = True

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """See rename(2).  Which of several errors is given is as in the product: Linux finds EINVAL first,
        and by itself."""
        node = self.lookup(parent, name)
        _check_directory(new_parent, new_name)
        if new_parent.is_removed:
            raise posix_error(errno.ENOENT, new_name)
        replaced = new_parent.entries.get(new_name)
        if replaced is node:
            return
        if replaced is not None:
            _check_kinds(node, replaced, new_name)
        if node.is_directory and is_inside(new_parent, node):
            raise posix_error(errno.EINVAL, new_name)
        if replaced is not None:
            if replaced.entries:
                raise posix_error(errno.ENOTEMPTY, new_name)
            if replaced.is_directory:
                replaced.is_removed = True
            else:
                replaced.links -= 1
        del parent.entries[name]
        new_parent.entries[new_name] = node

    # -- contents --------------------------------------------------------------------------------

    def truncate(self, node: Node, size: int) -> None:
        if node.is_directory:
            raise posix_error(errno.EISDIR)
        if not node.is_regular:
            raise posix_error(errno.EINVAL)
        del node.content[size:]
        node.content.extend(bytes(size - len(node.content)))

    def write(self, node: Node, offset: int, data: bytes) -> int:
        if data:
            node.content.extend(bytes(max(0, offset - len(node.content))))
            node.content[offset : offset + len(data)] = data
        return len(data)

    def read(self, node: Node, offset: int, size: int) -> bytes:
        return bytes(node.content[offset : offset + size])

    def readlink(self, node: Node) -> bytes:
        if not stat.S_ISLNK(node.mode):
            raise posix_error(errno.EINVAL)
        return node.target

    # -- extended attributes ---------------------------------------------------------------------

    def getxattr(self, node: Node, name: bytes) -> bytes:
        if name not in node.xattrs:
            raise posix_error(errno.ENODATA, name)
        return node.xattrs[name]

    def setxattr(self, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
        if flags == XATTR_CREATE and name in node.xattrs:
            raise posix_error(errno.EEXIST, name)
        if flags == XATTR_REPLACE and name not in node.xattrs:
            raise posix_error(errno.ENODATA, name)
        node.xattrs[name] = value

    def removexattr(self, node: Node, name: bytes) -> None:
        self.getxattr(node, name)
        del node.xattrs[name]

    # -- for the tests ---------------------------------------------------------------------------

    def directories(self) -> list[Node]:
        return [node for node in self.nodes() if node.is_directory]

    def nodes(self) -> list[Node]:
        """The inodes that have a name, the root first."""
        found: dict[int, Node] = {}
        todo = [self.root]
        while todo:
            node = todo.pop()
            if id(node) not in found:
                found[id(node)] = node
                todo += (node.entries[name] for name in sorted(node.entries, reverse=True))
        return list(found.values())

    def structure(self) -> dict[bytes, tuple[int, bytes]]:
        """path -> mode and link target, of all that has a name."""
        found: dict[bytes, tuple[int, bytes]] = {}
        todo = [(self.root, b"")]
        while todo:
            directory, at = todo.pop()
            for name, node in directory.entries.items():
                found[at + b"/" + name] = node.mode, node.target
                todo.append((node, at + b"/" + name))
        return found


def is_inside(directory: Node, ancestor: Node) -> bool:
    """Is `directory` the ancestor, or anywhere below it?"""
    todo = [ancestor]
    while todo:
        node = todo.pop()
        if node is directory:
            return True
        todo += (entry for entry in node.entries.values() if entry.is_directory)
    return False


def _check_kinds(node: Node, replaced: Node, name: bytes) -> None:
    if node.is_directory and not replaced.is_directory:
        raise posix_error(errno.ENOTDIR, name)
    if replaced.is_directory and not node.is_directory:
        raise posix_error(errno.EISDIR, name)


def _check_directory(parent: Node, name: bytes) -> None:
    if not parent.is_directory:
        raise posix_error(errno.ENOTDIR, name)
    if len(name) > NAME_MAX:
        raise posix_error(errno.ENAMETOOLONG, name)


def posix_error(code: int, name: bytes = b"") -> OSError:
    return OSError(code, os.strerror(code), name)
