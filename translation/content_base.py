"""What the contents of files need of the replica: the branch that an inode number shows."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence

from crdt.absorption import hidden_under
from crdt.blocks import EMPTY_DIGEST, NO_MAP
from crdt.facts import Caller, Fact, Ino, Policy, Ref, Version, VersionId
from crdt.head_maps import HeadMaps, spare_map
from crdt.heads import FOR_OPEN, hiding_key
from crdt.merging import Merged
from crdt.rights import may_write, under
from crdt.rows import Head, Inode
from crdt.versions import is_on_branch, own_heads
from crdt.versions import owner as owner_of
from crdt.wanted import Wanted
from translation.attributes import AttributeRequests
from translation.branch import Author, Parts, Shown, VersionFields
from translation.intent import posix_error
from translation.merging import merging_version
from translation.replica import Replica
from translation.twins import NOTHING_PARTS


class ContentBase:
    """A `translation.branch.Base` of a replica: what an inode number shows, how a version extends that."""

    requests: AttributeRequests  # set once these are made, which need the contents themselves

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.digest_key = replica.volume.digest_key
        self.get = replica.state.get
        self.scan = replica.state.scan
        self.put_rows = replica.put_rows
        self.now_ns = replica.wall_ns
        self.keeps: Callable[[Inode, Version], Sequence[Fact]] = lambda _, __: ()  # what goes with a version
        self.on_version: Callable[[], None] = lambda: None

    def shown(self, ino: Ino) -> Shown:
        target = self.requests.target(ino)
        if target.head is None:
            raise posix_error(errno.EISDIR if target.inode.is_directory else errno.EINVAL)
        if target.merged is not None:
            return self._put_together(target.inode.ino, target.merged)
        return self._shown(target.inode.ino, target.head.here)

    def _put_together(self, owner: Ino, merged: Merged) -> Shown:
        heads = tuple(self._shown(owner, head) for head in merged.heads)
        return heads[0]._replace(
            size=merged.size, mtime_ns=merged.mtime_ns, map=NO_MAP, inline=None, parts=Parts(merged, heads)
        )

    def shown_to_write(self, ino: Ino) -> Shown:
        shown = self.shown(ino)
        while shown.parts is not None:  # twice, where that brings a block for which another head waited
            made = merging_version(self, shown)
            self.replica.note_attributes(shown.owner)  # told with the commit
            self.requests.commit(self.replica.begin(), (made.version,), rows=made.rows)
            before, shown = shown.parts.merged.refs, self.shown(ino)
            left = () if shown.parts is None else shown.parts.merged.refs
            assert not set(before) & set(left), f"{made.version} is not what shows"
        return shown

    def keeps_for_open(self, owner: Ino) -> bool:
        return self.replica.state.get(hiding_key(owner)) == FOR_OPEN

    def is_log(self, ino: Ino) -> bool:
        return self.requests.target(ino).inode.policy == Policy.APPEND

    def _shown(self, owner: Ino, head: Head) -> Shown:
        stored = self.replica.state.version(head.ref)
        settled = tuple(hidden_under(self.replica.state, self.requests.inode(owner), head.ref))
        if stored is None:
            return Shown(owner, head.ref, 0, head.mtime_ns, 0, owner, b"", EMPTY_DIGEST, b"", settled)
        fact = stored.fact
        inline = fact.inline
        if not head.map and inline is None:
            inline = b""
        return Shown(
            owner,
            head.ref,
            fact.size,
            fact.mtime_ns,
            head.map,
            Ino(head.map_ino or owner),
            inline,
            fact.digest,
            fact.first_digest,
            settled,
            fact.bare,
        )

    def author(self, ino: Ino, writer: Caller) -> Author:
        """Root needs no right, and who may write by another group or a capability is not known to."""
        inode = self.requests.target(ino).inode
        known = writer.uid != 0 and may_write(self.replica.view.mode(inode), inode, writer)
        return Author(writer if known else None, under(inode))

    def shown_at(self, ino: Ino, head: Ref) -> Shown | None:
        """The branch that `head` was the head of: as it stands, if it went on by choices alone, which leave
        the content.  Else what is written on is a branch of its own, and nothing of either is lost."""
        state = self.replica.state
        inode = state.inode(owner_of(state, head))
        if inode is None:
            return None
        candidates = own_heads(inode)
        for candidate in candidates:
            if candidate.ref == head:
                return self._shown(inode.ino, candidate)
            if candidate.before is not None and candidate.before.ref == head:
                return self._shown(inode.ino, candidate.before)
        chosen = self._by_choices(inode, head)
        if chosen is not None:
            return self._shown(inode.ino, chosen)
        gone_on = (each for each in candidates if is_on_branch(state, head, each.ref))
        newest = next(gone_on, None)
        return None if newest is None else self._shown(inode.ino, self._taken_back(newest, head))

    def with_choices(self, head: Ref) -> Ref:
        """The head of its branch, where that went on by choices alone: who was shown the content has seen
        them too.  Else itself."""
        inode = self.replica.state.inode(owner_of(self.replica.state, head))
        chosen = None if inode is None else self._by_choices(inode, head)
        return head if chosen is None else chosen.ref

    def _by_choices(self, inode: Inode, head: Ref) -> Head | None:
        gone_on = (each for each in own_heads(inode) if is_on_branch(self.replica.state, head, each.ref))
        return next((each for each in gone_on if self._has_content_of(each.ref, head)), None)

    def _taken_back(self, candidate: Head, ref: Ref) -> Head:
        """An older version on the branch of this head, with a block map of its own where it needs one.

        Nobody kept it: seldom, as where somebody here wrote under another name of the branch.
        """
        stored = self.replica.state.version(ref)
        if stored is None or stored.fact.bare or stored.fact.inline is not None:
            return candidate._replace(ref=ref)
        maps = HeadMaps(self.replica.state, Wanted(self.replica.state))
        head = maps.head_at(candidate, ref, spare_map(ref))
        self.replica.state.commit()
        return head

    def _has_content_of(self, ref: Ref, head: Ref) -> bool:
        """Did the branch go on from `head` by choices and renames alone, which leave the content?"""
        while ref != head:
            stored = self.replica.state.version(ref)
            if stored is None or stored.fact.bare:
                return False
            if not stored.fact.settles and stored.fact.lineage is None:
                return False
            ref = stored.fact.parents[0]
        return True

    def commit_version(self, base: Shown, fields: VersionFields, rows: Mapping[bytes, bytes | None]) -> Shown:
        moment = self.replica.begin()
        owner = self.requests.inode(base.owner)
        beside = [head for head, _ in self.requests.content_branches(owner)]
        is_entry = any(base.head in (head.ref, head.here.ref) for head in beside)
        parting = NOTHING_PARTS if is_entry else self.requests.part(owner)
        version = Version(
            base.owner,
            VersionId(moment.dot),
            (base.head, *base.settled, *parting.settled),
            fields.size,
            fields.mtime_ns,
            fields.digest,
            fields.first_digest,
            fields.inline,
            fields.cut_bytes,
            fields.changed,
            appends=fields.appends,
            writer=fields.author.writer,
            under=fields.author.under,
        )
        facts = (version, *parting.facts, *self.keeps(owner, version))
        self.requests.commit(moment, facts, *parting.meant, rows=rows)
        shown = self.shown_at(base.owner, Ref(base.owner, version.version))
        assert shown is not None
        self.on_version()
        return shown
