"""The ways into and out of a replica: what peers are told, and what is refused is refused as a whole."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

import pytest

from crdt.causality import Dot, ReplicaId, VersionVector, make_dot
from crdt.codec import CodecError
from crdt.encoding import decode_commit, encode_commit
from crdt.facts import (
    ROOT,
    Birth,
    Commit,
    Fact,
    Field,
    Ino,
    Kind,
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
from crdt.hlc import next_time
from crdt.store import MemoryStore
from tests.shell import CALLER, Shell, exchange, shells
from translation import replica as module

BIG = "b" * 40_000


# -- what a peer is told -------------------------------------------------------------------------------


class BusyStore(MemoryStore):
    """A store in which something happens while it is scanned, or synced: once each."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store.rows)
        self.while_scanned: Callable[[], None] | None = None
        self.while_synced: Callable[[], None] | None = None

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        happens, self.while_scanned = self.while_scanned, None
        rows = super().scan(start, end, reverse=reverse)
        if happens is not None:
            happens()
        yield from rows

    def sync(self) -> None:
        super().sync()
        happens, self.while_synced = self.while_synced, None
        if happens is not None:
            happens()


def busy(shell: Shell) -> BusyStore:
    shell.store = store = BusyStore(shell.store)
    shell.open()
    return store


def test_a_peer_is_not_told_that_it_has_seen_what_became_durable_while_it_was_read_to():
    """A sync ends in its own thread, without the lock, while the worker reads arrivals for a peer.

    The commits went up to what was durable before, the vector was what was durable after: the commit
    between them would never have been sent to that peer.
    """
    a, b = shells(0, 0)
    store = busy(a)
    a.create("before")
    a.replica.sync()

    def another() -> None:
        a.create("meanwhile")
        a.replica.sync()

    store.while_scanned = another
    found = a.replica.arrivals(b.replica.cursor(a.replica.store_id), b.replica.seen(), 1 << 30)
    assert a.shows == {"before": "", "meanwhile": ""}
    assert found.vector.of(ReplicaId(1)) == 2
    assert [decode_commit(data).dot for data in found.commits] == [make_dot(ReplicaId(1), 2)]
    b.replica.receive(found.commits, found.vector, a.replica.store_id, found.next)
    assert b.shows == {"before": ""}
    assert exchange(a, b) == {"before": "", "meanwhile": ""}


def test_what_is_committed_while_the_store_syncs_is_not_told():
    """It may not be durable: after a power cut its dot would be used twice."""
    a, _ = shells(0, 0)
    store = busy(a)
    a.create("before")
    store.while_synced = lambda: a.create("meanwhile")
    a.replica.sync()
    assert a.replica.vector().of(ReplicaId(1)) == 2
    assert a.replica.durable_end() == a.replica.arrival_end - 1
    a.replica.sync()
    assert a.replica.vector() == a.replica.seen()


def test_a_peer_that_has_seen_nearly_all_is_read_to_in_pieces(monkeypatch):
    """It met everybody but this replica: none of the arrivals counts towards the bytes.

    All of them were looked at in one hold of the lock.
    """
    a, b, c = shells(0, 0, 0)
    for number in range(20):
        a.create(f"f{number}")
    b.hear(a)
    c.hear(a)
    b.create("last")
    b.replica.sync()
    monkeypatch.setattr(module, "SLICE_ROWS", 10)
    at, pieces = 0, []
    while at < b.replica.durable_end():
        found = b.replica.arrivals(at, c.replica.seen(), 1 << 30)
        assert at < found.next <= at + 10
        at = found.next
        pieces.append(len(found.commits))
    assert pieces == [0, 0, 1]
    assert found.vector == b.replica.vector()


# -- what a peer sends ---------------------------------------------------------------------------------

UNKNOWN = Ino(make_dot(ReplicaId(9), 9))


def placement(ino: Ino, parent: Ino = ROOT) -> Placement:
    return Placement(ino, LinkId(ino), parent, b"bad")


def version(ino: Ino) -> Version:
    first = Ref(ino, VersionId(ino))
    return Version(ino, VersionId(make_dot(ReplicaId(2), 4)), (first,), 1, 1, bytes(32), inline=b"x")


def birth(ino: Ino) -> Birth:
    return Birth(ino, Kind.REGULAR, 0o644, 0, 0, 0)


