"""The facts that requests are made of, and look-ups of what they act on.

A request reads what it needs, decides, and commits its facts under one dot.  A fact that replaces or
removes others covers all of those, also what they had replaced: the ones between are not sent any more,
and a replica that never hears of them must still know.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import cast

from crdt.absorption import branches, hidden_on, hidden_under, together
from crdt.blocks import EMPTY_DIGEST
from crdt.causality import Context, Dot, Stamp, join, replica_of
from crdt.codec import unpack
from crdt.entries import NAME_MAX, Entry, branch_ino
from crdt.facts import (
    DERIVED,
    ROOT,
    Birth,
    Fact,
    Field,
    Ino,
    Kind,
    Left,
    LinkId,
    Pin,
    Placement,
    Policy,
    Ref,
    Register,
    Removal,
    Version,
    VersionId,
    Xattr,
)
from crdt.merging import Merged
from crdt.orphans import Orphan, orphan_entries
from crdt.rights import CAPABILITY, PERMISSIONS, SET_ID
from crdt.rows import Head, Inode, Link, Row, Shown, stamped_list
from crdt.showing import showing
from crdt.state import prefix_end, xattr_key
from crdt.versions import Forks, are_dropped, is_named, is_on_branch, surviving, top_of
from crdt.versions import owner as owner_of
from crdt.view import shown_xattr
from crdt.visible import removed_last
from translation.replica import Moment, Replica

LEFT_MAX = 16  # directories that one fact tells to have been changed


def posix_error(code: int, name: bytes | None = None) -> OSError:
    if name is None:
        return OSError(code, os.strerror(code))
    return OSError(code, os.strerror(code), os.fsdecode(name))


def check_name(name: bytes) -> None:
    """Raises OSError (ENAMETOOLONG, EINVAL)."""
    if len(name) > NAME_MAX:
        raise posix_error(errno.ENAMETOOLONG, name)
    if not name or name in (b".", b"..") or b"/" in name:
        raise posix_error(errno.EINVAL, name)


class Intents:
    """What requests are built from; reads the view of one replica."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.state = replica.state
        self.view = replica.view
        self.held: Callable[[Ino], Ref | None] = lambda _: None  # the version that a session here shows
        # What several heads show together is made a version by this.
        self.make_version: Callable[[Ino], object] = lambda _: None

    # -- look-up -----------------------------------------------------------------------------------

    def inode(self, ino: Ino) -> Inode:
        """Raises FileNotFoundError (ENOENT)."""
        inode = self.state.inode(ino)
        if inode is None:
            raise posix_error(errno.ENOENT)
        return inode

    def directory(self, ino: Ino) -> Inode:
        """Return a directory that can take or lose names.

        Raises NotADirectoryError (ENOTDIR), and FileNotFoundError (ENOENT) where it was removed.
        """
        inode = self.inode(ino)
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR)
        if ino != ROOT and not inode.shown:
            raise posix_error(errno.ENOENT)
        return inode

    def find(self, parent: Ino, name: bytes) -> Entry:
        """Raises FileNotFoundError (ENOENT)."""
        check_name(name)
        self.directory(parent)
        entry = self.view.lookup(parent, name)
        if entry is None:
            raise posix_error(errno.ENOENT, name)
        return entry

    def home_for_new(self, parent: Ino) -> Ino:
        """Where in a union a new entry goes: the member that was made here, else the lead.

        So what was put into a directory stays with it when a replica that has not heard of the union
        renames the other member.
        """
        members = self.view.members(parent)
        if len(members) > 1:
            for member in members:
                if replica_of(member) == self.replica.replica and self.inode(member).is_live():
                    return member
        return members[0]

    def entry_of_branch(self, owner: Inode, top: Ref) -> Entry:
        """Return the conflict entry whose branch begins with `top`.  Raises FileNotFoundError."""
        home = min(owner.shown, default=None)
        beside: Sequence[Entry] = orphan_entries(self.state, owner)
        if home is not None:
            beside = self.view.group(self.view.members(home.parent), home.name)
        for entry in beside:
            if entry.top == top:
                return entry
        raise posix_error(errno.ENOENT)

    def main_head(self, inode: Inode) -> Head:
        shown = showing(self.state, inode)
        return shown.heads[0] if isinstance(shown, Merged) else shown

    def head_of(self, entry: Entry) -> Ref:
        """The head of the branch that an entry stands for, seen here or not."""
        if entry.heads and entry.top is not None:
            return entry.heads[0]
        return self.main_head(self.inode(entry.owner)).ref

    def seen_of(self, entry: Entry) -> Ref:
        """The version that programs here were shown of it: what a removal or a choice has seen.

        Not the head, where a session holds an older one or blocks of the head are not here.
        """
        held = self.held(entry.ino)
        if held is not None:
            return held
        owner, ref = self.inode(entry.owner), self.head_of(entry)
        if len(owner.heads) == 1 and owner.heads[0].ref == ref:
            return owner.heads[0].here.ref
        if entry.top is None and self.together(owner):
            return self._seen_together(owner)[0]
        beside = (head for head, _ in self.content_branches(owner))
        return next((head.here.ref for head in (*beside, *owner.heads) if head.ref == ref), ref)

    def hidden(self, entry: Entry) -> list[Ref]:
        """The heads that hide under what an entry shows, since they add nothing to it.

        None where programs here are shown an older version, of which that was not said.
        """
        inode = self.inode(entry.owner)
        if len(inode.heads) < 2 or not self.has_shown_all(entry):
            return []
        return hidden_under(self.state, inode, self.head_of(entry))

    def to_settle(self, entry: Entry) -> list[Ref]:
        """The heads that would come out where a conflict entry becomes a file of its own: those that hide
        under it, and those of its branch, which go along, that hide under another entry."""
        assert entry.top is not None
        along = hidden_on(self.state, self.inode(entry.owner), entry.top, self.head_of(entry))
        return [*self.hidden(entry), *along]

    def meant_by(self, entry: Entry) -> list[Ref]:
        """The versions that a removal or a choice of this entry is about: what shows, and what hides under
        it, which else would come out."""
        inode = self.inode(entry.owner)
        if entry.top is None and self.together(inode):
            return self._seen_together(inode)
        seen = [self.seen_of(entry)]
        if entry.top is None:
            seen = self.not_beside(inode, seen)
        return [*seen, *self.hidden(entry)]

    def not_beside(self, inode: Inode, refs: Iterable[Ref]) -> list[Ref]:
        """Leave out, of versions that this file shows, those that a conflict entry beside it shows too.

        It does while a session holds one, or the newest content is not here.  To remove a file is not to
        remove the entry.
        """
        beside = {ref for head, _ in self.content_branches(inode) for ref in (head.ref, head.here.ref)}
        return [ref for ref in refs if ref not in beside]

    def has_shown_all(self, entry: Entry) -> bool:
        """Were programs here shown all that the entry stands for?

        Not where a session holds an older version, or blocks are not here.
        """
        heads = self.together(self.inode(entry.owner)) if entry.top is None else []
        if heads:
            return {head.ref for head in heads} == set(self._seen_together(self.inode(entry.owner)))
        return self.seen_of(entry) == self.head_of(entry)

    def together(self, inode: Inode) -> list[Head]:
        """The heads that show as one content, by the merge policy of a file."""
        return together(self.state, inode) if inode.is_regular else []

    def make_one(self, inode: Inode) -> None:
        """Where heads show together, make that a version, for one of this commit to go on from.

        It is a commit of its own, and changes nothing that shows.  Not where a session holds one of them.
        """
        if self.together(inode) and self.held(inode.ino) is None:
            self.make_version(inode.ino)

    def _seen_together(self, inode: Inode) -> list[Ref]:
        """Of heads that show as one content, those that programs here were shown."""
        held = self.held(inode.ino)
        if held is not None:
            return [held]
        shown = showing(self.state, inode)
        return list(shown.refs) if isinstance(shown, Merged) else [shown.here.ref]

    def seen_heads(self, inode: Inode) -> list[Ref]:
        """The versions that programs here were shown of a file and of the entries beside it."""
        if inode.is_directory:
            return []
        beside = {head.ref: (head, branch_ino(top)) for head, top in self.content_branches(inode)}
        shown = {head.ref for head in self.together(inode)}
        found = self._seen_together(inode) if shown else []
        for own in inode.heads:
            if own.ref in shown:
                continue
            head, ino = beside.get(own.ref, (own, inode.ino))
            found.append(self.held(ino) or head.here.ref)
        return found

    def has_other_names(self, entry: Entry) -> bool:
        """Does its file show under another name, too?  Not a conflict entry, which is no file of its own."""
        if entry.top is not None:
            return False
        return any(self.view.entry_at(entry.ino, place).ino == entry.ino for place in self.names_left(entry))

    def names_left(self, entry: Entry) -> list[Shown]:
        """The other names of its file.  If none shows, because the file hides there under others, they go
        with the last one that does."""
        here = {entry.link, *(twin.link for twin in entry.twins if twin.ino == entry.ino)}
        return [place for place in self.inode(entry.ino).shown if place.link not in here]

    def alternatives(self, entry: Entry) -> list[Entry]:
        """The other files that show for the same name, and other branches of this one, best claim first.

        An entry that is pinned, or split off, is still an alternative for the name it was placed at: else
        of three, A could remove all but the first and B all but the second, and nothing would be left.
        """
        members = self.view.members(entry.parent)
        origin = self.origin_of(entry)
        beside = [*self.view.group(members, origin), *self.view.pinned(members, origin)]
        if origin != entry.raw:
            beside += self.view.group(members, entry.raw)
        beside = [e for e in beside if not e.is_directory and (e.ino, e.name) != (entry.ino, entry.name)]
        return sorted(beside, key=lambda e: (e.name != origin, e.owner != entry.owner, e.tag, e.ino))

    def origin_of(self, entry: Entry) -> bytes:
        """The name that an entry was placed at, before it was pinned."""
        if entry.link is None:
            return entry.raw
        shown = self.inode(entry.ino).shown
        return next((place.origin for place in shown if place.link == entry.link), entry.raw)

    def is_bare(self, ref: Ref) -> bool:
        """Is this a content that nobody here knows?  It was superseded, and what did that is on its way."""
        stored = self.state.version(ref)
        return stored is not None and stored.fact.bare

    def buried(self, inode: Inode) -> list[Ref]:
        """The settlements that a removal covered, of an orphan or a file that shows for a later edit alone.

        They must not come back when the file gets a live name again.  What was removed itself does not, and
        to settle that is a choice, which somebody else's edit competes with.
        """
        if is_named(inode):
            return []
        alive = surviving(self.state, inode)
        left = (head for head in inode.heads if not head.closed and not head.dropped)
        return [head.ref for head in left if head not in alive]

    # -- facts -------------------------------------------------------------------------------------

    def place(
        self,
        inode: Inode,
        link: LinkId,
        parent: Ino,
        name: bytes,
        *,
        rank: Stamp | None = None,
        mates: tuple[Ino, ...] = (),
        native: bool = False,
        via: Ref | None = None,
    ) -> Placement:
        known = inode.links.get(link)
        return Placement(
            inode.ino,
            link,
            parent,
            name,
            () if known is None else known.context(),
            known is not None and known.has_split(),
            native=native,
            rank=rank,
            mates=mates,
            via=via,
            left=self._left(inode, link),
        )

    def _left(self, inode: Inode, link: LinkId) -> tuple[Left, ...]:
        """The directory that a link stands in, and those where placements of it that this replaces came
        and went: they may be superseded before a peer hears of them."""
        left = {place.parent: Left(place.parent) for place in inode.shown if place.link == link}
        known = inode.links.get(link)
        for placement in () if known is None or inode.is_directory else known.placements:
            at = (placement.hlc, placement.wall_ns)
            before = [Left(placement.fact.parent, *at)]
            before += [each if each.hlc else Left(each.directory, *at) for each in placement.fact.left]
            for each in before:
                if each.directory not in left or 0 < left[each.directory].hlc < each.hlc:
                    left[each.directory] = each
        newest = sorted(left.values(), key=lambda each: (each.hlc != 0, -each.hlc, each.directory))
        return tuple(newest[:LEFT_MAX])

    def remove(self, inode: Inode, link: LinkId, drops: Iterable[Ref] = ()) -> Removal:
        known: Link = inode.links[link]
        seen = tuple(self.seen_heads(inode))
        left = self._left(inode, link)
        return Removal(inode.ino, link, known.context(), known.has_split(), seen, tuple(drops), left)

    def still_unnamed(self, inode: Inode, version: Version) -> Removal:
        """What keeps a file an orphan that gets this version as one."""
        seen = (Ref(version.ino, version.version),)
        return self.remove(inode, removed_last(inode).link)._replace(seen=seen)

    def set(self, inode: Inode, field: Field, value: int, seen: Sequence[Ref] | None = None) -> Register:
        """A register.  One of mode, owner or group has seen the contents, and one of the mode the owner."""
        contexts = [inode.register_context(field)]
        if field in PERMISSIONS:
            contexts.append(self.contents_seen(inode, seen))
        if field == Field.MODE:
            contexts.append(owners_seen(inode))
        return Register(inode.ino, field, value, join(contexts))

    def contents_seen(self, inode: Inode, seen: Sequence[Ref] | None = None) -> Context:
        """The context of these versions, or of those that programs here are shown of a file."""
        versions = map(self.state.version, self.seen_heads(inode) if seen is None else seen)
        return join((version.dot,) for version in versions if version is not None)

    def version(
        self,
        moment: Moment,
        ino: Ino,
        head: Ref,
        settled: Iterable[Ref],
        *,
        lineage: Ref | None = None,
        is_edit: bool = False,
    ) -> Version:
        """A version of the content at `head` that settles other heads.

        Without a lineage it is a choice: it has a number made of what was chosen among what, so that the
        same choice, made by two replicas, is one version and no new conflict.  A choice of what was
        removed already, and shows for want of anything else, is an edit: it brings that back.
        """
        parents = (head, *sorted(set(settled) - {head}))
        stored = self.state.version(head)
        of = self.inode(owner_of(self.state, head))
        settles = lineage is None and not is_edit and not are_dropped(self.state, of, parents)
        number = _choice(parents) if settles else VersionId(moment.dot)
        if stored is None:
            mtime_ns = self.inode(head.ino).births[0].wall_ns
            return Version(
                ino,
                number,
                parents,
                0,
                mtime_ns,
                EMPTY_DIGEST,
                inline=b"",
                settles=settles,
                lineage=lineage,
            )
        fact = stored.fact
        if fact.bare:
            raise posix_error(errno.EIO)  # in the middle of a pass; nothing to choose yet
        return Version(
            ino,
            number,
            parents,
            fact.size,
            fact.mtime_ns,
            fact.digest,
            fact.first_digest,
            fact.inline,
            settles=settles,
            lineage=lineage,
            appends=None if settles else self._adds_nothing(parents, fact.size),
        )

    def _adds_nothing(self, parents: Sequence[Ref], size: int) -> int | None:
        """What a version `appends` to that leaves the content of its file: nothing, in a log."""
        inode = self.inode(owner_of(self.state, parents[0]))
        others = (owner_of(self.state, ref) for ref in parents[1:])
        return size if inode.policy == Policy.APPEND and inode.ino not in others else None

    def split(self, entry: Entry, settled: Iterable[Ref] = ()) -> list[Fact]:
        """A content conflict entry becomes a file of its own: the same inode and link wherever it is done.

        It has had its number all along, so programs see no change.  `settled` is what would come out
        (`to_settle`); its own version is one of the file that it was split from, as its branch was.  Where
        nobody here knows its content that cannot be made a version, and they are removed.
        """
        link = LinkId(entry.ino)
        facts = self.claim(entry)
        chosen: list[Version] = []
        settled = tuple(settled)
        if self.is_bare(self.head_of(entry)):
            facts += self.removals_of(settled)
        elif settled:
            chosen = [self.version(self.replica.begin(), entry.owner, self.head_of(entry), settled)]
        if isinstance(entry, Orphan):
            facts += self._unnamed(entry, chosen)
        elif self.was_removed(entry):
            left = (Left(entry.parent),)
            facts.append(Placement(entry.ino, link, entry.parent, entry.name, over_split=True, left=left))
        else:
            facts.append(Placement(entry.ino, link, entry.parent, entry.raw, split=True))
            facts.append(Pin(entry.ino, link, Dot(0), entry.name))
        return [*facts, *chosen]

    def removals_of(self, hidden: Iterable[Ref]) -> list[Removal]:
        """The removals of branches that hide under others of their file, as of entries that show."""
        found = []
        for ref in hidden:
            others = [head.ref for head in self.inode(owner_of(self.state, ref)).heads if head.ref != ref]
            if others:
                top = top_of(Forks(self.state), ref, others).ref
                link = LinkId(branch_ino(top))
                found.append(Removal(top.ino, link, (), over_split=True, seen=(ref,), drops=(ref,)))
        return found

    def _unnamed(self, entry: Orphan, chosen: Sequence[Version]) -> list[Fact]:
        """The link of what is split off an orphan: it stood where the last name of that stood, and is removed
        by somebody who has seen the content and does not mean it to be gone.  So this is an orphan, too."""
        assert entry.last is not None
        assert entry.top is not None
        heads = [head.ref for head in self.inode(owner_of(self.state, entry.top)).heads]
        seen = [head for head in heads if is_on_branch(self.state, entry.top, head)]
        seen += [Ref(version.ino, version.version) for version in chosen]
        link = LinkId(entry.ino)
        stood = Placement(entry.ino, link, entry.last.parent, entry.last.name)
        return [stood, Removal(entry.ino, link, (self.replica.begin().dot,), seen=tuple(seen))]

    def claim(self, entry: Entry) -> list[Fact]:
        """The inode of a content conflict entry, which claims its branch; without a name."""
        assert entry.top is not None
        origin = self.inode(entry.owner)
        bits = self.view.mode(origin, self.head_of(entry))
        birth = Birth(
            entry.ino,
            Kind.REGULAR,
            bits,
            origin.uid,
            origin.gid,
            origin.birth.maker,
            policy=origin.birth.policy,
            claims=entry.top,
        )
        seen = self.seen_of(entry)
        facts = [birth, *self._copied(origin, entry.ino, seen)]
        if bits & SET_ID:  # a birth has seen no content, and these bits show only with one that was
            facts.append(self.set(Inode(entry.ino, []), Field.MODE, bits, [seen]))
        return facts

    def _copied(self, origin: Inode, ino: Ino, seen: Ref) -> list[Fact]:
        """What a split copies beside mode and owner: what was set by hand, extended attributes."""
        facts: list[Fact] = []
        for field in (Field.MTIME, Field.POLICY):
            by_hand = origin.last_set(field)
            if by_hand is not None:
                facts.append(Register(ino, field, by_hand.fact.value, ()))
        prefix = xattr_key(origin.ino, b"")
        for key, row in self.state.scan(prefix, prefix_end(prefix)) if origin.xattr_count else ():
            value = shown_xattr(stamped_list(cast(Row, unpack(row))))
            if value is not None:
                name = key[len(prefix) :]
                context = self.contents_seen(origin, [seen]) if name == CAPABILITY else ()
                facts.append(Xattr(ino, name, value, context))
        return facts

    def place_again(self, inode: Inode, link: LinkId, name: bytes) -> list[Fact]:
        """Place a link anew where it stands, or stood last.  A pin holds for one placement: `name`, if that
        is another name, needs one anew."""
        was = inode.at if inode.is_directory else inode.links[link].where()
        assert was is not None
        placed = self.place(
            inode,
            link,
            was.fact.parent,
            was.fact.name,
            rank=None if inode.is_directory else was.fact.rank or was.stamp,
            mates=was.fact.mates,
            native=was.fact.native,
            via=was.fact.via,
        )
        facts: list[Fact] = [placed._replace(left=())]
        if name != was.fact.name:
            facts.append(Pin(inode.ino, link, self.replica.begin().dot, name))
        return facts

    def was_removed(self, entry: Entry) -> bool:
        """Was this conflict entry removed before, and shows for an edit that did not see that?"""
        assert entry.top is not None
        holder = self.inode(entry.top.ino)
        known = holder.links.get(LinkId(entry.ino))
        return known is not None and any(removal.fact.over_split for removal in known.removals)

    def content_branches(self, inode: Inode) -> list[tuple[Head, Ref]]:
        return [(head, top.ref) for head, top in branches(self.state, inode)]


def owners_seen(inode: Inode) -> Context:
    return join((inode.register_context(Field.UID), inode.register_context(Field.GID)))


def _choice(parents: Sequence[Ref]) -> VersionId:
    digest = blake2b(digest_size=8)
    for part in (parents[0], *sorted(parents)):
        digest.update(part.ino.to_bytes(8, "big") + part.version.to_bytes(8, "big"))
    return VersionId(DERIVED | int.from_bytes(digest.digest(), "big") >> 1)
