"""Names, paths, links and renames: what leads where, and which error comes where nothing does."""

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.posix.calls import fails_with, open_and_close, opened, result
from tests.system.trees import assert_equal, look


def test_names_are_bytes(folder: Path):
    inside = os.fsencode(folder) + b"/"
    names = [b"\xff\xfe\x80", b"line\nbreak", b" ", b"-rf", b"...", b"a\\b", b"*", b"\x01\x7f"]
    names += ["é".encode(), "e\u0301".encode(), b"Case", b"case", b"x" * 255]
    for name in names:
        with opened(inside + name, os.O_CREAT | os.O_WRONLY) as file:
            os.write(file, name)
    assert sorted(os.listdir(inside)) == sorted(names)
    for name in names:
        with open(inside + name, "rb") as file:
            assert file.read() == name
        os.rename(inside + name, inside + b"moved")
        os.unlink(inside + b"moved")
    assert os.listdir(inside) == []


# Every call that takes a path; `at` is there or not as the test wants it.
BY_PATH: dict[str, Callable[[Path, Path], object]] = {
    "access": lambda at, _: os.access(at, os.F_OK) or os.stat(at),
    "chmod": lambda at, _: os.chmod(at, 0o600),
    "chown": lambda at, _: os.chown(at, 1, 1),
    "getxattr": lambda at, _: os.getxattr(at, "user.x"),
    "link from": lambda at, other: os.link(at, other / "new"),
    "link to": lambda at, other: os.link(other / "file", at),
    "listxattr": lambda at, _: os.listxattr(at),
    "lstat": lambda at, _: os.lstat(at),
    "mkdir": lambda at, _: os.mkdir(at),
    "mkfifo": lambda at, _: os.mkfifo(at),
    "mknod": lambda at, _: os.mknod(at),
    "open": lambda at, _: open_and_close(at, os.O_RDONLY),
    "open to create": lambda at, _: open_and_close(at, os.O_CREAT | os.O_WRONLY),
    "open to exclude": lambda at, _: open_and_close(at, os.O_CREAT | os.O_EXCL),
    "readlink": lambda at, _: os.readlink(at),
    "removexattr": lambda at, _: os.removexattr(at, "user.x"),
    "rename from": lambda at, other: os.rename(at, other / "new"),
    "rename to": lambda at, other: os.rename(other / "file", at),
    "rmdir": lambda at, _: os.rmdir(at),
    "setxattr": lambda at, _: os.setxattr(at, "user.x", b"1"),
    "stat": lambda at, _: os.stat(at),
    "statvfs": lambda at, _: os.statvfs(at),
    "symlink": lambda at, _: os.symlink("target", at),
    "truncate": lambda at, _: os.truncate(at, 1),
    "unlink": lambda at, _: os.unlink(at),
    "utimensat": lambda at, _: os.utime(at),
}
MAKING = {"link to", "mkdir", "mkfifo", "mknod", "open to create", "open to exclude", "rename to", "symlink"}
# Where the last part of a path is a symlink: those that follow it.
FOLLOWING = {
    "access", "chmod", "chown", "getxattr", "listxattr", "open", "open to create", "removexattr", "setxattr",
    "stat", "statvfs", "truncate", "utimensat",
}  # fmt: skip


@pytest.fixture
def other(folder: Path) -> Path:
    """A directory with what calls of two paths need."""
    (folder / "other").mkdir()
    (folder / "other/file").touch()
    return folder / "other"


@pytest.mark.parametrize("call", BY_PATH)
def test_the_error_of_each_call_by_the_path_it_is_given(folder: Path, other: Path, call: str):
    act = BY_PATH[call]
    (folder / "file").touch()
    (folder / "loop").symlink_to("loop")
    before = look(folder)

    def found(path: Path | str) -> str:
        return result(lambda: act(folder / path, other))

    expected = {
        "x" * 256: "ENAMETOOLONG",
        "none/x": "ENOENT",
        "file/x": "ENOTDIR",
        "loop/x": "ELOOP",
        "x" * 256 + "/x": "ENAMETOOLONG",
        "none/" + "x" * 256: "ENOENT",
        "file/" + "x" * 256: "ENOTDIR",
        "d/" * 2_048 + "x": "ENAMETOOLONG",
    }
    assert {path: found(path) for path in expected} == expected
    if call not in MAKING:
        assert found("x" * 255) == "ENOENT"
    if call in FOLLOWING:
        assert found("loop") == "ELOOP"
    assert_equal(look(folder), before)


