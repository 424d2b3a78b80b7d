"""The rows of a replica as objects: a cache over the store, and the changes of one commit.

Reading gives objects that nobody may change.  `edit` gives a copy that belongs to the commit being
made; what was edited shows to later reads at once, and becomes one atomic batch by `commit`, or is
forgotten by `rollback`.  Where the store refuses the batch (a full disk), nothing of it was visible.

Memory is bounded by the sizes of the caches, not by the number of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar, cast

from crdt.causality import ReplicaId
from crdt.codec import CodecError, CorruptStore, pack, unpack
from crdt.facts import Ino, Ref
from crdt.rows import (
    Counts,
    Head,
    Inode,
    Names,
    Places,
    StoredVersion,
    decode_inode,
    decode_names,
    decode_places,
    decode_version,
    encode_inode,
    encode_names,
    encode_version,
    places_of,
)
from crdt.store import Store

if TYPE_CHECKING:
    from crdt.absorption import Grouping
    from crdt.merging import Merged

K = TypeVar("K")
V = TypeVar("V")

VOLUME_KEY = b"Zvolume"
CACHE_MAX = 16_384  # entries of each cache
MERGED_MAX = 64  # of what heads show together: a large file has an entry for each block
HASH_STEP = 1 << 10  # readdir offsets between two hashes of names, see crdt.names


def inode_key(ino: Ino) -> bytes:
    return b"I" + ino.to_bytes(8, "big")


def version_key(ref: Ref) -> bytes:
    return b"V" + ref[0].to_bytes(8, "big") + ref[1].to_bytes(8, "big")


def member_key(replica: ReplicaId) -> bytes:
    return b"M" + replica.to_bytes(4, "big")


def names_key(directory: Ino, name_hash: int) -> bytes:
    return b"D" + directory.to_bytes(8, "big") + name_hash.to_bytes(8, "big")


def pinned_key(directory: Ino, origin: bytes) -> bytes:
    return b"O" + directory.to_bytes(8, "big") + hash_of_name(origin).to_bytes(8, "big")


def counts_key(directory: Ino) -> bytes:
    return b"C" + directory.to_bytes(8, "big")


def xattr_key(ino: Ino, name: bytes) -> bytes:
    return b"X" + ino.to_bytes(8, "big") + name


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin with `prefix` (which has a byte below 255)."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


@lru_cache(4096)  # a request asks for that of its name ten times
def hash_of_name(name: bytes) -> int:
    """53 bits, above 10 zero bits in which readdir counts entries of one hash: at most 2^63."""
    digest = blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11 << 10


def remember(cache: dict[K, V], key: K, value: V) -> None:
    """Put into a cache; a full one loses its oldest half."""
    if len(cache) >= CACHE_MAX:
        for old in list(cache)[: CACHE_MAX // 2]:
            del cache[old]
    cache[key] = value


class State:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._inodes: dict[Ino, Inode] = {}
        self._names: dict[tuple[Ino, int], Names] = {}
        self._counts: dict[Ino, Counts] = {}
        self._versions: dict[Ref, StoredVersion] = {}
        self._new_inodes: dict[Ino, Inode] = {}
        self._new_names: dict[tuple[Ino, int], Names] = {}
        self._new_counts: dict[Ino, Counts] = {}
        self._new_versions: dict[Ref, StoredVersion] = {}
        self._raw: dict[bytes, bytes | None] = {}
        self._past: State | None = None
        self._digest_key = b""
        # What several heads of a file show together (crdt.showing), for the row that it was worked out from.
        self.merged: dict[Ino, tuple[Inode, list[Head], Merged | Head | None]] = {}
        # Which heads of a file show (crdt.absorption): by what is committed, and with the commit that is
        # being made, once all its facts are in.
        self._groupings: dict[Ino, Grouping] = {}
        self._new_groupings: dict[Ino, Grouping] | None = None
        # Blocks may be missing here.  Most of the time none is, and then nobody looks for who waits.
        self.waits = True
        self.commit_count = 0
        # How many commits changed which blocks are waited for, and whether the one that is being made does.
        self.wanted_changes = 0
        self.changes_wanted = False

    def committed(self) -> State:
        """Return the state without the commit that is being made, for as long as that is not committed.

        The caches are one: what they hold is committed.
        """
        if self._past is None:
            past = self._past = State(self.store)
            past._inodes, past._names = self._inodes, self._names
            past._counts, past._versions = self._counts, self._versions
            past._groupings = self._groupings
        return self._past

    # -- reading -----------------------------------------------------------------------------------

    @property
    def digest_key(self) -> bytes:
        """The key of the digests of this volume (crdt.blocks)."""
        if not self._digest_key:
            row = self.store.get(VOLUME_KEY)
            if row is None:
                raise CorruptStore(VOLUME_KEY, "it is missing")
            _, _, self._digest_key = cast(tuple[bytes, bytes, bytes], unpack(row))
        return self._digest_key

    def get(self, key: bytes) -> bytes | None:
        if key in self._raw:
            return self._raw[key]
        return self.store.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the kinds that are written by `put`, in order, those of this commit included."""
        new = sorted(key for key in self._raw if start <= key < end)
        if not new:
            yield from self.store.scan(start, end)
            return
        for key, value in self.store.scan(start, end):
            while new and new[0] < key:
                yield from self._own(new.pop(0))
            if key not in self._raw:
                yield key, value
        for key in new:
            yield from self._own(key)

    def _own(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        value = self._raw[key]
        if value is not None:
            yield key, value

    def inode(self, ino: Ino) -> Inode | None:
        found = self._new_inodes.get(ino) or self._inodes.get(ino)
        if found is None:
            data = self.store.get(inode_key(ino))
            if data is None:
                return None
            found = _decoded(inode_key(ino), data, lambda row: decode_inode(ino, row))
            remember(self._inodes, ino, found)
        return found

    def remember_merged(self, inode: Inode, heads: list[Head], merged: Merged | Head | None) -> None:
        """Keep what these heads show; not of a row that a commit is about to change further."""
        if self._inodes.get(inode.ino) is not inode:
            return
        while len(self.merged) >= MERGED_MAX:
            del self.merged[next(iter(self.merged))]
        self.merged[inode.ino] = inode, heads, merged

    def places(self, ino: Ino) -> Places:
        """Where a directory was created and stands, as rows; it is not kept in mind, unlike by `inode`."""
        inode = self._new_inodes.get(ino) or self._inodes.get(ino)
        if inode is not None:
            return places_of(inode)
        key = inode_key(ino)
        data = self.store.get(key)
        return (None, None) if data is None else _decoded(key, data, decode_places)

    def known(self, ino: Ino) -> Inode:
        """Return an inode that a fact names.  Raises LookupError where it is not known here."""
        found = self.inode(ino)
        if found is None:
            raise LookupError(f"a fact names the inode {ino}, which is not known here")
        return found

    def names(self, directory: Ino, name_hash: int) -> Names:
        found = self._new_names.get((directory, name_hash))
        return self.committed_names(directory, name_hash) if found is None else found

    def committed_names(self, directory: Ino, name_hash: int) -> Names:
        """As `names`, before the commit that is being made."""
        key = directory, name_hash
        found = self._names.get(key)
        if found is None:
            row = names_key(directory, name_hash)
            data = self.store.get(row)
            found = {} if data is None else _decoded(row, data, decode_names)
            remember(self._names, key, found)
        return found

    def counts(self, directory: Ino) -> Counts:
        found = self._new_counts.get(directory) or self._counts.get(directory)
        if found is None:
            row = counts_key(directory)
            data = self.store.get(row)
            found = Counts() if data is None else _decoded(row, data, _decode_counts)
            remember(self._counts, directory, found)
        return found

    def version(self, ref: Ref) -> StoredVersion | None:
        """Return a version; None for the empty one that a file is born with, and for unknown ones."""
        if int(ref[0]) == ref[1]:
            return None
        found = self._new_versions.get(ref) or self._versions.get(ref)
        if found is None:
            data = self.store.get(version_key(ref))
            if data is None:
                return None
            found = _decoded(version_key(ref), data, decode_version)
            remember(self._versions, ref, found)
        return found

    def names_from(self, directory: Ino, name_hash: int) -> Iterator[tuple[int, Names]]:
        """Yield the names of a directory by hash, from this hash on, as the store has them.

        Not for use within a commit that edits names.
        """
        start, end = names_key(directory, name_hash), prefix_end(b"D" + directory.to_bytes(8, "big"))
        for key, data in self.store.scan(start, end):
            yield int.from_bytes(key[9:], "big"), _decoded(key, data, decode_names)

    # -- changing ----------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes | None) -> None:
        self._raw[key] = value

    def edit(self, ino: Ino) -> Inode:
        """Return the inode to change.  Raises LookupError where it is not known here."""
        found = self._new_inodes.get(ino)
        if found is None:
            found = self._new_inodes[ino] = self.known(ino).copy()
        return found

    def add_inode(self, inode: Inode) -> None:
        self._new_inodes[inode.ino] = inode

    def set_names(self, directory: Ino, name_hash: int, names: Names) -> None:
        self._new_names[directory, name_hash] = names

    def set_counts(self, directory: Ino, counts: Counts) -> None:
        self._new_counts[directory] = counts

    def set_version(self, ref: Ref, version: StoredVersion) -> None:
        self._new_versions[ref] = version

    def rollback(self) -> None:
        for changes in self._changes():
            changes.clear()
        self._new_groupings = None
        self.changes_wanted = False

    def commit(self, *, sync: bool = False) -> None:
        """Write what was changed, as one batch.  Raises what the store raises; then nothing changed."""
        try:
            self.store.commit(self._batch(), sync=sync)
        except BaseException:
            self.rollback()
            raise
        self.commit_count += 1
        self.wanted_changes += self.changes_wanted
        self._groupings.clear()
        for cache, new in (
            (self._inodes, self._new_inodes),
            (self._names, self._new_names),
            (self._counts, self._new_counts),
            (self._versions, self._new_versions),
        ):
            for key, value in new.items():
                remember(cast(dict[object, object], cache), key, value)
        self.rollback()

    def forget(self) -> None:
        """Read all rows anew."""
        for cache in (self._inodes, self._names, self._counts, self._versions, self.merged, self._groupings):
            cast(dict[object, object], cache).clear()
        self.rollback()

    def is_committed(self) -> bool:
        """Is there nothing that a commit is about to change?"""
        return not (
            self._new_inodes or self._new_names or self._new_counts or self._new_versions or self._raw
        )

    def facts_are_in(self) -> None:
        """No fact changes any more which heads of a file show, until this is committed."""
        self._new_groupings = {}

    def groupings(self) -> dict[Ino, Grouping] | None:
        """Return what is known of the heads that show (crdt.absorption); None while facts come in."""
        return self._groupings if self.is_committed() else self._new_groupings

    def _changes(self) -> tuple[dict[object, object], ...]:
        return cast(
            tuple[dict[object, object], ...],
            (self._new_inodes, self._new_names, self._new_counts, self._new_versions, self._raw),
        )

    def _batch(self) -> Mapping[bytes, bytes | None]:
        batch = dict(self._raw)
        for ino, inode in self._new_inodes.items():
            batch[inode_key(ino)] = encode_inode(inode)
        for (directory, name_hash), names in self._new_names.items():
            batch[names_key(directory, name_hash)] = encode_names(names) if names else None
        for directory, counts in self._new_counts.items():
            batch[counts_key(directory)] = pack(counts)
        for ref, version in self._new_versions.items():
            batch[version_key(ref)] = encode_version(version)
        return batch


def _decode_counts(data: bytes) -> Counts:
    return Counts(*cast(tuple[int, int, int, int], unpack(data)))


def _decoded(key: bytes, data: bytes, decode: Callable[[bytes], V]) -> V:
    try:
        return decode(data)
    except (CodecError, ValueError, TypeError, IndexError, KeyError) as error:
        raise CorruptStore(key, str(error)) from error
