"""Merge policies through real mounts: how one is chosen, and what then shows."""

import json
import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crdt.blocks import BLOCK_SIZE
from tests.system.rows.folder import later
from tests.system.sites import Site, Sites, assert_same_trees, cut, elmer, heal, meet
from tests.system.waiting import until_equal

MERGE = "user.elmer.merge"


def run(*command: str | os.PathLike) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def policy(path: Path) -> str:
    return os.getxattr(path, MERGE).decode()


@pytest.mark.parametrize("copy", [("cp", "-a"), ("rsync", "-aX")], ids=["cp", "rsync"])
def test_a_copy_with_attributes_has_what_was_set_by_hand_and_its_directorys_else(
    shared_pair: list[Site], copy: tuple[str, str]
):
    folder = shared_pair[0] / copy[0]
    for name in ("logs", "blocks"):
        (folder / name).mkdir(parents=True)
    os.setxattr(folder / "logs", MERGE, b"append")
    os.setxattr(folder / "blocks", MERGE, b"blocks")
    for name in ("by-hand", "inherited"):
        (folder / "logs" / name).write_text("record\n")
    os.setxattr(folder / "logs" / "by-hand", MERGE, b"keep")
    assert os.listxattr(folder / "logs" / "inherited") == []
    run(*copy, f"{folder}/logs/by-hand", f"{folder}/logs/inherited", f"{folder}/blocks/")
    assert policy(folder / "blocks" / "by-hand") == "keep"
    assert policy(folder / "blocks" / "inherited") == "blocks"


def test_setfattr_chooses_a_policy_and_says_what_is_none(shared_pair: list[Site]):
    path = shared_pair[0] / "f"
    path.touch()
    run("setfattr", "-n", MERGE, "-v", "append", path)
    assert run("getfattr", "--only-values", "-n", MERGE, path) == "append"
    refused = subprocess.run(
        ("setfattr", "-n", MERGE, "-v", "best", path), capture_output=True, text=True, check=False
    )
    assert "Invalid argument" in refused.stderr
    run("setfattr", "-x", MERGE, path)
    with pytest.raises(OSError, match="No data available"):
        policy(path)


def test_patterns_are_set_while_mounted_and_hold_on_all_sites(shared_pair: list[Site]):
    a, b = shared_pair
    cut(a, b)
    elmer("policy", "set", a.mountpoint, "*.log", "append")
    elmer("policy", "set", b.store, "*.db", "blocks")
    heal(a, b)
    for site in (a, b):
        listed = json.loads(elmer("policy", "list", site.mountpoint, "--json"))["patterns"]
        assert [(each["pattern"], each["policy"]) for each in listed] == [
            ("*.log", "append"),
            ("*.db", "blocks"),
        ]
        (site / f"{site.name}.db").touch()
        (site / f"{site.name}.log").touch()
    meet(a, b)
    for site in (a, b):
        assert [policy(site / f"{name}.db") for name in "ab"] == ["blocks", "blocks"]
        assert [policy(site / f"{name}.log") for name in "ab"] == ["append", "append"]
    elmer("policy", "remove", b.mountpoint, "*.log")
    (b / "later.log").touch()
    assert MERGE not in os.listxattr(b / "later.log")
    with pytest.raises(OSError, match="No data available"):
        policy(b / "later.log")


# -- what shows ----------------------------------------------------------------------------------------


def shared_file(sites: list[Site], folder: str, chosen: bytes, content: bytes) -> list[Path]:
    """Make a file of this policy, and have each kernel cache it; return its paths."""
    paths = [site / folder / "f" for site in sites]
    paths[0].parent.mkdir()
    os.setxattr(paths[0].parent, MERGE, chosen)
    paths[0].write_bytes(content)
    meet(*sites)
    for path in paths:
        assert path.read_bytes() == content
        assert path.stat().st_size == len(content)
    return paths


