"""Merge policies through real mounts: how one is chosen."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.system.sites import Site, cut, elmer, heal, meet

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
