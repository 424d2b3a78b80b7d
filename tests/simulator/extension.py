"""Law L4: a merged write that extends what one entry shows changes the content of that entry only.

Looked at where all that a pass brings are such writes, and nothing is open or on its way here.  Not where
what is written may join or part with what stands beside it, under any of its names: it shows as one with
another file, or somebody wrote the same content elsewhere (as everybody did an empty one), or what stands
there is in the past of what was written and may come to add nothing to that.  Nor where somebody who had not
heard of the write gave the file a name again that it had lost: as an entry it is named by its first edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeGuard

from crdt.absorption import digest_at, hidden_under, shown_groups, shown_heads, together
from crdt.blocks import EMPTY_DIGEST
from crdt.causality import BEFORE_ALL, Stamp
from crdt.encoding import decode_commit
from crdt.entries import Entry
from crdt.facts import Fact, Ino, Kind, Policy, Ref, Version
from tests.simulator.laws import require
from tests.simulator.locality import SET_USER_ID, difference, faces
from tests.simulator.programs import Programs

WRITES_MAX = 4  # passes with more are mixed anyway


class Extension:
    """What a pass of commits may change at this replica."""

    def __init__(self, programs: Programs, writes: Sequence[tuple[Stamp, Version]]) -> None:
        self.programs = programs
        self.before = faces(programs.look())
        self.last: dict[Ino, Version] = {}  # what was written last to each entry, by its inode number
        shown, owners, extended = heads(programs), set[Ino](), set[Ref]()
        for stamp, fact in writes:
            refs = frozenset(fact.parents)
            known = shown.pop(refs, None)
            if known is None or stamp < named_again(programs, known):
                self.last = {}
                return
            shown[frozenset([Ref(fact.ino, fact.version)])] = known
            self.last[known.ino] = fact
            owners.add(known.owner)
            extended |= refs
        state = programs.site.replica.state
        beside = {ref for owner in owners for ref in heads_beside(programs, owner)}
        self.beside = {digest_at(state, ref) for ref in beside - extended}
        self.passed = {fact.inline for _, fact in writes} - {fact.inline for fact in self.last.values()}

    def is_one(self) -> bool:
        """Does the law say something of it?"""
        elsewhere = {face.content for face in self.before.values() if face.ino not in self.last}
        return (
            bool(self.last)
            and all(self._was_written_once(fact.digest) for fact in self.last.values())
            and all(map(self._was_written_once, self.beside))
            and not self.passed & elsewhere
        )

    def _was_written_once(self, digest: bytes) -> bool:
        return digest != EMPTY_DIGEST and self.programs.site.cluster.library.digests[digest] <= 1

    def check(self) -> None:
        want, shown = dict(self.before), faces(self.programs.look_again())
        for path, face in self.before.items():
            fact = self.last.get(face.ino)
            if fact is not None and path in shown:
                content = shown[path].content
                if fact.inline is not None:
                    require(content == fact.inline, "L4", f"{path!r} shows {content!r} and not {fact}")
                # What is in blocks comes later.  Set-user-id goes, where who set it had not seen the write.
                mode = face.mode & (shown[path].mode | ~SET_USER_ID)
                want[path] = face._replace(content=content, mode=mode)
        wrong = difference(want, shown)
        require(not wrong, "L4", f"a merged write changes something else, too:\n    {wrong}")


def extension(programs: Programs, data: Sequence[bytes]) -> Extension | None:
    """What to look at when these commits are merged here; None where the law says nothing of them."""
    seen = programs.site.replica.seen()
    commits = [commit for commit in map(decode_commit, data) if commit.dot not in seen]
    writes = [(commit.stamp, fact) for commit in commits for fact in commit.facts if is_write(fact)]
    if not 0 < len(writes) == sum(len(commit.facts) for commit in commits) <= WRITES_MAX:
        return None
    if programs.unsettled():
        return None
    found = Extension(programs, writes)
    return found if found.is_one() else None


def is_write(fact: Fact) -> TypeGuard[Version]:
    return isinstance(fact, Version) and not (fact.settles or fact.lineage or fact.bare)


def named_again(programs: Programs, entry: Entry) -> Stamp:
    """When its file was given a name that it had lost; BEFORE_ALL where it was not."""
    inode = programs.site.replica.state.inode(entry.ino)
    if inode is None or entry.link is None:
        return BEFORE_ALL
    placed = inode.links[entry.link].where()
    return BEFORE_ALL if placed.fact.rank is None else placed.stamp


def heads(programs: Programs) -> dict[frozenset[Ref], Entry]:
    """What the entries show that show as one with no other file, with what hides under it -> entry.

    Of heads that show together, by a merge policy, all: so a write that extends one of them is none of these.
    Nor is one that extends an entry of such a file which does not show together: it may from then on.
    """
    replica, found = programs.site.replica, {}
    state = replica.state
    for _, entry in programs.fs.listing.walk():
        if entry.kind != Kind.REGULAR:
            continue
        if entry.top is None and replica.view.twins(entry.owner) != {entry.owner}:
            continue
        inode = state.inode(entry.owner)
        assert inode is not None
        if inode.policy in (Policy.BLOCKS, Policy.APPEND) and len(shown_groups(state, inode)) > 1:
            continue
        head = entry.heads[0] if entry.heads else shown_heads(state, inode)[0].ref
        beside = hidden_under(state, inode, head)
        if entry.top is None:
            beside += [each.ref for each in together(state, inode)]
        found[frozenset([head, *beside])] = entry
    return found


def heads_beside(programs: Programs, owner: Ino) -> Iterator[Ref]:
    """The heads of a file, and of all that stand at one of its names."""
    replica = programs.site.replica
    inode = replica.state.inode(owner)
    assert inode is not None
    files = {owner}
    for place in inode.shown:
        members = replica.view.members(place.parent)
        files |= {item.ino for _, item in replica.view.items(members, place.name)}
    for ino in files:
        other = replica.state.inode(ino)
        assert other is not None
        if other.is_regular:
            yield from (head.ref for group in shown_groups(replica.state, other) for head in group)
