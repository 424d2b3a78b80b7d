"""The tree that the demo copies, and how mounts are compared: by what is read through them."""

from __future__ import annotations

import hashlib
import os
import stat
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from elmer.demo_sites import DemoFailedError, Stop

ENOUGH_FILES = 2_000
FILES_MAX = 4_000
FILE_BYTES_MAX = 4 << 20
# Packages that were installed into it are not the standard library, and can be gigabytes.
NOT_THE_LIBRARY = {"site-packages", "dist-packages"}
COMPILED = "__pycache__"
ARRIVAL_DEADLINE_S = 120.0

Advance = Callable[[int], None]


class Seen(NamedTuple):
    """One entry as a program sees it: `content` is the hash of the bytes, or a link's target."""

    mode: int
    ino: int
    size: int
    content: str


def standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def choose_files(source: Path) -> list[str]:
    """Return the files to copy, relative to `source`; compiled ones where there are few others."""
    files = [name for name in _walk(source) if COMPILED not in name.split("/")]
    if len(files) < ENOUGH_FILES:
        files = list(_walk(source))
    return files[:FILES_MAX]


def _walk(source: Path) -> Iterator[str]:
    for directory, names, files in os.walk(source):
        names[:] = sorted(set(names) - NOT_THE_LIBRARY)
        for file in sorted(files):
            path = Path(directory, file)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= FILE_BYTES_MAX:
                yield str(path.relative_to(source))


def copy(source: Path, files: list[str], target: Path, stop: Stop, advance: Advance) -> dict[str, str]:
    """Copy the files with modes and times, and return the SHA-256 of each."""
    manifest = {}
    for name in files:
        stop.check()
        try:
            content, status = (source / name).read_bytes(), (source / name).stat()
        except FileNotFoundError:  # a compiled file that another Python is just replacing
            advance(1)
            continue
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(content)
        to.chmod(stat.S_IMODE(status.st_mode))
        os.utime(to, ns=(status.st_atime_ns, status.st_mtime_ns))
        manifest[name] = hashlib.sha256(content).hexdigest()
        advance(1)
    return manifest


def wait_for(manifest: dict[str, str], root: Path, stop: Stop, advance: Advance) -> None:
    """Read every file through `root` until it has its hash.

    Raises DemoFailedError for a file that does not come.
    """
    for name, expected in manifest.items():
        deadline = time.monotonic() + ARRIVAL_DEADLINE_S
        while (found := _hash_if_there(root / name)) != expected:
            if time.monotonic() > deadline:
                raise DemoFailedError(f"{root / name}: expected SHA-256 {expected}, found {found}")
            stop.pause()
        stop.check()
        advance(1)


def _hash_if_there(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:  # not here yet; or (EIO) its bytes are not
        return error.strerror or type(error).__name__


def walk_files(root: Path) -> Iterator[Path]:
    """Yield everything below `root` that is no directory."""
    for directory, _, files in os.walk(root):
        yield from (Path(directory, file) for file in files)


def look(root: Path, stop: Stop, advance: Advance | None = None) -> dict[str, Seen]:
    """Return everything below `root`, each file read to its end."""
    seen: dict[str, Seen] = {}
    directories = [root]
    while directories:
        directory = directories.pop()
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                stop.check()
                path = Path(entry.path)
                seen[str(path.relative_to(root))] = _seen(path)
                if entry.is_dir(follow_symlinks=False):
                    directories.append(path)
                elif advance is not None:
                    advance(1)
    return seen


def _seen(path: Path) -> Seen:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return Seen(status.st_mode, status.st_ino, 0, "")
    if stat.S_ISLNK(status.st_mode):
        return Seen(status.st_mode, status.st_ino, status.st_size, str(path.readlink()))
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return Seen(status.st_mode, status.st_ino, status.st_size, content)


def differences(left: dict[str, Seen], right: dict[str, Seen]) -> list[str]:
    return [
        f"{name}: {left.get(name)} / {right.get(name)}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
