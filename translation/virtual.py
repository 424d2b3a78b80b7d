"""The virtual directory `.elmer` at the root of a mount: what stands there.

    .elmer/conflicts/     a symbolic link to each conflict entry, named by its path
    .elmer/orphans/       the files that have no name (crdt.orphans), under names to take them by
    .elmer/status.json    how this replica stands
    .elmer/beneath        what a peer put at this very name in the root, if one did

It is in no fact.  The root does not list it, so whoever walks the tree (find, tar, rsync) does not go in; a
look-up finds it always.  Its numbers are those of replica 0, which there is not.  All is worked out when it
is looked at, and the kernel is told to keep neither names nor attributes.

SUBTLE: pages of a file are kept by its number, and a read ends at the size that the kernel was told of that
number.  So a content of `status.json` belongs to a number: each look-up makes it anew until the number is
opened, and from then on it stays; the next look-up gives another number.
"""

from __future__ import annotations

import errno
import json
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import NamedTuple, Protocol

from crdt.entries import NAME_MAX, Entry
from crdt.facts import ROOT, Ino, Kind
from crdt.orphans import ORPHANS
from translation.attributes import TYPE_BITS, AttributeRequests, Attributes
from translation.intent import posix_error
from translation.listing import Conflict, Listing
from translation.orphans import Orphans

NAME = b".elmer"
ELMER, CONFLICTS = Ino(2), Ino(3)
DIRECTORIES = {b"conflicts": CONFLICTS, b"orphans": ORPHANS}
STATUS, BENEATH = b"status.json", b"beneath"
STATUS_FIRST = 1 << 20
LINKS_FIRST = 1 << 39
END = 1 << 40  # the numbers of replicas begin here

# Who may look at the names in everybody's directories is whom the root belongs to.  An orphan belongs to its
# owner: as in /tmp nobody else may move or remove it.
MODES = {ELMER: 0o555, CONFLICTS: 0o500, ORPHANS: 0o1777}
STATUS_MODE = 0o400

SEPARATOR, LONG = b"%", b"=="
TARGET_MAX = 4095


def is_virtual(ino: int) -> bool:
    return 1 < ino < END


class Reports(Protocol):
    """What takes long to find out; whoever serves a mount may let go of the lock meanwhile."""

    def status(self) -> bytes:
        """Return what `elmer status --json` prints."""

    def conflicts(self) -> list[Conflict]: ...


