"""Who may do what: mode bits, owners, groups, sticky directories, set-user-id and what takes it away."""

import errno
import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.posix.calls import as_user, fails_with, open_and_close, opened, result, umask

OWNER, MEMBER, STRANGER = 2_001, 2_002, 2_003
GROUP, OTHER_GROUP = 3_001, 3_002
# As (uid, gid, supplementary groups): who they are to a file of OWNER and GROUP.
USERS = {
    "owner": (OWNER, OTHER_GROUP, ()),
    "of the group": (MEMBER, GROUP, ()),
    "of the group beside others": (MEMBER, OTHER_GROUP, (1, GROUP, 2)),
    "other": (STRANGER, OTHER_GROUP, (1, 2)),
}


def bits_for(user: str, mode: int) -> int:
    shift = {"owner": 6, "other": 0}.get(user, 3)
    return mode >> shift & 7


@pytest.mark.parametrize("user", USERS)
def test_a_file_may_be_used_as_its_mode_says(folder: Path, user: str):
    path = folder / "f"
    shutil.copy("/bin/true", path)
    os.chown(path, OWNER, GROUP)
    for mode in (*(bits << shift for bits in range(8) for shift in (6, 3, 0)), 0o640, 0o754, 0o407, 0o070):
        os.chmod(path, mode)
        may = bits_for(user, mode)
        with as_user(*USERS[user]):
            for flags, wanted in ((os.O_RDONLY, 4), (os.O_WRONLY, 2), (os.O_RDWR, 6)):
                expected = "done" if may & wanted == wanted else "EACCES"
                assert result(open_and_close, path, flags) == expected, f"{mode:o} {flags}"
            for wanted, bit in ((os.R_OK, 4), (os.W_OK, 2), (os.X_OK, 1)):
                assert os.access(path, wanted, effective_ids=True) == bool(may & bit), f"{mode:o}"
            assert result(os.truncate, path, 10**6) == ("done" if may & 2 else "EACCES")
            assert result(os.getxattr, path, "user.x") == ("ENODATA" if may & 4 else "EACCES")
            assert result(os.setxattr, path, "user.y", b"") == ("done" if may & 2 else "EACCES")


@pytest.mark.parametrize("user", USERS)
def test_a_directory_may_be_used_as_its_mode_says(folder: Path, user: str):
    """To list takes r; to come to what is inside takes x; to make and remove takes w and x."""
    path = folder / "d"
    path.mkdir()
    (path / "sub").mkdir()
    os.chown(path, OWNER, GROUP)
    for mode in (bits << shift for bits in range(8) for shift in (6, 3, 0)):
        (path / "f").touch()
        os.chmod(path, mode)
        may = bits_for(user, mode)
        reaches, changes = bool(may & 1), may & 3 == 3
        with as_user(*USERS[user]):
            assert result(os.listdir, path) == ("done" if may & 4 else "EACCES")
            assert result(os.stat, path / "f") == ("done" if reaches else "EACCES")
            assert result(os.stat, path / "none") == ("ENOENT" if reaches else "EACCES")
            expected = "done" if changes else "EACCES"
            for make, remove in (
                (os.mkdir, os.rmdir),
                (os.mkfifo, os.unlink),
                (lambda new: os.symlink("x", new), os.unlink),
                (lambda new: os.rename(path / "f", new), lambda new: os.rename(new, path / "f")),
                (lambda new: open_and_close(new, os.O_CREAT | os.O_WRONLY), os.unlink),
            ):
                assert result(make, path / "new") == expected, f"{mode:o}"
                if changes:
                    remove(path / "new")
            # What is there, and what is not, is said first to who may look.
            assert result(os.mkdir, path / "sub") == ("EEXIST" if reaches else "EACCES")
            assert result(os.unlink, path / "f") == ("EACCES" if not changes else "done")
            assert result(os.rmdir, path / "none") == ("ENOENT" if reaches else "EACCES")
            assert result(os.unlink, path / "none") == ("ENOENT" if reaches else "EACCES")


def test_only_who_may_search_every_directory_above_comes_to_a_file(folder: Path):
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/f").write_bytes(b"text")
    os.chmod(folder / "a/b", 0o700)
    with as_user(STRANGER):
        for call in (os.stat, os.listdir, os.readlink, os.unlink, os.rmdir, os.mkdir, os.listxattr):
            assert result(call, folder / "a/b/c/f") == "EACCES", call
    os.chmod(folder / "a/b", 0o711)
    with as_user(STRANGER):
        assert (folder / "a/b/c/f").read_bytes() == b"text"