@contextmanager
def appending(path: Path) -> Iterator[int]:
    """Open a log; when it is closed, what is done next has a later stamp."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
    later()


def assert_one_file(sites: list[Site], paths: list[Path], content: bytes) -> None:
    """They are all one file, to each program and to `elmer conflicts`."""
    for site, path in zip(sites, paths, strict=True):
        assert path.read_bytes() == content, site.name
        assert path.stat().st_size == len(content)
        assert os.listdir(path.parent) == [path.name]
        assert not [entry for entry in site.conflicts() if path.parent.name in str(entry)]
    assert_same_trees(*sites)


def test_pages_that_two_sites_write_are_one_file(shared_pair: list[Site]):
    """One program maps the file into its memory, the other writes at offsets; both read on in it."""
    a, b = shared_pair
    paths = shared_file([a, b], "pages", b"blocks", b"0" * (5 * BLOCK_SIZE))
    with paths[0].open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        cut(a, b)
        mapped[BLOCK_SIZE : BLOCK_SIZE + 4] = b"page"
        mapped.flush()
    descriptor = os.open(paths[1], os.O_RDWR)
    os.pwrite(descriptor, b"leaf", 3 * BLOCK_SIZE + 100)
    os.close(descriptor)
    reader = os.open(paths[1], os.O_RDONLY)
    try:
        assert os.pread(reader, 4, BLOCK_SIZE) == b"0000"
        heal(a, b)
        assert os.pread(reader, 4, BLOCK_SIZE) == b"page"
    finally:
        os.close(reader)
    expected = bytearray(b"0" * (5 * BLOCK_SIZE))
    expected[BLOCK_SIZE : BLOCK_SIZE + 4] = b"page"
    expected[3 * BLOCK_SIZE + 100 : 3 * BLOCK_SIZE + 104] = b"leaf"
    assert_one_file([a, b], paths, bytes(expected))
    with paths[0].open("r+b") as file:
        file.write(b"head")
    expected[:4] = b"head"
    meet(a, b)
    assert_one_file([a, b], paths, bytes(expected))


def test_a_page_file_that_one_site_cuts_and_the_other_extends(shared_pair: list[Site]):
    a, b = shared_pair
    paths = shared_file([a, b], "sizes", b"blocks", b"0" * (3 * BLOCK_SIZE))
    cut(a, b)
    os.truncate(paths[0], BLOCK_SIZE)
    later()
    with paths[1].open("ab") as file:
        file.write(b"more")
    heal(a, b)
    assert_one_file([a, b], paths, b"0" * BLOCK_SIZE + bytes(2 * BLOCK_SIZE) + b"more")


def test_a_log_that_stays_open_on_two_sites_gets_all_records_of_both(shared_pair: list[Site]):
    """Programs that keep a log open never close it: what they flush is what others see."""
    a, b = shared_pair
    paths = shared_file([a, b], "open-log", b"append", b"start\n")
    with appending(paths[0]) as log_a, appending(paths[1]) as log_b:
        cut(a, b)
        for number in range(3):
            for name, log in (("a", log_a), ("b", log_b)):
                os.write(log, f"{name}{number}\n".encode())
                os.fsync(log)
        heal(a, b)
        seen = [path.read_bytes() for path in paths]
        os.write(log_a, b"a3\n")
        os.fsync(log_a)
        meet(a, b)
        os.write(log_b, b"b3\n")
        os.fsync(log_b)
    meet(a, b)
    shown = paths[0].read_bytes()
    assert seen == [shown[: -len("a3\nb3\n")]] * 2
    assert_one_file([a, b], paths, shown)
    records = shown.decode().splitlines()
    assert sorted(records) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3", "start"]
    assert records[0] == "start"
    assert records[-2:] == ["a3", "b3"]
    for name in "ab":
        assert [record[1] for record in records if record[0] == name] == list("0123")


def test_a_log_that_a_site_read_meanwhile_shows_what_the_other_added_before(shared_pair: list[Site]):
    """`tail -f` of a file of which the middle changes: both kernels are told all of it."""
    a, b = shared_pair
    paths = shared_file([a, b], "tails", b"append", b"0" * 5000 + b"\n")
    cut(a, b)
    for path, record in zip(paths, (b"from a\n", b"b says more\n"), strict=True):
        with appending(path) as log:
            os.write(log, record)
    assert [path.read_bytes()[5001:] for path in paths] == [b"from a\n", b"b says more\n"]
    heal(a, b)
    assert_one_file([a, b], paths, b"0" * 5000 + b"\nfrom a\nb says more\n")


def test_an_edit_of_a_log_that_is_added_to_elsewhere_is_a_conflict(shared_pair: list[Site]):
    a, b = shared_pair
    paths = shared_file([a, b], "edited-log", b"append", b"one\ntwo\n")
    cut(a, b)
    with appending(paths[0]) as log:
        os.write(log, b"three\n")
    with paths[1].open("r+b") as file:
        file.write(b"ONE")
    heal(a, b)
    for path in paths:
        entries = {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}
        assert sorted(entries.values()) == [b"ONE\ntwo\n", b"one\ntwo\nthree\n"]
        assert entries["f"] == b"ONE\ntwo\n"
    assert [entry for entry in a.conflicts() if "edited-log" in str(entry)]
    assert_same_trees(a, b)


def test_what_shows_together_is_the_same_after_a_crash(pair: list[Site]):
    a, b = pair
    pages = shared_file(pair, "pages", b"blocks", b"0" * (3 * BLOCK_SIZE))
    logs = shared_file(pair, "logs", b"append", b"begin\n")
    cut(a, b)
    for site, (page, log) in enumerate(zip(pages, logs, strict=True)):
        with page.open("r+b") as file:
            file.seek(site * BLOCK_SIZE)
            file.write(b"%d" % (site + 1))
            os.fsync(file.fileno())
        with appending(log) as descriptor:
            os.write(descriptor, b"%d\n" % (site + 1))
            os.fsync(descriptor)
    heal(a, b)
    expected = bytearray(b"0" * (3 * BLOCK_SIZE))
    expected[0], expected[BLOCK_SIZE] = b"12"
    assert_one_file(pair, pages, bytes(expected))
    b.kill()
    b.start()
    b.wait_mounted()
    meet(a, b)
    assert_one_file(pair, pages, bytes(expected))
    assert_one_file(pair, logs, b"begin\n1\n2\n")


def test_a_replica_that_joins_shows_merged_content_and_goes_on_from_it(sites: Sites):
    a, b = sites.group("ab")
    logs = shared_file([a, b], "logs", b"append", b"begin\n")
    cut(a, b)
    for name, log in zip("ab", logs, strict=True):
        with appending(log) as descriptor:
            os.write(descriptor, name.encode() + b"\n")
    heal(a, b)
    c = sites.join(a, "c")
    meet(a, b, c)
    logs.append(c / "logs" / "f")
    until_equal(logs[2].read_bytes, b"begin\na\nb\n", "the log on the site that joined")
    with appending(logs[2]) as descriptor:
        os.write(descriptor, b"c\n")
    meet(a, b, c)
    assert_one_file([a, b, c], logs, b"begin\na\nb\nc\n")
