"""What programs do on one replica; the ledger notes what each of them was promised."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from typing import TypeVar

from crdt.facts import ROOT, Ino
from crdt.orphans import ORPHANS
from crdt.waiting import waiting
from tests.simulator.cluster import Site
from tests.simulator.handles import CALLERS, Handles
from tests.simulator.laws import Broken, require
from tests.simulator.ledger import TOKEN_SIZE, Ledger, Note, tokens
from tests.walk import Found, content, listing, orphans, walk
from translation.filesystem import Attributes, FileSystem

MARK = b".conflict-"

# A component of a path; a conflict entry is (what stands before the mark, which of these), so that a
# step keeps its meaning when steps before it are left out.  So is an orphan: (nothing, which of them).
Component = bytes | tuple[bytes, int]
SymbolicPath = tuple[Component, ...]
Seen = dict[bytes, Found]
T = TypeVar("T")

ORPHANS_AT = b"/.elmer/orphans/"


class Programs:
    """The programs of one site."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self.site, self.ledger = site, ledger
        self.handles = Handles(self)
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
        listed = listing(self.fs, directory)
        names = sorted(listed) if directory == ORPHANS else conflict_names(listed, component[0])
        if component[1] >= len(names):
            raise FileNotFoundError(component)
        return names[component[1]]

    def whole(self, path: SymbolicPath) -> bytes:
        """The path as bytes, as tests.walk has it."""
        directory, names = ROOT, list[bytes]()
        for at, component in enumerate(path):
            names.append(self.name_of(directory, component))
            if any(isinstance(below, tuple) for below in path[at + 1 :]):
                known = self.stat_or_none(directory, names[-1])
                directory = Ino(known.ino) if known else directory
        return b"".join(b"/" + name for name in names)

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
        """What shows, as it was seen last where no program and no merge has done anything since; a tree, law
        L6."""
        return self.seen if self.seen_at == (self.fs, self.site.store.batch_count) else self.look_again()

    def look_again(self) -> Seen:
        """What shows, and the orphans, read anew."""
        self.seen = everything(self.fs)
        self.seen_at = self.fs, self.site.store.batch_count
        return self.seen

    def acts(self) -> None:
        """A program is about to do something, which may change what open files show without a commit."""
        self.seen_at = None

    def unsettled(self) -> set[Ino]:
        """The files that may show more than they do: those open here, and those that wait for content."""
        return self.with_branches({handle.ino for handle in self.handles.opened} | self.site.waiting())

    def with_branches(self, files: set[Ino]) -> set[Ino]:
        """With the numbers of the files that they are branches of, and of the branches of those."""
        if not files:
            return files
        orphans = self.fs.orphans
        entries = [entry for _, entry in self.fs.listing.walk() if not entry.is_directory]
        entries += [entry for ino in orphans.all() for entry in orphans.entries(ino)]
        owners = files | {self.began_as(entry.owner) for entry in entries if entry.ino in files}
        # A branch that is open may hide, and then is no entry.
        targets = [self.fs.attributes.target(handle.ino).inode.ino for handle in self.handles.opened]
        owners |= {self.began_as(ino) for ino in targets}
        return owners | {entry.ino for entry in entries if self.began_as(entry.owner) in owners}

    def began_as(self, ino: Ino) -> Ino:
        """The file that another was a branch of, before it became a file of its own; and so on."""
        inode = self.site.replica.state.inode(ino)
        claimed = None if inode is None else inode.birth.claims
        return ino if claimed is None else self.began_as(claimed.ino)

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
        known, caller = self.stat_or_none(parent, name), CALLERS[salt % 2]
        truncates = how == "put" and known is not None
        if known is None and how == "put":
            flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if salt % 3 else 0)
            fh, known = self.fs.create(parent, name, 0o644, flags, caller)
            self.fs.forget(known.ino, 1)
            before, old = self.commits(), b""
        else:
            known = known or self.stat(parent, name)
            check_regular(known)
            before, old = self.commits(), self.read_all(known)
            self.handles.expect_anything(known.ino)
            flags = os.O_RDWR | (os.O_APPEND if how == "append" else 0)
            fh = self.fs.open(known.ino, flags, caller)
        is_open = any(self.handles.on_branch_of(Ino(known.ino)))
        new = changed(old, how, data, salt)
        lacked = self.lacking(known)
        try:
            if truncates:
                self.fs.setattr(known.ino, size=0, caller=caller)  # what the kernel makes of O_TRUNC
            self.put_bytes(fh, known, old, new, how, data)
            self.fs.flush(fh)
        except OSError:
            self.note_gone(before, tokens(old))  # it may have been cut before that
            raise
        finally:
            self.fs.release(fh)
        kept = tokens(old) & tokens(new) if how != "put" else set()  # that cuts all off first
        self.note_gone(before, tokens(old) - kept)
        self.note_written(tokens(new) - kept)
        now = self.stat_or_none(parent, name)
        # Another descriptor may have brought an older branch along: then the two compete.
        if now is not None and now.ino == known.ino and not is_open:
            shows = content(self.fs, now)
            # It may have written blocks that another head waited for: then what that did shows, too.
            came = (
                self.lacking(now) < lacked
                and shows is not None
                and tokens(shows) >= tokens(new) - tokens(old)
            )
            require(shows == new or came, "POSIX", f"{path} does not show what was written")

    def lacking(self, known: Attributes) -> int:
        """How many blocks a file waits for."""
        return len(waiting(self.site.replica.state, Ino(known.ino)))

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

    # -- names -----------------------------------------------------------------------------------

    def mkdir(self, path: SymbolicPath, salt: int) -> None:
        parent, name = self.resolve(path)
        caller = CALLERS[1] if salt % 8 == 0 else CALLERS[0]
        made = self.fs.mkdir(parent, name, 0o755, caller)
        self.fs.forget(made.ino, 1)
        self.note_written({directory_token(made.ino)})

    def mknod(self, path: SymbolicPath) -> None:
        parent, name = self.resolve(path)
        made = self.fs.mknod(parent, name, stat.S_IFIFO | 0o600, 0, CALLERS[0])
        self.fs.forget(made.ino, 1)

    def symlink(self, path: SymbolicPath, target: bytes) -> None:
        parent, name = self.resolve(path)
        made = self.fs.symlink(parent, name, target, CALLERS[0])
        self.fs.forget(made.ino, 1)
        self.note_written(tokens(target))

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
        seen, before = self.what_goes_with(known), self.commits()
        twins = self.twins(known)
        self.fs.unlink(parent, name)
        if is_last_name(known):
            self.mark_unlinked(known, twins)
            self.note_gone(before, seen)
        now = self.stat_or_none(parent, name)
        require(now is None or now.ino != known.ino or now.nlink, "POSIX", f"{name!r} is still there")

    def twins(self, known: Attributes) -> set[Ino]:
        """The files that show as one with this one."""
        if not self.handles or not stat.S_ISREG(known.mode):
            return set()
        return self.site.replica.view.twins(Ino(known.ino))

    def mark_unlinked(self, known: Attributes, twins: set[Ino]) -> None:
        """A program removed the last name of this, and with it its twins that have no other one."""
        self.handles.mark_unlinked(known.ino)
        for twin in twins:
            inode = self.site.replica.state.inode(twin)
            if inode is None or not inode.shown:
                self.handles.mark_unlinked(twin)

    def what_goes_with(self, known: Attributes) -> set[bytes]:
        """What a program sees of this, and destroys with its last name.  Raises OSError (EIO)."""
        if stat.S_ISDIR(known.mode):
            return {directory_token(member) for member in self.site.replica.view.members(Ino(known.ino))}
        return tokens(self.read_all(known))

    def rmdir(self, path: SymbolicPath) -> None:
        self.remove_directory(*self.resolve(path))

    def remove_directory(self, parent: Ino, name: bytes) -> None:
        seen, before = self.what_goes_with(self.stat(parent, name)), self.commits()
        self.fs.rmdir(parent, name)
        self.note_gone(before, seen)

    def rename(self, source: SymbolicPath, target: SymbolicPath) -> None:
        self.move(*self.resolve(source), *self.resolve(target))

    def move(self, parent: Ino, name: bytes, new_parent: Ino, new_name: bytes) -> None:
        known = self.stat(parent, name)
        replaced = self.stat_or_none(new_parent, new_name)
        seen = set() if replaced is None else self.what_goes_with(replaced)
        before, hides = self.commits(), bool(self.site.waiting())
        twins = set() if replaced is None else self.twins(replaced)
        if replaced is not None:
            hides = hides or any(any(self.handles.of(ino)) for ino in (replaced.ino, *twins))
        self.fs.rename(parent, name, new_parent, new_name)
        if replaced is not None and replaced.ino != known.ino and is_last_name(replaced):
            self.mark_unlinked(replaced, twins)
            self.note_gone(before, seen)
        moved = self.stat(new_parent, new_name)
        # What was merged and did not show may stand at this name, too: as a twin, under an older number.
        require(hides or moved.ino == known.ino, "POSIX", f"{new_name!r} is not what was moved")

    # -- attributes ------------------------------------------------------------------------------

    def chmod(self, path: SymbolicPath, mode: int) -> None:
        known = self.stat(*self.resolve(path))
        self.fs.setattr(known.ino, mode=stat.S_IFMT(known.mode) | mode)

    def chown(self, path: SymbolicPath, uid: int) -> None:
        known = self.stat(*self.resolve(path))
        self.fs.setattr(known.ino, uid=uid, gid=uid)

    def setxattr(self, path: SymbolicPath, name: bytes, value: bytes) -> None:
        known = self.stat(*self.resolve(path))
        if value:
            self.fs.setxattr(known.ino, name, value)
        else:
            self.fs.removexattr(known.ino, name)

    def touch(self, path: SymbolicPath, mtime_ns: int) -> None:
        parent, name = self.resolve(path)  # once: what was written before may come to show beside it
        self.fs.setattr(self.stat(parent, name).ino, mtime_ns=mtime_ns)
        now = self.stat_or_none(parent, name)
        is_back = now is None and parent == ORPHANS  # by what an open file held, which was written out first
        has_it = now is not None and now.mtime_ns == mtime_ns
        require(is_back or has_it, "POSIX", f"{path} has another mtime than it was given")

    # -- open files ------------------------------------------------------------------------------

    def open(self, path: SymbolicPath, *, appends: bool) -> None:
        known = self.stat(*self.resolve(path))
        check_regular(known)
        self.handles.open(known, appends=appends)


