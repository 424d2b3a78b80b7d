"""A folder on three sites that are cut off from each other, worked in as people do, and then looked at.

What is newest is known because each operation here returns when the clock has gone on (`later`).
"""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from elmer import clock
from tests.system.sites import Site, cut, heal
from tests.system.sites import meet as meet_sites
from tests.system.trees import assert_equal, look
from tests.system.waiting import until

Shown = dict[str, bytes | str]  # path -> content of a file, kind of anything else


class Folder:
    """One directory as two or three sites see it."""

    def __init__(self, sites: list[Site], name: str) -> None:
        self.sites = sites
        self.name = name
        self.on = [site / name for site in sites]
        self.a, self.b = self.on[:2]

    @property
    def c(self) -> Path:
        return self.on[2]

    def share(self, prepare: Callable[[Path], object] = lambda folder: None) -> None:
        """Make the folder, with what `prepare` puts into it, everywhere; then cut all off."""
        self.a.mkdir()
        prepare(self.a)
        meet_sites(*self.sites)
        cut(*self.sites)

    def apart(self) -> list[Shown]:
        """Return what A, B and C show, each by itself, while they are cut off."""
        return [show(here) for here in self.on]

    def shown(self) -> Shown:
        """Heal, and return what all sites show in the folder."""
        heal(*self.sites)
        trees = [look(site.mountpoint) for site in self.sites]
        for other in trees[1:]:
            assert_equal(trees[0], other)
        return show(self.a)

    def conflicts(self) -> list[tuple[str, str, str]]:
        """Return (path in the folder, kind, replica) of what `elmer conflicts` lists of it."""
        listed = [
            (conflict["path"].strip("/"), conflict["kind"], conflict["replica"])
            for conflict in self.sites[1].conflicts()
        ]
        start = f"{self.name}/"
        return sorted(
            (path.removeprefix(start), kind, replica)
            for path, kind, replica in listed
            if path.startswith(start)
        )

    def records(self) -> list[tuple[str, str, str, str]]:
        """Return (path in the folder, kind, who was overruled, by whom) of its records."""
        start = f"{self.name}/"
        return sorted(
            (
                record["path"].removeprefix(start),
                record["kind"],
                record["overruled"]["replica"],
                record["by"]["replica"],
            )
            for record in self.sites[1].records()
            if record["path"].startswith(start)
        )


def show(root: Path) -> Shown:
    shown: Shown = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            shown[str(path.relative_to(root))] = show_one(path)
    return shown


def show_one(path: Path) -> bytes | str:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return path.read_bytes()
    if stat.S_ISLNK(mode):
        return f"-> {path.readlink()}"
    kinds = {stat.S_IFDIR: "dir", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
    return kinds[stat.S_IFMT(mode)]


def later() -> None:
    """Return when what is done next has a later stamp, which counts in milliseconds."""
    now_ns = clock.now_ns()
    until(lambda: clock.now_ns() > now_ns + 2_000_000, "the clock goes on", poll_s=0.001)


def run(operation: Callable[..., object], *arguments: object) -> None:
    operation(*arguments)
    later()


def write(path: Path, content: bytes) -> None:
    run(path.write_bytes, content)


def write_at(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
    later()


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
    later()


def move(source: Path, target: Path) -> None:
    run(os.rename, source, target)


def remove(path: Path) -> None:
    """As rm -r."""
    run(shutil.rmtree if path.is_dir() and not path.is_symlink() else os.unlink, path)


def make(root: Path, tree: dict[str, bytes | None]) -> None:
    """Make files with their contents, and directories (None)."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
    later()


def save_by_rename(path: Path, content: bytes) -> None:
    """Save as editors do: a new file takes the place of the old one."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    move(new, path)