NAME_WHAT_IS_NOT_KNOWN: dict[str, Fact] = {
    "a placement": placement(UNKNOWN),
    "a parent": placement(Ino(make_dot(ReplicaId(2), 2)), UNKNOWN),
    "a removal": Removal(UNKNOWN, LinkId(UNKNOWN), ()),
    "what a removal drops": Removal(ROOT, LinkId(ROOT), (), drops=(Ref(UNKNOWN, VersionId(UNKNOWN)),)),
    "a pin": Pin(UNKNOWN, LinkId(UNKNOWN), Dot(UNKNOWN), b"bad"),
    "a version": version(UNKNOWN),
    "a register": Register(UNKNOWN, Field.MODE, 0, ()),
    "an attribute": Xattr(UNKNOWN, b"user.k", b"v", ()),
    "the branch of a split": birth(Ino(1 << 63 | 5))._replace(claims=Ref(UNKNOWN, VersionId(UNKNOWN))),
}


def told(a: Shell, b: Shell) -> list[Commit]:
    """The commits of B that A has not heard of."""
    b.replica.sync()
    new = b.replica.arrivals(a.replica.cursor(b.replica.store_id), a.replica.seen(), 1 << 30)
    return [decode_commit(data) for data in new.commits]


def image(shell: Shell) -> tuple[object, ...]:
    replica = shell.replica
    return (
        dict(shell.store.rows),
        shell.fs.digest(),
        shell.shows,
        shell.fs.conflicts(),
        replica.seen(),
        replica.arrival_end,
        replica.latest_hlc,
        replica.members(),
    )


def check_refused(a: Shell, b: Shell, commits: list[Commit], vector: VersionVector, why: str) -> None:
    """A refuses these commits as a whole, is as it was, and merges what B has really made."""
    before = image(a)
    with pytest.raises(CodecError, match=why):
        a.replica.receive([*map(encode_commit, commits)], vector, b.replica.store_id, 99)
    assert image(a) == before
    assert reopened(a) == before
    a.replica.take_changes()
    a.hear(b)
    assert a.replica.take_changes().entries == {(1, b"fine"), (1, b"good")}
    assert exchange(a, b) == {"f": "text", "fine": "", "good": ""}


def reopened(shell: Shell) -> tuple[object, ...]:
    """What a replica shows that starts from the rows of this one: what is only in memory does not count."""
    again = Shell.__new__(Shell)
    again.world, again.skew = shell.world, shell.skew
    again.store = MemoryStore(shell.store.rows)
    again.open()
    return image(again)


def restarted(shell: Shell) -> Shell:
    """The same replica after the next start of its process."""
    again = Shell.__new__(Shell)
    again.world, again.skew, again.store = shell.world, shell.skew, shell.store
    again.open()
    return again


def good(a: Shell, b: Shell) -> tuple[list[Commit], Dot, int]:
    """What B has made and A lacks, and the dot and time that a further commit of B would have."""
    a.write("f", "text")
    b.hear(a)
    b.create("good")
    b.create("fine")
    moment = b.replica.begin()
    return told(a, b), moment.dot, moment.hlc


@pytest.mark.parametrize("name", NAME_WHAT_IS_NOT_KNOWN)
def test_a_commit_that_names_what_is_not_known_is_refused_with_all_that_came_with_it(name):
    a, b = shells(0, 0)
    commits, dot, hlc = good(a, b)
    bad = Commit(dot, hlc, 0, (NAME_WHAT_IS_NOT_KNOWN[name],))
    check_refused(a, b, [*commits, bad], b.replica.seen().with_dot(dot), "does not fit what is here")


def test_a_commit_beyond_the_vector_that_comes_with_it_is_refused():
    a, b = shells(0, 0)
    commits, _, _ = good(a, b)
    check_refused(a, b, commits, a.replica.seen(), "out of order")


def test_commits_in_the_wrong_order_are_refused():
    a, b = shells(0, 0)
    commits, _, _ = good(a, b)
    check_refused(a, b, commits[::-1], b.replica.seen(), "out of order")


def test_a_commit_that_comes_twice_in_one_batch_is_refused():
    a, b = shells(0, 0)
    commits, _, _ = good(a, b)
    check_refused(a, b, [*commits, commits[-1]], b.replica.seen(), "out of order")


def test_a_commit_of_ours_that_is_not_here_is_refused():
    """This store is an older copy of one that others have heard of: going on would use dots twice."""
    a, b = shells(0, 0)
    commits, _, hlc = good(a, b)
    dot = a.replica.begin().dot
    own = Commit(dot, hlc, 0, (Register(ROOT, Field.MODE, 0, ()),))
    check_refused(a, b, [*commits, own], b.replica.seen().with_dot(dot), "an old copy")


