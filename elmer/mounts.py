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
MNT_FORCE, MNT_DETACH = 1, 2  # umount2(2)
USES_MAX = 3  # that are named of a process

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


def at(mountpoint: Path) -> Mount | None:
    """Return what is mounted exactly here, on top."""
    return next((mount for mount in reversed(all_mounts()) if mount.mountpoint == mountpoint), None)


def below(mountpoint: Path) -> list[Path]:
    """Return what is mounted below a mount point."""
    return [mount.mountpoint for mount in all_mounts() if mountpoint in mount.mountpoint.parents]


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
    else:
        _umount2(mountpoint, MNT_DETACH if lazily else 0)


def abort(mountpoint: Path) -> None:
    """End the connection of a mount to its daemon: what waits for that fails, and so does all else, but the
    mount stays, so that nobody writes into the directory below it.  Raises OSError: EPERM but for root.
    """
    keeps_busy = os.open(mountpoint, os.O_PATH)
    try:
        _umount2(mountpoint, MNT_FORCE)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    finally:
        os.close(keeps_busy)


def _umount2(mountpoint: Path, flags: int) -> None:
    if _libc.umount2(os.fsencode(mountpoint), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(mountpoint))


def _unmount_as_user(mountpoint: Path, *, lazily: bool) -> None:
    command = [FUSERMOUNT, "-u", *(["-z"] if lazily else []), os.fspath(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        number = errno.EBUSY if "busy" in done.stderr else errno.EPERM
        raise OSError(number, done.stderr.strip(), os.fspath(mountpoint))


class User(NamedTuple):
    """A process that keeps a mount busy, and by what: its directory, open files, mappings ..."""

    pid: int
    name: str
    uses: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.uses) - USES_MAX} more" if len(self.uses) > USES_MAX else ""
        return f"{self.pid} ({self.name}: {', '.join(self.uses[:USES_MAX])}{more})"


def users_of(mountpoint: Path) -> list[User]:
    """Return the processes with an open file, a mapping or their directory below a mount point.

    Only those that this process may look into.
    """
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        uses = {
            f"{how} {_shown(used)}": None for how, used in _used_by(process) if _is_below(used, mountpoint)
        }
        if uses:
            found.append(User(int(process.name), _name_of(process), tuple(uses)))
    return found


def _name_of(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text(errors="replace").strip()
    return "?"


def _shown(path: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in path)


def _is_below(used: str, mountpoint: Path) -> bool:
    top = os.fspath(mountpoint)
    return used == top or used.startswith(f"{top}/")


def _used_by(process: Path) -> Iterator[tuple[str, str]]:
    """Yield how a process uses which paths."""
    links = [("directory", process / "cwd"), ("root", process / "root"), ("program", process / "exe")]
    for how, directory in (("file", process / "fd"), ("mapping", process / "map_files")):
        with suppress(OSError):
            links.extend((how, link) for link in directory.iterdir())
    for how, link in links:
        with suppress(OSError):
            yield how, os.readlink(link)  # noqa: PTH115  (a Path would lose a trailing " (deleted)")
