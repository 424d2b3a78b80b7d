"""One replica against the model of POSIX as dicts: the same calls, the same results and errnos.

Whatever was done, in the end fsck finds nothing, and the store shows the same when it is opened again,
after a clean end and after a crash.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crdt.blocks import BLOCK_SIZE
from crdt.causality import ReplicaId
from crdt.facts import ROOT
from crdt.store import MemoryStore
from tests.posix_model import Model, Node
from tests.walk import walk
from translation.filesystem import Attributes, Caller, FileSystem
from translation.fsck import check as fsck
from translation.replica import Replica, Volume

VOLUME = Volume(b"v" * 16, b"s" * 32, b"k" * 32)
CALLER = Caller(1000, 100)
START_NS = 1_800_000_000_000_000_000

numbers = st.integers(0, 1 << 16)  # which of what there is
names = st.sampled_from([b"a", b"b", b"c", b"a.conflict-A-2", b"\xff\n", b"n" * 255, b"n" * 256])
modes = st.sampled_from([0o644, 0o600, 0o755, 0o000, 0o1777])
offsets = st.sampled_from([0, 1, 7, 4095, 4096, BLOCK_SIZE - 1, BLOCK_SIZE, 2 * BLOCK_SIZE + 5])
sizes = st.sampled_from([0, 1, 10, 4096, 4097, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE])
data = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(0, 255),
    st.sampled_from([0, 1, 5, 4096, 5000, BLOCK_SIZE + 3]),
)


class Outcome(NamedTuple):
    result: object
    errno: int | None


def outcome(call: Callable[[], object]) -> Outcome:
    try:
        return Outcome(call(), None)
    except OSError as error:
        return Outcome(None, error.errno)


class Listing:
    """A directory that is being read while it changes."""

    def __init__(self, fh: int, node: Node) -> None:
        self.fh, self.node = fh, node
        self.offset = 0
        self.seen: list[bytes] = []
        self.there_all_along = set(node.entries)


class PosixMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = MemoryStore()
        self.now_ns = START_NS
        Replica.create(self.store, VOLUME, ReplicaId(1), "A", b"i" * 16, self.now_ns)
        self.model = Model()
        self.start()

    def start(self) -> None:
        self.fs = FileSystem(Replica(self.store, self.tick))
        self.inos: dict[int, tuple[Node, int]] = {id(self.model.root): (self.model.root, ROOT)}
        self.open: list[tuple[int, Node, int]] = []  # handle, inode, flags
        self.listings: list[Listing] = []
        for path, found in sorted(walk(self.fs, reads=False).items()):
            self.know(self.at(path), found.attributes)

    def tick(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def at(self, path: bytes) -> Node:
        node = self.model.root
        for name in path.split(b"/")[1:]:
            node = node.entries[name]
        return node

    # -- what there is ---------------------------------------------------------------------------

    def know(self, node: Node, attributes: Attributes) -> None:
        """The kernel has looked this up: the number stands for one inode until it is forgotten."""
        known = self.inos.setdefault(id(node), (node, attributes.ino))
        assert known[1] == attributes.ino, "one inode has two numbers"
        assert sum(ino == attributes.ino for _, ino in self.inos.values()) == 1

    def directory(self, number: int) -> tuple[Node, int]:
        found = [pair for pair in self.inos.values() if pair[0].is_directory]
        return found[number % len(found)]

    def any(self, number: int) -> tuple[Node, int]:
        return list(self.inos.values())[number % len(self.inos)]

    def both(self, here: Callable[[], object], there: Callable[[], object]) -> tuple[object, object]:
        """Call the product and the model: both succeed, or both fail with the same errno."""
        got, expected = outcome(here), outcome(there)
        assert got.errno == expected.errno, (got, expected)
        return got.result, expected.result

    def agree(self, node: Node, attributes: Attributes) -> None:
        got = (attributes.mode, attributes.nlink, attributes.uid, attributes.gid, attributes.rdev)
        assert got == (node.mode, node.nlink, node.uid, node.gid, node.rdev)
        if not node.is_directory:
            assert attributes.size == node.size
        if node.is_regular:
            assert attributes.mtime_ns >= node.mtime_ns

    def made(self, result: object, node: object) -> None:
        if node is not None:
            assert isinstance(node, Node)
            assert isinstance(result, Attributes)
            self.know(node, result)
            self.agree(node, result)

    # -- names -----------------------------------------------------------------------------------

    @rule(where=numbers, name=names)
    def lookup(self, where, name):
        node, ino = self.directory(where)
        self.made(*self.both(lambda: self.fs.lookup(ino, name), lambda: self.model.lookup(node, name)))

    @rule(where=numbers, name=names, mode=modes)
    def mkdir(self, where, name, mode):
        node, ino = self.directory(where)
        new = Node(stat.S_IFDIR | mode, CALLER.uid, CALLER.gid)
        self.made(
            *self.both(
                lambda: self.fs.mkdir(ino, name, mode, CALLER),
                lambda: self.model.add(node, name, new),
            )
        )

    @rule(where=numbers, name=names, kind=st.sampled_from([stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR]))
    def mknod(self, where, name, kind):
        node, ino = self.directory(where)
        rdev = 0x103 if kind == stat.S_IFCHR else 0
        new = Node(kind | 0o640, CALLER.uid, CALLER.gid, rdev)
        self.made(
            *self.both(
                lambda: self.fs.mknod(ino, name, kind | 0o640, rdev, CALLER),
                lambda: self.model.add(node, name, new),
            )
        )

    @rule(where=numbers, name=names, there=st.sampled_from([b"a", b"../b", b"t" * 4095]))
    def symlink(self, where, name, there):
        node, ino = self.directory(where)
        new = Node(stat.S_IFLNK | 0o777, CALLER.uid, CALLER.gid, target=there)
        self.made(
            *self.both(
                lambda: self.fs.symlink(ino, name, there, CALLER),
                lambda: self.model.add(node, name, new),
            )
        )

    @rule(which=numbers, where=numbers, name=names)
    def link(self, which, where, name):
        linked, linked_ino = self.any(which)
        node, ino = self.directory(where)
        self.made(
            *self.both(
                lambda: self.fs.link(linked_ino, ino, name),
                lambda: self.model.link(linked, node, name),
            )
        )

    @rule(where=numbers, name=names)
    def unlink(self, where, name):
        node, ino = self.directory(where)
        self.both(lambda: self.fs.unlink(ino, name), lambda: self.model.unlink(node, name))
        self.forget()
        self.not_there_all_along(node, name)

    @rule(where=numbers, name=names)
    def rmdir(self, where, name):
        node, ino = self.directory(where)
        self.both(lambda: self.fs.rmdir(ino, name), lambda: self.model.rmdir(node, name))
        self.not_there_all_along(node, name)

    @rule(where=numbers, name=names, new_where=numbers, new_name=names)
    def rename(self, where, name, new_where, new_name):
        node, ino = self.directory(where)
        new_node, new_ino = self.directory(new_where)
        self.both(
            lambda: self.fs.rename(ino, name, new_ino, new_name),
            lambda: self.model.rename(node, name, new_node, new_name),
        )
        self.forget()
        self.not_there_all_along(node, name)
        self.not_there_all_along(new_node, new_name)

    def forget(self):
        """The kernel forgets a file as soon as no path and no descriptor leads to it."""
        needed = {id(each) for each in self.model.nodes()} | {id(each) for _, each, _ in self.open}
        for node, ino in list(self.inos.values()):
            if not node.is_directory and id(node) not in needed:
                self.fs.forget(ino, 1 << 20)
                del self.inos[id(node)]

    # -- attributes ------------------------------------------------------------------------------

    @rule(which=numbers)
    def getattr(self, which):
        node, ino = self.any(which)
        self.agree(node, self.fs.getattr(ino))

    @rule(which=numbers, mode=modes, uid=st.integers(0, 2))
    def chmod_and_chown(self, which, mode, uid):
        node, ino = self.any(which)
        node.mode = stat.S_IFMT(node.mode) | mode
        self.fs.setattr(ino, mode=node.mode)
        node.uid = node.gid = uid
        self.agree(node, self.fs.setattr(ino, uid=uid, gid=uid))

    @rule(which=numbers, mtime_ns=st.sampled_from([0, 1, START_NS, -1_000_000_000]))
    def utimens(self, which, mtime_ns):
        _, ino = self.any(which)
        attributes = self.fs.setattr(ino, atime_ns=7, mtime_ns=mtime_ns)
        assert (attributes.atime_ns, attributes.mtime_ns) == (7, mtime_ns)
        assert self.fs.getattr(ino).mtime_ns == mtime_ns
        self.inos[id(self.any(which)[0])][0].mtime_ns = mtime_ns

    @rule(which=numbers, size=sizes)
    def truncate(self, which, size):
        node, ino = self.any(which)
        self.both(lambda: self.fs.setattr(ino, size=size), lambda: self.model.truncate(node, size))
        self.agree(node, self.fs.getattr(ino))

    @rule(which=numbers)
    def readlink(self, which):
        node, ino = self.any(which)
        got, expected = self.both(lambda: self.fs.readlink(ino), lambda: self.model.readlink(node))
        assert got == expected

    @rule(which=numbers, name=st.sampled_from([b"user.a", b"user.b"]), flags=st.sampled_from([0, 1, 2]))
    def setxattr(self, which, name, flags):
        node, ino = self.any(which)
        value = b"%d" % which
        self.both(
            lambda: self.fs.setxattr(ino, name, value, flags),
            lambda: self.model.setxattr(node, name, value, flags),
        )

    @rule(which=numbers, name=st.sampled_from([b"user.a", b"user.b"]))
    def read_and_remove_xattr(self, which, name):
        node, ino = self.any(which)
        assert sorted(self.fs.listxattr(ino)) == sorted(node.xattrs)
        got, expected = self.both(
            lambda: self.fs.getxattr(ino, name), lambda: self.model.getxattr(node, name)
        )
        assert got == expected
        self.both(lambda: self.fs.removexattr(ino, name), lambda: self.model.removexattr(node, name))

    # -- open files ------------------------------------------------------------------------------

    @rule(where=numbers, name=names, flags=st.sampled_from([0, os.O_EXCL, os.O_TRUNC]))
    def create(self, where, name, flags):
        """What is there already is opened, but with O_EXCL: the kernel may not know of it."""
        node, ino = self.directory(where)
        known = node.entries.get(name)
        if known is not None and not known.is_regular:
            return
        new = Node(stat.S_IFREG | 0o644, CALLER.uid, CALLER.gid)

        def expected() -> Node:
            if known is None or flags & os.O_EXCL:
                return self.model.add(node, name, new)
            if flags & os.O_TRUNC:
                self.model.truncate(known, 0)
            return known

        flags |= os.O_CREAT | os.O_RDWR
        result, created = self.both(lambda: self.fs.create(ino, name, 0o644, flags, CALLER), expected)
        if created is not None:
            fh, attributes = result
            self.made(attributes, created)
            self.open.append((fh, created, flags))

    @rule(which=numbers, flags=st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND]))
    def open_file(self, which, flags):
        node, ino = self.any(which)
        if node.is_directory:
            with pytest.raises(IsADirectoryError):
                self.fs.open(ino, flags)
        elif node.is_regular:
            fh = self.fs.open(ino, flags)
            assert all(fh != other for other, _, _ in self.open)
            self.open.append((fh, node, flags))

    @precondition(lambda self: self.open)
    @rule(which=numbers, offset=offsets, content=data)
    def write(self, which, offset, content):
        fh, node, flags = self.open[which % len(self.open)]
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return
        at = node.size if flags & os.O_APPEND else offset
        assert self.fs.write(fh, at, content) == self.model.write(node, at, content)
        self.agree(node, self.fs.getattr(self.inos[id(node)][1], fh))

    @precondition(lambda self: self.open)
    @rule(which=numbers, offset=offsets, size=sizes)
    def read(self, which, offset, size):
        fh, node, _ = self.open[which % len(self.open)]
        assert self.fs.read(fh, offset, size) == self.model.read(node, offset, size)

    @precondition(lambda self: self.open)
    @rule(which=numbers)
    def flush_and_fsync(self, which):
        fh, node, flags = self.open[which % len(self.open)]
        self.fs.flush(fh)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.fs.fsync(fh)
            self.fs.replica.sync()
        self.agree(node, self.fs.getattr(self.inos[id(node)][1], fh))

    @precondition(lambda self: self.open)
    @rule(which=numbers)
    def release(self, which):
        fh, _, _ = self.open.pop(which % len(self.open))
        self.fs.flush(fh)
        self.fs.release(fh)
        self.forget()

    # -- listings --------------------------------------------------------------------------------

    @rule(where=numbers)
    def begin_listing(self, where):
        node, ino = self.directory(where)
        if not node.is_removed:
            self.listings.append(Listing(self.fs.opendir(ino), node))

    @precondition(lambda self: self.listings)
    @rule(which=numbers, count=st.integers(1, 3))
    def list_some(self, which, count):
        listing = self.listings[which % len(self.listings)]
        for (name, _, offset), _ in zip(
            self.fs.readdir(listing.fh, listing.offset), range(count), strict=False
        ):
            assert offset > listing.offset
            listing.offset = offset
            listing.seen.append(name)

    @precondition(lambda self: self.listings)
    @rule(which=numbers)
    def end_listing(self, which):
        """Names that were there all along were listed, once, whatever was done meanwhile."""
        listing = self.listings.pop(which % len(self.listings))
        if not listing.node.is_removed:
            listing.seen += [name for name, _, _ in self.fs.readdir(listing.fh, listing.offset)]
            for name in listing.there_all_along:
                assert listing.seen.count(name) == 1, (name, listing.seen)
        self.fs.releasedir(listing.fh)

    def not_there_all_along(self, node: Node, name: bytes) -> None:
        for listing in self.listings:
            if listing.node is node:
                listing.there_all_along.discard(name)

    # -- ends ------------------------------------------------------------------------------------

    @rule()
    def pass_time(self):
        self.now_ns += 6_000_000_000
        self.fs.tick()

    @rule(clean=st.booleans())
    def restart(self, clean):
        """What was written is there, after a crash as well: a close or an fsync made it a commit."""
        for fh, _, _ in self.open:
            self.fs.flush(fh)
            if clean:
                self.fs.release(fh)
        self.fs.close()
        if clean:
            self.fs.replica.sync()
            self.store = self.store.crashed()
        else:
            self.store = self.store.crashed(len(self.store.unsynced))
        self.start()

    @invariant()
    def the_same_tree(self):
        self.check_tree(reads=False)

    def check_tree(self, *, reads):
        shown = walk(self.fs, reads=reads)
        assert shown.keys() == self.model.structure().keys()
        for path, found in shown.items():
            node = self.at(path)
            self.agree(node, found.attributes)
            if reads and not node.is_directory:
                assert found.content == bytes(node.content if node.is_regular else node.target)

    def teardown(self):
        if not hasattr(self, "fs"):
            return
        self.check_tree(reads=True)
        findings = [f"{finding.key}: {finding.problem}" for finding in fsck(self.store)]
        assert not findings
        self.restart(clean=True)
        self.check_tree(reads=True)
        assert not list(fsck(self.store))


TestPosixModel = PosixMachine.TestCase
TestPosixModel.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_the_model_fails_as_posix_says():
    """From the man pages: a wrong model would agree with a product that is wrong in the same way."""
    model = Model()
    top = model.add(model.root, b"d", Node(stat.S_IFDIR))
    inner = model.add(top, b"e", Node(stat.S_IFDIR))
    file = model.add(model.root, b"f", Node(stat.S_IFREG))
    cases = [
        (lambda: model.rename(model.root, b"d", inner, b"x"), errno.EINVAL),
        (lambda: model.rename(model.root, b"f", model.root, b"d"), errno.EISDIR),
        (lambda: model.rename(model.root, b"d", model.root, b"f"), errno.ENOTDIR),
        (lambda: model.rmdir(model.root, b"d"), errno.ENOTEMPTY),
        (lambda: model.rmdir(model.root, b"f"), errno.ENOTDIR),
        (lambda: model.unlink(model.root, b"d"), errno.EISDIR),
        (lambda: model.link(top, model.root, b"x"), errno.EPERM),
        (lambda: model.lookup(file, b"x"), errno.ENOTDIR),
        (lambda: model.truncate(top, 0), errno.EISDIR),
    ]
    assert [outcome(call).errno for call, _ in cases] == [expected for _, expected in cases]