def test_a_commit_of_a_time_beyond_the_year_2500_is_refused():
    """A stamp that has been merged binds every later one of this replica."""
    a, b = shells(0, 0)
    commits, dot, _ = good(a, b)
    late = next_time(0, 17_000_000_000 * 10**9)
    bad = Commit(dot, late, 0, (Register(ROOT, Field.MODE, 0, ()),))
    check_refused(a, b, [*commits, bad], b.replica.seen().with_dot(dot), "beyond the year 2500")


def test_an_inode_that_is_not_numbered_by_its_commit_is_refused():
    """It would take the number of another one: of the root, of a file, or of one that is yet to come."""
    for number in (ROOT, Ino(make_dot(ReplicaId(1), 2)), UNKNOWN):
        a, b = shells(0, 0)
        commits, dot, hlc = good(a, b)
        bad = Commit(dot, hlc, 0, (birth(number),))
        check_refused(a, b, [*commits, bad], b.replica.seen().with_dot(dot), "not numbered by its commit")


# -- a full disk ---------------------------------------------------------------------------------------


REQUESTS: dict[str, Callable[[Shell], None]] = {
    "create": lambda a: a.create("new"),
    "mkdir": lambda a: a.mkdir("new"),
    "symlink": lambda a: a.symlink("new", "target"),
    "mknod": lambda a: a.fs.mknod(1, b"new", stat.S_IFIFO | 0o600, 0, CALLER) and None,
    "link": lambda a: a.link("f", "new"),
    "unlink": lambda a: a.remove("f"),
    "rmdir": lambda a: a.rmdir("empty"),
    "rename": lambda a: a.move("f", "new"),
    "rename over a file": lambda a: a.move("d/g", "f"),
    "rename of a directory": lambda a: a.move("d", "empty/d"),
    "rename of a union": lambda a: a.move("union", "new"),
    "unlink beside a conflict entry": lambda a: a.remove("c"),
    "chmod": lambda a: a.chmod("f", 0o600),
    "chmod of a union": lambda a: a.chmod("union", 0o700),
    "setxattr": lambda a: a.fs.setxattr(a.stat("f").ino, b"user.k", b"v"),
}


REQUESTS_WITHOUT_A_UNION = [
    lambda a: a.create("g"),
    lambda a: a.remove("f"),
    lambda a: a.chmod("f", 0o600),
    lambda a: a.write("f", "other"),
]


def furnished() -> tuple[Shell, Shell]:
    a, b = shells(0, 0)
    a.write("f", "text")
    a.write("big", BIG)
    a.mkdir("d")
    a.write("d/g", "text of g")
    a.mkdir("empty")
    a.create("c")
    b.hear(a)
    for shell in (a, b):
        shell.mkdir("union")
        shell.write(f"union/{shell.replica.name}", "text")
        shell.write("c", f"from {shell.replica.name}")
    exchange(a, b)
    return a, b


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_a_full_disk_refuses_changes_nothing_and_the_next_one_works(name):
    request = REQUESTS[name]
    a, b = furnished()
    before = image(a)
    a.replica.take_changes()
    a.store.is_full = True
    with pytest.raises(OSError, match="No space left"):
        request(a)
    assert image(a) == before
    assert not a.replica.take_changes()
    a.store.is_full = False
    request(a)
    assert image(a)[1:] == reopened(a)[1:]
    c, d = furnished()
    request(c)
    assert exchange(a, b) == exchange(c, d)
    assert a.fs.digest() == c.fs.digest()


def test_what_a_full_disk_keeps_from_being_a_version_stays_written_and_is_one_later():
    """write(2) was acknowledged: it shows to programs here, and to no peer, until a flush succeeds."""
    a, b = furnished()
    fh = a.open_file("big")
    before = image(a)
    a.store.is_full = True
    a.fs.write(fh, 0, b"over")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            a.fs.flush(fh)
        assert dict(a.store.rows) == before[0]
        assert a.read("big") == b"over" + BIG[4:].encode()
    assert a.replica.seen() == before[4]
    a.store.is_full = False
    a.close(fh)
    assert image(a)[1:] == reopened(a)[1:]
    assert exchange(a, b)["big"] == "over" + BIG[4:]


def test_what_a_peer_sends_to_a_full_disk_is_merged_when_there_is_room():
    """Neither the commits nor the blocks are there in part, and what was said of them is not remembered."""
    a, b = furnished()
    b.write("f", "from B")
    b.write("big", "B" * 50_000)
    b.remove("d/g")
    b.move("union", "moved")
    before = image(a)
    a.replica.take_changes()
    a.store.is_full = True
    with pytest.raises(OSError, match="No space left"):
        a.hear(b, blocks=False)
    assert image(a) == before
    assert a.replica.wanted(100) == []
    assert not a.replica.take_changes()
    a.store.is_full = False
    a.hear(b, blocks=False)
    before = image(a)
    assert a.replica.wanted(100)
    a.store.is_full = True
    with pytest.raises(OSError, match="No space left"):
        a.fetch(b)
    assert image(a) == before
    a.store.is_full = False
    a.hear(b)
    assert image(a)[1:] == reopened(a)[1:]
    assert exchange(a, b) == b.shows
    assert a.read("big") == b"B" * 50_000


