"""Versions of one file, made as replicas make them: what its heads show is tested on these.

A content is written as a word, a letter for each block; a small letter is half a block.  So "AAb" is two
and a half blocks; a dot is a hole, a comma half a one.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from crdt.blocks import (
    BLOCK_SIZE,
    HOLE,
    INLINE_MAX,
    block_count,
    digest_of,
    hash_of,
    trimmed,
)
from crdt.causality import Dot, ReplicaId, Stamp, make_dot
from crdt.codec import pack
from crdt.facts import Birth, Ino, Kind, Policy, Ref, Version, VersionId
from crdt.merging import merging_number
from crdt.rows import Head, Inode, Stamped, StoredVersion
from crdt.state import VOLUME_KEY, State
from crdt.store import MemoryStore
from tests.reference.gathered import Made
from tests.reference.merging import Merging

INO = Ino(make_dot(ReplicaId(1), 1))
FIRST = Ref(INO, VersionId(INO))
HALF = BLOCK_SIZE // 2
DIGEST_KEY = b"k" * 32


class File:
    """Versions of one file, made as replicas make them."""

    def __init__(self, policy: Policy, content: bytes = b"") -> None:
        self.policy = policy
        self.versions = {FIRST: Made(Stamp(1, INO), Version(INO, FIRST.version, (), 0, 0, b"", inline=b""))}
        self.contents = {FIRST: b""}
        self.made = 1
        self.base = self.write(FIRST, content) if content else FIRST

    @property
    def merging(self) -> Merging:
        return Merging(self.versions, self.contents.__getitem__, dict.fromkeys(self.versions, INO))

    def add(self, version: Version, content: bytes) -> Ref:
        self.made += 1
        ref = Ref(INO, version.version)
        made = Made(Stamp(self.made, make_dot(ReplicaId(2), self.made)), version)
        self.versions.setdefault(ref, made)
        self.contents[ref] = content
        return ref

    def write(self, head: Ref, content: bytes, cut: int | None = None, settled: tuple[Ref, ...] = ()) -> Ref:
        """A version of this content on `head`; `cut`: it was cut to that on the way there."""
        number = VersionId(make_dot(ReplicaId(2), self.made + 1))
        before = self.contents[head]
        appends = None
        if self.policy == Policy.APPEND and content.startswith(before) and not settled:
            appends = len(before)
        return self.add(self._version(number, (head, *settled), content, cut, appends), content)

    def _version(
        self,
        number: VersionId,
        parents: tuple[Ref, ...],
        content: bytes,
        cut: int | None = None,
        appends: int | None = None,
    ) -> Version:
        before, blocks = self.contents[parents[0]], hashes(content)
        size = len(content)
        digest = digest_of(DIGEST_KEY, size, blocks.items())
        if size <= INLINE_MAX:
            return Version(INO, number, parents, size, 0, digest, inline=content, appends=appends)
        old = hashes(before)
        if size < len(before):
            cut = size if cut is None else min(size, cut)
        if self.versions[parents[0]].fact.inline is not None:
            old = {0: old[0]} if 0 in old and 0 not in blocks else {}
        if cut is not None:
            old = {index: known for index, known in old.items() if index < block_count(cut)}
        changed = {
            index: blocks.get(index, HOLE)
            for index in sorted(old.keys() | blocks.keys())
            if old.get(index, HOLE) != blocks.get(index, HOLE)
        }
        return Version(
            INO,
            number,
            parents,
            size,
            0,
            digest,
            cut_bytes=cut,
            changed=tuple(changed.items()),
            appends=appends,
        )

    def merge(self, *heads: Ref) -> Ref:
        """The version that is what these heads show together, for somebody to write on."""
        content = self.merging.shown(self.policy, heads)
        assert content is not None
        number = merging_number(self.policy, heads)
        appends = len(content) if self.policy == Policy.APPEND else None
        made = self._version(number, heads, content, None, appends)
        return self.add(made._replace(settles=True), content)

    def state(self, bares: Random | None = None) -> State:
        """The rows of a replica that has heard of all; `bares`: small contents are gone now and then."""
        state = State(MemoryStore({VOLUME_KEY: pack((b"v" * 16, b"s" * 32, DIGEST_KEY))}))
        birth = Birth(INO, Kind.REGULAR, 0o644, 0, 0, 0, policy=self.policy)
        state.add_inode(Inode(INO, [Stamped(Dot(INO), 1, 0, birth)]))
        for ref, (stamp, made) in self.versions.items():
            is_bare = bares is not None and made.inline is not None and bares.random() < 0.5
            fact = made._replace(inline=None, bare=True) if is_bare else made
            if fact.parents:
                state.set_version(ref, StoredVersion(stamp.dot, stamp.hlc, 0, fact))
        return state

    def head(self, ref: Ref) -> Head:
        (hlc, dot), fact = self.versions[ref]
        return Head(ref, dot, hlc, 0, fact.size, 0)

    def shown(self, *heads: Ref) -> bytes | None:
        """What they show, whatever head comes first."""
        found = {self.merging.shown(self.policy, order) for order in (heads, heads[::-1])}
        assert len(found) == 1, "the order of the heads matters"
        return found.pop()


def hashes(content: bytes) -> dict[int, bytes]:
    """The hashes of the blocks that are not holes."""
    starts = range(0, len(content), BLOCK_SIZE)
    blocks = [hash_of(trimmed(content[start : start + BLOCK_SIZE])) for start in starts]
    return {index: known for index, known in enumerate(blocks) if known}


def spelled(word: str) -> bytes:
    """Bytes of a word; a dot is a hole, a comma half a one."""
    sizes = {letter: HALF if letter.islower() or letter == "," else BLOCK_SIZE for letter in word}
    fill = {".": b"\0", ",": b"\0"}
    return b"".join(fill.get(letter, letter.encode()) * sizes[letter] for letter in word)


def word_of(content: bytes | None) -> str:
    assert content is not None
    word = ""
    for start in range(0, len(content), BLOCK_SIZE):
        block = content[start : start + BLOCK_SIZE]
        kept = block.rstrip(b"\0")
        letter = chr(kept[0]) if kept else "."
        assert set(kept) <= set(letter.encode()), "a block is mixed"
        word += letter if len(block) == BLOCK_SIZE else {".": ","}.get(letter, letter)
    return word


class Replicas:
    """Three who write to one file and hear of each other's versions, each seeing what its heads show."""

    def __init__(self, policy: Policy, random: Random) -> None:
        self.random = random
        self.file = File(policy, spelled("ABC") if policy == Policy.BLOCKS else b"log:")
        self.heads: list[set[Ref]] = [{self.file.base} for _ in range(3)]
        self.tokens = 0

    def sees(self, number: int) -> Ref:
        """What a replica has, as one version."""
        heads = sorted(self.heads[number])
        if len(heads) > 1:
            self.heads[number] = {self.file.merge(*heads)}
        return next(iter(self.heads[number]))

    def step(self) -> None:
        one, other = self.random.sample(range(3), 2)
        if self.random.random() < 0.4:
            self.heads[one] = self.newest(self.heads[one] | self.heads[other])
            return
        if self.file.policy == Policy.BLOCKS and len(self.heads[one]) > 1 and self.random.random() < 0.15:
            chosen, *others = self.random.sample(sorted(self.heads[one]), len(self.heads[one]))
            self.heads[one] = {self.file.write(chosen, self.file.contents[chosen], settled=tuple(others))}
            return
        seen = self.sees(one)
        cut = None
        if self.file.policy == Policy.APPEND:
            self.tokens += 1
            content = self.file.contents[seen] + b"<%d>" % self.tokens
        else:
            content, cut = self.edited(self.file.contents[seen])
        self.heads[one] = {self.file.write(seen, content, cut)}

    def edited(self, content: bytes) -> tuple[bytes, int | None]:
        self.tokens += 1
        letter, at = b"%c" % (65 + self.tokens % 26), self.random.randrange(6)
        match self.random.randrange(8):
            case 0:
                size = self.random.randrange(len(content) + 1) // HALF * HALF
                return content[:size], None
            case 1:
                return content.ljust(len(content) + self.random.choice([HALF, BLOCK_SIZE]), b"\0"), None
            case 2:
                return letter * BLOCK_SIZE * 2, 0
            case 3:
                return letter * self.random.choice([1, 7, INLINE_MAX]), None
            case 4:
                return content + self.random.choice([letter, b"\0"]) * self.random.choice([1, 5000]), None
        before = content[: at * BLOCK_SIZE].ljust(at * BLOCK_SIZE, b"\0")
        size = max(len(content), (at + 1) * BLOCK_SIZE - self.random.choice([0, HALF]))
        block = letter * (min((at + 1) * BLOCK_SIZE, size) - at * BLOCK_SIZE)
        return (before + block + content[len(before) + len(block) :]).ljust(size, b"\0"), None

    def newest(self, refs: set[Ref]) -> set[Ref]:
        """Those of them that no other came of."""
        merging = self.file.merging
        came_of = {ref: merging._came_of(ref, self.file.policy) for ref in refs}
        return {ref for ref in refs if not any(ref in came_of[other] for other in refs if other != ref)}


def histories(policy: Policy, count: int = 60, steps: int = 20) -> Iterator[tuple[File, list[Ref]]]:
    """Yield random files, each with its heads after all have heard of all."""
    for seed in range(count):
        replicas = Replicas(policy, Random(seed))
        for _ in range(steps):
            replicas.step()
        yield replicas.file, sorted(replicas.newest(set().union(*replicas.heads)))
