"""What programs do on one replica; the ledger notes what each of them was promised."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass, field

from crdt.facts import ROOT, Ino
from tests.simulator.cluster import Site
from tests.simulator.laws import Broken, require
from tests.simulator.ledger import TOKEN_SIZE, Ledger, Note, tokens
from tests.walk import Found, content, listing, walk
from translation.filesystem import Attributes, BlocksMissing, Caller, FileSystem

CALLERS = Caller(1000, 1000), Caller(1001, 1001)
MARK = b".conflict-"

# A component of a path; a conflict entry is (what stands before the mark, which of these), so that a
# step keeps its meaning when steps before it are left out.
Component = bytes | tuple[bytes, int]
SymbolicPath = tuple[Component, ...]
Seen = dict[bytes, Found]


@dataclass
class Handle:
    fh: int
    ino: Ino
    appends: bool
    mine: set[bytes] = field(default_factory=set)  # tokens written through it
    is_unlinked: bool = False  # by a program here: what it writes now stays here
    expected: bytes | None = None  # what it showed last, while nobody else here writes


class Programs:
    """The programs of one site."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self.site, self.ledger = site, ledger
        self.handles: list[Handle] = []
        self.seen: Seen = {}
        self.seen_at: object = None

    @property
    def fs(self) -> FileSystem:
        return self.site.fs

    def commits(self) -> int:
        replica = self.site.replica
        return replica.seen().of(replica.replica)

    # -- paths -----------------------------------------------------------------------------------

    def resolve(self, path: SymbolicPath) -> tuple[Ino, bytes]:
        """Return the parent and the name.  Raises FileNotFoundError, NotADirectoryError."""
        directory = ROOT
        for component in path[:-1]:
            attributes = self.stat(directory, self.name_of(directory, component))
            if not stat.S_ISDIR(attributes.mode):
                raise NotADirectoryError(component)
            directory = Ino(attributes.ino)
        return directory, self.name_of(directory, path[-1])

    def name_of(self, directory: Ino, component: Component) -> bytes:
        if isinstance(component, bytes):
            return component
        names = conflict_names(listing(self.fs, directory), component[0])
        if component[1] >= len(names):
            raise FileNotFoundError(component)
        return names[component[1]]

    def whole(self, path: SymbolicPath) -> bytes:
        """The path as bytes, as tests.walk has it."""
        directory, whole = ROOT, b""
        for component in path:
            name = self.name_of(directory, component)
            whole += b"/" + name
            known = self.stat_or_none(directory, name)
            directory = Ino(known.ino) if known else directory
        return whole

    def stat(self, parent: Ino, name: bytes) -> Attributes:
        attributes = self.fs.lookup(parent, name)
        self.fs.forget(attributes.ino, 1)
        return attributes

    def stat_or_none(self, parent: Ino, name: bytes) -> Attributes | None:
        try:
            return self.stat(parent, name)
        except FileNotFoundError:
            return None

    def look(self) -> Seen:
        """What shows, as it was seen last where nothing was committed since."""
        return self.seen if self.seen_at == self._moment() else self.look_again()

    def look_again(self) -> Seen:
        """What shows, read anew; contents are left out while something is open."""
        self.seen = self._walk()
        self.seen_at = self._moment()
        return self.seen

    def _walk(self) -> Seen:
        try:
            return walk(self.fs, reads=not self.handles)
        except AssertionError as error:
            raise Broken("L6", str(error)) from error

    def _moment(self) -> object:
        return object() if self.handles else (self.fs, self.site.store.batch_count)

    # -- promises --------------------------------------------------------------------------------

    def read_all(self, attributes: Attributes) -> bytes:
        """Raises OSError (EIO) where the content is not here."""
        data = content(self.fs, attributes)
        if data is None:
            raise OSError(errno.EIO, "the content is not here")
        return data

    def note_gone(self, before: int, seen: set[bytes], *, for_ever: bool = False) -> None:
        """A program destroyed these tokens, which it had seen, by the commits after `before`.

        `for_ever`: by what may survive as a draft where no commit does.
        """
        if seen:
            counter = 0 if for_ever else before + 1
            self.ledger.gone.append(Note(self.site.replica.replica, counter, seen))

    def note_written(self, written: set[bytes]) -> None:
        self.ledger.written.append(Note(self.site.replica.replica, self.commits(), written))

    # -- contents --------------------------------------------------------------------------------

    def write(self, path: SymbolicPath, how: str, data: bytes, salt: int) -> None:
        """Overwrite the file ('put', made if need be), append, patch a part, or cut the end off."""
        parent, name = self.resolve(path)
        known = self.stat_or_none(parent, name)
        if known is None and how == "put":
            flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if salt % 3 else 0)
            fh, known = self.fs.create(parent, name, 0o644, flags, CALLERS[salt % 2])
            self.fs.forget(known.ino, 1)
            before, old = self.commits(), b""
        else:
            known = known or self.stat(parent, name)
            check_regular(known)
            before, old = self.commits(), self.read_all(known)
            self.expect_anything(known.ino)
            fh = self.open_to_write(known, how)
        new = changed(old, how, data, salt)
        try:
            self.put_bytes(fh, known, old, new, how, data)
            self.fs.flush(fh)
        finally:
            self.fs.release(fh)
        kept = tokens(old) & tokens(new) if how != "put" else set()  # that cuts all off first
        self.note_gone(before, tokens(old) - kept)
        self.note_written(tokens(new) - kept)
        now = self.stat_or_none(parent, name)
        # Another descriptor may have brought an older branch along: then the two compete.
        is_open = any(handle.ino == known.ino for handle in self.handles)
        if now is not None and now.ino == known.ino and not is_open:
            require(content(self.fs, now) == new, "POSIX", f"{path} does not show what was written")

    def open_to_write(self, known: Attributes, how: str) -> int:
        if how == "put":
            self.fs.setattr(known.ino, size=0)  # what the kernel makes of O_TRUNC
        return self.fs.open(known.ino, os.O_RDWR | (os.O_APPEND if how == "append" else 0))

    def put_bytes(self, fh: int, known: Attributes, old: bytes, new: bytes, how: str, data: bytes) -> None:
        match how:
            case "put":
                self.fs.write(fh, 0, data)
            case "append":
                self.fs.write(fh, len(old), data)
            case "patch":
                at = next((i for i in range(0, len(new), 8) if new[i : i + 8] != old[i : i + 8]), 0)
                self.fs.write(fh, at, new[at : at + len(data)])
            case "cut":
                self.fs.setattr(known.ino, size=len(new), fh=fh)

    def save(self, path: SymbolicPath, data: bytes, salt: int) -> None:
        """Save as many editors do: write a new file beside it and rename that over it."""
        parent, name = self.resolve(path)
        known = self.stat(parent, name)
        check_regular(known)
        old = self.read_all(known)
        backup = name[:200] + b"~"
        if self.stat_or_none(parent, backup) is not None:
            raise FileExistsError(backup)
        self.write((*path[:-1], backup), "put", data, salt)
        before = self.commits()
        self.mark_unlinked(known)
        self.fs.rename(parent, backup, parent, name)
        if known.nlink == 1:
            self.note_gone(before, tokens(old))

    # -- names -----------------------------------------------------------------------------------

    def mkdir(self, path: SymbolicPath, salt: int) -> None:
        parent, name = self.resolve(path)
        caller = CALLERS[1] if salt % 8 == 0 else CALLERS[0]
        made = self.fs.mkdir(parent, name, 0o755, caller)
        self.fs.forget(made.ino, 1)

    def mknod(self, path: SymbolicPath) -> None:
        parent, name = self.resolve(path)
        made = self.fs.mknod(parent, name, stat.S_IFIFO | 0o600, 0, CALLERS[0])
        self.fs.forget(made.ino, 1)

    def symlink(self, path: SymbolicPath, target: bytes) -> None:
        parent, name = self.resolve(path)
        made = self.fs.symlink(parent, name, target, CALLERS[0])
        self.fs.forget(made.ino, 1)

    def link(self, source: SymbolicPath, target: SymbolicPath) -> None:
        known = self.stat(*self.resolve(source))
        parent, name = self.resolve(target)
        made = self.fs.link(known.ino, parent, name)
        self.fs.forget(made.ino, 1)
        require(self.stat(parent, name).ino == known.ino, "POSIX", f"{target} is no link of {source}")

    def unlink(self, path: SymbolicPath) -> None:
        parent, name = self.resolve(path)
        self.remove_name(parent, name, self.stat(parent, name))

    def remove_name(self, parent: Ino, name: bytes, known: Attributes) -> None:
        seen = tokens(self.read_all(known)) if stat.S_ISREG(known.mode) else set()
        before = self.commits()
        self.fs.unlink(parent, name)
        self.mark_unlinked(known)
        if known.nlink == 1:
            self.note_gone(before, seen)
        now = self.stat_or_none(parent, name)
        require(now is None or now.ino != known.ino or now.nlink, "POSIX", f"{name!r} is still there")

    def mark_unlinked(self, known: Attributes) -> None:
        for handle in self.handles:
            if handle.ino == known.ino and known.nlink == 1:
                handle.is_unlinked = True

    def rmdir(self, path: SymbolicPath) -> None:
        self.fs.rmdir(*self.resolve(path))

    def rename(self, source: SymbolicPath, target: SymbolicPath) -> None:
        parent, name = self.resolve(source)
        known = self.stat(parent, name)
        new_parent, new_name = self.resolve(target)
        replaced = self.stat_or_none(new_parent, new_name)
        seen: set[bytes] = set()
        if replaced is not None and stat.S_ISREG(replaced.mode):
            seen = tokens(self.read_all(replaced))
        before = self.commits()
        self.fs.rename(parent, name, new_parent, new_name)
        if replaced is not None and replaced.ino != known.ino:
            self.mark_unlinked(replaced)
            if replaced.nlink == 1:
                self.note_gone(before, seen)
        require(self.stat(new_parent, new_name).ino == known.ino, "POSIX", f"{target} is not what was moved")

    def remove_tree(self, path: SymbolicPath) -> None:
        """`rm -r`, of names that were listed before."""
        parent, name = self.resolve(path)
        known = self.stat(parent, name)
        if not stat.S_ISDIR(known.mode):
            raise NotADirectoryError(name)
        todo = [(parent, name, known)]
        listed = []
        while todo:
            listed.append(todo.pop())
            directory = listed[-1][2]
            if stat.S_ISDIR(directory.mode):
                names = listing(self.fs, Ino(directory.ino))
                todo += [(Ino(directory.ino), n, self.stat(Ino(directory.ino), n)) for n in names]
        for directory, each, attributes in reversed(listed):
            self.remove_listed(directory, each, is_directory=stat.S_ISDIR(attributes.mode))

    def remove_listed(self, directory: Ino, name: bytes, *, is_directory: bool) -> None:
        """Law L7: no name goes, comes or is refused under the hands of `rm -r`."""
        try:
            if is_directory:
                self.fs.rmdir(directory, name)
            else:
                self.remove_name(directory, name, self.stat(directory, name))
        except OSError as error:
            # What was merged and is not shown here yet keeps its file, and so the directory.
            if error.errno != errno.EIO and not (self.handles or self.site.waits()):
                raise Broken("L7", f"it fails at {name!r}: {error}") from error
            raise

    # -- attributes ------------------------------------------------------------------------------

    def chmod(self, path: SymbolicPath, mode: int) -> None:
        known = self.stat(*self.resolve(path))
        self.fs.setattr(known.ino, mode=stat.S_IFMT(known.mode) | mode)

    def chown(self, path: SymbolicPath, uid: int) -> None:
        known = self.stat(*self.resolve(path))
        self.fs.setattr(known.ino, uid=uid, gid=uid)

    def setxattr(self, path: SymbolicPath, value: bytes) -> None:
        known = self.stat(*self.resolve(path))
        if value:
            self.fs.setxattr(known.ino, b"user.k", value)
        else:
            self.fs.removexattr(known.ino, b"user.k")

    # -- handles ---------------------------------------------------------------------------------

    def open(self, path: SymbolicPath, *, appends: bool) -> None:
        known = self.stat(*self.resolve(path))
        check_regular(known)
        fh = self.fs.open(known.ino, os.O_RDWR | (os.O_APPEND if appends else 0))
        self.handles.append(Handle(fh, Ino(known.ino), appends))

    def write_handle(self, index: int, data: bytes, salt: int) -> None:
        handle = self.pick(index)
        old = self.read_handle(handle)
        if handle.expected is not None and not handle.appends:
            same = old == handle.expected
            require(same, "POSIX", "a file that is open for writing changed under its writer")
        end = len(old) // TOKEN_SIZE * TOKEN_SIZE
        at = end if handle.appends or not old else salt * TOKEN_SIZE % (end + TOKEN_SIZE)
        before = self.commits()
        self.fs.write(handle.fh, at, data)
        new = self.read_handle(handle)
        require(data in new, "POSIX", "a program does not read what it has just written")
        handle.mine |= tokens(data)
        self.note_gone(before, tokens(old) - tokens(new), for_ever=True)
        self.expect_anything(handle.ino)
        handle.expected = new

    def expect_anything(self, ino: int) -> None:
        """A program here writes to this file: other descriptors of it see that at once."""
        for handle in self.handles:
            if handle.ino == ino:
                handle.expected = None

    def read_handle(self, handle: Handle) -> bytes:
        return self.fs.read(handle.fh, 0, self.fs.getattr(handle.ino, handle.fh).size)

    def fsync_handle(self, index: int) -> None:
        self.fs.fsync(self.pick(index).fh)
        self.site.replica.sync()

    def close_handle(self, index: int) -> None:
        handle = self.pick(index)
        try:
            left = tokens(self.read_handle(handle))
        except (BlocksMissing, OSError) as error:  # nobody can say which of its tokens are still in it
            if isinstance(error, OSError) and error.errno != errno.EIO:
                raise
            left = set()
        self.fs.flush(handle.fh)
        self.fs.release(handle.fh)
        self.handles.remove(handle)
        if not handle.is_unlinked:
            self.note_written(left & handle.mine)

    def pick(self, index: int) -> Handle:
        if not self.handles:
            raise OSError(errno.EBADF, "nothing is open")
        return self.handles[index % len(self.handles)]

    def close_all(self) -> None:
        while self.handles:
            self.close_handle(0)


