"""What several heads of one file show together, under the policies `blocks` and `append`.

Both look at all versions that the heads come of.  A version extends its first parent; a *merging* version
is what several heads showed together, made one before somebody wrote on: it says nothing of its own.

`blocks`.  Each block is a register: it shows what the newest version wrote there that wrote it at all.  A
version writes the blocks in which it differs from what it extends and, where it cut that off, all from the
cut to the end that its writer saw.  One that settles another head of its file writes everything: somebody
chose it whole.  The size is a register too, written by whatever is longer or shorter than what it extends;
but where the last block that was written, and not cut off since, reaches beyond that, the file is as long as
who wrote that block had it.

`append`.  A tail is what a version added to what its writer saw.  Where all heads lead back to one version
by appends alone, they show that version and all tails after it, the oldest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from crdt.blocks import BLOCK_SIZE, block_count
from crdt.facts import Ino, Policy, Ref, Version
from crdt.merging import merging_number
from tests.reference.gathered import Made


class Merging:
    """`content` gives that of a version, whole; `owner` is whose file each is of."""

    def __init__(
        self,
        versions: Mapping[Ref, Made[Version]],
        content: Callable[[Ref], bytes],
        owner: Mapping[Ref, Ino],
    ) -> None:
        self.versions, self.content, self.owner = versions, content, owner

    def shown(self, policy: Policy, heads: Sequence[Ref]) -> bytes | None:
        """Return what these heads show together, the one that leads first; None where each is for itself, or
        all are one content that several sites chose or renamed alike."""
        if len(heads) > 1 and len(set(map(self.origin, heads))) == 1:
            return None
        if policy == Policy.BLOCKS:
            return self._blocks(heads)
        if policy == Policy.APPEND:
            return self._appended(heads)
        return None

    def _is_merging(self, ref: Ref, policy: Policy) -> bool:
        parents = self.versions[ref].fact.parents
        return len(parents) > 1 and ref.version == merging_number(policy, parents)

    def is_any_merging(self, ref: Ref) -> bool:
        return self._is_merging(ref, Policy.BLOCKS) or self._is_merging(ref, Policy.APPEND)

    def origin(self, ref: Ref) -> Ref:
        """The version that brought what this one holds: it was chosen or renamed since."""
        made = self.versions.get(ref)
        while made is not None and made.fact.parents and not self.is_any_merging(ref):
            if not made.fact.settles and made.fact.lineage is None:
                break
            ref = made.fact.parents[0]
            made = self.versions.get(ref)
        return ref

    def _came_of(self, head: Ref, policy: Policy) -> set[Ref]:
        """The versions whose content a head goes on from, with itself."""
        found: set[Ref] = set()
        todo = [head]
        while todo:
            ref = todo.pop()
            if ref not in found:
                found.add(ref)
                parents = self.versions[ref].fact.parents
                todo += parents if self._is_merging(ref, policy) else parents[:1]
        return found

    def _oldest_first(self, refs: Iterable[Ref]) -> list[Ref]:
        return sorted(refs, key=lambda ref: (self.versions[ref].stamp, ref))

    # -- blocks ----------------------------------------------------------------------------------

    def _blocks(self, heads: Sequence[Ref]) -> bytes:
        history = {head: self._came_of(head, Policy.BLOCKS) for head in heads}
        everything = self._oldest_first({ref for refs in history.values() for ref in refs})
        blocks_max = max(block_count(self._size(ref)) for ref in everything)
        wrote: dict[int, Ref] = {}
        resized = 0
        for ref in everything:
            wrote.update(dict.fromkeys(self._written(ref, blocks_max), ref))
            if self._resizes(ref):
                resized = self._size(ref)
        ends = {index: end_of_block(index, self._size(ref)) for index, ref in wrote.items()}
        last = max(ends, key=lambda index: (ends[index], index), default=0)
        size = self._size(wrote[last]) if ends and ends[last] > resized else resized
        content = bytearray()
        for index in range(block_count(size)):
            # A head that came of what wrote the block last has the block as that left it.
            source = next((head for head in heads if wrote.get(index) in history[head]), heads[0])
            content += self._block(source, index).ljust(BLOCK_SIZE, b"\0")
        return bytes(content[:size])

    def _written(self, ref: Ref, blocks_max: int) -> Iterator[int]:
        made = self.versions[ref].fact
        if not made.parents or self._is_merging(ref, Policy.BLOCKS):
            return
        if self._chooses(ref):
            yield from range(blocks_max)
            return
        extended = made.parents[0]
        seen = self._size(extended)
        cut = seen if made.cut_bytes is None else min(made.cut_bytes, seen)
        cut = min(cut, made.size)
        for index in range(max(block_count(seen), block_count(made.size))):
            is_cut = max(index * BLOCK_SIZE, cut) < min((index + 1) * BLOCK_SIZE, seen)
            if is_cut or self._block(ref, index) != self._block(extended, index):
                yield index

    def _resizes(self, ref: Ref) -> bool:
        made = self.versions[ref].fact
        if not made.parents or self._is_merging(ref, Policy.BLOCKS):
            return False
        return self._chooses(ref) or made.size != self._size(made.parents[0])

    def _chooses(self, ref: Ref) -> bool:
        """Does it settle another head of its own file, by other than a merge?"""
        return any(self.owner[parent] == self.owner[ref] for parent in self.versions[ref].fact.parents[1:])

    def _size(self, ref: Ref) -> int:
        return self.versions[ref].fact.size

    def _block(self, ref: Ref, index: int) -> bytes:
        """The bytes of a block without the zeros at its end: a hole is as good as a block of zeros."""
        return self.content(ref)[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE].rstrip(b"\0")

    # -- append ----------------------------------------------------------------------------------

    def _appended(self, heads: Sequence[Ref]) -> bytes | None:
        roots: set[Ref] = set()
        appended: set[Ref] = set()
        todo = list(heads)
        while todo:
            ref = todo.pop()
            made = self.versions[ref].fact
            if made.appends is None:
                roots.add(ref)
            elif ref not in appended:
                appended.add(ref)
                todo += made.parents if self._is_merging(ref, Policy.APPEND) else made.parents[:1]
        if len(roots) != 1:
            return None
        oldest_first = self._oldest_first(appended)
        tails = [self.content(ref)[self.versions[ref].fact.appends :] for ref in oldest_first]
        return self.content(roots.pop()) + b"".join(tails)


def end_of_block(index: int, size: int) -> int:
    """Where a content of this size ends in this block, 0 where it does not reach into it."""
    return min((index + 1) * BLOCK_SIZE, size) if index * BLOCK_SIZE < size else 0
