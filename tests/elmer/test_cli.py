"""What the commands say and exit with where no daemon runs."""

import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

from crdt.causality import ReplicaId
from crdt.facts import ROOT
from crdt.store import MemoryStore
from elmer.config import Config, save
from elmer.directory import StoreDirectory, held
from elmer.rocks import RocksStore
from elmer.ticket import Ticket, encode
from elmer.volume import opened
from tests.elmer.conftest import Said
from translation.filesystem import Caller, FileSystem
from translation.replica import Replica

TICKET = Ticket(b"v" * 16, b"s" * 32, b"d" * 32, ())


@pytest.fixture
def store(run, scratch: Path) -> Path:
    assert run("init", scratch / "store", "--name", "a").status == 0
    return scratch / "store"


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def assert_refused(said: Said, status: int, pattern: str) -> None:
    """One or two lines for a person, and nothing else."""
    assert said.status == status, said
    assert re.search(pattern, said.err), said.err
    lines = said.err.strip().splitlines()  # after Ctrl-C a line is begun
    assert lines[0].startswith("elmer: ")
    assert len(lines) <= 2
    assert not said.out


# init


def test_init_makes_a_store_that_only_its_owner_can_enter(run, scratch):
    said = run("init", scratch / "store", "--name", "office", "--json")
    assert json.loads(said.out) == {"store": str(scratch / "store"), "name": "office"}
    assert (scratch / "store").stat().st_mode & 0o777 == 0o700
    assert run("fsck", scratch / "store").status == 0


def test_init_takes_an_empty_directory(run, scratch):
    assert run("init", scratch, "--name", "a").status == 0


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "a/b", "a" * 33])
def test_a_name_that_could_not_stand_in_a_file_name_is_refused(run, scratch, name):
    assert_refused(run("init", scratch / "s", "--name", name), 2, "no name for a replica: 1 to 32 of")
    assert not (scratch / "s").exists()


def test_init_refuses_a_directory_that_is_not_empty(run, scratch):
    (scratch / "mine").touch()
    assert_refused(run("init", scratch, "--name", "a"), 2, f"{scratch} is not empty")
    assert [path.name for path in scratch.iterdir()] == ["mine"]


def test_init_refuses_a_file(run, scratch):
    (scratch / "file").touch()
    assert_refused(run("init", scratch / "file", "--name", "a"), 2, "file is not a directory")


def test_init_refuses_a_place_without_parent(run, scratch):
    assert_refused(run("init", scratch / "no" / "where", "--name", "a"), 2, "/no does not exist")


def test_init_refuses_a_path_that_is_no_text(run, scratch):
    assert_refused(run("init", scratch / "\udcff", "--name", "a"), 2, "must be UTF-8")


def test_init_refuses_a_store(run, store):
    before = (store / "config.json").read_bytes()
    assert_refused(run("init", store, "--name", "b"), 2, "is not empty")
    assert (store / "config.json").read_bytes() == before


@pytest.mark.parametrize("was_there", [False, True])
def test_an_init_that_fails_half_way_leaves_nothing(run, scratch, monkeypatch, was_there):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("elmer.config.save", fail)
    if was_there:
        (scratch / "store").mkdir()
    assert_refused(run("init", scratch / "store", "--name", "a"), 4, "No space left on device")
    assert (scratch / "store").exists() == was_there
    assert not was_there or not any((scratch / "store").iterdir())