# -- sticky directories ----------------------------------------------------------------------------


def test_in_a_sticky_directory_only_owners_remove_and_rename(folder: Path):
    """The owner of the file, or the owner of the directory."""
    for file_owner, directory_owner, sticky in itertools.product(
        (OWNER, STRANGER), (MEMBER, STRANGER), (True, False)
    ):
        path = folder / "d"
        path.mkdir()
        os.chown(path, directory_owner, GROUP)
        os.chmod(path, 0o1777 if sticky else 0o777)
        for name in "fgh":
            (path / name).touch()
            os.chown(path / name, file_owner, GROUP)
        (path / "sub").mkdir()
        os.chown(path / "sub", file_owner, GROUP)
        allowed = not sticky or STRANGER in (file_owner, directory_owner)
        expected = "done" if allowed else "EPERM"
        with as_user(STRANGER):
            (path / "own").touch()
            assert result(os.unlink, path / "f") == expected
            assert result(os.rename, path / "g", path / "new") == expected
            assert result(os.rename, path / "own", path / "h") == expected
            assert result(os.rmdir, path / "sub") == expected
            assert result(os.unlink, path / "none") == "ENOENT"
        shutil.rmtree(path)


# -- owners ----------------------------------------------------------------------------------------


def test_modes_and_owners_are_kept(folder: Path):
    (folder / "f").write_bytes(b"text")
    for mode in (0o000, 0o7777, 0o4755, 0o640):
        (folder / "f").chmod(mode)
        assert stat.S_IMODE((folder / "f").stat().st_mode) == mode
    os.symlink("f", folder / "link")
    for uid, gid in ((4_000_000_000, 3_000_000_000), (4_294_967_294, 4_294_967_294), (0, 0)):
        os.chown(folder / "f", uid, gid)
        status = (folder / "f").stat()
        assert (status.st_uid, status.st_gid) == (uid, gid)
    os.chown(folder / "f", 7, -1)
    os.chown(folder / "f", -1, 8)
    assert ((folder / "f").stat().st_uid, (folder / "f").stat().st_gid) == (7, 8)
    os.chown(folder / "link", 1, 2, follow_symlinks=False)
    assert (folder / "link").lstat().st_uid == 1
    assert (folder / "f").stat().st_uid == 7


def test_only_the_owner_changes_mode_and_group_and_only_root_the_owner(folder: Path):
    path = folder / "f"
    path.touch()
    os.chmod(path, 0o666)
    os.chown(path, OWNER, GROUP)
    with as_user(STRANGER, GROUP):
        assert result(os.chmod, path, 0o777) == "EPERM"
        assert result(os.chown, path, STRANGER, -1) == "EPERM"
        assert result(os.chown, path, -1, GROUP) == "EPERM"
    with as_user(OWNER, OTHER_GROUP, (GROUP,)):
        os.chmod(path, 0o600)
        os.chown(path, -1, OTHER_GROUP)
        os.chown(path, OWNER, GROUP)
        assert result(os.chown, path, STRANGER, -1) == "EPERM"
        assert result(os.chown, path, -1, 1) == "EPERM", "a group that he is not in"
    assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (
        OWNER,
        GROUP,
        0o600,
    )


def test_what_is_made_belongs_to_who_makes_it(folder: Path):
    os.chmod(folder, 0o777)
    with as_user(OWNER, GROUP), umask(0o027):
        (folder / "f").touch()
        (folder / "d").mkdir()
        os.mkfifo(folder / "fifo")
        os.symlink("f", folder / "link")
    modes = {"f": 0o640, "d": 0o750, "fifo": 0o640, "link": 0o777}
    for name, mode in modes.items():
        status = (folder / name).lstat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (OWNER, GROUP, mode), name


def test_a_set_group_id_directory_gives_its_group(folder: Path):
    (folder / "d").mkdir()
    os.chown(folder / "d", 0, GROUP)
    os.chmod(folder / "d", 0o2777)
    with as_user(OWNER, OTHER_GROUP), umask(0o022):
        (folder / "d/f").touch()
        (folder / "d/sub").mkdir()
        os.symlink("f", folder / "d/link")
        os.mkfifo(folder / "d/fifo")
        with opened(folder / "d/g", os.O_CREAT | os.O_WRONLY, 0o2755):
            pass
    for name in ("f", "sub", "link", "fifo", "g"):
        assert (folder / "d" / name).lstat().st_gid == GROUP, name
    assert stat.S_IMODE((folder / "d/sub").stat().st_mode) == 0o2755
    assert stat.S_IMODE((folder / "d/f").stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "d/g").stat().st_mode) == 0o755, "he is not of that group"


