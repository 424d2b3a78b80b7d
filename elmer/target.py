"""TARGET of a command: a store directory, or any path inside a mount of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from elmer.directory import StoreDirectory, mode_at
from elmer.exits import CommandError, ExitStatus
from elmer.mounts import mount_of, mount_of_store


class Target(NamedTuple):
    directory: StoreDirectory
    mountpoint: Path | None


def resolve(text: str) -> Target:
    """Raises CommandError (USAGE) where `text` is neither."""
    # Not Path.resolve: it fails in a mount whose daemon is gone, which is one to name here.
    path = Path(os.path.realpath(text))
    mount = mount_of(path)
    if mount is not None and mount.store is not None:
        return Target(StoreDirectory(mount.store), mount.mountpoint)
    directory = StoreDirectory(path)
    if not directory.is_store() and not mode_at(directory.rows):
        raise CommandError(
            f"{text} is neither a store directory nor a path inside a mount of elmer",
            ExitStatus.USAGE,
        )
    directory.check_is_store()
    mount = mount_of_store(path)
    return Target(directory, mount.mountpoint if mount else None)


def resolve_store(text: str) -> StoreDirectory:
    """Return the store directory for a command that takes no mount point.

    Raises CommandError (USAGE) where `text` is no store directory.
    """
    directory = StoreDirectory(Path(os.path.realpath(text)))
    directory.check_is_store()
    return directory