def test_an_interrupted_init_leaves_nothing(run, scratch, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("elmer.config.save", interrupt)
    assert_refused(run("init", scratch / "store", "--name", "a"), 1, "interrupted")
    assert not (scratch / "store").exists()


# join


def test_join_refuses_what_is_no_ticket(run, scratch):
    assert_refused(run("join", scratch / "b", "nonsense", "--name", "b"), 2, "no ticket")
    assert not (scratch / "b").exists()


def test_join_says_that_the_inviter_cannot_be_reached(run, scratch, nobody):
    ticket = encode(TICKET._replace(urls=(f"http://{nobody}",)))
    said = run("join", scratch / "b", ticket, "--name", "b")
    assert_refused(said, 3, f"cannot be reached.*{nobody}")
    assert not (scratch / "b").exists()


def test_join_refuses_a_directory_that_is_not_empty_before_it_asks_anybody(run, scratch, nobody):
    (scratch / "mine").touch()
    ticket = encode(TICKET._replace(urls=(f"http://{nobody}",)))
    assert_refused(run("join", scratch, ticket, "--name", "b"), 2, "is not empty")


# TARGET


@pytest.mark.parametrize("command", ["status", "digest", "conflicts", "sync", "invite", "offline"])
def test_a_target_that_is_nothing_is_refused(run, scratch, command):
    assert_refused(run(command, scratch), 2, "neither a store directory nor a path inside a mount")


@pytest.mark.parametrize("command", ["mount", "serve", "fsck"])
def test_a_store_that_is_none_is_refused(run, scratch, command):
    arguments = [scratch / "no"] + ([scratch] if command == "mount" else [])
    assert_refused(run(command, *arguments), 2, "/no does not exist")
    arguments = [scratch] + ([scratch] if command == "mount" else [])
    assert_refused(run(command, *arguments), 2, "is not a store")


@pytest.mark.parametrize("command", ["sync", "invite", "umount"])
def test_what_needs_a_daemon_says_so(run, store, command):
    assert_refused(run(command, store), 3, "no daemon is running|is not mounted")


# A store at rest


def test_status_of_a_store_at_rest(run, store):
    said = json.loads(run("status", store, "--json").out)
    assert said["replica"]["name"] == "a"
    assert said["daemon"] is None
    assert (said["peers"], said["conflicts"], said["offline"]) == ([], 0, False)
    assert said["disk"]["store_bytes"] > 0
    text = run("status", store).out
    assert f"replica    a (number {said['replica']['id']}) of volume {said['volume']}" in text
    assert "daemon     none is running" in text


def test_digest_and_conflicts_of_a_store_at_rest(run, store):
    line = run("digest", store).out.strip()
    assert re.fullmatch("[0-9a-f]{64}", line)
    assert json.loads(run("digest", store, "--json").out) == {"digest": line}
    assert run("conflicts", store).out == "no conflicts\n"
    assert json.loads(run("conflicts", store, "--json").out) == {"conflicts": [], "records": []}


def test_records_of_a_store_at_rest_are_listed_and_acknowledged(run, store):
    with opened(StoreDirectory(store)) as replica:
        ids = overrule(replica)
    listed = json.loads(run("conflicts", store, "--json").out)["records"]
    assert [(each["id"], each["kind"], each["path"]) for each in listed] == [
        (ids[0], "unlink", "f"),
        (ids[1], "unlink", "g"),
    ]
    assert re.search(rf"{ids[0]} +f +a removed f +b wrote f", run("conflicts", store).out)
    assert "overruled  2" in run("status", store).out
    assert run("resolve", store, ids[0], "--acknowledge").out == "acknowledged 1 record\n"
    assert json.loads(run("status", store, "--json").out)["records"] == 1
    said = run("resolve", store, ids[0], "--acknowledge")
    assert_refused(said, 1, f"there is no record {ids[0]}; `elmer conflicts`")
    said = run("resolve", store, "--all", "--acknowledge", "--json")
    assert json.loads(said.out) == {"acknowledged": [ids[1]]}
    assert run("resolve", store, "--all", "--acknowledge").out == "acknowledged 0 records\n"
    assert run("conflicts", store).out == "no conflicts\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rename-a-1"], "say what to do"),
        (["--acknowledge"], "name the records"),
        (["rename-a-1", "--all", "--acknowledge"], "name the records"),
        (["--redo", "--acknowledge", "rename-a-1"], "say what to do"),
        (["--all", "--redo"], "is not mounted: `elmer mount` it first"),
        (["rename-a-1", "--keep"], "--keep is of one path, and takes no records"),
        (["--keep"], "{store} is no path inside a mount of elmer"),
        (["--merge"], "{store} is no path inside a mount of elmer"),
    ],
)
def test_what_to_resolve_and_how_has_to_be_said(run, store, arguments, says):
    assert_refused(run("resolve", store, *arguments), 2, says.format(store=store))


