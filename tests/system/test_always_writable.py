"""P1, always writable, and P2 to P4 after the heal: real daemons in networks that are really cut.

Each site has a network namespace of its own.  A cut takes the cable out: packets vanish, and the
daemons believe for a while that they are connected.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.networks import Networks
from tests.system.sites import Site, Sites, assert_same_trees, meet
from tests.system.waiting import until
from tests.system.wanderer import draw, failure_of

PORT = 7400


@pytest.fixture
def networks() -> Iterator[Networks]:
    with Networks("abc") as made:
        yield made


@pytest.fixture
def networked(sites: Sites, networks: Networks) -> list[Site]:
    """Return sites a, b and c, each in its network, all connected to all."""
    listen = f"0.0.0.0:{PORT}"
    made = [sites.found("a", inside=networks.enter("a"), listen=listen)]
    for name in "bc":
        url = f"http://{networks.address('a', seen_from=name)}:{PORT}"
        inside = networks.enter(name)
        made.append(sites.join(made[0], name, url=url, inside=inside, listen=listen))
    made[2].add_peer(f"http://{networks.address('b', seen_from='c')}:{PORT}")
    meet(*made)
    return made


def use(here: Path, site: str) -> dict[str, bytes]:
    """Do everything that programs do, in one directory; return what must be there afterwards."""
    mine = here / f"of-{site}"
    (mine / "sub").mkdir(parents=True)
    (mine / "f").write_bytes(site.encode() * 50_000)
    (mine / "g").write_bytes(b"replaced")
    (mine / "new-g").write_bytes(b"new")
    (mine / "new-g").rename(mine / "g")
    (mine / "hard").hardlink_to(mine / "f")
    (mine / "link").symlink_to("f")
    os.mkfifo(mine / "fifo")
    (mine / "f").chmod(0o600)
    os.chown(mine / "g", 5, 6)
    os.utime(mine / "g", ns=(1, 2))
    os.setxattr(mine / "f", "user.site", site.encode())
    with (mine / "f").open("r+b") as file:
        file.seek(10)
        file.write(b"written")
        file.flush()
        os.fsync(file.fileno())
    os.truncate(mine / "f", 30_000)
    (mine / "removed").write_bytes(b"x")
    (mine / "removed").unlink()
    (mine / "sub" / "removed").mkdir()
    (mine / "sub" / "removed").rmdir()
    assert sorted(os.listdir(mine)) == ["f", "fifo", "g", "hard", "link", "sub"]
    with (here / "shared" / "common").open("ab") as file:
        file.write(b" and " + site.encode())
    (here / "shared" / f"by-{site}").write_bytes(site.encode())
    os.statvfs(here)
    content = (site.encode() * 50_000)[:10] + b"written" + (site.encode() * 50_000)[17:30_000]
    return {f"of-{site}/f": content, f"of-{site}/g": b"new", f"shared/by-{site}": site.encode()}


def test_a_site_whose_network_is_gone_goes_on_with_everything(networked: list[Site], networks: Networks):
    a, b, c = networked
    (a / "shared").mkdir()
    (a / "shared" / "common").write_bytes(b"start")
    meet(a, b, c)
    for pair in ("ab", "ac", "bc"):
        networks.cut(*pair)
    # At once, while the daemons still wait for answers that will not come.
    written: dict[str, bytes] = {}
    for site in networked:
        written |= use(site.mountpoint, site.name)
    # And when they have noticed.
    until(
        lambda: all(not any(peer["connected"] for peer in s.status()["peers"]) for s in networked),
        "all connections are given up",
    )
    for site in networked:
        (site / f"later-{site.name}").write_bytes(b"later at " + site.name.encode())
        written[f"later-{site.name}"] = b"later at " + site.name.encode()
    for pair in ("ab", "ac", "bc"):
        networks.heal(*pair)
    meet(a, b, c)
    assert_same_trees(a, b, c)
    for path, content in written.items():
        assert (b / path).read_bytes() == content, path
    # All three wrote to one file: nothing of it is lost.
    commons = {path.read_bytes() for path in (b / "shared").iterdir() if path.name.startswith("common")}
    assert commons == {b"start and a", b"start and b", b"start and c"}


def test_a_peer_that_is_cut_off_does_not_keep_the_others_apart(networked: list[Site], networks: Networks):
    a, b, c = networked
    networks.cut("a", "c")
    networks.cut("b", "c")
    (a / "f").write_bytes(b"from a")
    until(lambda: (b / "f").read_bytes() == b"from a", "what a wrote is seen at b")
    networks.heal("b", "c")
    # c hears of it through b.
    until(lambda: (c / "f").read_bytes() == b"from a", "what a wrote is seen at c")
    networks.heal("a", "c")
    meet(a, b, c)


# -- P2, P3, P4 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_what_was_done_apart_is_one_tree_afterwards_and_nothing_written_is_lost(
    shared_triple: list[Site], seed: int
):
    """More of these: python -m tests.system.wanderer."""
    assert failure_of(shared_triple, draw(seed)) == ""


READER = """
import os, sys
while True:
    for directory, names, files in os.walk(sys.argv[1]):
        for file in files:
            try:
                open(os.path.join(directory, file), "rb").read()
            except (FileNotFoundError, NotADirectoryError):
                pass
"""


def test_programs_that_read_all_the_time_do_not_hinder_a_merge(shared_triple: list[Site]):
    a, b, c = shared_triple
    (a / "busy").mkdir()
    meet(a, b, c)
    reader = subprocess.Popen([sys.executable, "-c", READER, b / "busy"])
    try:
        failures: list[OSError] = []
        writers = [
            threading.Thread(target=write_many, args=(site / "busy", site.name, failures)) for site in (a, c)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert not failures
        meet(a, b, c)
        assert reader.poll() is None, "the reader met an error"
    finally:
        reader.kill()
        reader.wait()
    assert len(os.listdir(b / "busy")) == 300
    assert_same_trees(a, b, c)


def write_many(here: Path, name: str, failures: list[OSError]) -> None:
    try:
        for number in range(150):
            (here / f"{name}-{number}").write_bytes(b"%d" % number * 1_000)
    except OSError as error:
        failures.append(error)


def test_mounts_answer_while_a_peer_is_behind_and_stops_reading(triple: list[Site]):
    """A peer that is suspended, not cut, holds nobody up: queues towards it are bounded."""
    a, b, c = triple
    assert c.daemon is not None
    c.daemon.send_signal(signal.SIGSTOP)
    try:
        for number in range(30):
            (a / f"f{number}").write_bytes(os.urandom(1 << 20))
        until(lambda: len(os.listdir(b.mountpoint)) == 30, "what a wrote is seen at b")
        latest = (b / "f29", a / "f29")
        until(lambda: latest[0].read_bytes() == latest[1].read_bytes(), "its bytes too")
    finally:
        c.daemon.send_signal(signal.SIGCONT)
    meet(a, b, c)
    assert_same_trees(a, b, c)