def conflict_names(names: dict[bytes, Attributes], stem: bytes) -> list[bytes]:
    return sorted(name for name in names if name.startswith(stem + MARK))


def symbolic(seen: Seen) -> dict[bytes, SymbolicPath]:
    """Return path -> the same as it keeps its meaning, in a fixed order."""
    found: dict[bytes, SymbolicPath] = {b"": ()}
    counts: Counter[tuple[bytes, bytes]] = Counter()
    for path in sorted(seen, key=lambda p: (p.count(b"/"), p)):
        above, _, name = path.rpartition(b"/")
        stem, mark, _ = name.partition(MARK)
        found[path] = (*found[above], (stem, counts[above, stem]) if mark else name)
        counts[above, stem] += bool(mark)
    del found[b""]
    return found


def check_regular(attributes: Attributes) -> None:
    if stat.S_ISDIR(attributes.mode):
        raise IsADirectoryError
    if not stat.S_ISREG(attributes.mode):
        raise OSError(errno.EINVAL, "not a regular file")


def changed(old: bytes, how: str, data: bytes, salt: int) -> bytes:
    """The content after a write; patches and cuts are at multiples of a token."""
    match how:
        case "put":
            return data
        case "append":
            return old + data
        case "patch":
            at = salt % (len(old) // TOKEN_SIZE + 1) * TOKEN_SIZE
            return old[:at] + data + old[at + len(data) :]
        case _:
            return old[: salt % (len(old) // TOKEN_SIZE + 1) * TOKEN_SIZE]