def tree(fs: FileSystem) -> Seen:
    """What shows, which must be a tree."""
    try:
        return walk(fs)
    except AssertionError as error:
        raise Broken("L6", str(error)) from error


def everything(fs: FileSystem) -> Seen:
    """What shows, and the orphans."""
    return tree(fs) | in_orphans(orphans(fs))


def in_orphans(found: dict[bytes, T]) -> dict[bytes, T]:
    return {ORPHANS_AT + name: each for name, each in found.items()}


def conflict_names(names: dict[bytes, Attributes], stem: bytes) -> list[bytes]:
    return sorted(name for name in names if name.startswith(stem + MARK))


def symbolic(seen: Seen) -> dict[bytes, SymbolicPath]:
    """Return path -> the same as it keeps its meaning, in a fixed order."""
    found: dict[bytes, SymbolicPath] = {b"": (), ORPHANS_AT[:-1]: (b".elmer", b"orphans")}
    counts: Counter[tuple[bytes, bytes]] = Counter()
    for path in sorted(seen, key=lambda p: (p.count(b"/"), p)):
        above, _, name = path.rpartition(b"/")
        stem, mark, _ = name.partition(MARK)
        if path.startswith(ORPHANS_AT):
            stem, mark = b"", name
        found[path] = (*found[above], (stem, counts[above, stem]) if mark else name)
        counts[above, stem] += bool(mark)
    del found[b""], found[ORPHANS_AT[:-1]]
    return found


def is_last_name(attributes: Attributes) -> bool:
    return stat.S_ISDIR(attributes.mode) or attributes.nlink == 1


def directory_token(ino: int) -> bytes:
    """What stands for a directory in the ledger."""
    return b"directory %d" % ino


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
