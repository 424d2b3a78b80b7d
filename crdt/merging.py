"""What several heads of a file show together, under the policies `blocks` and `append`.

The rules, and why they are so: docs/decisions/0008.  In short: under `blocks` each block is a register that
the newest version wrote which wrote it at all, and so is the size; under `append` what each version added
to what its writer saw is kept, in the order of their stamps.

What shows is put together of *pieces* of the heads, since a head holds what the versions it came of wrote:
nothing is stored for it, and no bytes are looked at.  It is worked out from the versions since the last
one that all others build on, the *base*: the walk goes back from the heads, newest version first, until
one is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from typing import NamedTuple

from crdt.blocks import BLOCK_SIZE, block_count, block_term, term
from crdt.facts import DERIVED, Policy, Ref, Version, VersionId
from crdt.rows import Head
from crdt.state import State
from crdt.versions import owner, step_of

ENDLESS = 1 << 62  # an index behind every block


def merging_number(policy: Policy, parents: Sequence[Ref]) -> VersionId:
    """The number of the version that is what these heads show together, wherever it is made."""
    digest = blake2b(bytes([policy]), digest_size=8, person=b"merging")
    for part in parents:
        digest.update(part.ino.to_bytes(8, "big") + part.version.to_bytes(8, "big"))
    return VersionId(DERIVED | int.from_bytes(digest.digest(), "big") >> 1)


def is_merging(version: Version, policy: Policy) -> bool:
    """Is it what its parents showed together, by this policy, and no edit?"""
    return (
        version.settles
        and len(version.parents) > 1
        and version.version == merging_number(policy, version.parents)
    )


def is_any_merging(version: Version) -> bool:
    return is_merging(version, Policy.BLOCKS) or is_merging(version, Policy.APPEND)


def origin(state: State, ref: Ref) -> Ref:
    """The version that brought what this one holds, which was chosen or renamed since."""
    while (stored := state.version(ref)) is not None:
        version = stored.fact
        if is_any_merging(version) or not (version.settles or version.lineage is not None):
            break
        ref = version.parents[0]
    return ref


class Piece(NamedTuple):
    """Bytes of one of the heads; what that does not reach is zeros."""

    head: int  # which of them
    offset: int
    size: int  # bytes


class Merged(NamedTuple):
    """What heads show together.  `heads`: the one that leads first."""

    policy: Policy
    heads: tuple[Head, ...]
    size: int  # bytes
    parts: Blocks | Tails

    @property
    def newest(self) -> Head:
        return max(self.heads, key=lambda head: head.stamp)

    @property
    def mtime_ns(self) -> int:
        return self.newest.mtime_ns

    @property
    def refs(self) -> tuple[Ref, ...]:
        return tuple(head.ref for head in self.heads)


def merged(state: State, policy: Policy, heads: Sequence[Head]) -> Merged | Head | None:
    """Return what these heads show together, given the one that leads first; None where by this policy each
    is for itself, and a head where all others are that one, or add nothing because it came of them."""
    heads = list({head.ref: head for head in heads}.values())
    if len(heads) == 1:
        return heads[0]
    walk = _Walk(state, policy, [head.ref for head in heads])
    if not walk.is_whole:
        return None
    kept = [head for at, head in enumerate(heads) if walk.masks[head.ref] == 1 << at]
    if len(kept) < len(heads):
        return merged(state, policy, kept)
    if policy == Policy.APPEND:
        tails = Tails(walk)
        return Merged(policy, tuple(heads), tails.size, tails)
    blocks = Blocks(walk)
    return Merged(policy, tuple(heads), blocks.size, blocks)


def merges(state: State, policy: Policy, heads: Sequence[Head]) -> bool:
    """Do these heads show together by this policy?  Not where they are one content that several sites chose
    or renamed alike."""
    if policy not in (Policy.BLOCKS, Policy.APPEND) or len({origin(state, head.ref) for head in heads}) == 1:
        return False
    return policy == Policy.BLOCKS or _Walk(state, policy, [head.ref for head in heads]).is_whole


class _Walk:
    """From some heads back to the last version that all between build on.

    `versions` are those between, the oldest first; `masks` says of each which of the heads came of it.
    Under `append` it is whole if all of them added to what they saw, and did nothing else.
    """

    def __init__(self, state: State, policy: Policy, heads: Sequence[Ref]) -> None:
        self.state, self.policy, self.head_count = state, policy, len(heads)
        self.masks: dict[Ref, int] = {}
        self.versions: list[tuple[Ref, Version]] = []
        self.is_whole = True
        self._queue: list[tuple[tuple[int, int, int, int], Ref]] = []
        for at, ref in enumerate(heads):
            self._reach(ref, 1 << at)
        while len(self._queue) > 1 and self.is_whole:
            self._go_back(heappop(self._queue)[1])
        self.versions.reverse()
        self.base = self._queue[0][1]

    def _reach(self, ref: Ref, mask: int) -> None:
        if ref not in self.masks:
            (hlc, dot), (ino, version), _ = step_of(self.state, ref)
            heappush(self._queue, ((-hlc, -dot, -ino, -version), ref))
        self.masks[ref] = self.masks.get(ref, 0) | mask

    def _go_back(self, ref: Ref) -> None:
        stored = self.state.version(ref)
        if stored is None or (self.policy == Policy.APPEND and stored.fact.appends is None):
            self.is_whole = False
            return
        version = stored.fact
        self.versions.append((ref, version))
        for parent in version.parents if is_merging(version, self.policy) else version.parents[:1]:
            self._reach(parent, self.masks[ref])

    def source(self, ref: Ref) -> int:
        """Return the first of the heads that came of a version."""
        mask = self.masks[ref]
        return (mask & -mask).bit_length() - 1

    def size_of(self, ref: Ref) -> int:
        stored = self.state.version(ref)
        return 0 if stored is None else stored.fact.size


class Span(NamedTuple):
    """Blocks from `first` to before `end` that one version wrote: cut off, or chose."""

    first: int
    end: int
    by: Ref


class Blocks:
    """Which head has which block."""

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk
        self._wrote: dict[int, Ref] = {}
        self._spans: list[Span] = []  # disjoint, ascending; what is in `_wrote` was written since
        self.size = walk.size_of(walk.base)
        for ref, version in walk.versions:
            self._add(ref, version)
        self._reach_to_the_end()
        self.sources = {index: walk.source(ref) for index, ref in self._wrote.items()}
        self.spans = [(span.first, span.end, walk.source(span.by)) for span in self._spans]

    def _add(self, ref: Ref, version: Version) -> None:
        """The registers after this version, which is newer than those before."""
        if is_merging(version, Policy.BLOCKS):
            return
        if self._chooses(ref, version):
            self._write_span(Span(0, ENDLESS, ref))
            self.size = version.size
            return
        seen = self._walk.size_of(version.parents[0])
        cut = min(seen if version.cut_bytes is None else version.cut_bytes, version.size)
        if cut < seen:
            self._write_span(Span(cut // BLOCK_SIZE, block_count(seen), ref))
        for index in self._changed(version):
            self._wrote[index] = ref
        if version.size != seen:
            self.size = version.size

    def _chooses(self, ref: Ref, version: Version) -> bool:
        """Does it settle another head of its own file?"""
        state = self._walk.state
        return any(owner(state, parent) == owner(state, ref) for parent in version.parents[1:])

    def _changed(self, version: Version) -> Iterator[int]:
        """The blocks in which a version differs from what it extends, or that it wrote anew after a cut.

        A small content has one block.  Its bytes may be gone, here or anywhere, but never its digest.
        """
        extended = self._walk.state.version(version.parents[0])
        was_small = extended is None or is_small(extended.fact)
        if not was_small and not is_small(version):
            yield from (index for index, _ in version.changed)
            return
        if extended is not None and extended.fact.size > BLOCK_SIZE:
            return  # what became small was cut
        key = self._walk.state.digest_key
        old = 0 if extended is None else block_term(key, extended.fact.digest, extended.fact.size)
        if is_small(version):
            if block_term(key, version.digest, version.size) != old:
                yield 0
            return
        for index, block_hash in version.changed:
            if index or term(key, 0, block_hash) != old:
                yield index

    def _write_span(self, new: Span) -> None:
        for index in [index for index in self._wrote if new.first <= index < new.end]:
            del self._wrote[index]
        left = []
        for old in self._spans:
            before = old._replace(end=min(old.end, new.first))
            after = old._replace(first=max(old.first, new.end))
            left += [span for span in (before, after) if span.first < span.end]
        self._spans = sorted([*left, new])

    def _reach_to_the_end(self) -> None:
        """The file is no shorter than the last block that was written and not cut off since: then it is as
        long as who wrote that had it."""
        ends = [(self._end_of(index, ref), ref) for index, ref in self._wrote.items()]
        for first, end, by in self._spans:
            last = min(end, block_count(self._walk.size_of(by))) - 1
            while last in self._wrote:
                last -= 1
            if last >= first:
                ends.append((self._end_of(last, by), by))
        reached, by = max(ends, default=(0, self._walk.base))
        if reached > self.size:
            self.size = self._walk.size_of(by)

    def _end_of(self, index: int, ref: Ref) -> int:
        size = self._walk.size_of(ref)
        return min((index + 1) * BLOCK_SIZE, size) if index * BLOCK_SIZE < size else 0

    # -- what shows --------------------------------------------------------------------------------

    def source(self, index: int) -> int:
        """Return the head that has this block as it shows."""
        found = self.sources.get(index)
        if found is not None:
            return found
        return next((head for first, end, head in self.spans if first <= index < end), 0)

    def pieces(self, offset: int, end: int) -> Iterator[Piece]:
        while offset < end:
            index = offset // BLOCK_SIZE
            head, after = self.source(index), index + 1
            while after * BLOCK_SIZE < end and self.source(after) == head:
                after += 1
            upto = min(after * BLOCK_SIZE, end)
            yield Piece(head, offset, upto - offset)
            offset = upto


class Tails:
    """What was there, and what each added to it."""

    def __init__(self, walk: _Walk) -> None:
        base = walk.size_of(walk.base)
        ends = [base] * walk.head_count  # of each head, behind the tails that were looked at
        found = [Piece(0, 0, base)]
        for ref, version in walk.versions:
            assert version.appends is not None, ref
            size = version.size - version.appends
            source = walk.source(ref)
            found.append(Piece(source, ends[source], size))
            mask = walk.masks[ref]
            while mask:
                ends[(mask & -mask).bit_length() - 1] += size
                mask &= mask - 1
        self.size = sum(piece.size for piece in found)
        self.all = list(_joined(found))

    @property
    def kept(self) -> int:
        """How far the first head is as it was, bytes."""
        head, offset, size = self.all[0]
        return size if head == offset == 0 else 0

    def pieces(self, offset: int, end: int) -> Iterator[Piece]:
        at = 0
        for piece in self.all:
            first, last = max(offset, at), min(end, at + piece.size)
            if first < last:
                yield Piece(piece.head, piece.offset + first - at, last - first)
            at += piece.size


def _joined(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Put pieces together that follow each other in one head."""
    last = pieces[0]
    for piece in pieces[1:]:
        if (piece.head, piece.offset) == (last.head, last.offset + last.size):
            last = last._replace(size=last.size + piece.size)
        elif piece.size:
            yield last
            last = piece
    yield last


def is_small(version: Version) -> bool:
    """Is, or was, its content in it?"""
    return version.inline is not None or version.bare
