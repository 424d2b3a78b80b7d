"""Sequences of two operations, as a program does them, and the states that a crash may leave of each.

An operation is a generator: it does one system call after the other below a directory, and says after each
what is so.  On the mount that tells how far the program came; on the host's own file system the same calls
make the states to compare with.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

SMALL, LARGE = 300, 100_000  # a content in its version, and one in blocks


class Step(NamedTuple):
    """What is so after a system call.

    `pending`: the path of a file that has data which a crash may take although the call returned.
    `settled`: the path of one that has none any more.  `durable`: a power cut takes nothing of all that was
    done before, but what is pending.
    """

    pending: str | None = None
    settled: str | None = None
    durable: bool = False


DONE, DURABLE = Step(), Step(durable=True)

Steps = Iterator[Step]


class Place:
    """A directory in which a sequence plays, with the descriptors that it keeps open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.open: list[int] = []
        self.maps: list[mmap.mmap] = []

    def at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def opened(self, name: str, flags: int) -> int:
        descriptor = os.open(self.at(name), flags, 0o644)
        self.open.append(descriptor)
        return descriptor

    def shut(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        os.close(descriptor)

    def close(self) -> None:
        for mapped in self.maps:
            mapped.close()
        for descriptor in self.open:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.open.clear()
        self.maps.clear()


def content(seed: int, size: int) -> bytes:
    return bytes((seed * 31 + at // 7) % 251 for at in range(size))


def prepare(place: Place) -> Steps:
    """What there is before: files small and large with names, a directory, a symlink."""
    for name, size in (("small", SMALL), ("large", LARGE), ("other", SMALL)):
        descriptor = place.opened(name, os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, content(len(name), size))
        place.shut(descriptor)
    os.mkdir(place.at("d"))
    os.mkdir(place.at("empty"))
    os.symlink("small", place.at("symlink"))
    os.setxattr(place.at("small"), "user.a", b"old")
    yield from sync_directory(place)


def sync_directory(place: Place, name: str = ".") -> Steps:
    descriptor = place.opened(name, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    place.shut(descriptor)
    yield DURABLE


# -- what is written, and how it is made durable ---------------------------------------------------


def written(place: Place, descriptor: int, name: str, data: bytes, offset: int, then: str) -> Steps:
    """Write, and then: close; fsync or fdatasync and stay open; nothing and stay open."""
    os.pwrite(descriptor, data, offset)
    yield Step(pending=name)
    yield from ended(place, descriptor, name, then)


def ended(place: Place, descriptor: int, name: str, then: str) -> Steps:
    if then == "close":
        place.shut(descriptor)
        yield Step(settled=name)
    elif then == "fsync":
        os.fsync(descriptor)
        yield Step(settled=name, durable=True)
    elif then == "fdatasync":
        os.fdatasync(descriptor)
        yield Step(settled=name, durable=True)


def create(place: Place, name: str, size: int, then: str) -> Steps:
    descriptor = place.opened(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    yield DONE
    yield from written(place, descriptor, name, content(1, size), 0, then)


def save_anew(place: Place, name: str, size: int, then: str) -> Steps:
    descriptor = place.opened(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    yield Step(pending=name)
    yield from written(place, descriptor, name, content(2, size), 0, then)


def append(place: Place, name: str, size: int, then: str) -> Steps:
    descriptor = place.opened(name, os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, content(3, size))
    yield Step(pending=name)
    yield from ended(place, descriptor, name, then)


def overwrite(place: Place, name: str, offset: int, size: int, then: str) -> Steps:
    descriptor = place.opened(name, os.O_WRONLY)
    yield from written(place, descriptor, name, content(4, size), offset, then)


def write_through(place: Place, name: str, size: int, flag: int) -> Steps:
    """O_SYNC and O_DSYNC: what write(2) returned from is durable."""
    descriptor = place.opened(name, os.O_WRONLY | flag)
    os.pwrite(descriptor, content(5, size), 10)
    yield Step(settled=name, durable=True)


def write_by_mapping(place: Place, name: str) -> Steps:
    descriptor = place.opened(name, os.O_RDWR)
    mapped = mmap.mmap(descriptor, 0)
    place.maps.append(mapped)
    mapped[1:5] = content(6, 4)
    mapped.flush()  # msync(2), MS_SYNC
    yield Step(settled=name, durable=True)


def truncate(place: Place, name: str, size: int, then: str) -> Steps:
    if then == "by name":
        os.truncate(place.at(name), size)
        yield Step(pending=name) if place.open else DONE
        return
    descriptor = place.opened(name, os.O_WRONLY)
    os.ftruncate(descriptor, size)
    yield Step(pending=name)
    if then == "fsync":
        os.fsync(descriptor)
        yield Step(settled=name, durable=True)
    else:
        place.shut(descriptor)
        yield Step(settled=name)


# -- names and attributes --------------------------------------------------------------------------


def one_call(place: Place, call: Callable[[Place], None], then: str) -> Steps:
    """A change of names or attributes; then nothing, or fsync of the directory."""
    call(place)
    yield DONE
    if then == "fsync of the directory":
        yield from sync_directory(place)


def _calls() -> dict[str, Callable[[Place], None]]:
    return {
        "rename": lambda p: os.rename(p.at("small"), p.at("renamed")),
        "rename over": lambda p: os.rename(p.at("small"), p.at("other")),
        "rename of a large file over": lambda p: os.rename(p.at("large"), p.at("other")),
        "rename into a directory": lambda p: os.rename(p.at("large"), p.at("d/large")),
        "rename of a directory over": lambda p: os.rename(p.at("d"), p.at("empty")),
        "link": lambda p: os.link(p.at("small"), p.at("linked")),
        "unlink": lambda p: os.unlink(p.at("small")),
        "unlink of a large file": lambda p: os.unlink(p.at("large")),
        "mkdir": lambda p: os.mkdir(p.at("made")),
        "rmdir": lambda p: os.rmdir(p.at("empty")),
        "symlink": lambda p: os.symlink("large", p.at("to-large")),
        "mkfifo": lambda p: os.mkfifo(p.at("fifo")),
        "setxattr": lambda p: os.setxattr(p.at("small"), "user.a", b"new"),
        "removexattr": lambda p: os.removexattr(p.at("small"), "user.a"),
        "chmod": lambda p: os.chmod(p.at("small"), 0o600),
        "chmod of a directory": lambda p: os.chmod(p.at("d"), 0o700),
    }


Operation = Callable[[Place], Steps]


def operations() -> dict[str, Operation]:
    """Return all operations by name, each in all its ways of being made durable."""
    found: dict[str, Operation] = {}
    for then in ("stay open", "close", "fsync", "fdatasync"):
        for size in (SMALL, LARGE):
            found[f"create {size}, {then}"] = lambda p, s=size, t=then: create(p, "new", s, t)
            found[f"save anew {size}, {then}"] = lambda p, s=size, t=then: save_anew(p, "small", s, t)
        found[f"overwrite, {then}"] = lambda p, t=then: overwrite(p, "small", 100, 50, t)
        found[f"overwrite in the middle, {then}"] = lambda p, t=then: overwrite(p, "large", 40_000, 9, t)
    for then in ("stay open", "close", "fsync"):
        found[f"append, {then}"] = lambda p, t=then: append(p, "small", SMALL, t)
        found[f"append to a large file, {then}"] = lambda p, t=then: append(p, "large", LARGE, t)
    for name, flag in (("O_SYNC", os.O_SYNC), ("O_DSYNC", os.O_DSYNC)):
        found[f"write, {name}"] = lambda p, f=flag: write_through(p, "small", 40, f)
        found[f"write to a large file, {name}"] = lambda p, f=flag: write_through(p, "large", 40_000, f)
    found["mapping, msync"] = lambda p: write_by_mapping(p, "small")
    found["mapping of a large file, msync"] = lambda p: write_by_mapping(p, "large")
    for then in ("by name", "close", "fsync"):
        found[f"truncate, {then}"] = lambda p, t=then: truncate(p, "small", 7, t)
        found[f"truncate of a large file, {then}"] = lambda p, t=then: truncate(p, "large", 50_001, t)
    for name, call in _calls().items():
        for then in ("nothing", "fsync of the directory"):
            found[f"{name}, {then}"] = lambda p, c=call, t=then: one_call(p, c, t)
    return found


def pairs() -> list[tuple[str, str]]:
    return list(itertools.product(operations(), repeat=2))


def play(names: tuple[str, ...], place: Place) -> Steps:
    """Do the operations one after the other.  One that cannot be done after the first is left out."""
    known = operations()
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                yield from known[name](place)
    finally:
        place.close()


# -- what may be found -----------------------------------------------------------------------------


class Found(NamedTuple):
    kind: int
    mode: int
    nlink: int  # 0 of a directory: file systems count differently
    content: bytes  # the target of a symlink
    xattrs: tuple[tuple[str, bytes], ...]


Tree = dict[str, Found]


def look(root: str) -> Tree:
    """Return what is below a directory, as a program sees it."""
    found: Tree = {}
    for directory, directories, names in os.walk(root):
        for name in directories + names:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = look_at(path)
    return found


def look_at(path: str) -> Found:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    data = b""
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            data = file.read()
    elif kind == stat.S_IFLNK:
        data = os.fsencode(os.readlink(path))
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    nlink = 0 if kind == stat.S_IFDIR else status.st_nlink
    return Found(kind, stat.S_IMODE(status.st_mode), nlink, data, xattrs)


class Moment(NamedTuple):
    """After a step: what is there, what else may be found instead, and whether all before is durable."""

    tree: Tree
    others: list[Tree]
    durable: bool


class Expected:
    """The moments of one sequence, made on the host's file system."""

    def __init__(self, names: tuple[str, ...], root: str) -> None:
        os.mkdir(root)
        place = Place(root)
        for _ in prepare(place):
            pass
        self.moments = [Moment(look(root), [], durable=True)]
        self.pending: dict[int, list[bytes]] = {}  # number of a file -> contents that it may still have
        before = self._contents(root)
        for step in play(names, place):
            self._note(root, step, before)
            before = self._contents(root)

    def _contents(self, root: str) -> dict[int, bytes]:
        found = {}
        for directory, _, names in os.walk(root):
            for name in names:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as file:
                        found[status.st_ino] = file.read()
        return found

    def _note(self, root: str, step: Step, before: dict[int, bytes]) -> None:
        if step.pending is not None:
            ino = os.stat(os.path.join(root, step.pending)).st_ino
            self.pending.setdefault(ino, []).append(before.get(ino, b""))
        if step.settled is not None:
            self.pending.pop(os.stat(os.path.join(root, step.settled)).st_ino, None)
        tree = look(root)
        self.moments.append(Moment(tree, self._others(root, tree), step.durable))

    def _others(self, root: str, tree: Tree) -> list[Tree]:
        """Return the trees with some of the pending contents as they were before."""
        paths: dict[int, list[str]] = {}
        for path, found in tree.items():
            ino = os.lstat(os.path.join(root, path)).st_ino
            if found.kind == stat.S_IFREG and ino in self.pending:
                paths.setdefault(ino, []).append(path)
        others = [tree]
        for ino, names in paths.items():
            others += [
                other | {path: other[path]._replace(content=old) for path in names}
                for other in others
                for old in self.pending[ino]
            ]
        return others[1:]

    def legal(self, first: int, last: int) -> list[Tree]:
        """Return what a crash may leave that came between these two moments, numbered from 0."""
        return [tree for moment in self.moments[first : last + 1] for tree in (moment.tree, *moment.others)]

    def durable_before(self, moment: int) -> int:
        """Return the newest moment up to this one that a power cut keeps."""
        return max(number for number in range(moment + 1) if self.moments[number].durable)
