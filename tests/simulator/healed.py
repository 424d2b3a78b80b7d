"""What must hold when all replicas have heard of all."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from crdt.facts import Field, Ino, Kind, Policy
from crdt.policy import NAMES
from crdt.store import Store
from tests.reference import View
from tests.reference.gathered import Gathered
from tests.reference.names import Shown
from tests.reference.records import records
from tests.simulator.cluster import Library
from tests.simulator.laws import require
from tests.simulator.ledger import Ledger, tokens
from tests.simulator.observer import any_order, observer
from tests.simulator.programs import Programs, Seen, directory_token, everything, in_orphans
from tests.walk import Found, policy
from translation.attributes import Attributes
from translation.filesystem import FileSystem
from translation.fsck import check as fsck
from translation.replica import Replica

OBSERVED = 1 / 8  # of the heals: that takes as long as a heal


class Expected(NamedTuple):
    """What the facts show.  `history`: what was written to files of the merge policy `blocks`."""

    shown: dict[bytes, Shown]
    orphans: dict[bytes, Shown]
    directories: set[Ino]  # all members of unions
    records: list[tuple[object, ...]]
    history: set[bytes]


class Look(NamedTuple):
    """What replicas are compared by, with each other."""

    digest: str
    attributes: dict[bytes, Attributes]  # link counts, sizes and times among them


def expected_of(library: Library) -> Expected:
    view = View(Gathered(library.commits.values()), library.blocks)
    return Expected(
        view.snapshot(),
        {name: of_owner(each) for name, each in view.orphaned().items()},
        view.directories,
        [(r.id, r.path, tuple(r.overruled), tuple(r.by)) for r in records(view)],
        {token for content in in_blocks(view) for token in tokens(content)},
    )


def in_blocks(view: View) -> Iterator[bytes]:
    """All versions of the files that had the merge policy `blocks` at some time.

    Of two that wrote one block at once the newest shows, and the other's bytes are in its version alone.
    """
    for ref in view.contents.versions:
        for ino in {ref.ino, view.contents.owner[ref]}:
            inode = view.facts.inodes[ino]
            had = {inode.birth.policy, *(made.fact.value for made in inode.registers[Field.POLICY])}
            if Policy.BLOCKS in had:
                yield view.contents.content(ref)


def of_owner(shown: Shown) -> Shown:
    """An orphan is its owner's: nothing protects it any more from others."""
    return shown._replace(mode=shown.mode & 0o7700)


def check_all(sites: Iterable[Programs], library: Library, ledger: Ledger, random: Random) -> str:
    """What must hold after a heal.  Return the digest of what all show."""
    expected = expected_of(library)
    looks = {programs.site.name: check_site(programs, expected) for programs in sites}
    look = compare_looks(looks)
    if random.random() < OBSERVED:
        compare_looks({**looks, "an observer": check_observer(library, expected, random)})
    kept = {directory_token(ino) for ino in expected.directories}
    for each in (*expected.shown.values(), *expected.orphans.values()):
        kept |= tokens(each.content)
    missing = ledger.missing_from(kept | expected.history)
    require(not missing, "L3", f"acknowledged and lost: {missing}")
    return look.digest


def compare_looks(looks: dict[str, Look]) -> Look:
    """What the facts do not say by themselves is at least the same everywhere.  Return it."""
    (one, first), *others = looks.items()
    for other, look in others:
        for path in sorted(first.attributes.keys() | look.attributes.keys()):
            left, right = first.attributes.get(path), look.attributes.get(path)
            require(left == right, "L1", f"{path!r} is {left} at {one} and {right} at {other}")
        require(look.digest == first.digest, "L1", f"unequal digests at {one} and {other}")
    return first


def check_observer(library: Library, expected: Expected, random: Random) -> Look:
    """A replica that heard of the same commits in another order shows the same, byte for byte."""
    replica = observer(any_order(library, random), library, random)
    fs = FileSystem(replica)
    found = everything(fs)
    check_shown("an observer", fs, found, expected)
    check_rows("an observer", replica.store)
    return look_of(found, fs.digest())


def check_site(programs: Programs, expected: Expected) -> Look:
    """One replica against what the facts show."""
    site, found = programs.site, programs.look()
    check_shown(site.name, site.fs, found, expected)
    digest = site.fs.digest()
    check_rows(site.name, site.store)
    again = FileSystem(Replica(site.store.crashed(len(site.store.unsynced)), site.wall_ns))
    require((everything(again), again.digest()) == (found, digest), "reopened", site.name)
    return look_of(found, digest)


def look_of(found: Seen, digest: str) -> Look:
    """Access times are each replica's own."""
    return Look(digest, {path: each.attributes._replace(atime_ns=0) for path, each in found.items()})


def check_rows(name: str, store: Store) -> None:
    findings = [f"{finding.key}: {finding.problem}" for finding in fsck(store)]
    require(not findings, "fsck", f"{name}: {findings}")


def check_shown(name: str, fs: FileSystem, found: Seen, expected: Expected) -> None:
    """Compare tree, orphans, conflicts and records with what the facts show."""
    compare(name, fs, found, expected.shown | in_orphans(expected.orphans))
    listed = {b"/" + conflict.path for conflict in fs.conflicts()}
    conflicts = {path for path, each in expected.shown.items() if each.conflict}
    wrong = f"{name} lists as conflicts {listed - conflicts} and not {conflicts - listed}"
    require(listed == conflicts, "L1", wrong)
    noted = [(r.id, r.path, tuple(r.overruled), tuple(r.by)) for r in fs.records()]
    wrong = f"{name} lists the records {noted}, and the facts say {expected.records}"
    require(noted == expected.records, "L1", wrong)


def compare(name: str, fs: FileSystem, found: Seen, expected: dict[bytes, Shown]) -> None:
    want = {
        path: (each.kind, each.ino, each.mode, each.uid, each.gid, each.content, NAMES.get(each.policy, b""))
        for path, each in expected.items()
    }
    got = {path: (*face(each), policy(fs, each.attributes)) for path, each in found.items()}
    wrong = [
        f"{path!r}: want {want.get(path)}, shows {got.get(path)}"
        for path in sorted(want.keys() | got.keys())
        if want.get(path) != got.get(path)
    ]
    require(not wrong, "L1", f"{name} shows what the facts do not:\n    " + "\n    ".join(wrong))


KINDS = {
    stat.S_IFREG: Kind.REGULAR,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
}


def face(found: Found) -> tuple[object, ...]:
    attributes = found.attributes
    kind = KINDS[stat.S_IFMT(attributes.mode)]
    content = b"" if kind == Kind.DIRECTORY else found.content
    bits = stat.S_IMODE(attributes.mode)
    return kind, attributes.ino, bits, attributes.uid, attributes.gid, content
