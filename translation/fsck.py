"""Every invariant of a store, as checks that yield findings (design section 5, I).

What is kept incrementally is computed here again from the facts, and compared: where directories stand
(one plain replay of the log), where links show, the rows of names, counts and marks.  References must lead
somewhere: heads to versions, block maps to blocks (here, or known to be wanted), arrivals to rows, names to
inodes.  The tree must be a tree: every directory that shows leads up to the root.

What cannot be read is a finding like any other, and the rest is looked at all the same.

Reads only; the store must not be in use by others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, TypeVar, cast

from crdt.absorption import branches
from crdt.blocks import BlockMap, block_key, digest_of, hash_of, trimmed
from crdt.causality import Dot
from crdt.codec import CodecError, CorruptStore, unpack
from crdt.contest import mark_of
from crdt.facts import ROOT, Ino, LinkId, Placement, Version
from crdt.moves import Logged, decode_logged
from crdt.names import View, names_row_key
from crdt.records import record_key, records_of
from crdt.rows import Counts, Head, Inode, Item, Row, Shown, Stamped, decode_inode, decode_names
from crdt.state import State, counts_key, hash_of_name, inode_key, names_key
from crdt.store import Store
from crdt.versions import first_version
from crdt.visible import is_orphan, orphan_key, orphans, visible
from crdt.waiting import waiting_key, wanted_key
from translation.damage import Whose, readable_rows
from translation.replica import CLOCK_KEY, Replica

T = TypeVar("T")

PROGRESS_ROWS = 10_000


class Finding(NamedTuple):
    key: str  # of the row, as the documentation of the formats writes it
    problem: str
    paths: tuple[str, ...] = ()  # what it is about, as far as that can be told


class Check:
    def __init__(self, replica: Replica, on_progress: Callable[[int], None] | None) -> None:
        self.replica = replica
        store = self.store = replica.store
        self.state = State(store)
        self.view = View(self.state, replica.member_name)
        self.view.count_marks()
        self.on_progress = on_progress
        self.whose = Whose(store)
        self.rows = 0
        self.expected: dict[tuple[Ino, int], dict[bytes, list[Item]]] = {}
        self.counts: dict[Ino, list[int]] = {}
        self.unread: list[Finding] = []
        self.is_damaged = False  # something could not be read
        self.wrong_blocks: set[bytes] = set()  # hashes

    def run(self) -> Iterator[Finding]:
        for step in (
            self._blocks,
            self._directories,
            self._inodes,
            self._orphans,
            self._record_rows,
            self._names,
            self._counts,
            self._arrivals,
            self._wanted,
        ):
            yield from _going_on(b"", step())
            yield from self.unread
            self.is_damaged = self.is_damaged or bool(self.unread)
            self.unread.clear()

    def _rows(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in readable_rows(self.store, kind, self._note_damage):
            self.rows += 1
            if self.on_progress is not None and self.rows % PROGRESS_ROWS == 0:
                self.on_progress(self.rows)
            yield key, value

    def _note_damage(self, start: bytes, error: OSError) -> None:
        self.unread.append(Finding(shown_key(start), f"rows from here on cannot be read: {error}"))

    # -- directories -------------------------------------------------------------------------------

    def _directories(self) -> Iterator[Finding]:
        """Replay all moves from the creations on, and compare with where directories stand."""
        placed: dict[Ino, Stamped[Placement]] = {}
        for key, inode in self._decoded(b"I", decode_row):
            if isinstance(inode, Finding):
                yield inode
            elif inode.is_directory and inode.created is not None:
                placed[Ino(int.from_bytes(key[1:], "big"))] = inode.created
        moves: list[tuple[bytes, Logged]] = []
        for key, logged in self._decoded(b"G", lambda _, row: decode_logged(row)):
            if isinstance(logged, Finding):
                yield logged
            else:
                moves.append((key, logged))
        yield from _replayed(placed, moves)
        for ino, placement in placed.items():
            known = self.state.inode(ino)
            if known is not None and known.at != placement:
                yield Finding(shown_key(inode_key(ino)), "it stands elsewhere than the moves say")

    def _decoded(
        self, kind: bytes, decode: Callable[[bytes, bytes], T]
    ) -> Iterator[tuple[bytes, T | Finding]]:
        """Yield the rows of a kind, or what is wrong with one that does not decode."""
        for key, row in self._rows(kind):
            try:
                yield key, decode(key, row)
            except (CodecError, ValueError, TypeError, IndexError) as error:
                yield key, Finding(shown_key(key), f"does not decode: {error}")

    # -- inodes ------------------------------------------------------------------------------------

    def _inodes(self) -> Iterator[Finding]:
        for key, _ in self._rows(b"I"):
            ino = Ino(int.from_bytes(key[1:], "big"))
            try:
                inode = self.state.inode(ino)
            except (CorruptStore, OSError):
                continue  # found above
            if inode is None:
                continue
            yield from _going_on(key, (self._directory if inode.is_directory else self._file)(key, inode))
            for place in inode.shown:
                self._expect(inode, place)
            yield from _going_on(key, self._records(key, inode))
            yield from self._dots(key, inode)

    def _dots(self, key: bytes, inode: Inode) -> Iterator[Finding]:
        """A fact is in one batch with what says that its dot is used: else the next commit uses it too."""
        unheard = {dot for dot in dots_of(inode) if dot not in self.replica.seen()}
        if unheard:
            yield Finding(shown_key(key), f"it has facts of commits that never came: {sorted(unheard)}")

    def _records(self, key: bytes, inode: Inode) -> Iterator[Finding]:
        has_records = bool(records_of(self.state, inode))
        if inode.has_records != has_records:
            has = "has" if has_records else "has no"
            yield Finding(shown_key(key), f"it {has} records of what was overruled")
        if (self.store.get(record_key(inode.ino)) is not None) != has_records:
            yield Finding(shown_key(record_key(inode.ino)), "it is there without records, or missing")

    def _record_rows(self) -> Iterator[Finding]:
        for key, _ in self._rows(b"R"):
            if self.store.get(b"I" + key[1:]) is None:
                yield Finding(shown_key(key), "records of an inode that is not known")

    def _directory(self, key: bytes, inode: Inode) -> Iterator[Finding]:
        if inode.ino == ROOT:
            return
        if inode.shown and not self._leads_to_root(inode):
            yield Finding(shown_key(key), "the directory shows, but does not lead up to the root")
        shows = inode.is_live() or bool(self.state.counts(inode.ino).items)
        if shows != bool(inode.shown):
            yield Finding(shown_key(key), f"the directory {'does not show' if shows else 'shows'}")
        for place in inode.shown:
            at = inode.at
            if at is None:
                yield Finding(shown_key(key), "the directory shows, but stands nowhere")
                continue
            name = inode.links[LinkId(inode.ino)].raw_name(at)
            if place != Shown(LinkId(inode.ino), at.fact.parent, name, at.fact.name):
                yield Finding(shown_key(key), "the directory shows elsewhere than it stands")

    def _leads_to_root(self, inode: Inode) -> bool:
        seen: set[Ino] = set()
        while inode.ino != ROOT:
            if inode.ino in seen or not inode.shown:
                return False
            seen.add(inode.ino)
            above = self.state.inode(inode.shown[0].parent)
            if above is None:
                return False
            inode = above
        return True

    def _file(self, key: bytes, inode: Inode) -> Iterator[Finding]:
        if not inode.heads and not inode.splits:
            yield Finding(shown_key(key), "the file has no head")
            return
        links, orphaned = visible(self.state, inode)
        if links != inode.shown:
            yield Finding(shown_key(key), "its links show elsewhere than its facts say")
        if orphaned != is_orphan(self.state, inode):
            yield Finding(shown_key(key), f"it is {'not ' if orphaned else ''}listed as an orphan")
        extra = len(branches(self.state, inode)) if inode.shown else 0
        if extra != inode.branches:
            yield Finding(shown_key(key), f"{inode.branches} branches are counted, {extra} show")
        for head in inode.heads:
            yield from self._head(key, inode, head)

    def _orphans(self) -> Iterator[Finding]:
        for ino in orphans(self.state):
            inode = self.state.inode(ino)
            if inode is None or inode.is_directory or inode.shown:
                yield Finding(shown_key(orphan_key(ino)), "what is listed as an orphan is none")

    def _head(self, key: bytes, inode: Inode, head: Head) -> Iterator[Finding]:
        stored = self.state.version(head.ref)
        if stored is None:
            if head.ref != first_version(inode.ino) and head.ref != first_version(head.ref.ino):
                yield Finding(shown_key(key), f"the version {head.ref} of a head is missing")
            return
        if (stored.fact.size, stored.dot) != (head.size, head.dot):
            yield Finding(shown_key(key), f"the head {head.ref} is not as its version says")
        yield from self._content(key, head, stored.fact)
        if head.before is not None:
            yield from self._head(key, inode, head.before)
        if not head.map or not (inode.shown or is_orphan(self.state, inode)):
            return
        owner = inode.ino
        for index, block_hash in BlockMap(self.state, head.map_ino, head.map).items():
            block = self.store.get(block_key(block_hash))
            if block_hash in self.wrong_blocks or block_key(block_hash) in self.store.damaged:
                yield Finding(shown_key(key), f"block {index}, {block_hash.hex()}, is damaged")
            if block is not None or block_key(block_hash) in self.store.damaged:
                continue
            if self.store.get(wanted_key(block_hash, owner)) is None:
                yield Finding(shown_key(key), f"block {index} is not here, and nobody waits for it")

    def _content(self, key: bytes, head: Head, version: Version) -> Iterator[Finding]:
        """Is it the content that was written, by its digest, whether its blocks are here or not?"""
        if version.bare:
            return
        blocks: Iterable[tuple[int, bytes]] = ()
        if version.inline is not None:
            blocks = [(0, hash_of(trimmed(version.inline)))]
        elif head.map:
            blocks = BlockMap(self.state, head.map_ino, head.map).items()
        if digest_of(self.replica.volume.digest_key, version.size, blocks) != version.digest:
            yield Finding(shown_key(key), f"what the head {head.ref} holds is not what its digest says")

    def _expect(self, inode: Inode, place: Shown) -> None:
        home = min(shown.link for shown in inode.shown)
        item = Item(place.link, inode.ino, int(inode.birth.kind), inode.branches if place.link == home else 0)
        names = self.expected.setdefault((place.parent, hash_of_name(place.name)), {})
        names.setdefault(place.name, []).append(item)
        counts = self.counts.setdefault(place.parent, [0, 0])
        counts[0] += 1
        counts[1] += inode.is_directory

    # -- names -------------------------------------------------------------------------------------

    def _names(self) -> Iterator[Finding]:
        for key, value in self._rows(b"D"):
            directory, name_hash = Ino(int.from_bytes(key[1:9], "big")), int.from_bytes(key[9:], "big")
            try:
                names = decode_names(value)
            except (CodecError, ValueError, TypeError, IndexError) as error:
                yield Finding(shown_key(key), f"does not decode: {error}")
                continue
            expected = self.expected.pop((directory, name_hash), {})
            if names != {name: tuple(sorted(items)) for name, items in expected.items()}:
                yield Finding(shown_key(key), "the names are not those of the links that show here")
            marked, shared = mark_of(names)
            mark = (b"u" if shared else b"") if marked else None
            if self.store.get(names_row_key(directory, name_hash)) != mark:
                yield Finding(shown_key(key), "its mark of conflicts is wrong")
            if marked:
                yield from _going_on(key, self._unique(key, directory, names))
            if self.is_damaged:
                yield from self._unreadable(names)
        for (directory, name_hash), names_missing in self.expected.items():
            paths = tuple(self.whose.path(directory, name) for name in sorted(names_missing))
            problem = f"names are missing: {sorted(names_missing)}"
            yield Finding(shown_key(names_key(directory, name_hash)), problem, paths)

    def _unreadable(self, names: dict[bytes, tuple[Item, ...]]) -> Iterator[Finding]:
        """Files whose own rows are what is damaged."""
        for items in names.values():
            for item in items:
                key = inode_key(item.ino)
                if not _is_readable(self.store, key):
                    yield Finding(shown_key(key), "the inode of what stands here cannot be read")

    def _unique(self, key: bytes, directory: Ino, names: dict[bytes, tuple[Item, ...]]) -> Iterator[Finding]:
        members = self.view.members(directory)
        for raw in names:
            entries = self.view.group(members, raw)
            if len({entry.name for entry in entries}) != len(entries):
                yield Finding(shown_key(key), f"two entries of {raw!r} have one name")
            for entry in entries[1:]:
                if self.view.items(members, entry.name):
                    yield Finding(shown_key(key), f"the conflict entry {entry.name!r} has a file's name")

    def _counts(self) -> Iterator[Finding]:
        for key, value in self._rows(b"C"):
            directory = Ino(int.from_bytes(key[1:], "big"))
            try:
                counts = Counts(*cast(tuple[int, int, int, int], unpack(value)))
            except (CodecError, TypeError) as error:
                yield Finding(shown_key(key), f"does not decode: {error}")
                continue
            items, directories = self.counts.pop(directory, [0, 0])
            if (counts.items, counts.directories) != (items, directories):
                yield Finding(
                    shown_key(key),
                    f"{counts.items} entries and {counts.directories} directories are counted, {items} and"
                    f" {directories} show",
                )
        for directory in self.counts:
            yield Finding(shown_key(counts_key(directory)), "the counts of a directory are missing")

    # -- commits -----------------------------------------------------------------------------------

    def _arrivals(self) -> Iterator[Finding]:
        end, vector = self.replica.arrival_end, self.replica.seen()
        count = 0
        seen: set[Dot] = set()
        for key, value in self._rows(b"A"):
            try:
                dot, _, _, keys = cast(Row, unpack(value))
            except (CodecError, ValueError, TypeError) as error:
                yield Finding(shown_key(key), f"does not decode: {error}")
                continue
            if int.from_bytes(key[1:], "big") != count:
                yield Finding(shown_key(key), f"arrival {count} is missing")
                count = int.from_bytes(key[1:], "big")
            count += 1
            if dot not in vector or dot in seen:
                yield Finding(shown_key(key), f"the commit {dot} is twice here, or not in the vector")
            seen.add(dot)
            for row in keys:
                if _is_readable(self.store, row) and self.store.get(row) is None:
                    yield Finding(shown_key(key), f"its row {shown_key(row)} is missing")
        if count != end:
            yield Finding(shown_key(CLOCK_KEY), f"{end} arrivals are counted, there are {count}")

    # -- blocks ------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[Finding]:
        for key, value in self._rows(b"K"):
            if hash_of(value) != key[1:] or trimmed(value) != value:
                self.wrong_blocks.add(key[1:])
                yield Finding(shown_key(key), "the block is not what its hash says")

    def _wanted(self) -> Iterator[Finding]:
        for key, _ in self._rows(b"W"):
            block_hash, ino = key[1:33], Ino(int.from_bytes(key[33:], "big"))
            if self.store.get(waiting_key(ino, block_hash)) is None:
                yield Finding(shown_key(key), "nobody waits for this block")
        for key, _ in self._rows(b"P"):
            ino, block_hash = Ino(int.from_bytes(key[1:9], "big")), key[9:]
            if self.store.get(wanted_key(block_hash, ino)) is None:
                yield Finding(shown_key(key), "a block is waited for that is not asked for")


def dots_of(inode: Inode) -> Iterator[Dot]:
    yield from (birth.dot for birth in inode.births)
    yield from (value.dot for values in inode.registers.values() for value in values)
    for link in inode.links.values():
        yield from (placement.dot for placement in link.placements)
        yield from (removal.dot for removal in link.removals)
        yield from (pin.dot for pin in link.pins)
    yield from (head.dot for head in inode.heads)


def decode_row(key: bytes, row: bytes) -> Inode:
    return decode_inode(Ino(int.from_bytes(key[1:], "big")), row)


def _replayed(placed: dict[Ino, Stamped[Placement]], moves: list[tuple[bytes, Logged]]) -> Iterator[Finding]:
    """Move the directories of `placed` by the whole log; yield moves that are marked otherwise."""

    def together(keyed: tuple[bytes, Logged]) -> tuple[int, int, int, bytes]:
        move = keyed[1].move
        return (move.hlc, move.dot, move.fact.parent, move.fact.name)

    for _, group in groupby(sorted(moves, key=together), together):
        moved = list(group)
        moving = {logged.move.fact.ino for _, logged in moved}
        takes = not _is_within(placed, moved[0][1].move.fact.parent, moving)
        for key, logged in moved:
            if logged.took != takes:
                yield Finding(shown_key(key), "a move is marked otherwise than the replay decides")
            if takes:
                placed[logged.move.fact.ino] = logged.move


def _is_within(placed: dict[Ino, Stamped[Placement]], directory: Ino, moving: set[Ino]) -> bool:
    for _ in range(len(placed) + 1):
        if directory in moving:
            return True
        if directory not in placed:
            return False
        directory = placed[directory].fact.parent
    return True


def shown_key(key: bytes) -> str:
    return f"{key[:1].decode('ascii', 'replace')}:{key[1:].hex()}"


def _going_on(key: bytes, findings: Iterator[Finding]) -> Iterator[Finding]:
    """What cannot be read ends one check, and no other."""
    try:
        yield from findings
    except CorruptStore as error:
        yield Finding(shown_key(error.key), str(error))
    except OSError as error:
        yield Finding(shown_key(key), f"it cannot be read: {error}")


def _is_readable(store: Store, key: bytes) -> bool:
    try:
        store.get(key)
    except OSError:
        return False
    return True


def check(store: Store, on_progress: Callable[[int], None] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with a store; nothing for a sound one."""
    whose = Whose(store)
    for finding in _findings(store, on_progress):
        yield finding if finding.paths else finding._replace(paths=whose.paths(_key_of(finding)))


def _key_of(finding: Finding) -> bytes:
    kind, _, rest = finding.key.partition(":")
    return kind.encode() + bytes.fromhex(rest)


def _findings(store: Store, on_progress: Callable[[int], None] | None) -> Iterator[Finding]:
    try:
        replica = Replica(store, lambda: 0)
        checks = Check(replica, on_progress)
    except CorruptStore as error:
        yield Finding(shown_key(error.key), str(error))
    except OSError as error:
        yield Finding(":", f"what every start needs cannot be read: {error}")
    else:
        yield from checks.run()
