"""Fifos, sockets and devices."""

import os
import socket
import stat
import subprocess
from pathlib import Path

from tests.system.posix.calls import NOBODY, as_user, opened, result


def test_a_fifo_carries_bytes_between_processes(folder: Path):
    os.mkfifo(folder / "fifo", 0o600)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    writer = subprocess.Popen(["sh", "-c", "echo through the fifo > fifo"], cwd=folder)
    assert (folder / "fifo").read_bytes() == b"through the fifo\n"
    assert writer.wait(60) == 0


def test_a_socket_can_be_bound_and_connected_to(folder: Path):
    with (
        opened(folder, os.O_PATH | os.O_DIRECTORY) as directory,
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        address = f"/proc/self/fd/{directory}/socket"
        server.bind(address)
        server.listen()
        assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
        client.connect(address)
        connected, _ = server.accept()
        with connected:
            client.sendall(b"hello")
            assert connected.recv(5) == b"hello"
        with socket.socket(socket.AF_UNIX) as second:
            assert result(second.bind, address) == "EADDRINUSE"
    assert result(os.open, folder / "socket", os.O_RDONLY) == "ENXIO"


def test_a_device_is_the_device_of_its_numbers(folder: Path):
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with opened(folder / "null", os.O_RDWR) as file:
        assert os.write(file, b"text") == 4
        assert os.read(file, 10) == b""
    with opened(folder / "zero", os.O_RDONLY) as file:
        assert os.read(file, 10) == bytes(10)
    assert (folder / "null").stat().st_size == 0


def test_device_numbers_are_kept(folder: Path):
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for major, minor in ((0, 0), (1, 3), (4_095, 255), (259, 1_048_575), (4_095, 1_048_575)):
            os.mknod(folder / "device", kind | 0o600, os.makedev(major, minor))
            found = (folder / "device").stat()
            assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (major, minor)
            assert stat.S_IFMT(found.st_mode) == kind
            os.unlink(folder / "device")


def test_only_root_makes_devices(folder: Path):
    os.chmod(folder, 0o777)
    with as_user(NOBODY):
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            assert result(os.mknod, folder / "new", kind | 0o600, os.makedev(1, 3)) == "EPERM"
        os.mknod(folder / "fifo", stat.S_IFIFO | 0o600)
        os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
        os.mknod(folder / "file", stat.S_IFREG | 0o600)
    assert sorted(os.listdir(folder)) == ["fifo", "file", "socket"]
