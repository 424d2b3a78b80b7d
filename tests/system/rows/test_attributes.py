"""Rows 14, 15 and 26 of docs/conflicts.md: modes, owners and extended attributes."""

import os
import stat
import subprocess
from pathlib import Path

from tests.system.rows.folder import Folder, make, run, write


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def prepare(here: Path, bits: int) -> None:
    make(here, {"f": b"text"})
    (here / "f").chmod(bits)


def test_row_14_concurrent_chmods_show_the_bits_that_all_of_them_leave(folder: Folder):
    folder.share(lambda here: prepare(here, 0o666))
    run(os.chmod, folder.a / "f", 0o640)
    run(os.chmod, folder.b / "f", 0o606)
    assert [mode(here / "f") for here in (folder.a, folder.b, folder.c)] == [0o640, 0o606, 0o666]
    folder.shown()
    assert mode(folder.c / "f") == 0o600


def test_row_14_of_concurrent_chowns_the_last_one_holds_and_setuid_is_cleared(folder: Folder):
    folder.share(lambda here: prepare(here, 0o755))
    run(os.chmod, folder.a / "f", 0o4755)
    run(os.chown, folder.b / "f", 1001, 1002)
    run(os.chown, folder.c / "f", 2001, 2002)
    assert [mode(here / "f") for here in (folder.a, folder.b, folder.c)] == [0o4755, 0o755, 0o755]
    folder.shown()
    status = (folder.a / "f").stat()
    assert (status.st_uid, status.st_gid) == (2001, 2002)
    assert mode(folder.a / "f") == 0o755


def test_row_14_set_user_id_does_not_show_with_what_another_site_wrote(folder: Folder):
    folder.share(lambda here: prepare(here, 0o755))
    run(os.chmod, folder.a / "f", 0o4755)
    write(folder.b / "f", b"another program")
    assert [mode(here / "f") for here in (folder.a, folder.b)] == [0o4755, 0o755]
    assert folder.shown() == {"f": b"another program"}
    assert mode(folder.a / "f") == 0o755


def test_row_15_a_write_stays_that_was_allowed_where_it_was_made(folder: Folder):
    folder.share(lambda here: prepare(here, 0o666))
    run(os.chmod, folder.a / "f", 0o644)
    run(write_as_another, folder.b / "f")
    assert [(here / "f").read_bytes() for here in (folder.a, folder.b)] == [b"text", b"by another\n"]
    assert folder.shown() == {"f": b"by another\n"}
    assert mode(folder.b / "f") == 0o644
    assert write_as_another(folder.b / "f") != 0
    assert folder.records() == [("f", "rights", "b", "a")]
    write(folder.c / "f", b"by root, who has seen both")
    folder.shown()
    assert folder.records() == []


def test_row_26_of_extended_attributes_the_last_set_holds_and_set_beats_remove(folder: Folder):
    def with_attributes(here: Path) -> None:
        make(here, {"f": b"text"})
        for name in ("user.both", "user.one"):
            os.setxattr(here / "f", name, b"old")

    folder.share(with_attributes)
    run(os.setxattr, folder.a / "f", "user.both", b"a")
    run(os.setxattr, folder.a / "f", "user.one", b"a")
    run(os.setxattr, folder.b / "f", "user.both", b"b")
    run(os.removexattr, folder.b / "f", "user.one")
    assert os.listxattr(folder.b / "f") == ["user.both"]
    folder.shown()
    found = {name: os.getxattr(folder.c / "f", name) for name in os.listxattr(folder.c / "f")}
    assert found == {"user.both": b"b", "user.one": b"a"}


def write_as_another(path: Path) -> int:
    """Write as another user than the one who has the file; return the exit status."""
    command = ["sh", "-c", 'echo by another >"$1"', "sh", path]
    done = subprocess.run(command, user=1001, group=1001, capture_output=True, timeout=60, check=False)
    return done.returncode