def overrule(replica: Replica) -> list[str]:
    """Merge edits of two files that this replica has removed; return the ids of the records."""
    rows, number = MemoryStore(), ReplicaId(replica.replica % 1000 + 1)
    Replica.create(rows, replica.volume, number, "b", b"b" * 16, time.time_ns(), replica.members())
    here, there = FileSystem(replica), FileSystem(Replica(rows, time.time_ns))
    for name in (b"f", b"g"):
        here.release(here.create(ROOT, name, 0o644, os.O_WRONLY, Caller(0, 0))[0])
    pull(there.replica, replica)
    for name in (b"f", b"g"):
        here.unlink(ROOT, name)
        fh = there.open(there.lookup(ROOT, name).ino, os.O_WRONLY)
        there.write(fh, 0, b"edited")
        there.release(fh)
    pull(replica, there.replica)
    replica.sync()
    return [record.id for record in here.records()]


def pull(replica: Replica, other: Replica) -> None:
    other.sync()
    new = other.arrivals(0, replica.seen(), 1 << 20)
    replica.receive(new.commits, new.vector, other.store_id, new.next)


def test_a_copy_of_a_store_shows_the_same_digest(run, store, scratch):
    shutil.copytree(store, scratch / "copy")
    assert run("digest", scratch / "copy").out == run("digest", store).out


@pytest.mark.parametrize("command", ["status", "digest", "conflicts"])
def test_a_store_that_another_command_has_is_refused(run, store, command):
    with held(StoreDirectory(store), "fsck"):
        said = run(command, store)
    assert_refused(said, 3, rf"in use by `elmer fsck`, process {os.getpid()}, which does not answer")


def test_fsck_refuses_a_store_in_use(run, store):
    with held(StoreDirectory(store), "mount", "/mnt/a"):
        assert_refused(run("fsck", store), 4, "in use by `elmer mount` at /mnt/a")


def test_peers_and_offline_are_set_without_a_daemon(run, store):
    assert run("peers", "list", store).out.startswith("no peers")
    assert run("peers", "add", store, "192.0.2.7:7400").status == 0
    listed = json.loads(run("peers", "list", store, "--json").out)["peers"]
    assert [(peer["url"], peer["connected"]) for peer in listed] == [("http://192.0.2.7:7400", False)]
    assert "http://192.0.2.7:7400" in run("peers", "list", store).out
    assert run("offline", store).status == 0
    assert json.loads(run("status", store, "--json").out)["offline"] is True
    assert run("online", store).status == 0
    assert json.loads(run("status", store, "--json").out)["offline"] is False
    assert_refused(run("peers", "remove", store, "office"), 2, "'office' is none of the URLs")
    assert run("peers", "remove", store, "192.0.2.7:7400").status == 0
    assert json.loads(run("peers", "list", store, "--json").out) == {"peers": []}


def test_policies_by_pattern_are_set_without_a_daemon(run, store):
    assert run("policy", "list", store).out.startswith("no patterns")
    assert run("policy", "set", store, "*.log", "append").status == 0
    assert run("policy", "set", store, "*", "keep").status == 0
    assert run("policy", "set", store, "*.db", "append").status == 0
    assert run("policy", "set", store, "*.db", "blocks").status == 0
    listed = json.loads(run("policy", "list", store, "--json").out)["patterns"]
    chosen = [("*.db", "blocks"), ("*.log", "append"), ("*", "keep")]
    assert [(each["pattern"], each["policy"]) for each in listed] == sorted(
        chosen, key=lambda each: (-len(each[0]), each[0])
    )
    assert re.search(r"\*\.log +append", run("policy", "list", store).out)
    assert run("policy", "remove", store, "*").status == 0
    assert_refused(run("policy", "remove", store, "*"), 2, r"'\*' is no pattern of this volume \(\*")
    assert len(json.loads(run("policy", "list", store, "--json").out)["patterns"]) == 2
    assert run("fsck", store).status == 0


@pytest.mark.parametrize("pattern", ["", "a/b", "x" * 201, "\udcff"])
def test_a_pattern_that_no_name_matches_is_refused(run, store, pattern):
    assert_refused(run("policy", "set", store, pattern, "keep"), 2, "pattern|no slash")


def test_a_policy_that_is_none_is_bad_usage(run, store):
    assert run("policy", "set", store, "*", "text").status == 2


def test_a_replica_that_must_rejoin_sets_no_pattern(run, store):
    save(store / "config.json", Config(must_rejoin="this is an old copy", offline=True))
    assert_refused(run("policy", "set", store, "*", "keep"), 4, "this is an old copy")


