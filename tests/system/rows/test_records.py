"""Records of what was overruled, through three mounts and the command line."""

import re

import pytest

from elmer.exits import ExitStatus
from tests.system.rows.folder import Folder, make, move, remove, write
from tests.system.sites import CommandFailedError, heal


def test_what_was_overruled_is_listed_at_each_site_until_one_acknowledges_it(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"old", "d": None, "g": b"text"}))
    remove(folder.a / "f")
    remove(folder.a / "d")
    move(folder.a / "g", folder.a / "of-a")
    write(folder.b / "f", b"edited")
    write(folder.b / "d" / "x", b"put there")
    move(folder.b / "g", folder.b / "of-b")
    shown = folder.shown()
    assert shown == {"d": "dir", "d/x": b"put there", "f": b"edited", "of-b": b"text"}
    at = re.escape(folder.name)
    lines = [
        rf"(unlink-a-\w+) +{at}/f +a removed {at}/f +b wrote {at}/f +\d{{4}}-",
        rf"(rmdir-a-\w+) +{at}/d +a removed {at}/d +b made {at}/d/x +\d{{4}}-",
        rf"(rename-a-\w+) +{at}/of-b +a moved to {at}/of-a +b moved to {at}/of-b +\d{{4}}-",
    ]
    ids = set()
    for site in folder.sites:
        printed = site.elmer("conflicts")
        found = [re.search(line, printed) for line in lines]
        assert all(found), (site.name, printed)
        ids.add(tuple(match[1] for match in found))
    assert len(ids) == 1
    unlink, rmdir, rename = ids.pop()

    b, c = folder.sites[1:]
    assert c.elmer("resolve", unlink, rename, "--acknowledge") == "acknowledged 2 records\n"
    heal(*folder.sites)
    assert folder.records() == [("d", "rmdir", "a", "b")]
    remove(folder.a / "d")
    heal(*folder.sites)
    assert folder.records() == []
    assert folder.shown() == {"f": b"edited", "of-b": b"text"}
    with pytest.raises(CommandFailedError, match=f"there is no record {rmdir}; `elmer conflicts`") as failed:
        b.elmer("resolve", rmdir, "--acknowledge")
    assert failed.value.status == ExitStatus.NOT_SO
