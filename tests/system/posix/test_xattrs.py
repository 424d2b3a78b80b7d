"""Extended attributes."""

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.system.posix.calls import as_user, fails_with, opened, result

LARGE = 60_000  # ext4 has room for some 4,000 bytes; XATTR_SIZE_MAX of Linux is 65,536


def test_xattrs_of_files_and_directories_are_kept(folder: Path):
    (folder / "f").touch()
    (folder / "d").mkdir()
    for name in ("f", "d"):
        path = folder / name
        os.setxattr(path, "user.binary", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
        assert sorted(os.listxattr(path)) == ["user.binary", "user.empty"]
        assert os.getxattr(path, "user.binary") == bytes(range(256))
        assert os.getxattr(path, "user.empty") == b""
        os.setxattr(path, "user.binary", b"replaced")
        assert os.getxattr(path, "user.binary") == b"replaced"
        os.removexattr(path, "user.empty")
        assert os.listxattr(path) == ["user.binary"]


def test_xattrs_are_made_and_replaced_as_the_flags_say(folder: Path):
    path = folder / "f"
    path.touch()
    assert result(os.getxattr, path, "user.a") == "ENODATA"
    assert result(os.removexattr, path, "user.a") == "ENODATA"
    assert result(os.setxattr, path, "user.a", b"1", os.XATTR_REPLACE) == "ENODATA"
    os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    assert result(os.setxattr, path, "user.a", b"3", os.XATTR_CREATE) == "EEXIST"
    os.setxattr(path, "user.a", b"4", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.a") == b"4"
    os.removexattr(path, "user.a")
    os.setxattr(path, "user.a", b"", os.XATTR_CREATE)
    assert os.getxattr(path, "user.a") == b""


def test_names_of_255_bytes_and_values_of_64_kib_are_kept(shared_site, folder: Path):
    path = shared_site / "large-xattrs"  # not on ext4
    path.touch()
    name = "user." + "n" * 250
    for size in (1, 4_096, 65_535, 65_536):
        value = os.urandom(size)
        os.setxattr(path, name, value)
        assert os.getxattr(path, name) == value
    with fails_with(errno.E2BIG):
        os.setxattr(path, name, bytes(65_537))
    with fails_with(errno.ERANGE):
        os.setxattr(path, name + "n", b"")
    assert os.listxattr(path) == [name]


def test_many_xattrs_are_listed(folder: Path):
    path = folder / "f"
    path.touch()
    names = [f"user.{number:03}" for number in range(150)]
    for name in names:
        os.setxattr(path, name, b"")
    assert sorted(os.listxattr(path)) == names
    for name in names[::2]:
        os.removexattr(path, name)
    assert sorted(os.listxattr(path)) == names[1::2]


def test_xattrs_of_root_are_for_root(folder: Path):
    path = folder / "f"
    path.touch()
    os.chmod(path, 0o666)
    for name in ("trusted.note", "security.note"):
        os.setxattr(path, name, b"1")
        assert os.getxattr(path, name) == b"1"
    assert sorted(os.listxattr(path)) == ["security.note", "trusted.note"]
    with as_user(2_000):
        assert result(os.setxattr, path, "trusted.note", b"2") == "EPERM"
        assert result(os.getxattr, path, "trusted.note") == "ENODATA"
        assert result(os.setxattr, path, "security.note", b"2") == "EPERM"
        os.setxattr(path, "user.note", b"3")
        assert sorted(os.listxattr(path)) == ["security.note", "user.note"]


def test_symlinks_and_special_files_have_no_xattrs_of_users(folder: Path):
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name in ("link", "fifo", "device"):
        path = folder / name
        assert result(os.setxattr, path, "user.x", b"1", follow_symlinks=False) == "EPERM", name
        os.setxattr(path, "trusted.note", b"of it", follow_symlinks=False)
        assert os.getxattr(path, "trusted.note", follow_symlinks=False) == b"of it"
        assert os.listxattr(path, follow_symlinks=False) == ["trusted.note"]


def test_in_a_sticky_directory_of_another_nobody_sets_one(folder: Path):
    (folder / "d").mkdir()
    os.chmod(folder / "d", 0o1777)
    with as_user(2_000):
        assert result(os.setxattr, folder / "d", "user.x", b"1") == "EPERM"


def test_xattrs_of_no_known_kind_are_refused(folder: Path):
    path = folder / "f"
    path.touch()
    for name in ("unknown.x", "x", "user"):
        assert result(os.setxattr, path, name, b"1") == "ENOTSUP", name
        assert result(os.getxattr, path, name) == "ENOTSUP", name
        assert result(os.removexattr, path, name) == "ENOTSUP", name
    for name in ("user.", "trusted."):
        assert result(os.setxattr, path, name, b"1") == "EINVAL", name
        assert result(os.getxattr, path, name) == "EINVAL", name
        assert result(os.removexattr, path, name) == "EINVAL", name
    assert os.listxattr(path) == []


@pytest.mark.parametrize("name", ["system.posix_acl_access", "system.posix_acl_default"])
def test_acls_are_refused_since_they_would_not_be_enforced(shared_site, name: str):
    path = shared_site / name
    path.mkdir()
    acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\0\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff"
    with fails_with(errno.EOPNOTSUPP):
        os.setxattr(path, name, acl)
    assert os.listxattr(path) == []


def test_an_open_file_without_a_name_has_xattrs(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.setxattr(file, "user.a", b"1")
        os.unlink(folder / "f")
        os.setxattr(file, "user.b", b"2")
        assert sorted(os.listxattr(file)) == ["user.a", "user.b"]
        os.removexattr(file, "user.a")
        assert os.listxattr(file) == ["user.b"]


def test_writing_takes_a_capability_away(folder: Path):
    path = folder / "f"
    path.write_bytes(b"text")
    capability = b"\x01\0\0\x02" + b"\0\x04\0\0" + b"\0" * 12  # VFS_CAP_REVISION_2, cap_net_bind
    os.setxattr(path, "security.capability", capability)
    assert os.getxattr(path, "security.capability") == capability
    with opened(path, os.O_WRONLY) as file:
        os.write(file, b"TEXT")
    with fails_with(errno.ENODATA):
        os.getxattr(path, "security.capability")
    os.setxattr(path, "security.capability", capability)
    os.chown(path, 5, 5)
    with fails_with(errno.ENODATA):
        os.getxattr(path, "security.capability")
