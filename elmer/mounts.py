"""Mounts as the kernel lists them: which are elmer's, which are stale, who keeps one busy.

Nothing here asks the file system that is mounted, but for `is_stale`: a daemon that hangs must not
hang the command that is to end it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

SOURCE_PREFIX = "elmer:"
FUSERMOUNT = "fusermount"
MNT_DETACH = 2  # umount2(2)

_libc = ctypes.CDLL(None, use_errno=True)


class Mount(NamedTuple):
    mountpoint: Path
    source: str

    @property
    def store(self) -> Path | None:
        """The store directory that is mounted here, None where it is not elmer's."""
        if not self.source.startswith(SOURCE_PREFIX):
            return None
        return Path(os.fsdecode(unquote_to_bytes(self.source.removeprefix(SOURCE_PREFIX))))


def source_of(store: Path) -> str:
    """Return the source to mount a store under: ASCII without what separates mount options."""
    return SOURCE_PREFIX + quote(os.fsencode(store))


def all_mounts() -> list[Mount]:
    """Return the mounts of this process' namespace, later ones on top (proc_pid_mountinfo(5))."""
    mounts = []
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123  (bytes, whatever names there are)
        for line in file:
            before, _, after = line.partition(b" - ")
            mountpoint, source = before.split(b" ")[4], after.split(b" ")[1]
            mounts.append(Mount(Path(os.fsdecode(_unescape(mountpoint))), os.fsdecode(source)))
    return mounts


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def mount_of(path: Path) -> Mount | None:
    """Return the mount that a path without symlinks lies in."""
    found = None
    for mount in all_mounts():
        inside = path == mount.mountpoint or mount.mountpoint in path.parents
        if inside and (found is None or len(mount.mountpoint.parts) >= len(found.mountpoint.parts)):
            found = mount
    return found


def mount_of_store(store: Path) -> Mount | None:
    return next((mount for mount in all_mounts() if mount.store == store), None)


def is_stale(mountpoint: Path) -> bool:
    """Whether the daemon of a mount is gone, so that every request of it fails."""
    try:
        os.statvfs(mountpoint)  # always a request; a stat would be answered from the kernel's cache
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def unmount(mountpoint: Path, *, lazily: bool = False) -> None:
    """Raises OSError: EBUSY where something in it is in use, unless `lazily`."""
    if os.geteuid() != 0:
        _unmount_as_user(mountpoint, lazily=lazily)
    elif _libc.umount2(os.fsencode(mountpoint), MNT_DETACH if lazily else 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(mountpoint))


def _unmount_as_user(mountpoint: Path, *, lazily: bool) -> None:
    command = [FUSERMOUNT, "-u", *(["-z"] if lazily else []), os.fspath(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        number = errno.EBUSY if "busy" in done.stderr else errno.EPERM
        raise OSError(number, done.stderr.strip(), os.fspath(mountpoint))


class User(NamedTuple):
    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.name})"


def users_of(mountpoint: Path) -> list[User]:
    """Return the processes with an open file, a mapping or their directory below a mount point.

    Only those that this process may look into.
    """
    return [
        User(int(process.name), _name_of(process))
        for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name))
        if any(_is_below(used, mountpoint) for used in _used_by(process))
    ]


def _name_of(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text(errors="replace").strip()
    return "?"


def _is_below(used: str, mountpoint: Path) -> bool:
    top = os.fspath(mountpoint)
    return used == top or used.startswith(f"{top}/")


def _used_by(process: Path) -> Iterator[str]:
    links = [process / "cwd", process / "root", process / "exe"]
    for directory in (process / "fd", process / "map_files"):
        with suppress(OSError):
            links.extend(directory.iterdir())
    for link in links:
        with suppress(OSError):
            yield os.readlink(link)  # noqa: PTH115  (a Path would lose a trailing " (deleted)")