def test_a_path_of_4095_bytes_is_none_too_long(folder: Path):
    path = os.fsencode(folder)
    path += b"/." * ((4_095 - len(path) - 3) // 2) + b"/"
    path += b"x" * (4_095 - len(path))
    assert len(path) == 4_095
    os.mknod(path)
    os.unlink(path)
    with fails_with(errno.ENAMETOOLONG):
        os.mknod(path + b"x")


def test_a_path_may_be_deeper_than_path_max(folder: Path):
    before = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(60):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        with opened(Path("bottom"), os.O_CREAT | os.O_WRONLY) as file:
            os.write(file, b"deep")
        assert Path("bottom").read_bytes() == b"deep"
    finally:
        os.chdir(before)
    subprocess.run(["rm", "-rf", "--", folder], check=True)
    assert not folder.exists()
    folder.mkdir()


# -- what is there already -------------------------------------------------------------------------


def test_nothing_is_made_where_something_is(folder: Path, other: Path):
    (folder / "file").touch()
    (folder / "directory").mkdir()
    (folder / "dangling").symlink_to("none")
    before = look(folder)
    for name in ("file", "directory", "dangling"):
        for call in ("mkdir", "mkfifo", "mknod", "symlink", "link to", "open to exclude"):
            assert result(BY_PATH[call], folder / name, other) == "EEXIST", (call, name)
    for call in ("mkdir", "symlink", "mknod"):
        for path in (".", "..", "directory/.", "/"):
            assert result(BY_PATH[call], folder / path, other) == "EEXIST", (call, path)
    assert_equal(look(folder), before)


def test_a_file_is_made_where_a_symlink_points_to_nothing(folder: Path):
    (folder / "dangling").symlink_to("none")
    with opened(folder / "dangling", os.O_CREAT | os.O_WRONLY) as file:
        os.write(file, b"text")
    assert (folder / "none").read_bytes() == b"text"


def test_a_slash_at_the_end_is_for_directories(folder: Path):
    (folder / "file").touch()
    (folder / "directory").mkdir()
    (folder / "to-directory").symlink_to("directory")
    inside = os.fsencode(folder) + b"/"
    assert result(os.stat, inside + b"file/") == "ENOTDIR"
    assert result(os.mknod, inside + b"new/") == "ENOENT"
    assert result(os.open, inside + b"new/", os.O_CREAT | os.O_WRONLY) == "EISDIR"
    assert result(os.unlink, inside + b"file/") == "ENOTDIR"
    assert result(os.rename, inside + b"file", inside + b"new/") == "ENOTDIR"
    assert result(os.rmdir, inside + b"to-directory/") == "ENOTDIR"
    assert stat.S_ISDIR(os.lstat(inside + b"to-directory/").st_mode)
    os.mkdir(inside + b"made/")
    os.rename(inside + b"made/", inside + b"moved/")
    os.rmdir(inside + b"moved/")
    assert sorted(os.listdir(folder)) == ["directory", "file", "to-directory"]


# -- removing --------------------------------------------------------------------------------------


def test_what_cannot_be_removed_stays(folder: Path):
    (folder / "file").touch()
    (folder / "full/sub").mkdir(parents=True)
    (folder / "link").symlink_to("full")
    before = look(folder)
    for path, unlinked, removed in (
        ("file", None, "ENOTDIR"),
        ("full", "EISDIR", "ENOTEMPTY"),
        ("full/sub/.", "EISDIR", "EINVAL"),
        ("full/sub/..", "EISDIR", "ENOTEMPTY"),
        ("link", None, "ENOTDIR"),
        ("none", "ENOENT", "ENOENT"),
        ("/", "EISDIR", "EBUSY"),
    ):
        if unlinked is not None:
            assert result(os.unlink, os.path.join(folder, path)) == unlinked, path
        assert result(os.rmdir, os.path.join(folder, path)) == removed, path
    assert_equal(look(folder), before)


# -- renames ---------------------------------------------------------------------------------------


def test_a_rename_replaces_and_open_descriptors_keep_the_old_file(folder: Path):
    (folder / "old").write_bytes(b"old")
    (folder / "new").write_bytes(b"new")
    number = (folder / "new").stat().st_ino
    with opened(folder / "old", os.O_RDONLY) as file:
        (folder / "new").rename(folder / "old")
        assert os.read(file, 10) == b"old"
        assert os.fstat(file).st_nlink == 0
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"new"
    assert (folder / "old").stat().st_ino == number


def test_renames_that_make_no_sense_are_refused_and_change_nothing(folder: Path):
    (folder / "file").write_bytes(b"f")
    (folder / "full" / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("empty")
    before = look(folder)
    for source, target, number in (
        ("file", "empty", "EISDIR"),
        ("file", "full", "EISDIR"),
        ("link", "empty", "EISDIR"),
        ("full", "file", "ENOTDIR"),
        ("full", "link", "ENOTDIR"),
        ("empty", "full", "ENOTEMPTY"),
        ("full/sub", "full", "ENOTEMPTY"),
        ("full", "full/sub", "EINVAL"),
        ("full", "full/sub/in", "EINVAL"),
        ("full", "full/new", "EINVAL"),
        ("none", "file", "ENOENT"),
        ("none", "none", "ENOENT"),
        ("file", "none/file", "ENOENT"),
        ("file", "file/f", "ENOTDIR"),
        ("file", "x" * 256, "ENAMETOOLONG"),
        ("full/.", "new", "EBUSY"),
        ("full/sub/..", "new", "EBUSY"),
        ("empty", "full/.", "EBUSY"),
        (".", "new", "EBUSY"),
    ):
        assert result(os.rename, os.path.join(folder, source), os.path.join(folder, target)) == number, (
            source,
            target,
        )
    assert_equal(look(folder), before)


def test_a_directory_replaces_an_empty_one(folder: Path):
    (folder / "full" / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "full").rename(folder / "empty")
    assert os.listdir(folder) == ["empty"]
    assert os.listdir(folder / "empty") == ["sub"]


def test_a_rename_between_two_names_of_one_file_does_nothing(folder: Path):
    (folder / "f").write_bytes(b"text")
    (folder / "g").hardlink_to(folder / "f")
    os.rename(folder / "f", folder / "g")
    os.rename(folder / "f", folder / "f")
    assert sorted(os.listdir(folder)) == ["f", "g"]


def test_nothing_moves_or_is_linked_to_another_file_system(folder: Path):
    (folder / "f").touch()
    (folder / "d").mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (Path(elsewhere) / "f").touch()
        for name in ("f", "d"):
            assert result(os.rename, folder / name, Path(elsewhere) / "new") == "EXDEV"
        assert result(os.link, folder / "f", Path(elsewhere) / "new") == "EXDEV"
        assert result(os.rename, Path(elsewhere) / "f", folder / "new") == "EXDEV"
        assert result(os.link, Path(elsewhere) / "f", folder / "new") == "EXDEV"
    assert sorted(os.listdir(folder)) == ["d", "f"]


# -- hard links ------------------------------------------------------------------------------------


def test_hard_links_are_names_of_one_file(folder: Path):
    (folder / "f").write_bytes(b"text")
    (folder / "sub").mkdir()
    (folder / "g").hardlink_to(folder / "f")
    (folder / "sub" / "h").hardlink_to(folder / "g")
    assert len({(folder / name).stat().st_ino for name in ("f", "g", "sub/h")}) == 1
    assert (folder / "f").stat().st_nlink == 3
    (folder / "g").write_bytes(b"changed")
    (folder / "f").unlink()
    assert (folder / "sub" / "h").read_bytes() == b"changed"
    assert (folder / "g").stat().st_nlink == 2
    with fails_with(errno.EEXIST):
        (folder / "g").hardlink_to(folder / "sub" / "h")
    with fails_with(errno.EPERM):
        (folder / "dirlink").hardlink_to(folder / "sub")


def test_symlinks_fifos_sockets_and_devices_have_further_names_too(folder: Path):
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name in ("link", "fifo", "socket", "device"):
        os.link(folder / name, folder / f"{name}-2", follow_symlinks=False)
        os.unlink(folder / name)
        assert (folder / f"{name}-2").lstat().st_nlink == 1
    assert os.readlink(folder / "link-2") == "nowhere"


def test_an_open_file_that_lost_its_name_gets_none_again(folder: Path):
    with (
        opened(folder, os.O_RDONLY | os.O_DIRECTORY) as directory,
        opened(folder / "f", os.O_CREAT | os.O_RDWR) as file,
    ):
        os.unlink(folder / "f")
        with fails_with(errno.ENOENT):  # a call of two directories, to have the symlink in /proc followed
            os.link(f"/proc/self/fd/{file}", "g", src_dir_fd=directory, dst_dir_fd=directory)
    assert os.listdir(folder) == []


# -- symlinks --------------------------------------------------------------------------------------


def test_symlinks_hold_their_target_as_it_is(folder: Path):
    inside = os.fsencode(folder) + b"/"
    for target in (b"f", b"../x/./y", b"\xff\n", b"/", b"t" * 4_095, b"d/" * 2_047 + b"x"):
        os.symlink(target, inside + b"link")
        assert os.readlink(inside + b"link") == target
        assert os.lstat(inside + b"link").st_size == len(target)
        assert stat.S_IMODE(os.lstat(inside + b"link").st_mode) == 0o777
        os.unlink(inside + b"link")
    with fails_with(errno.ENAMETOOLONG):
        os.symlink(b"t" * 4_096, inside + b"link")
    with fails_with(errno.ENOENT):
        os.symlink(b"", inside + b"link")
    os.mknod(inside + b"file")
    with fails_with(errno.EINVAL):
        os.readlink(inside + b"file")


def test_forty_symlinks_are_followed_and_no_more(folder: Path):
    (folder / "link-0").write_bytes(b"the end")
    for number in range(1, 42):
        (folder / f"link-{number}").symlink_to(f"link-{number - 1}")
    assert (folder / "link-40").read_bytes() == b"the end"
    with fails_with(errno.ELOOP):
        (folder / "link-41").read_bytes()
    with fails_with(errno.ELOOP):
        os.open(folder / "link-1", os.O_RDONLY | os.O_NOFOLLOW)