def test_a_union_is_one_after_a_merge_that_a_full_disk_refused_to_tear():
    """Who is in it is looked up in the middle of the merge, and remembered: as it would have been."""
    a, b = shells(0, 0)
    for shell in (b, a):
        shell.mkdir("d")
        shell.create(f"d/{shell.replica.name}")
    a.hear(b)
    b.move("d", "e")
    b.create("e/new")
    a.store.is_full = True
    with pytest.raises(OSError, match="No space left"):
        a.hear(b)
    assert a.shows == {"d": "dir", "d/A": "", "d/B": ""}
    a.store.is_full = False
    assert exchange(a, b) == {"d": "dir", "d/A": "", "e": "dir", "e/B": "", "e/new": ""}


# -- a fault of ours -----------------------------------------------------------------------------------


def lose_step(shell: Shell, monkeypatch, act: Callable[[], object]) -> None:
    """Have a fault come after the store has taken what `act` does, and before that is known in memory."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(module.Transaction, "done", fail)
        with pytest.raises(ZeroDivisionError):
            act()


@pytest.mark.parametrize("lost", [{"new": "dir"}, {"from b": "text"}], ids=["of a request", "of a merge"])
def test_a_replica_that_lost_track_of_a_commit_uses_no_dot_twice_and_knows_all_at_the_next_start(
    lost, monkeypatch
):
    a, b = shells(0, 0)
    a.write("f", "text")
    exchange(a, b)
    b.write("from b", "text")
    told = []
    a.replica.in_step.on_lost = lambda: told.append(True)
    lose_step(a, monkeypatch, (lambda: a.mkdir("new")) if "new" in lost else (lambda: a.hear(b)))
    assert told == [True]
    kept = dict(a.store.rows)
    for change in (
        lambda: a.create("g"),
        lambda: a.remove("f"),
        lambda: a.chmod("f", 0o600),
        lambda: a.hear(b),
    ):
        with pytest.raises(OSError, match="lost track"):
            change()
    assert dict(a.store.rows) == kept
    again = restarted(a)
    assert again.shows == {"f": "text"} | lost
    again.mkdir("after")
    assert exchange(again, b) == {"f": "text", "from b": "text", "after": "dir"} | lost


def test_what_is_written_when_a_replica_loses_track_is_there_after_the_next_start(monkeypatch):
    a, _ = shells(0, 0)
    a.write("f", "text")
    fh = a.open_file("f")
    a.fs.write(fh, 0, b"more")
    lose_step(a, monkeypatch, lambda: a.mkdir("new"))
    with pytest.raises(OSError, match="lost track"):
        a.fs.close()
    assert restarted(a).read("f") == b"more"


def test_a_content_that_nobody_in_reach_has_holds_up_no_newer_one():
    """C heard of the first content from A, without its block, and then reaches B alone: who never needed it.

    What came after was small, and superseded before it was told: C has nothing to show meanwhile.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", b"1" * 6000)
    c.hear(a, blocks=False)
    a.write("f", "small")
    a.write("f", b"3" * 6000)
    b.hear(a, blocks=False)
    b.replica.add_blocks([b"3" * 6000])
    for _ in c.hear_one_by_one(b):
        pass
    c.fetch(b)
    assert c.read("f") == b"3" * 6000
    assert c.replica.wanted(1) == []
    exchange(a, b, c)


def test_a_merge_of_nothing_but_dead_commits_is_durable_with_the_next_sync():
    """A and B set one thing, B later, and hear of each other: so A's commit is dead.  C has B's, and is told
    by A that there is nothing more.  That brings no arrival, so C never told anybody, and a sync of A and C
    had no end."""
    a, b, c = shells(0, 0, 0)
    a.replica.set_pattern("*.log", Policy.APPEND)
    b.world.tick()
    b.replica.set_pattern("*.log", Policy.KEEP)
    a.hear(b)
    c.hear(b)
    c.replica.sync()
    before = c.replica.arrival_end
    c.hear(a)
    assert c.replica.arrival_end == before
    c.replica.sync()
    assert c.replica.vector() == c.replica.seen() == a.replica.vector()
