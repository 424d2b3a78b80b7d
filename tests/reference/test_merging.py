"""The model of what several heads show together: the cases that decide it, and laws on random histories.

Here a file is written as a word, a letter for each block; a small letter is half a block.  So "AAb" is two
and a half blocks.
"""

from __future__ import annotations

from random import Random

import pytest

from crdt.blocks import BLOCK_SIZE
from crdt.causality import ReplicaId, Stamp, make_dot
from crdt.facts import Ino, Policy, Ref, Version, VersionId
from crdt.merging import merging_number
from tests.reference.gathered import Made
from tests.reference.merging import Merging

INO = Ino(make_dot(ReplicaId(1), 1))
FIRST = Ref(INO, VersionId(INO))
HALF = BLOCK_SIZE // 2


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
        return Merging(self.versions, self.contents, dict.fromkeys(self.versions, INO))

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
        if len(content) < len(before):
            cut = min(len(content), len(content) if cut is None else cut)
        appends = None
        if self.policy == Policy.APPEND and content.startswith(before) and not settled:
            appends = len(before)
        made = Version(INO, number, (head, *settled), len(content), 0, b"", cut_bytes=cut, appends=appends)
        return self.add(made, content)

    def merge(self, *heads: Ref) -> Ref:
        """The version that is what these heads show together, for somebody to write on."""
        content = self.merging.shown(self.policy, heads)
        assert content is not None
        number = merging_number(self.policy, heads)
        appends = len(content) if self.policy == Policy.APPEND else None
        return self.add(Version(INO, number, heads, len(content), 0, b"", appends=appends), content)

    def shown(self, *heads: Ref) -> bytes | None:
        """What they show, whatever head comes first."""
        found = {self.merging.shown(self.policy, order) for order in (heads, heads[::-1])}
        assert len(found) == 1, "the order of the heads matters"
        return found.pop()


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


# -- blocks --------------------------------------------------------------------------------------------


def both_ways(before: str, one: str, other: str, **cuts: int) -> tuple[str, str]:
    """What shows where the writer of `one` was first, and where the writer of `other` was."""
    found = []
    for first, second in ((one, other), (other, one)):
        file = File(Policy.BLOCKS, spelled(before))
        heads = [file.write(file.base, spelled(word), cuts.get(word)) for word in (first, second)]
        found.append(word_of(file.shown(*heads)))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("before", "one", "other", "one_first", "other_first"),
    [
        ("ABCD", "XBCD", "ABCY", "XBCY", "XBCY"),  # different blocks
        ("ABCD", "XBCD", "YBCD", "YBCD", "XBCD"),  # the same block: the newest
        ("ABCD", "XYCD", "AZCD", "XZCD", "XYCD"),  # each block for itself
        ("AB", "ABX", "ABYZ", "ABYZ", "ABXZ"),  # both grow: as long as the longer
        ("AB", "ABX", "YB", "YBX", "YBX"),  # one grows
        ("AB", "AB..", "YB", "YB..", "YB.."),  # by a hole: nobody else said how long it is
        ("AB", "AB..", "ABY", "ABY", "ABY."),  # by a hole, against one that writes there
        ("ABCD", "A", "XBCD", "X", "X"),  # one cuts, the other overwrites what stays
        ("ABCD", "A", "ABCX", "A..X", "A"),  # what was cut, and written since, shows: and all up to there
        ("ABCD", "A", "ABCDE", "A...E", "A...E"),  # what is beyond what the cutter saw was not cut
        ("ABCD", "A", "AB", "A.", "A"),  # both cut: as long as the newest says, without what either cut
        ("ABCD", "", "ABCDE", "....E", "....E"),
        ("AB", "Ab", "AX", "AX", "Ab"),  # cut in the middle of what the other writes
        ("....", "..", "X...", "X.", "X."),  # to cut a hole is to cut
        ("..", ".", ".X", ".X", "."),
        ("AB", "AX", "A", "A", "AX"),
    ],
)  # fmt: skip
def test_two_writers_of_one_file(before, one, other, one_first, other_first):
    # In the last letters of some words only half a block is written: "Ab" has the first half of its B.
    shown = both_ways(before, one, other)
    assert shown == (one_first, other_first)


def test_a_file_that_is_cut_and_written_anew_was_written_whole():
    """Also where it is what it was, block by block."""
    assert both_ways("ABCD", "ABCD", "XBCY", ABCD=0) == ("XBCY", "ABCD")


def test_the_size_is_one_that_a_writer_made():
    """What B wrote was cut off by A, who had not seen it: the file is as long as B's, not as the block."""
    assert both_ways("ABCDe", "A", "ABXDe") == ("A.X.,", "A")


def test_a_choice_of_one_content_is_a_write_of_all_of_it():
    file = File(Policy.BLOCKS, spelled("AB"))
    one, other = file.write(file.base, spelled("XB")), file.write(file.base, spelled("AY"))
    chosen = file.write(one, spelled("XB"), settled=(other,))
    later = file.write(other, spelled("AYZ"))
    assert word_of(file.shown(chosen, later)) == "XBZ"


