"""A replica whose store is damaged: whichever file it is, that is found and named, with whose it is."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from crdt.blocks import block_key, hash_of
from crdt.causality import ReplicaId
from crdt.facts import SUPERUSER
from crdt.store import MemoryStore
from elmer import rocks
from elmer.directory import StoreDirectory
from elmer.exits import CommandError, ExitStatus
from elmer.rocks import RocksStore
from elmer.volume import opened, opened_to_check
from tests.elmer.stores import copied
from translation.damage import readable_rows
from translation.filesystem import FileSystem
from translation.fsck import Finding, check
from translation.replica import Replica, Volume

LARGE = {f"d/large-{number}": Random(number).randbytes(100_000) for number in range(3)}
SMALL = {f"d/small-{number}": b"small %d" % number * 20 for number in range(300)}
NEW = {f"d/new-{number}": Random(number).randbytes(5_000) for number in range(10)}  # in the log only
ALL = LARGE | SMALL | NEW


def write(filesystem: FileSystem, directory: int, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        name = path.removeprefix("d/").encode()
        fh, _ = filesystem.create(directory, name, 0o644, os.O_WRONLY, SUPERUSER)
        filesystem.write(fh, 0, content)
        filesystem.release(fh)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory) -> Path:
    """A store whose daemon was killed: its newest files are in the log alone."""
    path = tmp_path_factory.mktemp("damage") / "store"
    path.mkdir()
    store = RocksStore(path / "rows", create=True)
    volume = Volume(b"v" * 16, b"s" * 32, b"d" * 32)
    Replica.create(store, volume, ReplicaId(7), "a", b"i" * 16, time.time_ns())
    filesystem = FileSystem(Replica(store, time.time_ns))
    directory = filesystem.mkdir(1, b"d", 0o755, SUPERUSER).ino
    write(filesystem, directory, LARGE | SMALL)
    store.close()
    store = RocksStore(path / "rows")
    write(FileSystem(Replica(store, time.time_ns)), directory, NEW)
    store.sync()
    image = path.parent / "crashed"
    shutil.copytree(path, image)
    store.close()
    return image


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def found_in(directory: StoreDirectory) -> tuple[str, list[Finding]]:
    """Return why the store is not opened, and what fsck finds."""
    with opened_to_check(directory) as (rows, refusal):
        return refusal, [] if rows is None else list(check(rows))


def paths_in(findings: list[Finding]) -> set[str]:
    return {path for finding in findings for path in finding.paths}


def read_all(directory: StoreDirectory) -> dict[str, object]:
    """Return what a program gets for each file: "right", "wrong", or an error number."""
    with opened(directory) as replica:
        filesystem = FileSystem(replica)
        return {path: outcome(filesystem, path, content) for path, content in ALL.items()}


def outcome(filesystem: FileSystem, path: str, content: bytes) -> object:
    try:
        directory = filesystem.lookup(1, b"d").ino
        found = filesystem.lookup(directory, path.removeprefix("d/").encode())
        read = filesystem.read(filesystem.open(found.ino, os.O_RDONLY), 0, found.size)
    except OSError as error:
        return error.errno
    return "right" if read == content else "wrong"


def test_what_is_not_damaged_is_in_order(crashed, tmp_path):
    directory = StoreDirectory(copied(crashed, tmp_path / "image"))
    assert found_in(directory) == ("", [])
    assert set(read_all(directory).values()) == {"right"}


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("pattern", ["*.sst", "*.blob", "*.log", "MANIFEST-*", "CURRENT"])
def test_damage_of_any_file_is_found_and_named_and_served_as_nothing(
    crashed, tmp_path, pattern, damage, monkeypatch
):
    monkeypatch.setattr(rocks.log, "error", lambda *_: None)  # of each block
    for number, path in enumerate(sorted((crashed / "rows").glob(pattern))):
        if not path.stat().st_size:
            continue
        directory = StoreDirectory(copied(crashed, tmp_path / f"image-{number}"))
        damaged = directory.rows / path.name
        match damage:
            case "flipped":
                flip(damaged, path.stat().st_size // 2)
            case "cut":
                os.truncate(damaged, path.stat().st_size // 2)
            case "gone":
                damaged.unlink()
        refusal, findings = found_in(directory)
        if refusal:
            check_refused(directory, refusal, path.name, findings)
        else:
            check_served(directory, findings)


def check_refused(directory: StoreDirectory, refusal: str, name: str, findings: list[Finding]) -> None:
    assert str(directory.rows) in refusal
    if name.endswith(".log"):
        assert "the disk lost the newest" in refusal
    else:
        assert f"{name} holds" in refusal
    if name.endswith(".sst"):
        needed = any("what every start needs" in finding.problem for finding in findings)
        assert needed or paths_in(findings) & ({"d", "."} | ALL.keys()), "whose rows they were"
    with pytest.raises(CommandError) as refused, opened(directory):
        pass
    assert (str(refused.value), refused.value.status) == (refusal, ExitStatus.STORE)


def check_served(directory: StoreDirectory, findings: list[Finding]) -> None:
    assert findings
    try:
        outcomes = read_all(directory)
    except CommandError:  # the damage is in what each start needs
        return
    affected = {path for path, what in outcomes.items() if what != "right"}
    assert set(outcomes.values()) <= {"right", errno.EIO}
    assert affected <= paths_in(findings) or paths_in(findings) & {"d", "."}, affected - paths_in(findings)


def test_what_lies_behind_damage_is_read_and_where_it_begins_is_said():
    class Damaged(MemoryStore):
        def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
            for key, value in super().scan(start, end):
                if key in unreadable:
                    raise OSError(errno.EIO, "damaged")
                yield key, value

    keys = [b"K" + bytes([number]) * 32 for number in range(1, 40)]
    unreadable = {keys[0], *keys[7:9], keys[20], keys[-1]}
    said: list[bytes] = []
    store = Damaged(dict.fromkeys(keys, b"block"))
    read = [key for key, _ in readable_rows(store, b"K", lambda start, _: said.append(start))]
    assert read == [key for key in keys if key not in unreadable]
    assert said == [b"K", *(key + b"\0" for key in (keys[6], keys[19], keys[-2]))]


def test_a_block_that_is_not_what_its_hash_says_is_not_there_until_it_is_put_again(tmp_path, expect_logs):
    expect_logs("is damaged.*it is not what its hash says")
    good, other = b"good" * 1000, b"other" * 1000
    key = block_key(hash_of(good))
    store = RocksStore(tmp_path / "rows", create=True)
    store.commit({key: other})
    assert store.get(key) is None
    assert store.damaged == {key}
    store.commit({key: good})
    assert store.get(key) == good
    assert store.damaged == set()
    store.close()


def test_a_file_of_our_own_that_is_damaged_is_named(crashed, tmp_path):
    for name, change in (("FORMAT", b"elmer st"), ("SYNCED", b"?")):
        directory = StoreDirectory(copied(crashed, tmp_path / name))
        (directory.rows / name).write_bytes(change)
        refusal, _ = found_in(directory)
        assert f"its file {name} is not readable" in refusal
