"""The llfuse adapter on a real mount, over a file system that fails at certain names (faulty_mount)."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from elmer.fuse import WAITING_MAX, mount_options
from elmer.mounts import mount_of, unmount
from tests.system.waiting import until

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parents[2]


class FaultyMount:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "mount"
        self.gate = directory / "gate"
        self.bugs = directory / "gate.bugs"
        self.log = directory / "log"
        self.path.mkdir()
        self.bugs.mkdir()
        command = [sys.executable, "-m", "tests.elmer.faulty_mount", str(self.path), str(self.gate)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout.readline() == b"mounted\n", self.log.read_text()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextlib.contextmanager
    def bug_in(self, name: str) -> Iterator[None]:
        (self.bugs / name).touch()
        try:
            yield
        finally:
            (self.bugs / name).unlink()

    def assert_lives(self) -> None:
        """A request is answered, a second one too, and the process is there."""
        probe = self / "probe"
        probe.write_bytes(b"alive")
        assert probe.read_bytes() == b"alive"
        probe.unlink()
        assert self.process.poll() is None

    def end(self) -> None:
        with contextlib.suppress(OSError):
            unmount(self.path, lazily=True)
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def mount(scratch: Path) -> Iterator[FaultyMount]:
    faulty = FaultyMount(scratch)
    try:
        yield faulty
    finally:
        faulty.end()
    assert faulty.process.returncode == 0, faulty.log.read_text()


@pytest.mark.parametrize("chosen", [(), ("dev",), ("nosuid",), ("nodev", "nosuid"), ("noexec", "nosuid")])
def test_who_is_not_root_has_devices_and_set_user_id_only_where_he_asks_and_root_unless_he_asks(chosen):
    of_root = mount_options("source", chosen, for_all_users=True)
    for option in ("dev", "suid"):
        assert (option in of_root) == (f"no{option}" not in chosen)
        assert (option in mount_options("source", chosen, for_all_users=False)) == (option in chosen)
    assert set(chosen) <= of_root


def errno_of(call, *arguments) -> int:
    with pytest.raises(OSError) as raised:  # noqa: PT011  (its number is what is returned)
        call(*arguments)
    return raised.value.errno


def test_a_bug_in_a_handler_is_eio_and_the_mount_goes_on(mount):
    assert errno_of(os.stat, mount / "bug") == errno.EIO
    mount.assert_lives()
    log = mount.log.read_text()
    assert "lookup failed" in log
    assert "ZeroDivisionError: a bug in a look-up" in log


def test_a_bug_in_any_handler_is_eio_for_who_asked_and_for_nobody_else(mount):
    directory, file, link, other = mount / "d", mount / "f", mount / "l", mount / "other"
    directory.mkdir()
    link.symlink_to("f")
    file.write_bytes(b"content")
    os.setxattr(file, "user.a", b"1")
    opened = os.open(file, os.O_RDWR)
    listed = os.open(directory, os.O_RDONLY)
    requests: dict[str, Callable[[], object]] = {
        "getattr": lambda: (drop_pages(file), os.pread(opened, 7, 0), os.fstat(opened)),
        "setattr": lambda: file.chmod(0o600),
        "readlink": lambda: os.readlink(link),
        "mknod": lambda: os.mkfifo(other),
        "mkdir": other.mkdir,
        "symlink": lambda: other.symlink_to("f"),
        "link": lambda: os.link(file, other),
        "unlink": file.unlink,
        "rmdir": directory.rmdir,
        "rename": lambda: file.rename(other),
        "create": other.touch,
        "open": file.read_bytes,
        "read": lambda: (drop_pages(file), os.pread(opened, 7, 0)),
        "write": lambda: os.pwrite(opened, b"x", 0),
        "flush": lambda: os.close(os.dup(opened)),
        "fsync": lambda: os.fsync(opened),
        "sync": lambda: os.fsync(listed),
        "opendir": lambda: os.listdir(directory),
        "readdir": lambda: os.listdir(directory),
        "getxattr": lambda: os.getxattr(file, "user.a"),
        "setxattr": lambda: os.setxattr(file, "user.a", b"2"),
        "listxattr": lambda: os.listxattr(file),
        "removexattr": lambda: os.removexattr(file, "user.a"),
        "fetch": (mount / "gone").read_bytes,
    }
    (mount / "gone").write_bytes(b"x" * 100)
    drop_pages(mount / "gone")
    for name, call in requests.items():
        with mount.bug_in(name):
            assert errno_of(call) == errno.EIO, name
        mount.assert_lives()
        assert f"ZeroDivisionError: a bug in {name}" in mount.log.read_text()
    for name in ("release", "releasedir"):  # nobody is told
        with mount.bug_in(name):
            os.close(opened if name == "release" else listed)
            until(lambda name=name: f"a bug in {name}" in mount.log.read_text(), f"{name} is called")
        mount.assert_lives()
    assert file.read_bytes() == b"content"
    assert sorted(os.listdir(mount.path)) == ["d", "f", "gone", "l", "raced"]


def test_a_mount_that_lost_track_of_a_commit_is_read_only_and_goes_on(mount):
    """To write on would use the number of that commit again, and one of the two would be lost."""
    (mount / "f").write_bytes(b"content")
    assert errno_of((mount / "lost").mkdir) == errno.EIO
    assert "mkdir failed" in mount.log.read_text()
    for change in ((mount / "g").touch, (mount / "d").mkdir, (mount / "f").unlink):
        assert errno_of(change) == errno.EROFS
    drop_pages(mount / "f")
    assert (mount / "f").read_bytes() == b"content"
    assert sorted(os.listdir(mount.path)) == ["f", "lost", "raced"]


def test_an_error_without_a_number_is_eio(mount):
    assert errno_of(os.stat, mount / "without-errno") == errno.EIO
    mount.assert_lives()


def test_a_bug_in_readdir_is_eio_and_the_mount_goes_on(mount):
    broken = mount / "broken-directory"
    broken.mkdir()
    for name in "ab":
        (broken / name).touch()
    assert errno_of(os.listdir, broken) == errno.EIO
    mount.assert_lives()


def test_a_bug_in_forget_ends_nothing(mount):
    target = mount / "unforgettable"
    target.touch()
    target.unlink()
    until(lambda: "forget failed" in mount.log.read_text(), "the kernel forgets the file")
    mount.assert_lives()


def test_what_no_peer_has_is_eio_at_once(mount):
    (mount / "gone").write_bytes(b"x" * 100)
    drop_pages(mount / "gone")
    assert errno_of((mount / "gone").read_bytes) == errno.EIO
    mount.assert_lives()


def test_reads_that_wait_for_blocks_leave_a_worker_for_all_others(mount):
    names = [f"late-{number}" for number in range(WAITING_MAX)]
    for name in names:
        (mount / name).write_bytes(name.encode())
        drop_pages(mount / name)
    with ThreadPoolExecutor(len(names)) as pool:
        reads = [pool.submit((mount / name).read_bytes) for name in names]
        until(lambda: waiting_readers(mount) == len(names), "all of them wait")
        mount.assert_lives()
        assert not any(read.done() for read in reads)
        mount.gate.touch()
        assert [read.result(60) for read in reads] == [name.encode() for name in names]


def test_more_reads_than_may_wait_are_answered_too(mount):
    names = [f"late-{number}" for number in range(3 * WAITING_MAX)]
    for name in names:
        (mount / name).write_bytes(name.encode())
        drop_pages(mount / name)
    with ThreadPoolExecutor(len(names)) as pool:
        reads = [pool.submit((mount / name).read_bytes) for name in names]
        mount.gate.touch()
        assert [read.result(60) for read in reads] == [name.encode() for name in names]


def test_attributes_that_changed_while_a_look_up_was_answered_are_seen(mount):
    """llfuse-facts R2: the reply of a look-up of an inode that is new to the kernel comes after the
    notification about it.  Without telling it again, the old mode would show for ever."""
    # Made before it was mounted.  Held, so that no shortage of memory has it looked up anew.
    raced = os.open(mount / "raced", os.O_PATH)
    try:
        until(lambda: os.fstat(raced).st_mode & 0o777 == 0o600, "the new mode", deadline_s=30)
    finally:
        os.close(raced)


def test_acls_are_refused_since_nobody_would_enforce_them(mount):
    (mount / "f").touch()
    acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\0\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff"
    assert errno_of(os.setxattr, mount / "f", "system.posix_acl_access", acl) == errno.EOPNOTSUPP
    assert errno_of(os.getxattr, mount / "f", "system.posix_acl_access") in (
        errno.EOPNOTSUPP,
        errno.ENODATA,
    )
    mount.assert_lives()


def test_xattr_flags_reach_what_is_there(mount):
    (mount / "f").touch()
    assert errno_of(os.setxattr, mount / "f", "user.a", b"1", os.XATTR_REPLACE) == errno.ENODATA
    os.setxattr(mount / "f", "user.a", b"1", os.XATTR_CREATE)
    assert errno_of(os.setxattr, mount / "f", "user.a", b"2", os.XATTR_CREATE) == errno.EEXIST
    os.setxattr(mount / "f", "user.a", b"2", os.XATTR_REPLACE)
    assert os.getxattr(mount / "f", "user.a") == b"2"
    assert os.listxattr(mount / "f") == ["user.a"]
    mount.assert_lives()


def test_a_capability_is_seen_though_its_absence_is_remembered(mount):
    capability = b"\x01\0\0\x02" + b"\0\x04\0\0" + b"\0" * 12  # VFS_CAP_REVISION_2, cap_net_bind
    path = mount / "f"
    path.write_bytes(b"x")  # which asks for it, in vain
    assert errno_of(os.getxattr, path, "security.capability") == errno.ENODATA
    os.setxattr(path, "security.capability", capability)
    assert os.getxattr(path, "security.capability") == capability
    os.removexattr(path, "security.capability")
    assert errno_of(os.getxattr, path, "security.capability") == errno.ENODATA


def test_a_program_is_told_to_use_large_buffers(mount):
    (mount / "f").touch()
    assert (mount / "f").stat().st_blksize == 128 << 10


def test_statfs_is_that_of_the_disk(mount):
    ours, disk = os.statvfs(mount.path), os.statvfs("/")
    assert (ours.f_blocks, ours.f_frsize, ours.f_namemax) == (disk.f_blocks, disk.f_frsize, 255)


def test_the_source_of_the_mount_names_the_store(mount):
    assert mount_of(mount.path).store == Path("/nowhere/of, spaces")


def test_no_child_can_inherit_the_device(mount):
    process = Path(f"/proc/{mount.process.pid}")
    (device,) = [fd for fd in (process / "fd").iterdir() if os.readlink(fd) == "/dev/fuse"]
    flags = next(
        line for line in (process / "fdinfo" / device.name).read_text().splitlines() if "flags" in line
    )
    assert int(flags.split()[1], 8) & os.O_CLOEXEC


def drop_pages(path: Path) -> None:
    """Have the kernel read the file anew."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def waiting_readers(mount: FaultyMount) -> int:
    return mount.log.read_text().count("waits for blocks")
