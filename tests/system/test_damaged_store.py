"""Damage of a store is found, named, never served as good data, and mended by peers (docs/trouble.md)."""

import errno
import json
import os
from pathlib import Path
from random import Random

from tests.system.sites import CommandFailedError, Site, Sites, elmer, meet
from tests.system.test_full_disk import errno_of
from tests.system.waiting import until

FILES = {f"d/file-{number}": Random(number).randbytes(200_000) for number in range(4)}
SMALL = {f"d/small-{number}": b"small %d" % number for number in range(200)}


def furnish(site: Site) -> None:
    (site / "d").mkdir()
    for name, content in (FILES | SMALL).items():
        (site / name).write_bytes(content)


def files_of(site: Site, pattern: str) -> list[Path]:
    return sorted((site.store / "rows").glob(pattern))


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        [byte] = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 4]))


def holding(site: Site, content: bytes) -> tuple[Path, int]:
    """Return the file of the store in which a block of this content lies, and where."""
    [found] = [
        (path, at)
        for path in files_of(site, "*.blob")
        if (at := path.read_bytes().find(content[40_000:40_064])) >= 0
    ]
    return found


def fsck(site: Site) -> tuple[int, dict[str, list[dict]]]:
    try:
        return 0, json.loads(elmer("fsck", site.store, "--json"))
    except CommandFailedError as error:
        return error.status, json.loads(error.said[error.said.index("{") :])


def paths_found(findings: list[dict]) -> set[str]:
    return {path for finding in findings for path in finding["paths"]}


def test_a_damaged_block_is_told_fetched_again_and_whole_afterwards(pair: list[Site]):
    site, other = pair
    furnish(site)
    meet(site, other)
    site.stop()
    name, content = "d/file-1", FILES["d/file-1"]
    flip(*holding(site, content))

    status, said = fsck(site)
    assert status == 1
    assert paths_found(said["findings"]) == {name}
    assert any("is damaged" in finding["problem"] for finding in said["findings"])

    other.offline()
    site.start()
    site.wait_mounted()
    assert errno_of((site / name).read_bytes) == errno.EIO
    assert f"read of {name} " in site.log_text()
    assert (site / "d/file-2").read_bytes() == FILES["d/file-2"]
    other.online()
    until(lambda: (site / name).read_bytes() == content, "the block is fetched again")
    site.stop()
    assert fsck(site) == (0, {"findings": []})
    site.start()
    site.wait_mounted()
    other.offline()
    assert (site / name).read_bytes() == content


def test_a_peer_is_not_sent_what_is_damaged_and_hears_of_all_else(sites: Sites):
    site = sites.found("a")
    furnish(site)
    site.stop()
    name = "d/file-1"
    flip(*holding(site, FILES[name]))
    site.start()
    site.wait_mounted()
    other = sites.join(site, "b")
    for whole in ("d/file-0", "d/file-2", "d/small-7"):
        until(lambda whole=whole: (other / whole).read_bytes() == (FILES | SMALL)[whole], whole)
    assert errno_of((other / name).read_bytes) == errno.EIO
    os.remove(other / name)
    until(lambda: not (site / name).exists(), "they go on talking")
    # What is damaged stays so, in what nobody can reach any more.
    site.stop()
    sites.all.remove(site)
