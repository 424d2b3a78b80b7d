"""Any connected graph of peers converges, and goes on doing so when parts of it come and go."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.sites import Site, Sites, assert_same_trees, meet
from tests.system.trees import look
from tests.system.waiting import until, until_equal
from tests.system.wire import Wire


def names_of_peers(site: Site) -> list[str]:
    return sorted(peer["name"] for peer in site.status()["peers"] if peer["connected"])


@pytest.fixture
def line(sites: Sites) -> list[Site]:
    """Return a, b and c, where a and c reach each other through b only."""
    a = sites.found("a")
    b = sites.join(a, "b")
    c = sites.join(b, "c")
    until_equal(lambda: names_of_peers(b), ["a", "c"], "b knows both")
    return [a, b, c]


def test_a_line_of_three_converges_through_the_one_in_the_middle(line: list[Site]):
    a, _, c = line
    for site in line:
        (site / f"d-{site.name}").mkdir()
        for number in range(50):
            (site / f"d-{site.name}" / f"f{number}").write_bytes(os.urandom(2_000))
    meet(*line)
    assert_same_trees(*line)
    assert names_of_peers(a) == ["b"]
    assert names_of_peers(c) == ["b"]
    # A change at one end is seen at the other as it happens.
    (a / "d-c" / "f0").write_bytes(b"from the other end")
    until_equal((c / "d-c" / "f0").read_bytes, b"from the other end", "the edit of a through c")
    (c / "d-a").rename(c / "moved")
    until((a / "moved").is_dir, "the rename of c through a")
    meet(*line)
    assert_same_trees(*line)


def test_what_the_middle_has_heard_arrives_though_its_author_is_gone(line: list[Site]):
    a, b, c = line
    c.offline()
    (a / "f").write_bytes(os.urandom(200_000))
    meet(a, b)
    a.stop()
    c.online()
    until(lambda: (c / "f").read_bytes() == (b / "f").read_bytes(), "the file of a through c")
    a.start()
    a.wait_mounted()
    meet(*line)
    assert_same_trees(*line)


def test_changes_made_at_both_ends_while_the_middle_is_away_meet_when_it_returns(line: list[Site]):
    a, b, c = line
    (a / "shared").write_bytes(b"start")
    meet(*line)
    b.stop()
    (a / "shared").write_bytes(b"from a")
    (c / "shared").write_bytes(b"from c")
    b.start()
    b.wait_mounted()
    meet(*line)
    assert_same_trees(*line)
    assert {path.read_bytes() for path in Path(b.mountpoint).iterdir()} == {b"from a", b"from c"}


@pytest.fixture
def wired(sites: Sites) -> Iterator[tuple[Site, Site, Wire]]:
    a = sites.found("a")
    wire = Wire(a.address)
    try:
        yield a, sites.join(a, "b", url=wire.url), wire
    finally:
        wire.close()


def test_a_connection_that_is_cut_is_made_again(wired: tuple[Site, Site, Wire]):
    a, b, wire = wired
    for round_number in range(3):
        wire.cut()
        until(lambda: not b.status()["peers"][0]["connected"], "the cut is noticed")
        (a / f"at-a-{round_number}").write_bytes(b"a")
        (b / f"at-b-{round_number}").write_bytes(b"b")
        assert not (b / f"at-a-{round_number}").exists()
        wire.heal()
        until((b / f"at-a-{round_number}").exists, "what a did meanwhile")
        until((a / f"at-b-{round_number}").exists, "what b did meanwhile")
    meet(a, b)
    assert_same_trees(a, b)


def fill(root: Path, files: int) -> None:
    """Make some megabytes that do not compress, in some thousand commits."""
    for number in range(files):
        path = root / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(os.urandom(4_000 if number % 50 else 500_000))


def test_a_catch_up_that_is_cut_again_and_again_comes_to_its_end(wired: tuple[Site, Site, Wire]):
    a, b, wire = wired
    b.offline()
    fill(a / "tree", 600)
    b.online()
    for _ in range(4):
        start = wire.returned
        until(lambda: wire.returned > start + 300_000 or is_caught_up(a, b), "some of it came")  # noqa: B023
        wire.cut()
        wire.heal()
    meet(a, b)
    assert_same_trees(a, b)


def is_caught_up(a: Site, b: Site) -> bool:
    return a.digest() == b.digest()


@pytest.mark.parametrize("after_bytes", [1_000, 100_000, 2_000_000])
def test_a_site_killed_in_the_middle_of_a_catch_up_finishes_it(
    wired: tuple[Site, Site, Wire], after_bytes: int
):
    a, b, wire = wired
    b.offline()
    fill(a / "tree", 600)
    (b / "mine").write_bytes(b"made at b meanwhile")
    start = wire.returned
    b.online()
    until(lambda: wire.returned >= start + after_bytes, "some of it came")
    b.kill()
    b.fsck()
    b.start()
    b.wait_mounted()
    meet(a, b)
    assert_same_trees(a, b)
    assert (a / "mine").read_bytes() == b"made at b meanwhile"


def test_the_middle_killed_in_a_catch_up_passes_all_of_it_on_afterwards(line: list[Site]):
    a, b, _ = line
    b.offline()
    fill(a / "tree", 400)
    b.online()
    until((b / "tree").exists, "the first of it is seen at b")
    b.kill()
    b.start()
    b.wait_mounted()
    meet(*line)
    assert_same_trees(*line)


def test_a_new_site_gets_all_that_there_is(wired: tuple[Site, Site, Wire], sites: Sites):
    a, b, _ = wired
    fill(a / "tree", 300)
    shutil.rmtree(a / "tree" / "d3")
    (a / "tree" / "d1").rename(a / "moved")
    meet(a, b)
    c = sites.join(b, "c")
    meet(a, b, c)
    assert_same_trees(a, b, c)


def test_a_site_without_a_mount_passes_on_what_it_hears(sites: Sites):
    """`elmer serve` in the middle."""
    a = sites.found("a")
    b = sites.join(a, "b")
    c = sites.join(b, "c")
    b.stop()
    b.start("serve")
    until(b.answers, "b serves")
    (a / "f").write_bytes(os.urandom(100_000))
    until(lambda: (c / "f").read_bytes() == (a / "f").read_bytes(), "the file of a through c")
    assert_same_trees(a, c)


def test_offline_holds_over_a_restart(wired: tuple[Site, Site, Wire]):
    a, b, wire = wired
    b.offline()
    b.stop()
    b.start()
    b.wait_mounted()
    (a / "f").write_bytes(b"not for b yet")
    assert b.status()["offline"]
    passed = wire.total
    assert not (b / "f").exists()
    assert wire.total == passed
    b.online()
    until((b / "f").exists, "the file of a, once b is online")


def test_status_tells_how_far_apart_two_sites_are(wired: tuple[Site, Site, Wire]):
    a, b, wire = wired
    meet(a, b)

    def peer(site: Site) -> dict:
        return site.status()["peers"][0]

    until_equal(lambda: peer(b)["to_receive"]["facts"], 0, "nothing to receive")
    assert peer(b)["connected"]
    assert peer(b)["name"] == "a"
    assert peer(b)["seconds_since_equal"] is not None
    assert abs(time.time() - peer(b)["last_contact_s"]) < 60
    wire.cut()
    until(lambda: not peer(b)["connected"], "the cut is noticed")
    for number in range(5):
        (b / f"f{number}").write_bytes(os.urandom(10_000))
    until(lambda: peer(b)["to_send"]["facts"] >= 5, "five files are to be sent")
    wire.heal()
    until_equal(lambda: peer(b)["to_send"]["facts"], 0, "all is sent")
    assert len(look(a.mountpoint)) == 5
