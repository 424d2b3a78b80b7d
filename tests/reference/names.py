"""What is visible, and under which names: the end of the computation.

*Visible* are live links; a file's last name where a head survives that no removal has seen; and every
directory that is live or has something visible inside.  What stands at one name is grouped: directories
that were made there alike are one *union*, and a directory keeps the bare name before a file, a newer
union before an older one, and the file with the best claim.  All else, and each further branch of a
file, is a *conflict entry* with a name of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from typing import NamedTuple

from crdt.causality import Dot, Stamp, counter_of, replica_of
from crdt.entries import branch_ino
from crdt.facts import ROOT, Field, Ino, Kind, LinkId, Policy, Ref
from tests.reference.contents import Contents, Heads, Path, last_over, parting
from tests.reference.gathered import SPLIT, Gathered
from tests.reference.places import Places
from tests.reference.rights import Rights

NAME_MAX = 255
EXTENSION_MAX = 16
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


class Shown(NamedTuple):
    """What a program sees at a path.  `content` of a symlink is its target."""

    kind: Kind
    ino: Ino
    mode: int
    uid: int
    gid: int
    content: bytes
    conflict: bool
    policy: Policy


@dataclass
class Entry:
    """One name in one directory."""

    ino: Ino
    kind: Kind
    raw: bytes  # the name it would have if it were alone
    directory: Ino  # the lead of the union that it stands in
    tag: Dot  # of what made it: conflict entries of one raw name are told apart by it
    name: bytes = b""
    members: tuple[Ino, ...] = ()  # of a union, the lead first
    link: LinkId | None = None  # of a file; None: a content conflict entry
    hidden: tuple[LinkId, ...] = ()  # links of twins
    heads: Heads = ()  # heads[0] is what shows
    owner: Ino = ROOT  # the inode whose attributes it has
    top: Ref | None = None  # of a content conflict entry: the first version of its branch

    @property
    def order(self) -> tuple[bytes, Dot, Ino, LinkId]:
        """The order in which conflict entries take free names."""
        return self.raw, self.tag, self.ino, self.link or LinkId(0)


class View:
    def __init__(self, facts: Gathered, blocks: Mapping[bytes, bytes]) -> None:
        self.facts = facts
        self.places = Places(facts)
        self.contents = Contents(facts, self.places, blocks)
        self.rights = Rights(facts, self.contents)
        self._find_visible_links()
        self._find_visible_directories()
        self._go_down()
        self._give_names()

    # -- liveness --------------------------------------------------------------------------------

    def _find_visible_links(self) -> None:
        """An edit beats an unlink that had not seen it."""
        links: dict[Ino, list[LinkId]] = defaultdict(list)
        for link in self.places.where:
            if not self.facts.is_directory(link):
                links[self.facts.links[link].ino].append(link)
        self.visible: set[LinkId] = set()
        self.orphans: list[Ino] = []
        for ino, names in sorted(links.items()):
            surviving = self.contents.surviving[ino]
            if ino not in self.contents.named and not surviving:
                continue
            seen = self.contents.ancestry(
                ref for n in names for made in self.facts.links[n].removals for ref in made.fact.seen
            )
            live = [link for link in names if self.places.live[link]]
            if live:
                self.visible.update(live)
            elif not seen.issuperset(surviving):
                self.visible.add(max(names, key=lambda n: (self.places.removed_at[n], n)))
            elif surviving:
                self.orphans.append(ino)

    def _find_visible_directories(self) -> None:
        where, live = self.places.where, self.places.live
        todo = [where[link].fact.parent for link in self.visible]
        todo += [ino for ino in self.places.position if live[LinkId(ino)]]
        self.directories: set[Ino] = set()
        while todo:
            directory = todo.pop()
            if directory != ROOT and directory not in self.directories:
                self.directories.add(directory)
                todo.append(where[LinkId(directory)].fact.parent)

    # -- what stands at one name -----------------------------------------------------------------

    def _go_down(self) -> None:
        """From the root, a whole union at a time, so that names in different members of it meet."""
        inside: dict[Ino, list[LinkId]] = defaultdict(list)
        for link in sorted({LinkId(d) for d in self.directories} | self.visible):
            inside[self.places.where[link].fact.parent].append(link)
        self.twins: dict[Ino, set[Ino]] = {}
        self.at_name: dict[Ino, dict[bytes, list[Entry]]] = {}
        todo: list[tuple[Ino, ...]] = [(ROOT,)]
        while todo:
            members = todo.pop()
            lead = members[0]
            by_name: dict[bytes, list[LinkId]] = defaultdict(list)
            for directory in members:
                for link in inside[directory]:
                    by_name[self._raw_name(link)].append(link)
            self.at_name[lead] = {raw: self._entries(lead, raw, links) for raw, links in by_name.items()}
            for entries in self.at_name[lead].values():
                todo += [entry.members for entry in entries if entry.members]

    def _raw_name(self, link: LinkId) -> bytes:
        """The name it was placed at, or that it was pinned to."""
        made = self.places.where[link]
        key = SPLIT if made.fact.split else made.stamp.dot
        pins = self.facts.links[link].pins.get(key)
        if pins:
            return max(pins, key=lambda pin: (pin.stamp, pin.fact.name)).fact.name
        return made.fact.name

    def _entries(self, lead: Ino, raw: bytes, links: list[LinkId]) -> list[Entry]:
        """What stands at one name, the best claim to the bare name first."""
        directories = [Ino(link) for link in links if self.facts.is_directory(link)]
        entries = [
            Entry(union[0], Kind.DIRECTORY, raw, lead, self._placed(union[0]).dot, members=union)
            for union in self._unions(directories)
        ]
        files = self._files([link for link in links if not self.facts.is_directory(link)])
        for link, hidden in files:
            entries.append(self._file_entry(lead, raw, link, hidden, files[0][0]))
        return entries

    def _placed(self, link: int) -> Stamp:
        return self.places.where[LinkId(link)].stamp

    def _unions(self, directories: list[Ino]) -> list[tuple[Ino, ...]]:
        """Directories at one name that show as one; the newest union first, the lead first in each.

        The lead is the oldest that is live: a dead one, which shows for what is inside, gives no number.
        """
        unions: list[list[Ino]] = []
        for directory in directories:
            joined = [u for u in unions if any(self._is_mate(directory, other) for other in u)]
            unions = [u for u in unions if u not in joined]
            unions.append([member for u in joined for member in u] + [directory])
        for union in unions:
            union.sort(key=self._seniority)
        newest = [(max(self._standing(member) for member in union), union) for union in unions]
        return [tuple(union) for _, union in sorted(newest, reverse=True)]

    def _seniority(self, directory: Ino) -> tuple[bool, Stamp]:
        return not self.places.live[LinkId(directory)], self.facts.inodes[directory].stamp

    def _standing(self, directory: Ino) -> tuple[Stamp, Stamp]:
        return self._placed(directory), self.facts.inodes[directory].stamp

    def _is_mate(self, left: Ino, right: Ino) -> bool:
        a, b = (self.places.where[LinkId(ino)].fact for ino in (left, right))
        makers = {self.facts.inodes[ino].birth.maker for ino in (left, right)}
        if len(makers) > 1:
            return False
        return (a.native and b.native) or right in a.mates or left in b.mates

    # -- files at one name -----------------------------------------------------------------------

    def _files(self, links: list[LinkId]) -> list[tuple[LinkId, tuple[LinkId, ...]]]:
        """The links that show, the best claim first, each with those hidden under it."""
        shown, hidden = self._hide_twins(sorted(links))

        def compare(a: LinkId, b: LinkId) -> int:
            ranks = [max(self._rank(m) for m in (link, *hidden[link])) for link in (a, b)]
            return self._compare(a, b, ranks)

        shown.sort(key=cmp_to_key(compare), reverse=True)
        return [(link, tuple(hidden[link])) for link in shown]

    def _rank(self, link: LinkId) -> Stamp:
        made = self.places.where[link]
        return made.fact.rank or made.stamp

    def _compare(self, a: LinkId, b: LinkId, ranks: list[Stamp]) -> int:
        """Which of two files at one name has the better claim?  A file that replaced another inherits its
        rank, so two replicas that save by rename compete by branch, and not by who came last."""
        if ranks[0] != ranks[1]:
            return 1 if ranks[0] > ranks[1] else -1
        by_standing = self._stands_unedited(b, a) - self._stands_unedited(a, b)
        return by_standing or self.contents.lead(self._line(a), self._line(b)) or (1 if a > b else -1)

    def _line(self, link: LinkId) -> Path:
        return self.contents.line(link, self._head(link))

    def _head(self, link: LinkId) -> Ref:
        return self.contents.shown[self.facts.links[link].ino][0][0]

    def _file_entry(
        self, lead: Ino, raw: bytes, link: LinkId, hidden: tuple[LinkId, ...], best: LinkId
    ) -> Entry:
        ino = self.facts.links[link].ino
        twins = {ino, *(self.facts.links[h].ino for h in hidden)}
        twins |= {twin for t in twins for twin in self.twins.get(t, ())}
        self.twins.update((twin, twins) for twin in twins)
        kind, heads = self.facts.inodes[ino].birth.kind, self.contents.shown[ino][0]
        return Entry(
            ino, kind, raw, lead, self._tag(link, best), link=link, hidden=hidden, heads=heads, owner=ino
        )

    def _tag(self, link: LinkId, best: LinkId) -> Dot:
        """What made a file the loser of its name: its placement or, where it shares a past with the
        best file there, the first version of its branch."""
        if link != best and self._kind(link) == self._kind(best):
            mine, theirs = self._line(link), self._line(best)
            at = parting(mine, theirs)
            if 0 < at < len(mine) and not self._stands_unedited(link, best):
                return self.contents.versions[mine[at]].stamp.dot
        return self._placed(link).dot

    def _stands_unedited(self, link: LinkId, other: LinkId) -> bool:
        """Does it stand there without the edits of its own, too?  The other file replaced it, and somebody
        gave it the name meanwhile."""
        mine = self._line(link)
        at = parting(mine, self._line(other))
        if not 0 < at < len(mine):
            return False
        placed, common, first = self.places.where[link], *mine[at - 1 : at + 1]
        is_own = common in self.contents.path[self._head(link)]
        if not is_own or not self.places.live[link] or placed.fact.split or placed.fact.over_split:
            return False
        return placed.fact.rank is None or placed.stamp < self.contents.versions[first].stamp

    def _kind(self, link: LinkId) -> Kind:
        return self.facts.inodes[self.facts.links[link].ino].birth.kind

    # -- twins -----------------------------------------------------------------------------------

    def _hide_twins(self, links: list[LinkId]) -> tuple[list[LinkId], dict[LinkId, list[LinkId]]]:
        """Files at one name that add nothing to each other show once; so does one inode."""
        hiding = {link: [m for m in links if self._hides(m, link)] for link in links}
        under = {}
        for link in links:
            above = [m for m in hiding[link] if not hiding[m]] or hiding[link]
            under[link] = above[0] if above else None
        over = {link: last_over(link, under, links) for link in links}
        shown = [link for link in links if over[link] == link]
        hidden: dict[LinkId, list[LinkId]] = {link: [] for link in shown}
        for link in links:
            if link not in hidden:
                hidden[over[link]].append(link)
        return shown, hidden

    def _hides(self, shown: LinkId, link: LinkId) -> bool:
        """Of twins, the one with the oldest inode shows: so hard links stay together, where two
        replicas unpack an archive that has some."""
        mine, theirs = self.facts.links[link].ino, self.facts.links[shown].ino
        if link == shown:
            return False
        if mine == theirs:
            return self._compare(link, shown, [self._rank(link), self._rank(shown)]) < 0
        if self._nature(link) != self._nature(shown) or mine in self.contents.merged:
            return False
        if theirs in self.contents.merged:
            return self.contents.adds_nothing(self._line(link), self._line(shown), shows_more=True)
        path_first = (self._age(mine), link) < (self._age(theirs), shown)
        return self.contents.hides(self._line(shown), self._line(link), path_first=path_first)

    def _nature(self, link: LinkId) -> tuple[object, ...]:
        """Kind, owner, device: what twins have in common beside their content."""
        inode = self.facts.inodes[self.facts.links[link].ino]
        owner = inode.value(Field.UID, inode.birth.uid), inode.value(Field.GID, inode.birth.gid)
        return inode.birth.kind, inode.birth.rdev, *owner

    def _age(self, ino: Ino) -> Stamp:
        """When it came to be; of a file split off a conflict entry, when that branch began."""
        inode = self.facts.inodes[ino]
        claimed = inode.birth.claims
        return self.contents.versions[claimed].stamp if claimed else inode.stamp

    # -- names -----------------------------------------------------------------------------------

    def _give_names(self) -> None:
        """The first of each name has it bare; then conflict entries take free names, in one order."""
        self.tree: dict[Ino, dict[bytes, Entry]] = {lead: {} for lead in self.at_name}
        losers: dict[Ino, list[Entry]] = defaultdict(list)
        for lead, names in self.at_name.items():
            for raw, entries in names.items():
                self._name(entries[0], raw)
                losers[lead] += entries[1:]
        for entry in self._branch_entries():
            losers[entry.directory].append(entry)
        for lead, entries in losers.items():
            for entry in sorted(entries, key=lambda e: e.order):
                attempt = 1
                while (name := self._conflict_name(entry, attempt)) in self.tree[lead]:
                    attempt += 1
                self._name(entry, name)

    def _name(self, entry: Entry, name: bytes) -> None:
        entry.name = name
        self.tree[entry.directory][name] = entry

    def _conflict_name(self, entry: Entry, attempt: int) -> bytes:
        replica = self.facts.names[replica_of(entry.tag)]
        return conflict_name(entry.raw, replica, counter_of(entry.tag), attempt)

    def _branch_entries(self) -> list[Entry]:
        """For each file the branches that do not show as the file itself.  They stand beside its oldest
        name."""
        homes: dict[Ino, list[tuple[LinkId, Entry]]] = defaultdict(list)
        for names in self.at_name.values():
            for entry in (entry for entries in names.values() for entry in entries):
                for link in (entry.link, *entry.hidden) if entry.link else ():
                    homes[self.facts.links[link].ino].append((link, entry))
        found = []
        for ino, places in homes.items():
            _, home = min(places, key=lambda place: place[0])
            for heads, top in self._further_branches(ino):
                tag = self.contents.versions[top].stamp.dot
                entry = Entry(branch_ino(top), home.kind, home.raw, home.directory, tag)
                entry.heads, entry.owner, entry.top = heads, ino, top
                found.append(entry)
        return found

    def _further_branches(self, ino: Ino) -> Iterator[tuple[Heads, Ref]]:
        """Those that do not show as the file itself, each with its first version."""
        groups = self.contents.shown[ino]
        used = set(self.contents.path[groups[0][0]])
        for heads in groups[1:]:
            path = self.contents.path[heads[0]]
            top = next(ref for ref in path if ref not in used)
            used.update(path)
            yield heads, top

    # -- what a program sees ---------------------------------------------------------------------

    def snapshot(self) -> dict[bytes, Shown]:
        found: dict[bytes, Shown] = {}
        todo = [(ROOT, b"")]
        while todo:
            directory, at = todo.pop()
            for name, entry in self.tree[directory].items():
                path = at + b"/" + name
                found[path] = self._shown(entry)
                if entry.members:
                    todo.append((entry.ino, path))
        return found

    def orphaned(self) -> dict[bytes, Shown]:
        """What is listed of the orphans: each branch by the last name of the file and a number."""
        found: dict[bytes, Shown] = {}
        for ino in self.orphans:
            names = [link for link in self.places.where if self.facts.links[link].ino == ino]
            last = self._raw_name(max(names, key=lambda link: (self.places.removed_at[link], link)))
            kind = self.facts.inodes[ino].birth.kind
            branches = [(ino, self.contents.shown[ino][0])]
            branches += [(branch_ino(top), heads) for heads, top in self._further_branches(ino)]
            for number, heads in branches:
                name = name_with_mark(last, f".orphan-{number}")
                entry = Entry(number, kind, name, ROOT, Dot(0), name, heads=heads, owner=ino)
                found[name] = self._shown(entry)
        return found

    def _shown(self, entry: Entry) -> Shown:
        owner = entry.members[0] if entry.members else entry.owner
        inode = self.facts.inodes[owner]
        uid = inode.value(Field.UID, inode.birth.uid)
        gid = inode.value(Field.GID, inode.birth.gid)
        content = b"" if entry.members else self._content(entry)
        sharers = entry.members or self.twins.get(entry.owner, {entry.owner})
        mode = self._mode(sharers, {entry.owner: entry.heads})
        policy = self._policy(entry.members or (entry.owner,))
        return Shown(entry.kind, entry.ino, mode, uid, gid, content, entry.name != entry.raw, policy)

    def _content(self, entry: Entry) -> bytes:
        if entry.owner in self.contents.merged:
            return self.contents.merged[entry.owner]
        return self.contents.content(entry.heads[0])

    def _policy(self, members: Iterable[Ino]) -> Policy:
        """What was set last by hand on any of them, else what the first of them was born with that was."""
        inodes = [self.facts.inodes[ino] for ino in members]
        chosen = [made for inode in inodes for made in inode.current(Field.POLICY)]
        by_hand = max(chosen).fact.value if chosen else Policy.UNSET
        return Policy(by_hand or next((i.birth.policy for i in inodes if i.birth.policy), Policy.UNSET))

    def _mode(self, inodes: Iterable[Ino], shown: Mapping[Ino, Heads]) -> int:
        """The bits that all of them leave, with the contents that they show."""
        bits = 0o7777
        for ino in inodes:
            groups = self.contents.shown.get(ino, [()])
            heads = self.contents.holding(ino, shown.get(ino, groups[0]))
            bits &= self.rights.mode(self.facts.inodes[ino], heads)
        return bits


def conflict_name(raw: bytes, replica: str, counter: int, attempt: int) -> bytes:
    again = f"-{attempt}" if attempt > 1 else ""
    return name_with_mark(raw, f".conflict-{replica}-{crockford(counter)}{again}")


def name_with_mark(raw: bytes, mark: str) -> bytes:
    """`stem.MARK.ext`; what is too long for an extension is none."""
    dot = raw.rfind(b".")
    has_extension = dot > 0 and len(raw) - dot <= EXTENSION_MAX
    stem, extension = (raw[:dot], raw[dot:]) if has_extension else (raw, b"")
    return stem[: NAME_MAX - len(mark) - len(extension)] + mark.encode() + extension


def crockford(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = CROCKFORD[digit] + digits
    return digits or "0"
