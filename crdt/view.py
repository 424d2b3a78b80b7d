"""A batch of commits on its way into the state, and the view kept up to date with it.

Local and remote commits take the same way: `apply` merges the facts of each into their rows, `finish`
brings what the view keeps in rows up to date, for what was touched and nothing else:

- where each directory stands (crdt.moves) and each link shows (`Inode.shown`, the names rows `D`),
- how much each directory shows (`C`): so emptiness and nlink are never a scan, and a removed directory
  appears again when something visible is inside,
- which names need the rules of conflicts (`Q`), and which derived inode numbers are which branch (`E`),
- which files are orphans (`U`, crdt.visible),
- which inodes have records of what was overruled (`R`, crdt.records).

Everything else of the view is worked out when it is read (crdt.names, crdt.versions).  The cost is O(1)
rows for each fact; a move of a directory touches one link, however much is below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from crdt.absorption import branches
from crdt.causality import covers
from crdt.codec import pack, unpack
from crdt.contest import NameKey, contested, is_contested, mark_of
from crdt.entries import branch_ino
from crdt.facts import (
    DERIVED,
    ROOT,
    Acknowledgement,
    Birth,
    Commit,
    Fact,
    Field,
    Ino,
    Kind,
    Left,
    LinkId,
    Member,
    Pin,
    Placement,
    Ref,
    Register,
    Removal,
    Setting,
    Version,
    Xattr,
)
from crdt.heads import Heads, Held
from crdt.moves import Replay, log_key
from crdt.names import View, names_row_key
from crdt.plausible import check
from crdt.records import acknowledged_key, record_key, records_of
from crdt.rows import (
    Counts,
    Head,
    Inode,
    Item,
    Row,
    Shown,
    Stamped,
    decode_pinned,
    encode_pinned,
    stamped_list,
    stamped_row,
)
from crdt.showing import key_of_content
from crdt.state import State, hash_of_name, inode_key, member_key, pinned_key, version_key, xattr_key
from crdt.versions import first_version
from crdt.visible import orphan_key, visible


class Transaction:
    """One batch; ends with `finish`, then `State.commit`, then `done`."""

    def __init__(self, state: State, view: View, *, here: bool, held: Held = frozenset) -> None:
        self.state = state
        self._known, self._edit = state.known, state.edit
        self.view = view
        self.here = here  # made on this replica: the kernel knows, and the blocks are here
        self.heads = Heads(state, held)
        self.moves: list[Stamped[Placement]] = []
        self.files: set[Ino] = set()
        self.directories: set[Ino] = set()
        self.names: set[NameKey] = set()
        self.attributes: set[Ino] = set()
        self.changed: dict[Ino, tuple[int, int]] = {}  # directories: the newest change, hlc and wall time
        self.contents: dict[Ino, tuple[object, ...]] = {}  # what a file showed before the batch
        self.placed: set[Ino] = set()
        self.appeared: set[Ino] = set()  # files that show, or are orphans, and did not before
        self.orphaned: set[Ino] = set()  # files that are orphans now, or were before, and not both
        self.dots: set[int] = set()
        self.marked_rows = self.shared_names = 0
        self.tree_changed = False
        self._before: View | None = None
        self._after: View | None = None
        self._contested: set[NameKey] | None = None

    # -- facts into rows -----------------------------------------------------------------------------

    def apply(self, commit: Commit) -> list[bytes]:
        """Merge the facts of a commit.  Returns the keys of the rows that hold them.

        Raises LookupError where a fact names what is not known here.
        """
        keys: dict[bytes, None] = {}
        self.dots.add(commit.dot)
        for fact in commit.facts:
            if not self.here:
                check(self.state, commit.dot, fact)
            keys[self._apply(Stamped(commit.dot, commit.hlc, commit.wall_ns, fact))] = None
        return list(keys)

    def _apply(self, new: Stamped[Fact]) -> bytes:
        match new.fact:  # which tells the checker of types nothing of what `new` is: so each is told
            case Birth():
                return self._add_birth(cast(Stamped[Birth], new))
            case Placement():
                return self._place(cast(Stamped[Placement], new))
            case Removal():
                return self._remove(cast(Stamped[Removal], new))
            case Version():
                return self._add_version(cast(Stamped[Version], new))
            case Register():
                return self._set_register(cast(Stamped[Register], new))
            case Pin():
                return self._pin(cast(Stamped[Pin], new))
            case Xattr():
                return self._set_xattr(cast(Stamped[Xattr], new))
            case Member() | Setting() | Acknowledgement() as fact:
                return self._keep_newest(new, fact)

    def _add_version(self, new: Stamped[Version]) -> bytes:
        self._remember_content(self._known(new.fact.ino))
        self.heads.add(new, here=self.here)
        return version_key(Ref(new.fact.ino, new.fact.version))

    def _pin(self, new: Stamped[Pin]) -> bytes:
        inode = self._edit(new.fact.ino)
        inode.link(new.fact.link).pin(new)
        self._touch(inode)
        return inode_key(new.fact.ino)

    def _touch(self, inode: Inode) -> None:
        ino = inode.ino
        if inode.is_directory:
            self.directories.add(ino)
        else:
            self.files.add(ino)
            self._remember_content(inode)

    def _remember_content(self, inode: Inode) -> None:
        if inode.ino not in self.contents and (inode.branches or not self.here):
            self.contents[inode.ino] = key_of_content(self.state, inode)

    def _add_birth(self, new: Stamped[Birth]) -> bytes:
        birth = new.fact
        known = None if birth.claims is None else self.state.inode(birth.ino)
        if known is not None:
            self.state.edit(birth.ino).add_birth(new)
            self.attributes.add(birth.ino)
        else:
            inode = Inode(birth.ino, [new])
            if birth.kind != Kind.DIRECTORY and birth.claims is None:
                first = first_version(birth.ino)
                inode.heads.append(Head(first, new.dot, new.hlc, new.wall_ns, 0, new.wall_ns))
            self.state.add_inode(inode)
            if birth.claims is not None:
                self._claim(inode, birth.claims)
            if birth.lineage is not None:
                self.heads.continues(inode, birth.lineage)
        self._touch(self._known(birth.ino))
        return inode_key(birth.ino)

    def _claim(self, inode: Inode, top: Ref) -> None:
        """A conflict entry becomes a file; removals of its name may have come before."""
        link = LinkId(inode.ino)
        known = self._known(top.ino).links.get(link)
        if known is not None:
            inode.link(link).removals += known.removals
        self.heads.claim(inode, top)

    def _place(self, new: Stamped[Placement]) -> bytes:
        placement = new.fact
        self._known(placement.parent)
        inode = self._edit(placement.ino)
        inode.link(placement.link).place(new)
        if not placement.split:  # its name stays, and who replaced it unseen does not tell of it
            self._note_change(placement.parent, new.hlc, new.wall_ns)
        self._note_left(new.hlc, new.wall_ns, placement.left)
        self._touch(inode)
        self.placed.add(placement.ino)
        if not inode.is_directory:
            return inode_key(placement.ino)
        if new.dot == inode.births[0].dot:
            inode.created = inode.at = new
            self.tree_changed = True
            return inode_key(placement.ino)
        self.moves.append(new)
        return log_key(new)

    def _remove(self, new: Stamped[Removal]) -> bytes:
        removal = new.fact
        inode = self._edit(removal.ino)
        inode.link(removal.link).remove(new)
        if inode.is_directory:
            self.tree_changed = True  # of a union, which member leads depends on which are live
        if removal.link & DERIVED and int(removal.link) != removal.ino:
            split = self.state.inode(Ino(removal.link))
            if split is not None:  # the name that a split gave a conflict entry, see Intents.gone
                self.state.edit(split.ino).link(removal.link).remove(new)
                self._touch(self._known(split.ino))
        for ref in removal.drops:
            self._known(ref.ino)
            self.heads.drop(ref, new.hlc)
        self._note_left(new.hlc, new.wall_ns, removal.left)
        self._touch(self._known(removal.ino))
        return inode_key(removal.ino)

    def _note_left(self, hlc: int, wall_ns: int, left: tuple[Left, ...]) -> None:
        """These directories were left now, where they do not say when."""
        for directory, left_hlc, left_ns in left:
            self._known(directory)
            self._note_change(directory, *((left_hlc, left_ns) if left_hlc else (hlc, wall_ns)))

    def _note_change(self, directory: Ino, hlc: int, wall_ns: int) -> None:
        """Two replicas may have changed it in one millisecond: then the later time counts."""
        self.changed[directory] = max(self.changed.get(directory, (0, 0)), (hlc, wall_ns))

    def _set_register(self, new: Stamped[Register]) -> bytes:
        fact = new.fact
        inode = self._edit(fact.ino)
        if fact.field == Field.POLICY and not inode.is_directory:
            self.contents.setdefault(fact.ino, key_of_content(self.state, inode))
            self.files.add(fact.ino)
        inode.set_register(new)
        self.attributes.add(fact.ino)
        if fact.field in (Field.UID, Field.GID) and not inode.is_directory:
            self.files.add(fact.ino)  # it may be no twin any more of what stands at its name
        return inode_key(fact.ino)

    def _set_xattr(self, new: Stamped[Xattr]) -> bytes:
        fact = new.fact
        key = xattr_key(fact.ino, fact.name)
        data = self.state.get(key)
        known = [] if data is None else stamped_list(cast(Row, unpack(data)))
        values = merged_xattr(known, new)
        self.state.put(key, pack([stamped_row(value) for value in values]))
        inode = self._edit(fact.ino)
        # At least one: a store that is older than this count has 0 where all were removed.
        inode.xattr_count = max(1, inode.xattr_count + (data is None))
        self.attributes.add(fact.ino)
        return key

    def _keep_newest(self, new: Stamped[Fact], fact: Member | Setting | Acknowledgement) -> bytes:
        key = key_of_newest(fact)
        data = self.state.get(key)
        old = None if data is None else stamped_list((unpack(data),))[0]
        if old is None or new.stamp > old.stamp:
            self.state.put(key, pack(stamped_row(new)))
        if isinstance(fact, Acknowledgement):
            self._touch(self._known(fact.ino))
        return key

    # -- the view --------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Bring the rows of the view up to date."""
        self.state.facts_are_in()
        self._date_directories()
        self._note_written()
        if self.moves:
            for ino, place in Replay(self.state).run(self.moves).items():
                self.state.edit(ino).at = place
                self.directories.add(ino)
            self.tree_changed = True
        for ino in self.heads.touched:
            self._touch(self._known(ino))
        for ino in sorted(self.files):
            self._show_file(self._known(ino))
        self._show_directories()
        self._note_contests()
        self._note_records()
        self.heads.want_blocks(self.appeared)
        self._after = None  # what was looked at on the way was not the end of it

    def _note_written(self) -> None:
        """A program may have written a block for which another file waits: that may show more now."""
        written = self.heads.wanted.written()
        for ino in {ino for files in written.values() for ino in files}:
            self.contents.setdefault(ino, key_of_content(self.state, self._known(ino)))
        for block_hash in written:
            self.heads.is_here_now(block_hash)

    def _date_directories(self) -> None:
        """Note when the newest change of each directory was, once for all of the batch."""
        for directory, (hlc, wall_ns) in self.changed.items():
            counts = self.state.counts(directory)
            if (hlc, wall_ns) > (counts.changed_hlc, counts.changed_ns):
                self.state.set_counts(directory, Counts(counts.items, counts.directories, wall_ns, hlc))
        self.attributes.update(self.changed)

    def done(self) -> None:
        """The batch is committed."""
        if self.tree_changed and (self.view.shared_names or self.shared_names):
            self.view.forget_unions()
        self.view.marked_rows += self.marked_rows
        self.view.shared_names += self.shared_names

    def _show_file(self, inode: Inode) -> None:
        shown, is_orphan = visible(self.state, inode)
        self._note_orphan(inode, now=is_orphan)
        extra = branches(self.state, inode) if shown or is_orphan else []
        if shown == inode.shown and len(extra) == inode.branches == 0:
            return
        for _, top in extra:
            self.state.put(b"E" + branch_ino(top.ref).to_bytes(8, "big"), pack(top.ref))
        home = min((place.link for place in shown), default=None)
        kind = int(inode.birth.kind)
        was = {place: self._item(inode.ino, place) for place in inode.shown}
        now = {
            place: Item(place.link, inode.ino, kind, len(extra) if place.link == home else 0)
            for place in shown
        }
        for place in was.keys() - now.keys():
            self._set_item(place, was[place], None)
        for place, item in now.items():
            self._set_item(place, was.get(place), item)
        if shown and not inode.shown and not self._is_new(inode):
            self.appeared.add(inode.ino)
        if inode.shown and not shown:
            self.heads.touched.add(inode.ino)
        mine = self.state.edit(inode.ino)
        mine.shown, mine.branches = shown, len(extra) if shown else 0

    def _is_new(self, inode: Inode) -> bool:
        return inode.birth.claims is None and int(inode.stamp.dot) in self.dots

    def _note_orphan(self, inode: Inode, *, now: bool) -> None:
        """Keep the list of orphans.  Of a file that showed, or is new, it is known that it was none."""
        key = orphan_key(inode.ino)
        was_none = bool(inode.shown) or self._is_new(inode)
        if now == (not was_none and self.state.get(key) is not None):
            return
        self.state.put(key, b"" if now else None)
        self.orphaned.add(inode.ino)
        if now and not inode.shown:
            self.appeared.add(inode.ino)

    def _show_directories(self) -> None:
        """Show each directory that is live or has something visible inside; one may bring others along."""
        todo = set(self.directories)
        while todo:
            ino = todo.pop()
            inode = self._known(ino)
            place = None
            if inode.at is not None and (inode.is_live() or self.state.counts(ino).items):
                link = inode.links[LinkId(ino)]
                raw = link.raw_name(inode.at)
                place = Shown(LinkId(ino), inode.at.fact.parent, raw, inode.at.fact.name)
            shown = () if place is None else (place,)
            was = inode.shown
            if shown == was:
                self.names.update((s.parent, s.name) for s in shown)
                continue
            self.tree_changed = True
            for old in was:
                self._set_item(old, self._item(ino, old), None)
            for new in shown:
                self._set_item(new, None, Item(LinkId(ino), ino, Kind.DIRECTORY))
            self.state.edit(ino).shown = shown
            todo |= {s.parent for s in (*was, *shown) if s.parent != ROOT}

    def _note_contests(self) -> None:
        """A file may show at the same names, but by another placement, branch or owner: then its claim is
        another one, and so is what it is a twin of."""
        view = self.view_after()
        for ino in self.files:
            for place in self._known(ino).shown:
                if ino in self.placed or is_contested(view, place.parent, place.name):
                    self.names.add((place.parent, place.name))

    def _note_records(self) -> None:
        """Note which of the inodes that were touched have records of what was overruled."""
        for ino in self.files | self.directories | self.attributes:
            inode = self._known(ino)
            has_records = bool(records_of(self.state, inode))
            if has_records != inode.has_records:
                self.state.edit(ino).has_records = has_records
                self.state.put(record_key(ino), b"" if has_records else None)

    def _item(self, ino: Ino, place: Shown) -> Item | None:
        names = self.state.names(place.parent, hash_of_name(place.name))
        for item in names.get(place.name, ()):
            if item.link == place.link and item.ino == ino:
                return item
        return None

    def _set_item(self, place: Shown, old: Item | None, new: Item | None) -> None:
        """Replace a link at a name, and keep the counts of the directory and the marks of conflicts."""
        self.names.add((place.parent, place.name))
        if old == new:
            return
        if place.origin != place.name:
            self._set_pinned(place, old, new)
        name_hash = hash_of_name(place.name)
        names = dict(self.state.names(place.parent, name_hash))
        items = [item for item in names.get(place.name, ()) if item != old]
        was_marked, was_shared = mark_of(names)
        if new is not None:
            items.append(new)
        if items:
            names[place.name] = tuple(sorted(items))
        else:
            names.pop(place.name, None)
        self.state.set_names(place.parent, name_hash, names)
        marked, shared = mark_of(names)
        if (marked, shared) != (was_marked, was_shared):
            value = (b"u" if shared else b"") if marked else None
            self.state.put(names_row_key(place.parent, name_hash), value)
            self.marked_rows += marked - was_marked
            self.shared_names += shared - was_shared
        self._count(place.parent, old, new)

    def _set_pinned(self, place: Shown, old: Item | None, new: Item | None) -> None:
        """Keep under its origin that a link is pinned to another name (Intents.alternatives)."""
        key = pinned_key(place.parent, place.origin)
        data = self.state.get(key)
        pinned = {} if data is None else decode_pinned(data)
        gone = () if old is None else ((old.link, old.ino),)
        come = () if new is None else ((new.link, new.ino),)
        links = [link for link in pinned.pop(place.origin, ()) if link not in gone and link not in come]
        if links or come:
            pinned[place.origin] = tuple(sorted([*links, *come]))
        self.state.put(key, encode_pinned(pinned) if pinned else None)

    def _count(self, directory: Ino, old: Item | None, new: Item | None) -> None:
        if old is not None and new is not None:
            return
        step = 1 if new is not None else -1
        item = new or old
        assert item is not None
        counts = self.state.counts(directory)
        self.state.set_counts(
            directory,
            counts._replace(
                items=counts.items + step,
                directories=counts.directories + (step if item.kind == Kind.DIRECTORY else 0),
            ),
        )
        if directory != ROOT and counts.items + step in (0, 1):
            self.directories.add(directory)

    # -- before and after ------------------------------------------------------------------------------

    def contested(self) -> set[NameKey]:
        """Return the names whose entries may be named otherwise, or show something else, after this batch."""
        if self._contested is None:
            self._contested = contested(self.names, self.view_before(), self.view_after())
        return self._contested

    def view_before(self) -> View:
        """Return the view without the batch; not to be used any more once that is committed."""
        if self._before is None:
            self._before = View(self.state.committed(), self.view.name_of)
            self._before.marked_rows = self.view.marked_rows
            self._before.shared_names = self.view.shared_names
        return self._before

    def before_and_after(self, ino: Ino) -> tuple[Inode | None, Inode]:
        """Return the row of an inode as it was and as it will be; None where it is new."""
        return self.view_before().state.inode(ino), self._known(ino)

    def view_after(self) -> View:
        """Return the view as it will be once the batch is committed; for use when it is finished."""
        if self._after is None:
            self._after = View(self.state, self.view.name_of, is_fixed=True)
            self._after.marked_rows = self.view.marked_rows + self.marked_rows
            self._after.shared_names = self.view.shared_names + self.shared_names
        return self._after


def key_of_newest(fact: Member | Setting | Acknowledgement) -> bytes:
    """Return the key of the row that holds the newest fact of its kind about one thing."""
    match fact:
        case Member():
            return member_key(fact.replica)
        case Setting():
            return b"S" + fact.key.encode()
        case Acknowledgement():
            return acknowledged_key(fact.ino, fact.kind, fact.dot)


def merged_xattr(values: list[Stamped[Xattr]], new: Stamped[Xattr]) -> list[Stamped[Xattr]]:
    if any(old.dot == new.dot or covers(old.fact.context, new.dot) for old in values):
        return values
    return [old for old in values if not covers(new.fact.context, old.dot)] + [new]


def shown_xattr(values: Iterable[Stamped[Xattr]]) -> bytes | None:
    """The newest value that is set; concurrently, set beats remove."""
    found = [value for value in values if value.fact.value is not None]
    return max(found, key=lambda value: value.stamp).fact.value if found else None
