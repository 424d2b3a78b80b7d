"""The heads of a file, as versions arrive: who extends, forks or settles what.

Where blocks of a version are not here yet, the head keeps what it showed before (`Head.before`) until they
are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from crdt.absorption import shown_heads, together
from crdt.blocks import BlockMap, advance, block_key
from crdt.causality import Dot
from crdt.facts import Ino, Ref, Version
from crdt.head_maps import HeadMaps, spare_map
from crdt.rows import Head, Inode, Stamped, StoredVersion
from crdt.state import State
from crdt.versions import dropped_at, is_ancestor, is_on_branch, kin, own_heads, owner, step_of
from crdt.visible import is_orphan
from crdt.waiting import is_here, is_readable, waiting
from crdt.wanted import Wanted, maps_of


def hiding_key(ino: Ino) -> bytes:
    """The mark of a file that shows something older than its newest content, or that keeps what was settled
    or removed for an open file."""
    return b"L" + ino.to_bytes(8, "big")


FOR_BLOCKS, FOR_OPEN = b"", b"\x01"  # its value: what an open file goes on from may not be here either

KIN_MAX = 256


Held = Callable[[], frozenset[Ref]]  # heads that open files here go on from


def _is_gone_for_good(inode: Inode) -> bool:
    """It shows nowhere, and all its contents were meant to be gone: no choice elsewhere brings it back."""
    return not inode.shown and all(head.dropped and head.before is None for head in inode.heads)


class Heads:
    """Applies the versions of one batch of commits.  `touched`: inodes whose heads changed."""

    def __init__(self, state: State, held: Held = frozenset) -> None:
        self.state = state
        self._held = held
        self.touched: set[Ino] = set()
        self._hid: set[Ino] = set()  # files one of whose heads had something older to show: maybe no more
        self.wanted = Wanted(state)
        self.maps = HeadMaps(state, self.wanted)

    @cached_property
    def held(self) -> frozenset[Ref]:
        """Heads that open files here go on from: what they showed must stay.  Seldom asked, and as many as
        there are open files."""
        return self._held()

    # -- births and removals -------------------------------------------------------------------------

    def claim(self, claimant: Inode, top: Ref) -> None:
        """Give the branch from `top` on to the file that was split off with it."""
        if any(known == top for known, _ in self.state.known(top.ino).splits):
            return
        holder = self.state.edit(owner(self.state, top))
        moved = [head for head in holder.heads if self._is_claimed(top, head)]
        if any(head.before is not None for head in holder.heads):
            self._hid |= {holder.ino, claimant.ino}
        holder.heads = [head for head in holder.heads if head not in moved]
        claimant.heads += [self._parted(holder, head, top) for head in moved]
        self.wanted.move(holder.ino, claimant.ino, moved)
        self._claim_settled(claimant, holder, top)
        holder.heads = [self._without_claimed(top, head) for head in holder.heads]
        holder.settled = [(self._without_claimed(top, head), by) for head, by in holder.settled]
        self._give_back(holder, top, own_heads(claimant))
        self.state.edit(top.ino).splits.append((top, claimant.ino))
        self.touched |= {holder.ino, claimant.ino}

    def _without_claimed(self, top: Ref, head: Head) -> Head:
        """What was shown instead of a head is another file's now."""
        if head.before is None or not self._is_claimed(top, head.before):
            return head
        return head._replace(before=None)

    def _parted(self, holder: Inode, head: Head, top: Ref) -> Head:
        """A file that was split off shows nothing that was before its branch."""
        if head.before is None or is_on_branch(self.state, top, head.before.ref):
            return head
        self._keep_for_open(holder, head.before)
        parted = head._replace(before=None)
        self.maps.drop(holder, head.before, parted)
        return parted

    def _claim_settled(self, claimant: Inode, holder: Inode, top: Ref) -> None:
        """What was settled by a version outside of the claimed branch is a closed head of the claimant."""
        claimed = [pair for pair in holder.settled if self._is_claimed(top, pair[0])]
        holder.settled = [pair for pair in holder.settled if pair not in claimed]
        claimed = [(self._parted(holder, head, top), by) for head, by in claimed]
        claimant.settled += [pair for pair in claimed if is_on_branch(self.state, top, pair[1])]
        self.wanted.move(holder.ino, claimant.ino, [head for head, _ in claimed])
        self._reopen(claimant, [pair for pair in claimed if pair not in claimant.settled])

    def _reopen(self, inode: Inode, settled: list[tuple[Head, Ref]]) -> None:
        """What was settled is a head again, but closed, unless another version of the file goes on from it.
        Nobody may have asked for its blocks."""
        newest = {head.ref for head in own_heads(inode)} | {head.ref for head, _ in settled}
        for head, by in settled:
            hlc = step_of(self.state, by).stamp.hlc
            if any(other.ref == head.ref for other in own_heads(inode)):
                _close(inode, head.ref, hlc)  # by several that settled it
            elif any(is_on_branch(self.state, head.ref, ref) for ref in newest - {head.ref}):
                self._keep_for_open(inode, head)
            else:
                inode.heads.append(self._as_dropped(inode, head._replace(closed=hlc)))
                self.wanted.doubt_all(inode.ino, head)

    def _keep_for_open(self, inode: Inode, old: Head) -> None:
        """An open file may go on from this head, which is one no more: what came of it shows it still."""
        if old.ref not in self.held or any(head.ref == old.ref for head in own_heads(inode)):
            return
        for at, head in enumerate(inode.heads):
            if head.before is None and is_on_branch(self.state, old.ref, head.ref):
                inode.heads[at] = head._replace(before=old._replace(before=None))

    def _is_claimed(self, top: Ref, head: Head) -> bool:
        return is_on_branch(self.state, top, head.ref)

    def _give_back(self, holder: Inode, top: Ref, moved: list[Head]) -> None:
        """What only the claimed branch settled or extended is a head of the file again, but closed."""
        by_moved = [
            pair for pair in holder.settled if any(is_on_branch(self.state, pair[1], h.ref) for h in moved)
        ]
        holder.settled = [pair for pair in holder.settled if pair not in by_moved]
        self._reopen(holder, by_moved)
        stored = self.state.version(top)
        if stored is None or not moved:
            return
        extended = stored.fact.parents[0]
        if not any(is_on_branch(self.state, extended, head.ref) for head in own_heads(holder)):
            again = self.maps.head_at(moved[0], extended, extended.version, closed=stored.hlc)
            holder.heads.append(self._as_dropped(holder, again))

    def _as_dropped(self, inode: Inode, again: Head) -> Head:
        """A head that was none for a while: who removed it may have been heard of meanwhile."""
        return again._replace(dropped=dropped_at(self.state, inode, again.ref))

    def drop(self, ref: Ref, hlc: int) -> None:
        """A removal meant this version to be gone."""
        inode = self.state.edit(owner(self.state, ref))
        inode.heads = [
            head._replace(dropped=min(head.dropped or hlc, hlc)) if head.ref == ref else head
            for head in inode.heads
        ]
        self.touched |= {inode.ino, *self._all_kin(inode)}

    def _all_kin(self, inode: Inode) -> Iterator[Ino]:
        """The inode, its kin, theirs and so on: a choice elsewhere may have been one of what was dropped.

        Not those that are gone for good.  Most are, where a program makes and removes a lock file or a
        journal again and again: each goes on from the one before.

        Bounded: a file that was saved ten thousand times has as many, and only the near ones may show.
        """
        found: set[Ino] = set()
        todo = deque([inode.ino])
        while todo and len(found) < KIN_MAX:
            ino = todo.popleft()
            other = None if ino in found else self.state.inode(ino)
            if other is not None:
                found.add(ino)
                todo += kin(self.state, other)
                if not _is_gone_for_good(other):
                    yield ino

    # -- versions ------------------------------------------------------------------------------------

    def add(self, new: Stamped[Version], *, here: bool) -> None:
        """Merge a version.  `here`: its blocks are, as they are of one that was written here."""
        version = new.fact
        ref = Ref(version.ino, version.version)
        # What is numbered by its commit, which is new, is new; of others it is looked up.
        known = self.state.version(ref) if int(version.version) != new.dot else None
        if known is not None:
            self._add_again(ref, known, new, here=here)
            return
        stored = StoredVersion(new.dot, new.hlc, new.wall_ns, version)
        self.state.set_version(ref, stored)
        inode = self.state.edit(owner(self.state, ref))
        self.touched.add(inode.ino)
        if here and self.state.waits:
            self.wanted.wrote(version)
        beside = together(self.state, inode) if here else []
        extended = next((head for head in inode.heads if head.ref == version.parents[0]), None)
        head = stored.head(ref)
        if extended is not None:
            old = self._as_held(inode, extended)
            if version.bare:
                head = self._extend_bare(inode, old, head, version)
            else:
                head = self._extend(inode, old, head, version, here=here)
        else:
            head = self._fork(inode, head, version, here=here)
        inode.heads = [other for other in inode.heads if other is not extended]
        if extended is not None and extended.before is not None:
            self._hid.add(inode.ino)
        if here or extended is not None:
            self._show_instead(inode, version.parents[0], head)
        inode.heads.append(head)
        for parent in version.parents[1:]:
            self._settle(inode, parent, ref, new.hlc)
        if any(version.parents[0] in (other.ref, other.here.ref) for other in beside):
            self._stand_in(inode, head)
        if version.lineage is not None:
            self.continues(inode, version.lineage)

    def _as_held(self, inode: Inode, head: Head) -> Head:
        """Where an open file goes on from this head itself, whose content is not here, that must stay, and
        not what is shown instead.  So of a conflict entry, which does not show what was before its branch."""
        if head.before is None or head.ref not in self.held or head.before.ref in self.held:
            return head
        alone = head._replace(before=None)
        self.maps.drop(inode, head.before, alone)
        return alone

    def _show_instead(self, inode: Inode, parent: Ref, new: Head) -> None:
        """Where a head is not here yet and the file shows an older one, on which this one goes on: a program
        here reads what was written, until the content of that head comes."""
        for at, head in enumerate(inode.heads):
            if head.before is not None and head.before.ref == parent:
                inode.heads[at] = head._replace(before=new.here)
                self.maps.drop(inode, head.before, new)

    def _show_regained(self, inode: Inode, ref: Ref, parent: Ref) -> None:
        """The content of this version was superseded before it was sent, or its blocks were before they came,
        and was made here again: what goes on from it, and is not here yet, shows that rather than what was
        before it."""
        for at, head in enumerate(inode.heads):
            before = head.before
            if before is None or before.ref != parent or parent in self.held:
                continue
            if is_on_branch(self.state, ref, head.ref):
                new = self.maps.head_at(head, ref, spare_map(ref))
                inode.heads[at] = head._replace(before=new)
                self.maps.drop(inode, before, new)

    def _stand_in(self, inode: Inode, new: Head) -> None:
        """The file showed what is here of the heads that show together; by this version of it each is for
        itself.  Where another one leads, and nothing is here of that but what this one goes on from, it shows
        this one until its content comes: so a program here goes on from what it wrote, or was shown."""
        if together(self.state, inode):
            return
        lead = shown_heads(self.state, inode)[0]
        if lead.ref != new.ref and self._is_less(inode, lead, new.here):
            inode.heads[inode.heads.index(lead)] = lead._replace(before=new.here)
            if lead.before is not None:
                self.maps.drop(inode, lead.before, new)

    def _is_less(self, inode: Inode, lead: Head, other: Head) -> bool:
        """Is what can be read of this head nothing, or only what the other one goes on from?"""
        if lead.before is None:
            return not is_here(self.state, inode, lead)
        if lead.before.ref in self.held:
            return False
        return is_ancestor(self.state, step_of(self.state, lead.before.ref), other.ref)

    def _add_again(self, ref: Ref, known: StoredVersion, new: Stamped[Version], *, here: bool) -> None:
        """The same choice was made on another replica: one version, as old as the older of the two."""
        makers = {(known.dot, known.hlc, known.wall_ns), *known.also, new[:3]}
        first, *later = sorted(makers, key=lambda maker: (maker[1], maker[0]))
        fact = known.fact
        if fact.bare and not new.fact.bare:
            fact = new.fact
        self.state.set_version(ref, StoredVersion(*first, fact, tuple(later)))
        inode = self.state.edit(owner(self.state, ref))
        inode.heads = [_dated(head, ref, first) for head in inode.heads]
        inode.settled = [(_dated(head, ref, first), by) for head, by in inode.settled]
        self.touched.add(inode.ino)
        if here and self.state.waits:
            self.wanted.wrote(fact)
        if here or (known.fact.bare and not fact.bare):
            self._show_regained(inode, ref, fact.parents[0])
        for parent in fact.parents:
            self._settle_earlier(parent, first[1])

    def _settle_earlier(self, ref: Ref, hlc: int) -> None:
        """What settled this head is older than was known here."""
        inode = self.state.edit(owner(self.state, ref))
        inode.heads = [
            head._replace(closed=min(head.closed, hlc)) if head.ref == ref else head for head in inode.heads
        ]
        self.touched.add(inode.ino)

    def _extend_bare(self, inode: Inode, old: Head, new: Head, version: Version) -> Head:
        """A version whose content was superseded before it was sent: the one that did is on its way.

        It had inline bytes; so for the way back through the block maps it is as one that has none.
        """
        map_ino = Ino(old.map_ino or inode.ino)
        keeps = old.before is not None or self._is_whole(inode.ino, old) or old.ref in self.held
        before = old.here if keeps else None
        map_id = self.maps.copy_of(inode.ino, old, map_ino, version) if before is old else old.map
        _, undo = advance(self.state, map_ino, map_id, version._replace(inline=b"", bare=False))
        self.maps.keep_undo(new.ref, undo)
        return new._replace(map_ino=map_ino, before=before)

    def _extend(self, inode: Inode, old: Head, new: Head, version: Version, *, here: bool) -> Head:
        map_ino = Ino(old.map_ino or inode.ino)
        missing = not here and self.wanted.any_missing(version)
        kept = (missing and self._is_whole(inode.ino, old)) or (not here and old.ref in self.held)
        before = old.before if self._is_needed(old.before) else None
        map_id = old.map
        if kept and before is None and old.before is None and self._can_show(old, missing=missing):
            before = old
            map_id = self.maps.copy_of(inode.ino, old, map_ino, version)
        elif version.inline is not None and before is not None and before.ref not in self.held:
            self.maps.drop(inode, before, old._replace(before=None))
            before = None
        map_id, undo = advance(self.state, map_ino, map_id, version)
        self.maps.keep_undo(new.ref, undo)
        if missing:
            self.wanted.doubt(inode.ino, map_ino, map_id, dict(version.changed))
        return new._replace(map=map_id, map_ino=map_ino, before=before)

    def _can_show(self, old: Head, *, missing: bool) -> bool:
        """Is an older content better than none?  An empty one is as good as none, and of a bare one nothing
        is known."""
        stored = self.state.version(old.ref)
        return bool(old.size or not missing) and not (stored is not None and stored.fact.bare)

    def _is_needed(self, before: Head | None) -> bool:
        """An empty content is as good as none, but where an open file goes on from it."""
        return before is not None and (bool(before.size) or before.ref in self.held)

    def _is_whole(self, ino: Ino, head: Head) -> bool:
        """Is all of this head of a file here?"""
        at = (Ino(head.map_ino or ino), head.map)
        return not self.wanted.is_doubtful(ino, at) and is_readable(self.state, ino, head)

    def _fork(self, inode: Inode, new: Head, version: Version, *, here: bool) -> Head:
        """A version of somebody who had not seen what came since its first parent.

        Also one that needs no block of that parent keeps the way back to its map: another may fork there.
        """
        base, map_ino = self.maps.base_of(inode, version)
        if version.bare:
            version = version._replace(inline=b"", bare=False)
        map_id, undo = advance(self.state, map_ino, base, version)
        self.maps.keep_undo(new.ref, undo)
        is_copy = version.settles or version.lineage is not None  # of what need not be here all
        if map_id and (is_copy or not here or self._may_lack(inode, version.parents[0])):
            blocks = BlockMap(self.state, map_ino, map_id)
            self.wanted.doubt(inode.ino, map_ino, map_id, dict(blocks.items()))
        return new._replace(map=map_id, map_ino=map_ino)

    def _may_lack(self, inode: Inode, ref: Ref) -> bool:
        """May blocks of what a program here wrote on be missing?  Not where that showed here, whole."""
        shows = any(ref in (head.ref, head.here.ref) for head in self._heads_there(inode))
        return not shows or bool(waiting(self.state, inode.ino))

    def _settle(self, inode: Inode, parent: Ref, by: Ref, hlc: int) -> None:
        """Another head is settled by a version of `inode`; of the same file it is no head any more."""
        own = [head for head in own_heads(inode) if head.ref == parent]
        if own:
            if own[0].before is not None:
                self._hid.add(inode.ino)
            inode.heads = [head for head in inode.heads if head.ref != parent]
            inode.settled.append((self._with_its_own(inode, own[0]), by))
            return
        other = self.state.edit(owner(self.state, parent))
        _close(other, parent, hlc)
        self._relate(inode, other)
        self.touched.add(other.ino)

    def _with_its_own(self, inode: Inode, settled: Head) -> Head:
        """What was settled shows no other head instead any more: that one goes on, and its map with it."""
        if any(settled.before is not None and settled.before.ref == head.ref for head in inode.heads):
            return settled._replace(before=None)
        return settled

    def continues(self, inode: Inode, lineage: Ref) -> None:
        """A file goes on from a version of another: whether that is let go decides what is its past."""
        self._relate(inode, self.state.edit(owner(self.state, lineage)))

    def _relate(self, inode: Inode, other: Inode) -> None:
        if inode.ino != other.ino and inode.ino not in other.related:
            other.related = (*other.related, inode.ino)
            inode.related = (*inode.related, other.ino)

    # -- blocks that are not here ----------------------------------------------------------------------

    def want_blocks(self, appeared: Iterable[Ino]) -> None:
        """Note the blocks that maps of this batch name and that are not here; forget those that no map
        names any more.

        `appeared`: files that show and did not before: all their blocks are looked at, since what was
        removed asks for none.  Blocks that a later version of the same batch replaced are never asked for.
        """
        appeared = set(appeared)
        for ino in appeared:
            for head in self.state.known(ino).heads:
                self.wanted.doubt_all(ino, head)
                if head.before is not None:
                    self.wanted.doubt_all(ino, head.before)
        for ino in self.touched | appeared | self.wanted.doubtful.keys():
            inode = self.state.known(ino)
            maps = self._maps_to_read(inode)
            self.wanted.forget(inode.ino, maps)
            self.wanted.want(ino, maps)
            is_held = self._keeps_for_open(inode)
            hides = any(head.before for head in inode.heads)
            if is_held or hides:
                is_unsure = is_held or ino in appeared or self.state.get(hiding_key(ino)) == FOR_OPEN
                self.state.put(hiding_key(ino), FOR_OPEN if is_unsure else FOR_BLOCKS)
            if is_held or hides or ino in self._hid:
                self.complete(ino)

    def _maps_to_read(self, inode: Inode) -> set[tuple[Ino, int]]:
        """The block maps of a file that somebody can read.  What was removed needs no blocks, nor does what
        was settled, unless an open file goes on from it."""
        return maps_of(inode.ino, [*self._heads_there(inode), *self._let_go_but_held(inode)])

    def _heads_there(self, inode: Inode) -> list[Head]:
        return inode.heads if inode.shown or is_orphan(self.state, inode) else []

    def _let_go_but_held(self, inode: Inode) -> list[Head]:
        """What was settled, or removed with the file, and an open file goes on from."""
        if (inode.shown and not inode.settled) or not self.held:
            return []
        gone = [head for head in own_heads(inode) if head not in self._heads_there(inode)]
        gone += [head.before for head in gone if head.before is not None]
        return [head._replace(before=None) for head in gone if head.ref in self.held]

    def _keeps_for_open(self, inode: Inode) -> bool:
        """Does something show, or is waited for, only because an open file goes on from it?"""
        befores = [head.before for head in inode.heads if head.before is not None]
        if befores and any(before.ref in self.held for before in befores):
            return True
        return any(not is_readable(self.state, inode.ino, head) for head in self._let_go_but_held(inode))

    def arrived(self, block_hash: bytes, block: bytes) -> None:
        """Store a block that was asked for.  Where no file waits for it a program may: one that reads on in
        what was removed."""
        self.is_here_now(block_hash)
        self.state.put(block_key(block_hash), block)

    def is_here_now(self, block_hash: bytes) -> None:
        self.touched |= self.wanted.is_here_now(block_hash)

    def complete(self, ino: Ino) -> bool:
        """Show the newest content of each head for which nothing speaks any more to show an older one: no
        block of it is waited for, and no open file goes on from what it showed.  Nor does the older one stay
        that an open file left, and that is not here itself: its blocks may be nowhere any more.

        Returns whether another content shows.
        """
        key, inode = hiding_key(ino), self.state.known(ino)
        mark = self.state.get(key)
        done = [
            head
            for head in inode.heads
            if head.before is not None and self._is_over(inode, head, head.before, mark)
        ]
        if done:
            inode = self.state.edit(ino)
            for head in done:
                assert head.before is not None
                self.maps.drop(inode, head.before, head._replace(before=None))
            inode.heads = [head._replace(before=None) if head in done else head for head in inode.heads]
        is_held = self._keeps_for_open(inode)
        if mark == FOR_OPEN and not is_held:
            self.wanted.forget(inode.ino, self._maps_to_read(inode))
        hides = any(head.before is not None for head in inode.heads)
        left = FOR_OPEN if is_held else FOR_BLOCKS if hides else None
        if left != mark:
            self.state.put(key, left)
        return bool(done)

    def _is_over(self, inode: Inode, head: Head, before: Head, mark: bytes | None) -> bool:
        """Need this head not show any more what was before it?  That was here when it came to be hidden, but
        where an open file went on from it, or the file was gone."""
        if before.ref in self.held:
            return False
        if not self._heads_there(inode) or is_readable(self.state, inode.ino, head):
            return True
        return mark == FOR_OPEN and not is_readable(self.state, inode.ino, before)


def _close(inode: Inode, ref: Ref, hlc: int) -> None:
    """A version of another file settled this head at that time."""
    for at, head in enumerate(inode.heads):
        if head.ref == ref:
            inode.heads[at] = head._replace(closed=min(head.closed or hlc, hlc))


def _dated(head: Head, ref: Ref, made: tuple[Dot, int, int]) -> Head:
    """A head, or what shows instead of it, with the stamp of who made this version first."""
    before = None if head.before is None else _dated(head.before, ref, made)
    if head.ref == ref:
        head = head._replace(dot=made[0], hlc=made[1], wall_ns=made[2])
    return head._replace(before=before)
