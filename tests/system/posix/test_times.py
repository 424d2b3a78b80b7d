"""Which times move with which call, and which times can be set."""

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.posix.calls import as_user, fails_with, let_time_pass, opened

libc = ctypes.CDLL(None, use_errno=True)

Act = Callable[[Path], object]


def write(path: Path, data: bytes, flags: int = 0) -> None:
    with opened(path, os.O_WRONLY | flags) as file:
        os.write(file, data)


def cut_open_file(path: Path, size: int) -> None:
    with opened(path, os.O_WRONLY) as file:
        os.ftruncate(file, size)


def seek_over(path: Path) -> None:
    with opened(path, os.O_RDWR) as file:
        os.lseek(file, 100, os.SEEK_SET)


def make_excluded(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def refused(call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(OSError):  # noqa: PT011  (any)
        call(*arguments)


# What there is: d/f, which has a second name g, and d/sub; e/x, which has a second name y, and e/sub.
# After each call, whose mtime and ctime are new: `.` is the folder.
MOVES: dict[str, tuple[Act, str]] = {
    "create": (lambda at: make_excluded(at / "d/new"), "d:mc"),
    "mkdir": (lambda at: os.mkdir(at / "d/new"), "d:mc"),
    "mknod": (lambda at: os.mknod(at / "d/new"), "d:mc"),
    "mkfifo": (lambda at: os.mkfifo(at / "d/new"), "d:mc"),
    "symlink": (lambda at: os.symlink("f", at / "d/new"), "d:mc"),
    "link": (lambda at: os.link(at / "d/f", at / "e/new"), "e:mc f:c"),
    "unlink": (lambda at: os.unlink(at / "d/f"), "d:mc f:c"),
    "rmdir": (lambda at: os.rmdir(at / "d/sub"), "d:mc"),
    "rename within": (lambda at: os.rename(at / "d/f", at / "d/new"), "d:mc f:c"),
    "rename across": (lambda at: os.rename(at / "d/f", at / "e/new"), "d:mc e:mc f:c"),
    "rename over": (lambda at: os.rename(at / "d/f", at / "e/x"), "d:mc e:mc f:c x:c"),
    "rename of a directory": (lambda at: os.rename(at / "d/sub", at / "e/new"), "d:mc e:mc"),
    "rename to the other name": (lambda at: os.rename(at / "d/f", at / "g"), ""),
    "write": (lambda at: write(at / "d/f", b"X"), "f:mc"),
    "append": (lambda at: write(at / "d/f", b"X", os.O_APPEND), "f:mc"),
    "write of nothing": (lambda at: write(at / "d/f", b""), ""),
    "open to truncate": (lambda at: write(at / "d/f", b"", os.O_TRUNC), "f:mc"),
    "open to create": (lambda at: write(at / "d/f", b"", os.O_CREAT), ""),
    "truncate": (lambda at: os.truncate(at / "d/f", 2), "f:mc"),
    "truncate to more": (lambda at: os.truncate(at / "d/f", 10_000), "f:mc"),
    "truncate to the same": (lambda at: os.truncate(at / "d/f", 4), "f:mc"),
    "ftruncate": (lambda at: cut_open_file(at / "d/f", 2), "f:mc"),
    "ftruncate to the same": (lambda at: cut_open_file(at / "d/f", 4), "f:mc"),
    "lseek": (lambda at: seek_over(at / "d/f"), ""),
    "chmod": (lambda at: os.chmod(at / "d/f", 0o600), "f:c"),
    "chmod to the same": (lambda at: os.chmod(at / "d/f", 0o644), "f:c"),
    "chmod of a directory": (lambda at: os.chmod(at / "d", 0o700), "d:c"),
    "chown": (lambda at: os.chown(at / "d/f", 3, 4), "f:c"),
    "chown to the same": (lambda at: os.chown(at / "d/f", 0, 0), "f:c"),
    "chown of a directory": (lambda at: os.chown(at / "d", 3, 4), "d:c"),
    "utimens": (lambda at: os.utime(at / "d/f"), "f:mc"),
    "utimens of a directory": (lambda at: os.utime(at / "d"), "d:mc"),
    "setxattr": (lambda at: os.setxattr(at / "d/f", "user.new", b"1"), "f:c"),
    "removexattr": (lambda at: os.removexattr(at / "d/f", "user.old"), "f:c"),
    "setxattr of a directory": (lambda at: os.setxattr(at / "d", "user.new", b"1"), "d:c"),
    "removexattr of a directory": (lambda at: os.removexattr(at / "d", "user.old"), "d:c"),
    "read": (lambda at: (at / "d/f").read_bytes(), ""),
    "list": (lambda at: os.listdir(at / "d"), ""),
    "a mkdir that fails": (lambda at: refused(os.mkdir, at / "d/f"), ""),
    "a rename that fails": (lambda at: refused(os.rename, at / "d/f", at / "e/sub"), ""),
    "an unlink that fails": (lambda at: refused(os.unlink, at / "d/sub"), ""),
    "a setxattr that fails": (
        lambda at: refused(os.setxattr, at / "d/f", "user.old", b"2", os.XATTR_CREATE),
        "",
    ),
}
# Names of which one stays, whatever is done with the other.
WATCHED = {".": ".", "d": "d", "e": "e", "f": "g", "x": "y"}


def times(folder: Path) -> dict[str, os.stat_result]:
    return {name: (folder / path).stat() for name, path in WATCHED.items()}


def moved(before: dict[str, os.stat_result], after: dict[str, os.stat_result]) -> str:
    said = []
    for name, was in before.items():
        now = after[name]
        assert now.st_mtime_ns >= was.st_mtime_ns
        assert now.st_ctime_ns >= was.st_ctime_ns
        letters = "m" * (now.st_mtime_ns > was.st_mtime_ns) + "c" * (now.st_ctime_ns > was.st_ctime_ns)
        said += [f"{name}:{letters}"] * bool(letters)
    return " ".join(said)


@pytest.mark.parametrize("call", MOVES)
def test_these_times_and_no_others_move(folder: Path, call: str):
    act, expected = MOVES[call]
    for directory in ("d", "e", "d/sub", "e/sub"):
        (folder / directory).mkdir(mode=0o755)
    (folder / "d/f").write_bytes(b"text")
    (folder / "e/x").write_bytes(b"text")
    for path in ("d/f", "d"):
        os.setxattr(folder / path, "user.old", b"1")
    (folder / "g").hardlink_to(folder / "d/f")
    (folder / "y").hardlink_to(folder / "e/x")
    os.chmod(folder / "d/f", 0o644)
    let_time_pass(folder)
    before = times(folder)
    act(folder)
    assert moved(before, times(folder)) == expected


def test_an_unlinked_file_that_is_open_has_times_too(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        let_time_pass(folder)
        before = os.fstat(file)
        os.unlink(folder / "f")
        let_time_pass(folder)
        after = os.fstat(file)
        assert after.st_ctime_ns > before.st_ctime_ns
        assert after.st_mtime_ns == before.st_mtime_ns
        os.write(file, b"more")
        assert os.fstat(file).st_mtime_ns > before.st_mtime_ns


def test_what_is_made_has_three_equal_times_not_before_its_directory_had(folder: Path):
    let_time_pass(folder)
    before = folder.stat()
    (folder / "d").mkdir()
    os.mknod(folder / "f", stat.S_IFREG | 0o644)
    for name in "df":
        made = (folder / name).stat()
        assert made.st_atime_ns == made.st_mtime_ns == made.st_ctime_ns > before.st_mtime_ns


def test_what_is_touched_after_something_was_written_is_not_older(folder: Path):
    """Or make(1) builds it again.  The time that the kernel calls "now" goes on by ticks."""
    for _ in range(50):
        (folder / "source").write_bytes(b"text")
        (folder / "target").touch()
        assert (folder / "target").stat().st_mtime_ns >= (folder / "source").stat().st_mtime_ns


# -- setting them ----------------------------------------------------------------------------------


def test_times_are_kept_to_the_nanosecond(folder: Path):
    (folder / "f").write_bytes(b"text")
    os.utime(folder / "f", ns=(1_234_567_890_123_456_789, 987_654_321_012_345_678))
    assert (folder / "f").stat().st_mtime_ns == 987_654_321_012_345_678
    assert (folder / "f").stat().st_atime_ns == 1_234_567_890_123_456_789
    os.utime(folder, ns=(1, 1))
    assert folder.stat().st_mtime_ns == 1
    (folder / "g").touch()
    assert folder.stat().st_mtime_ns > 1


def test_times_before_1970_are_kept(folder: Path):
    (folder / "f").touch()
    for second in (-1, -86_400, -2_147_483_600):
        wanted = second * 1_000_000_000 + 1
        os.utime(folder / "f", ns=(wanted, wanted))
        found = (folder / "f").stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (wanted, wanted)


@pytest.mark.parametrize("year", ["-292277022657", "1", "1600", "2300", "9999", "292277026596"])
def test_a_time_beyond_what_is_kept_becomes_the_nearest_that_is(folder: Path, year: str):
    """As in all file systems of Linux: no error, whatever time_t can hold."""
    second = max(-(1 << 63), min((1 << 63) - 1, (int(year) - 1970) * 31_556_952))
    (folder / "f").touch()
    (folder / "d").mkdir()
    for path in (folder / "f", folder / "d"):
        set_times(path, (second, 5), (second, 5))
        found = path.stat()
        assert found.st_mtime == found.st_atime
        assert (found.st_mtime < 0) == (second < 0)
        assert abs(found.st_mtime) <= abs(second)
    assert sorted(os.listdir(folder)) == ["d", "f"]


UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100


def set_times(path: Path, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    """utimensat(2) itself: os.utime has no UTIME_NOW and UTIME_OMIT, nor all seconds.  Raises OSError."""
    times = (ctypes.c_int64 * 4)(*atime, *mtime)
    if libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_one_time_can_be_left_as_it_is_and_the_other_set(folder: Path):
    path = folder / "f"
    path.touch()
    os.utime(path, ns=(10, 20))
    set_times(path, (0, UTIME_OMIT), (0, 30))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (10, 30)
    set_times(path, (0, 40), (0, UTIME_OMIT))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (40, 30)
    set_times(path, (0, UTIME_OMIT), (0, UTIME_NOW))
    assert path.stat().st_atime_ns == 40
    assert path.stat().st_mtime_ns > 10**18
    set_times(path, (0, UTIME_NOW), (0, 50))
    assert path.stat().st_mtime_ns == 50
    assert path.stat().st_atime_ns > 10**18


def test_an_access_time_that_is_set_moves_the_ctime_and_none_that_is_left(folder: Path):
    path = folder / "f"
    path.touch()
    let_time_pass(folder)
    before = path.stat()
    set_times(path, (0, UTIME_OMIT), (0, UTIME_OMIT))
    assert path.stat() == before
    set_times(path, (0, 40), (0, UTIME_OMIT))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ctime_ns > before.st_ctime_ns


def test_the_times_of_a_symlink_are_its_own(folder: Path):
    (folder / "f").touch()
    (folder / "link").symlink_to("f")
    set_times(folder / "link", (0, 1), (0, 2), AT_SYMLINK_NOFOLLOW)
    assert (folder / "link").lstat().st_mtime_ns == 2
    assert (folder / "f").stat().st_mtime_ns > 2
    set_times(folder / "link", (0, 1), (0, 3))
    assert (folder / "link").lstat().st_mtime_ns == 2
    assert (folder / "f").stat().st_mtime_ns == 3


def test_nanoseconds_that_are_none_are_refused(folder: Path):
    (folder / "f").touch()
    for nanoseconds in (-1, 1_000_000_000):
        with fails_with(errno.EINVAL):
            set_times(folder / "f", (0, nanoseconds), (0, 0))


def test_who_may_write_may_set_times_to_now_and_only_the_owner_to_another(folder: Path):
    (folder / "f").touch()
    os.chmod(folder / "f", 0o666)
    os.utime(folder / "f", ns=(1, 1))
    with as_user(1_000):
        os.utime(folder / "f")
        with fails_with(errno.EPERM):
            os.utime(folder / "f", ns=(5, 5))
        with fails_with(errno.EPERM):
            set_times(folder / "f", (0, UTIME_NOW), (0, UTIME_OMIT))
    assert (folder / "f").stat().st_mtime_ns > 5
    os.chmod(folder / "f", 0o644)
    with as_user(1_000), fails_with(errno.EACCES):
        os.utime(folder / "f")
    os.chown(folder / "f", 1_000, 1_000)
    os.chmod(folder / "f", 0o000)
    with as_user(1_000):
        os.utime(folder / "f", ns=(5, 5))
        os.utime(folder / "f")


# -- access times ----------------------------------------------------------------------------------


def read_anew(path: Path, flags: int = 0) -> None:
    """Read so that the file system sees it."""
    with opened(path, os.O_RDONLY | flags) as file:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.read(file, 100)


def test_the_first_read_after_a_change_moves_the_access_time(folder: Path):
    """`relatime`, which is what Linux mounts with."""
    path = folder / "f"
    path.write_bytes(b"text")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    let_time_pass(folder)
    before = path.stat()
    read_anew(path)
    first = path.stat()
    assert first.st_atime_ns > before.st_atime_ns
    assert (first.st_mtime_ns, first.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    let_time_pass(folder)
    read_anew(path)
    assert path.stat().st_atime_ns == first.st_atime_ns, "it was read after its last change already"
    write(path, b"more")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    assert path.stat().st_atime_ns == first.st_atime_ns, "to write is not to read"
    let_time_pass(folder)
    read_anew(path)
    assert path.stat().st_atime_ns > first.st_atime_ns


def test_an_access_time_of_long_ago_moves(folder: Path):
    path = folder / "f"
    path.write_bytes(b"text")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    long_ago = path.stat().st_mtime_ns - 25 * 3_600 * 10**9
    os.utime(path, ns=(long_ago + 5, long_ago))
    read_anew(path, os.O_NOATIME)
    assert path.stat().st_atime_ns == long_ago + 5
    read_anew(path)
    assert path.stat().st_atime_ns > long_ago + 5


def test_listing_a_directory_and_reading_a_symlink_move_their_access_times(folder: Path):
    (folder / "d").mkdir()
    (folder / "link").symlink_to("target")
    for path, read in ((folder / "d", os.listdir), (folder / "link", os.readlink)):
        let_time_pass(folder)
        before = path.lstat().st_atime_ns
        read(path)
        first = path.lstat().st_atime_ns
        assert first > before
        let_time_pass(folder)
        read(path)
        assert path.lstat().st_atime_ns == first


def test_a_change_of_a_directory_leaves_its_access_time(folder: Path):
    before = folder.stat().st_atime_ns
    let_time_pass(folder)
    (folder / "f").touch()
    (folder / "f").unlink()
    assert folder.stat().st_atime_ns == before