class OwnReports:
    """What a replica knows without a daemon."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing

    def status(self) -> bytes:
        replica = self.listing.replica
        said = {
            "replica": {"name": replica.name, "id": replica.replica},
            "conflicts": self.listing.conflict_count(),
            "orphans": self.listing.orphan_count(),
        }
        return json.dumps(said, indent=2).encode() + b"\n"

    def conflicts(self) -> list[Conflict]:
        return self.listing.conflicts()


class Named(NamedTuple):
    """A name as it is listed: `mode` says the type only."""

    name: bytes
    ino: Ino
    mode: int


class Link(NamedTuple):
    target: bytes
    made_ns: int


@dataclass(slots=True)
class Status:
    content: bytes
    made_ns: int
    is_opened: bool = False


class VirtualDirectory:
    def __init__(self, requests: AttributeRequests, orphans: Orphans, listing: Listing) -> None:
        self.requests = requests
        self.orphans = orphans
        self.reports: Reports = OwnReports(listing)
        self.began_ns = requests.replica.wall_ns()
        # By number, as long as the kernel knows it.
        self.links: dict[int, Link] = {}
        self.statuses: dict[int, Status] = {}
        self.next_status = Ino(STATUS_FIRST)

    # -- look-ups ----------------------------------------------------------------------------------

    def find(self, parent: Ino, name: bytes) -> Ino:
        """Return the number of a name.  Raises FileNotFoundError (ENOENT), NotADirectoryError (ENOTDIR)."""
        if parent not in MODES:
            raise posix_error(errno.ENOTDIR, name)
        if name == b".":
            return parent
        if name == b"..":
            return _above(parent)
        if parent == CONFLICTS:
            return self._find_link(name)
        if parent == ORPHANS:
            return self.orphans.find(name).ino
        if name == STATUS:
            return self._make_status()
        beneath = self.beneath()
        if name == BENEATH and beneath is not None:
            return beneath.ino
        if name in DIRECTORIES:
            return DIRECTORIES[name]
        raise posix_error(errno.ENOENT, name)

    def beneath(self) -> Entry | None:
        """Return what has the name of the virtual directory in the tree."""
        return self.requests.view.lookup(ROOT, NAME)

    def _make_status(self) -> Ino:
        content = self.reports.status()
        known = self.statuses.get(self.next_status)
        if known is not None and known.is_opened:
            self.next_status = Ino(self.next_status + 1)
        self.statuses[self.next_status] = Status(content, self.requests.replica.wall_ns())
        return self.next_status

    def _find_link(self, name: bytes) -> Ino:
        link = self._long_link(name) if name.startswith(LONG) else self._short_link(path_of(name))
        if link is None:
            raise posix_error(errno.ENOENT, name)
        ino = number_of(name)
        while ino in self.links and self.links[ino].target != link.target:
            ino = Ino(LINKS_FIRST | ino + 1 & LINKS_FIRST - 1)
        self.links[ino] = link
        return ino

    def _short_link(self, path: bytes) -> Link | None:
        *above, last = path.split(b"/")
        directory = ROOT
        for part in above:
            entry = self.requests.view.lookup(directory, part)
            if entry is None or not entry.is_directory:
                return None
            directory = entry.ino
        entry = self.requests.view.lookup(directory, last)
        return Link(target_of(path), entry.wall_ns) if entry is not None and entry.is_conflict else None

    def _long_link(self, name: bytes) -> Link | None:
        for conflict in self.reports.conflicts():
            if link_name(conflict.path) == name:
                return Link(target_of(conflict.path), conflict.wall_ns)
        return None

    def forget(self, ino: int) -> None:
        """The kernel does not know this number any more."""
        self.links.pop(ino, None)
        self.statuses.pop(ino, None)

    # -- what stands there -------------------------------------------------------------------------

    def getattr(self, ino: Ino) -> Attributes:
        """Raises FileNotFoundError (ENOENT)."""
        root = self.requests.inode(ROOT)
        nlink, size, mtime_ns = 1, 0, self.began_ns
        if ino in MODES:
            mode, nlink = stat.S_IFDIR | MODES[ino], self._directory_nlink(ino)
        elif ino in self.links:
            mode, (target, mtime_ns) = stat.S_IFLNK | 0o777, self.links[ino]
            size = len(target)
        elif ino in self.statuses:
            status = self.statuses[ino]
            mode, size, mtime_ns = stat.S_IFREG | STATUS_MODE, len(status.content), status.made_ns
        else:
            raise posix_error(errno.ENOENT)
        return Attributes(ino, mode, nlink, root.uid, root.gid, 0, size, mtime_ns, mtime_ns, mtime_ns)

    def _directory_nlink(self, ino: Ino) -> int:
        if ino != ELMER:
            return 2
        beneath = self.beneath()
        return 2 + len(DIRECTORIES) + (beneath is not None and beneath.is_directory)

    def readlink(self, ino: Ino) -> bytes:
        """Raises OSError (ENAMETOOLONG) where no link can lead that deep."""
        if ino not in self.links:
            raise posix_error(errno.EINVAL)
        target = self.links[ino].target
        if len(target) > TARGET_MAX:
            raise posix_error(errno.ENAMETOOLONG)
        return target

    def open(self, ino: Ino) -> None:
        """What has this number is read now, and stays as it is."""
        if ino in MODES:
            raise posix_error(errno.EISDIR)
        if ino not in self.statuses:
            raise posix_error(errno.ENOENT)
        self.statuses[ino].is_opened = True

    def read(self, ino: Ino, offset: int, size: int) -> bytes:
        return self.statuses[ino].content[offset : offset + size]

    # -- lists -------------------------------------------------------------------------------------

    def parts(self, ino: Ino) -> list[Callable[[], list[Named]]]:
        """Return what is in a directory, in parts that each can be listed later: there may be many."""
        dots = partial(_list_dots, ino)
        if ino == ELMER:
            return [dots, self._list_elmer]
        if ino == CONFLICTS:
            return [dots, *(partial(_list_link, conflict.path) for conflict in self.reports.conflicts())]
        return [dots, *(partial(self._list_orphan, each) for each in self.orphans.all())]

    def _list_elmer(self) -> list[Named]:
        found = [Named(name, ino, stat.S_IFDIR) for name, ino in DIRECTORIES.items()]
        found.append(Named(STATUS, self.next_status, stat.S_IFREG))
        beneath = self.beneath()
        if beneath is not None:
            found.append(Named(BENEATH, beneath.ino, TYPE_BITS[Kind(beneath.kind)]))
        return found

    def _list_orphan(self, ino: Ino) -> list[Named]:
        entries = self.orphans.entries(ino)
        return [Named(entry.name, entry.ino, TYPE_BITS[Kind(entry.kind)]) for entry in entries]


def _above(ino: Ino) -> Ino:
    return ROOT if ino == ELMER else ELMER


def _list_dots(ino: Ino) -> list[Named]:
    return [Named(b".", ino, stat.S_IFDIR), Named(b"..", _above(ino), stat.S_IFDIR)]


def _list_link(path: bytes) -> list[Named]:
    name = link_name(path)
    return [Named(name, number_of(name), stat.S_IFLNK)]


# -- names of links --------------------------------------------------------------------------------


def link_name(path: bytes) -> bytes:
    """Return the path as one name: `%` for each slash, and `=25` and `=3D` for `%` and `=`.

    Of what is longer than a name can be, the end, after a hash of the whole.
    """
    name = re.sub(rb"[%=]", lambda found: b"=%02X" % ord(found[0]), path).replace(b"/", SEPARATOR)
    if len(name) <= NAME_MAX:
        return name
    begin = LONG + blake2b(path, digest_size=8).hexdigest().encode() + LONG
    return begin + name[len(begin) - NAME_MAX :]


def path_of(name: bytes) -> bytes:
    """Return the path that a name which is not too long stands for."""
    path = name.replace(SEPARATOR, b"/")
    return re.sub(rb"=(25|3D)", lambda found: bytes([int(found[1], 16)]), path)


def number_of(name: bytes) -> Ino:
    digest = blake2b(name, digest_size=8).digest()
    return Ino(LINKS_FIRST | int.from_bytes(digest, "big") & LINKS_FIRST - 1)


def target_of(path: bytes) -> bytes:
    """Return the way from `conflicts` to a path of the tree."""
    if path.startswith(NAME + b"/"):
        return b"../" + BENEATH + path[len(NAME) :]
    return b"../../" + path