@pytest.mark.parametrize("url", ["nowhere", "https://a:1", "0.0.0.0:7400", "a:0"])
def test_a_peer_that_cannot_be_dialed_is_refused(run, store, url):
    assert_refused(run("peers", "add", store, url), 2, re.escape(url.removeprefix("https://")))


def test_a_replica_that_must_rejoin_does_not_go_online(run, store):
    save(store / "config.json", Config(must_rejoin="this is an old copy", offline=True))
    assert_refused(run("online", store), 4, "this is an old copy")
    assert "problem    this is an old copy" in run("status", store).out


# Damage


def test_a_damaged_config_is_named(run, store):
    (store / "config.json").write_text("{")
    assert_refused(run("status", store), 4, f"{store}/config.json is damaged")


def test_a_newer_store_is_refused(run, store):
    (format_file,) = [path for path in (store / "rows").iterdir() if path.name.lower() == "format"]
    number = re.search(rb"\d+", format_file.read_bytes())
    format_file.write_bytes(format_file.read_bytes().replace(number[0], b"99"))
    assert_refused(run("status", store), 4, "99.*newer elmer")
    assert_refused(run("fsck", store), 4, "99.*newer elmer")


def test_half_a_store_is_refused_and_says_what_to_do(run, store):
    (store / "config.json").unlink()
    assert_refused(run("status", store), 2, "config.json is missing.*cut short here")
    assert_refused(run("fsck", store), 2, "config.json is missing.*cut short here")


def test_fsck_tells_what_is_damaged(run, store):
    rows = RocksStore(store / "rows")
    key, _ = next(rows.scan(b"I", b"J"))
    rows.commit({key: b"\xc1"}, sync=True)
    rows.close()
    said = run("fsck", store, "--json")
    assert said.status == 1
    findings = json.loads(said.out)["findings"]
    assert findings
    assert all(finding["key"] and finding["problem"] for finding in findings)
    assert run("fsck", store).out.startswith(findings[0]["key"])


# mount


def test_mount_refuses_what_is_no_place_to_mount(run, store, scratch):
    assert_refused(run("mount", store, scratch / "no"), 2, "/no does not exist")
    (scratch / "file").touch()
    assert_refused(run("mount", store, scratch / "file"), 2, "file is not a directory")
    assert_refused(run("mount", store, scratch), 2, f"{scratch} has the store inside")
    (scratch / "full").mkdir()
    (scratch / "full" / "file").touch()
    assert_refused(run("mount", store, scratch / "full"), 2, "full is not empty")


def test_mount_says_that_there_is_no_fuse(run, store, scratch, monkeypatch):
    monkeypatch.setattr("elmer.daemon.FUSE_DEVICE", scratch / "dev-fuse")
    (scratch / "mount").mkdir()
    assert_refused(run("mount", store, scratch / "mount"), 5, "dev-fuse does not exist: load the kernel")


@pytest.mark.parametrize("command", ["mount", "serve"])
def test_a_bad_address_is_refused_before_anything_starts(run, store, scratch, command):
    (scratch / "mount").mkdir()
    arguments = [store] + ([scratch / "mount"] if command == "mount" else [])
    assert_refused(run(command, *arguments, "--listen", "7400"), 2, "'7400' is no HOST:PORT")
    assert_refused(run(command, *arguments, "--url", "0.0.0.0:1"), 2, "not one to reach a peer at")
    assert not (store / "elmer.log").exists()


# Usage


@pytest.mark.parametrize("arguments", [["init"], ["init", "s"], ["no-such-command"], ["sync", "--timeout"]])
def test_bad_usage_is_2(run, arguments):
    assert run(*arguments).status == 2


COMMANDS = """init; invite; join; mount; serve; umount; status; digest; conflicts; resolve; fsck; offline;
online; sync; demo; sim; peers; peers list; peers add; peers remove; policy;
policy list; policy set; policy remove"""


@pytest.mark.parametrize("command", re.split(r";\s", COMMANDS))
def test_help_teaches_by_example(run, command):
    said = run(*command.split(), "--help")
    assert said.status == 0
    assert re.search(rf"Examples?:\n +.*elmer {command}", said.out)


def test_the_exit_statuses_are_documented(run):
    text = run("--help").out
    for status in range(7):
        assert re.search(rf"^ +{status}  \S", text, re.MULTILINE)
