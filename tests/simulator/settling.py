"""Law L5: a choice holds, also where two replicas make one at once.

Two replicas that show the same each settle one conflict, on copies of their stores, and hear of each other.
The same choice on both leaves what it left on one: no new conflict, no second copy; but under the policy
`append` two writes are two records.  Of different ones both are kept: what one chose or wrote is shown, or
more that was added to it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from crdt.causality import VersionVector
from crdt.encoding import decode_commit
from crdt.facts import Ino, Version
from tests.simulator.acting import act
from tests.simulator.cluster import Library, RecordingStore, Site
from tests.simulator.laws import require
from tests.simulator.ledger import TOKEN, Ledger
from tests.simulator.locality import Faces, difference, faces
from tests.simulator.programs import ORPHANS_AT, Programs, SymbolicPath, everything
from tests.simulator.steps import Step
from tests.walk import Found
from translation import merge_policy
from translation.filesystem import FileSystem
from translation.listing import Conflict
from translation.replica import Replica

EVERY_PAIR = 1 / 32  # of the histories; of one more in four, one pair
NEW_NAME, NEW_DATA = b"settled", b"<999999>"
WAYS = ("remove", "remove the bare one", "rename over", "rename away", "write")


class Copy(Site):
    """A site on a copy of its store, with programs but no network."""

    def __init__(self, site: Site) -> None:
        self.cluster, self.name, self.wall_ns = site.cluster, site.name, site.wall_ns
        self.store = RecordingStore(Library(), site.store.rows)
        self.replica = Replica(self.store, self.wall_ns)
        self.fs = FileSystem(self.replica)

    def hear(self, other: Copy) -> None:
        mine, theirs = self.replica, other.replica
        theirs.sync()
        new = theirs.arrivals(mine.cursor(theirs.store_id), mine.seen(), 1 << 30)
        mine.receive(new.commits, new.vector, theirs.store_id, new.next)
        found = theirs.blocks(mine.wanted(1000))
        mine.add_blocks([block for block in found if block is not None])


class Choice(NamedTuple):
    way: str
    copy: Copy  # after it
    chosen: bytes | None  # the content; None where it was no choice, or nobody can say of what
    is_log: bool = False  # its merge policy is `append`

    @property
    def is_record(self) -> bool:
        """Is it a write to a log?  Nobody else's is the same."""
        return self.is_log and self.way == "write"

    def is_kept_in(self, content: bytes) -> bool:
        """Is what was chosen, or written, the beginning of this content; of a log, are its records in it?"""
        assert self.chosen is not None
        if content.startswith(self.chosen):
            return True
        records = iter(TOKEN.findall(content))
        return self.is_log and all(record in records for record in TOKEN.findall(self.chosen))


def settle(sites: Iterable[Site], random: Random) -> None:
    """Sites that have heard of all settle one conflict or each, in a pair of ways or in every pair."""
    one, other = random.sample(list(sites), 2)
    conflicts = one.fs.conflicts()
    every = random.random() < EVERY_PAIR
    if not conflicts or not (every or random.random() < 0.25):
        return
    for conflict in conflicts if every else [random.choice(conflicts)]:
        ways = WAYS if every else random.choices(WAYS, k=2)
        here, there = ([choose(Copy(site), conflict, way) for way in ways] for site in (one, other))
        for mine in here if every else here[:1]:
            for theirs in there if every else random.choice([there[:1], there[1:]]):
                if mine is not None and theirs is not None:
                    check(conflict, mine, theirs)


def choose(copy: Copy, conflict: Conflict, way: str) -> Choice | None:
    """Return what this replica shows when its user has settled it; None where that way there is an error."""
    programs = Programs(copy, Ledger())
    entry = programs.look()[b"/" + conflict.path]
    before, again = copy.replica.seen(), was_written_again(copy, entry)
    try:
        act(programs, step_of(conflict, way), NEW_DATA)
    except OSError:
        return None
    if entry.content is None or not stat.S_ISREG(entry.attributes.mode):
        return Choice(way, copy, None)
    match way:
        case "remove" | "remove the bare one":
            chosen = chosen_by(copy, before)
            if chosen not in shown(copy)[1]:
                chosen = None  # of a file that hides under another, which has it in its history
        case "write":
            chosen = entry.content + NEW_DATA
        case _:
            chosen = None if again else entry.content  # then it may hide where the same is history
    policy = policy_of(copy, conflict)
    if policy == b"blocks":
        chosen = None  # a choice writes each block, and of two who do so at once the last one counts
    return Choice(way, copy, chosen, policy == b"append")


def was_written_again(copy: Copy, entry: Found) -> bool:
    """Was this content made by several versions, choices aside?"""
    if not stat.S_ISREG(entry.attributes.mode):
        return False
    digest = copy.fs.base.shown(Ino(entry.attributes.ino)).digest
    facts = [fact for commit in copy.cluster.library.commits.values() for fact in commit.facts]
    written = [fact for fact in facts if isinstance(fact, Version) and not fact.settles]
    return sum(fact.digest == digest for fact in written) > 1


def policy_of(copy: Copy, conflict: Conflict) -> bytes:
    try:
        return copy.fs.getxattr(conflict.ino, merge_policy.XATTR)
    except OSError:
        return b""


def chosen_by(copy: Copy, before: VersionVector) -> bytes | None:
    """What a removal chose: it says so, unless it was of one of several names, and no choice."""
    copy.replica.sync()
    commits = map(decode_commit, copy.replica.arrivals(0, before, 1 << 30).commits)
    facts = [fact for commit in commits for fact in commit.facts]
    return next((fact.inline for fact in facts if isinstance(fact, Version) and fact.settles), None)


def step_of(conflict: Conflict, way: str) -> Step:
    entry, bare = path_of(conflict.path), path_of(conflict.bare)
    match way:
        case "remove":
            return Step("unlink", 0, (entry,))
        case "remove the bare one":
            return Step("unlink", 0, (bare,))
        case "rename over":
            return Step("rename", 0, (entry, bare))
        case "rename away":
            return Step("rename", 0, (entry, (*entry[:-1], NEW_NAME)))
    return Step("append", 0, (entry,))


def path_of(path: bytes) -> SymbolicPath:
    return tuple(path.split(b"/"))


def check(conflict: Conflict, one: Choice, other: Choice) -> None:
    here, there = Copy(one.copy), Copy(other.copy)
    here.hear(other.copy)
    there.hear(one.copy)
    about = f"{conflict.path!r} is settled on {here.name} ({one.way}) and {there.name} ({other.way})"
    (found, contents), (same, _) = shown(here), shown(there)
    wrong = difference(found, same) or here.fs.digest() != there.fs.digest()
    require(not wrong, "L1", f"{about}, and they show different things:\n    {wrong}")
    if one.way == other.way and not one.is_record:
        alone, _ = shown(one.copy)
        wrong = difference(alone, found)
        require(not wrong, "L5", f"{about}, and that is not one choice:\n    {wrong}")
    for choice in (one, other):
        kept = not choice.chosen or any(map(choice.is_kept_in, contents))
        require(kept, "L5", f"{about}, and {choice.chosen!r} is lost: {sorted(found)}")


def shown(copy: Copy) -> tuple[Faces, set[bytes]]:
    """Return what shows, and all contents, those of orphans too."""
    seen = everything(copy.fs)
    here = {path: each for path, each in seen.items() if not path.startswith(ORPHANS_AT)}
    return faces(here), {each.content for each in seen.values() if each.content is not None}