# -- set-user-id, set-group-id ---------------------------------------------------------------------


def program(folder: Path, mode: int, uid: int = OWNER, gid: int = GROUP) -> Path:
    path = folder / "program"
    path.unlink(missing_ok=True)
    path.write_bytes(b"x" * 100)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_to(path: Path) -> None:
    with opened(path, os.O_WRONLY) as file:
        os.write(file, b"text")


def cut(path: Path) -> None:
    with opened(path, os.O_WRONLY) as file:
        os.ftruncate(file, 10)


@pytest.mark.parametrize(
    ("mode", "left"), [(0o4777, 0o777), (0o6777, 0o777), (0o2777, 0o777), (0o2767, 0o2767), (0o6766, 0o2766)]
)
def test_who_writes_takes_set_user_id_away_and_set_group_id_of_programs(folder: Path, mode: int, left: int):
    changes: dict[str, Callable[[Path], object]] = {
        "write": write_to,
        "truncate": lambda path: os.truncate(path, 10),
        "ftruncate": cut,
        "open": lambda path: open_and_close(path, os.O_WRONLY | os.O_TRUNC),
    }
    for name, change in changes.items():
        path = program(folder, mode)
        with as_user(MEMBER, GROUP):  # of another group he might take the bit away without x, too
            change(path)
        assert f"{mode_of(path):o}" == f"{left:o}", name


@pytest.mark.parametrize(
    ("mode", "left"), [(0o6777, 0o777), (0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745)]
)
def test_a_new_owner_takes_set_user_id_away(folder: Path, mode: int, left: int):
    for uid, gid in ((STRANGER, -1), (-1, OTHER_GROUP), (OWNER, GROUP)):
        path = program(folder, mode)
        os.chown(path, uid, gid)
        assert f"{mode_of(path):o}" == f"{left:o}", (uid, gid)
    path = program(folder, mode)
    with as_user(OWNER, GROUP, (OTHER_GROUP,)):
        os.chown(path, -1, OTHER_GROUP)
    assert mode_of(path) & 0o4111 == left & 0o4111


def test_a_new_owner_leaves_the_bits_of_a_directory(folder: Path):
    (folder / "d").mkdir()
    os.chmod(folder / "d", 0o7755)
    os.chown(folder / "d", OWNER, GROUP)
    assert mode_of(folder / "d") == 0o7755


def test_set_group_id_is_for_who_is_of_the_group(folder: Path):
    path = program(folder, 0o755, OWNER, OTHER_GROUP)
    with as_user(OWNER, GROUP):
        os.chmod(path, 0o2755)
    assert mode_of(path) == 0o755
    with as_user(OWNER, GROUP, (OTHER_GROUP,)):
        os.chmod(path, 0o2755)
    assert mode_of(path) == 0o2755


def test_a_set_user_id_program_runs_as_its_owner(folder: Path):
    for name, mode, expected in (("suid", 0o4755, "0"), ("plain", 0o755, str(STRANGER))):
        shutil.copy(shutil.which("id") or "/usr/bin/id", folder / name)
        os.chmod(folder / name, mode)
        ran = subprocess.run(
            [folder / name, "-u"], user=STRANGER, group=GROUP, capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == expected


def test_a_file_that_is_open_stays_open_whatever_its_mode_becomes(folder: Path):
    path = folder / "f"
    path.write_bytes(b"text")
    os.chown(path, OWNER, GROUP)
    with as_user(OWNER, GROUP), opened(path, os.O_RDWR) as file:
        os.chmod(path, 0)
        os.write(file, b"TEXT")
        assert os.pread(file, 10, 0) == b"TEXT"
        with fails_with(errno.EACCES):
            os.open(path, os.O_RDONLY)


def test_a_file_may_be_made_that_its_maker_may_not_open_again(folder: Path):
    os.chmod(folder, 0o777)
    with as_user(STRANGER):
        with opened(folder / "f", os.O_CREAT | os.O_RDWR, 0o000) as file:
            os.write(file, b"text")
            assert os.pread(file, 10, 0) == b"text"
        with fails_with(errno.EACCES):
            os.open(folder / "f", os.O_RDONLY)