def test_who_chooses_a_content_chooses_its_size():
    file = File(Policy.BLOCKS, spelled("AB"))
    longer = file.write(file.base, spelled("ABX"))
    chosen = file.write(file.base, spelled("AB"), settled=(longer,))
    later = file.write(longer, spelled("YBX"))
    assert word_of(file.shown(chosen, later)) == "YB"


def test_a_content_that_became_small_was_cut():
    """It is inline, and does not say where it was cut."""
    file = File(Policy.BLOCKS, spelled("..."))
    of_b = file.write(file.base, spelled("..X"))
    small = Version(INO, VersionId(make_dot(ReplicaId(3), 1)), (file.base,), 5, 0, b"", inline=b"small")
    assert file.shown(file.add(small, b"small"), of_b) == b"small"


def test_what_somebody_wrote_after_a_merge_wins_over_nothing_else():
    """C writes on what A and B wrote.  D, who saw B's block, writes it again: that is newer than B's."""
    file = File(Policy.BLOCKS, spelled("ABC"))
    of_a = file.write(file.base, spelled("XBC"))
    of_b = file.write(file.base, spelled("AYC"))
    of_d = file.write(of_b, spelled("AZC"))
    of_c = file.write(file.merge(of_a, of_b), spelled("XYT"))
    assert word_of(file.shown(of_c, of_d)) == "XZT"


# -- append --------------------------------------------------------------------------------------------


def test_tails_show_in_the_order_in_which_they_were_made():
    file = File(Policy.APPEND, b"log:")
    a = file.write(file.base, b"log:a1")
    b = file.write(file.base, b"log:b1")
    a = file.write(a, b"log:a1a2")
    assert file.shown(a, b) == b"log:a1b1a2"
    merged = file.merge(a, b)
    c = file.write(merged, b"log:a1b1a2c1")
    b = file.write(b, b"log:b1b2")
    assert file.shown(c, b) == b"log:a1b1a2c1b2"


def test_where_something_else_than_an_append_was_done_each_is_for_itself():
    file = File(Policy.APPEND, b"log:")
    a = file.write(file.base, b"log:a1")
    edited = file.write(file.base, b"LOG:b1")
    assert file.shown(a, edited) is None
    b = file.write(file.base, b"log:b1")
    assert file.shown(file.write(edited, b"LOG:b1b2"), a) is None
    assert file.shown(a, b) == b"log:a1b1"


# -- laws ----------------------------------------------------------------------------------------------


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
        match self.random.randrange(5):
            case 0:
                size = self.random.randrange(len(content) + 1) // HALF * HALF
                return content[:size], None
            case 1:
                return content.ljust(len(content) + self.random.choice([HALF, BLOCK_SIZE]), b"\0"), None
            case 2:
                return letter * BLOCK_SIZE * 2, 0
        before = content[: at * BLOCK_SIZE].ljust(at * BLOCK_SIZE, b"\0")
        size = max(len(content), (at + 1) * BLOCK_SIZE - self.random.choice([0, HALF]))
        block = letter * (min((at + 1) * BLOCK_SIZE, size) - at * BLOCK_SIZE)
        return (before + block + content[len(before) + len(block) :]).ljust(size, b"\0"), None

    def newest(self, refs: set[Ref]) -> set[Ref]:
        """Those of them that no other came of."""
        merging = self.file.merging
        came_of = {ref: merging._came_of(ref, self.file.policy) for ref in refs}
        return {ref for ref in refs if not any(ref in came_of[other] for other in refs if other != ref)}


def histories(policy: Policy) -> list[Replicas]:
    found = []
    for seed in range(60):
        replicas = Replicas(policy, Random(seed))
        for _ in range(20):
            replicas.step()
        replicas.heads.append(replicas.newest(set().union(*replicas.heads)))
        found.append(replicas)
    return found


@pytest.mark.parametrize("policy", [Policy.BLOCKS, Policy.APPEND])
def test_merges_may_be_made_by_and_by(policy):
    """What three heads show is what two of them show as one version, with the third."""
    count = 0
    for replicas in histories(policy):
        heads, file = sorted(replicas.heads[3]), replicas.file
        if len(heads) == 3:
            count += 1
            whole = file.shown(*heads)
            for last in range(3):
                two = [head for head in heads if head != heads[last]]
                assert file.shown(file.merge(*two), heads[last]) == whole
    assert count > 10


def test_what_is_merged_has_a_size_that_a_writer_made():
    for replicas in histories(Policy.BLOCKS):
        heads, file = sorted(replicas.heads[3]), replicas.file
        assert len(file.shown(*heads) or b"") in {len(content) for content in file.contents.values()}


def test_one_head_shows_what_its_writer_wrote():
    """The registers say of one head what it is: what they say of several rests on that."""
    for replicas in histories(Policy.BLOCKS):
        for head in replicas.heads[3]:
            assert replicas.file.shown(head) == replicas.file.contents[head]


def test_no_tail_is_lost_and_none_is_there_twice():
    for replicas in histories(Policy.APPEND):
        shown = replicas.file.shown(*sorted(replicas.heads[3]))
        assert shown is not None
        for number in range(1, replicas.tokens + 1):
            assert shown.count(b"<%d>" % number) == 1
