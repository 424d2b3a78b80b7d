"""The floor: a file system in memory that does nothing but answer llfuse.

What a request costs here, the kernel, libfuse and llfuse cost; no file system in Python on llfuse
can be faster.  So it has the mount options of elmer, caches in the kernel for ever as elmer does,
and runs as many workers as it is told (one worker answers most requests, and elmer needs several:
compare at the same count).  Its handlers are right for files, directories, rename and attributes;
there are no links, no symlinks and no xattrs.

    python -m benchmarks.floor MOUNTPOINT [--workers N] [--profile FILE]

It stays in the foreground, writes `mounted` to its standard output when requests are answered, and
ends at SIGTERM or when it is unmounted.
"""

from __future__ import annotations

import argparse
import cProfile
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator

import llfuse

FOREVER_S = 10**8
OPTIONS = frozenset({"fsname=floor", "default_permissions", "big_writes", "max_background=64"})


class Node:
    """An inode; the entries are a directory's, the content a regular file's."""

    __slots__ = ("attributes", "content", "entries", "lookups")

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        self.attributes = attributes = llfuse.EntryAttributes()
        self.entries: dict[bytes, Node] = {}
        self.content = bytearray()
        self.lookups = 0
        attributes.st_ino = ino
        attributes.st_mode = mode
        attributes.st_uid = uid
        attributes.st_gid = gid
        attributes.st_nlink = 2 if stat.S_ISDIR(mode) else 1
        attributes.st_blksize = 4096
        attributes.entry_timeout = attributes.attr_timeout = FOREVER_S
        now_ns = time.time_ns()
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = now_ns

    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.attributes.st_mode)

    def touch(self) -> None:
        self.attributes.st_mtime_ns = self.attributes.st_ctime_ns = time.time_ns()

    def resize(self, size: int) -> None:
        if size < len(self.content):
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))
        self.attributes.st_size = size
        self.attributes.st_blocks = -(-size // 512)


class Floor(llfuse.Operations):
    def __init__(self) -> None:
        super().__init__()
        root = Node(llfuse.ROOT_INODE, stat.S_IFDIR | 0o755, os.getuid(), os.getgid())
        self.nodes = {llfuse.ROOT_INODE: root}
        self.last_ino = llfuse.ROOT_INODE
        self.listings: dict[int, list[tuple[bytes, Node]]] = {}
        self.last_listing = 0
        self.absent = llfuse.EntryAttributes()
        self.absent.st_ino = 0
        self.absent.entry_timeout = FOREVER_S

    def lookup(self, parent, name, ctx=None):
        directory = self.nodes[parent]
        if name in (b".", b".."):
            raise llfuse.FUSEError(errno.ENOENT)
        node = directory.entries.get(name)
        if node is None:
            return self.absent
        node.lookups += 1
        return node.attributes

    def forget(self, inode_list):
        for ino, count in inode_list:
            node = self.nodes[ino]
            node.lookups -= count
            self._drop_if_unused(node)

    def getattr(self, inode, ctx=None):
        return self.nodes[inode].attributes

    def setattr(self, inode, attr, fields, fh, ctx=None):
        node = self.nodes[inode]
        attributes = node.attributes
        attributes.st_ctime_ns = time.time_ns()
        if fields.update_size:
            node.resize(attr.st_size)
            node.touch()
        if fields.update_mode:
            attributes.st_mode = attr.st_mode
        if fields.update_uid:
            attributes.st_uid = attr.st_uid
        if fields.update_gid:
            attributes.st_gid = attr.st_gid
        if fields.update_atime:
            attributes.st_atime_ns = attr.st_atime_ns
        if fields.update_mtime:
            attributes.st_mtime_ns = attr.st_mtime_ns
        return attributes

    def mkdir(self, parent, name, mode, ctx):
        directory = self.nodes[parent]
        node = self._make(directory, name, stat.S_IFDIR | mode, ctx)
        directory.attributes.st_nlink += 1
        return node.attributes

    def create(self, parent, name, mode, flags, ctx):
        directory = self.nodes[parent]
        node = directory.entries.get(name)
        if node is None:
            node = self._make(directory, name, mode, ctx)
        else:  # the kernel asks so where its negative entry is out of date
            node.lookups += 1
            if flags & os.O_TRUNC:
                node.resize(0)
        return node.attributes.st_ino, node.attributes

    def unlink(self, parent, name, ctx=None):
        directory = self.nodes[parent]
        node = self._existing(directory, name)
        if node.is_directory():
            raise llfuse.FUSEError(errno.EISDIR)
        self._remove(directory, name, node)

    def rmdir(self, parent, name, ctx=None):
        directory = self.nodes[parent]
        node = self._existing(directory, name)
        if not node.is_directory():
            raise llfuse.FUSEError(errno.ENOTDIR)
        if node.entries:
            raise llfuse.FUSEError(errno.ENOTEMPTY)
        self._remove(directory, name, node)

    def rename(self, parent_old, name_old, parent_new, name_new, ctx=None):
        source, target = self.nodes[parent_old], self.nodes[parent_new]
        node = self._existing(source, name_old)
        replaced = target.entries.get(name_new)
        if replaced is node:
            return
        if replaced is not None:
            if replaced.entries:
                raise llfuse.FUSEError(errno.ENOTEMPTY)
            if replaced.is_directory() != node.is_directory():
                raise llfuse.FUSEError(errno.ENOTDIR if node.is_directory() else errno.EISDIR)
            self._remove(target, name_new, replaced)
        del source.entries[name_old]
        target.entries[name_new] = node
        if node.is_directory():
            source.attributes.st_nlink -= 1
            target.attributes.st_nlink += 1
        source.touch()
        target.touch()

    def open(self, inode, flags, ctx):
        return inode

    def read(self, fh, off, size):
        return bytes(self.nodes[fh].content[off : off + size])

    def write(self, fh, off, buf):
        node = self.nodes[fh]
        content = node.content
        size = len(content)
        if off == size:
            content += buf
        else:
            if off > size:
                content.extend(bytes(off - size))
            content[off : off + len(buf)] = buf
        if len(content) != size:
            node.attributes.st_size = len(content)
            node.attributes.st_blocks = -(-len(content) // 512)
        node.touch()
        return len(buf)

    def flush(self, fh):
        pass

    def release(self, fh):
        pass

    def fsync(self, fh, datasync):
        pass

    def fsyncdir(self, fh, datasync):
        pass

    def opendir(self, inode, ctx):
        self.last_listing += 1
        self.listings[self.last_listing] = list(self.nodes[inode].entries.items())
        return self.last_listing

    def readdir(self, fh, off) -> Iterator[tuple[bytes, llfuse.EntryAttributes, int]]:
        listing = self.listings[fh]
        for index in range(off, len(listing)):
            name, node = listing[index]
            yield name, node.attributes, index + 1

    def releasedir(self, fh):
        del self.listings[fh]

    def getxattr(self, inode, name, ctx=None):
        raise llfuse.FUSEError(llfuse.ENOATTR)

    def listxattr(self, inode, ctx=None):
        return []

    def statfs(self, ctx=None):
        numbers = llfuse.StatvfsData()
        numbers.f_bsize = numbers.f_frsize = 4096
        numbers.f_blocks = numbers.f_bfree = numbers.f_bavail = 2**28
        numbers.f_files = numbers.f_ffree = numbers.f_favail = 2**28
        return numbers

    def _make(self, directory, name, mode, ctx) -> Node:
        if name in directory.entries:
            raise llfuse.FUSEError(errno.EEXIST)
        self.last_ino = ino = self.last_ino + 1
        node = Node(ino, mode, ctx.uid, ctx.gid)
        node.lookups = 1
        self.nodes[ino] = node
        directory.entries[name] = node
        directory.touch()
        return node

    def _existing(self, directory, name) -> Node:
        node = directory.entries.get(name)
        if node is None:
            raise llfuse.FUSEError(errno.ENOENT)
        return node

    def _remove(self, directory, name, node) -> None:
        del directory.entries[name]
        directory.touch()
        if node.is_directory():
            directory.attributes.st_nlink -= 1
        node.attributes.st_nlink = 0
        node.attributes.st_ctime_ns = time.time_ns()
        self._drop_if_unused(node)

    def _drop_if_unused(self, node) -> None:
        if node.lookups == 0 and node.attributes.st_nlink == 0:
            del self.nodes[node.attributes.st_ino]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.floor", description="mount the floor")
    parser.add_argument("mountpoint")
    parser.add_argument("--workers", type=int, default=4, help="threads that answer (default: 4)")
    parser.add_argument("--profile", metavar="FILE", help="one worker under cProfile, into FILE")
    arguments = parser.parse_args()

    options = set(OPTIONS)
    if os.getuid() == 0:
        options.add("allow_other")
    profile = cProfile.Profile() if arguments.profile else None
    llfuse.init(Floor(), arguments.mountpoint, options)
    try:
        # Requests wait in the kernel from here on, so whoever reads this may begin.
        print("mounted", flush=True)
        if profile is None:
            llfuse.main(workers=arguments.workers)
        else:
            # cProfile sees the thread it is enabled in: one worker is answered by this one.
            with profile:
                llfuse.main(workers=1)
    finally:
        llfuse.close(unmount=True)
    if profile is not None:
        profile.dump_stats(arguments.profile)


if __name__ == "__main__":
    sys.exit(main())
