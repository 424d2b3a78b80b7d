"""Random histories through three mounts: programs over few names, cut apart, then compared.

    python -m tests.system.wanderer --seeds 0..100 [--shrink]

looks for a history that breaks a promise, and prints it; with --shrink the shortest that still does.
A history is drawn before it is played, so it can be played again with steps left out: a step that
works on something that exists holds a number from 0 to 1, which picks from what is there then.

The simulator (tests/simulator) does the same without kernels, thousands of times as fast.  What
this adds is what the kernel has cached.
"""

import argparse
import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from elmer import clock
from tests.system.sites import Site, Sites, at_once, cut, heal, meet
from tests.system.trees import Entry, assert_equal, look
from tests.system.waiting import until

NAMES = "pqr"
ROUNDS = 3
STEPS = 75  # in a round, on all sites
KINDS = ["make", "fill", "edit", "move"] * 2 + ["link", "remove", "look"]
# Not what a path can be blamed for.
IO_FAILURES = {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE, errno.EROFS}


class Step(NamedTuple):
    site: int
    kind: str
    path: str  # a path that may be there or not
    pick: float  # and one of those that are there
    token: bytes  # a content that nobody else writes


History = list[list[Step]]


def draw(seed: int) -> History:
    chance = random.Random(seed)
    return [
        [
            Step(
                chance.randrange(3),
                chance.choice(KINDS),
                "/".join(chance.choices(NAMES, k=chance.randint(1, 3))),
                chance.random(),
                f"<{round_number}.{number}>".encode(),
            )
            for number in range(STEPS)
        ]
        for round_number in range(ROUNDS)
    ]


class Player:
    """Plays steps.  `linked` are the inodes that had a second name."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = sites
        self.linked: set[int] = set()
        self.played: list[str] = []

    def play(self, step: Step) -> None:
        root = self.sites[step.site].mountpoint
        there = sorted(
            Path(directory, name)
            for directory, directories, files in os.walk(root)
            for name in [*directories, *files]
        )
        picked = there[int(step.pick * len(there))] if there else None
        words = f"{self.sites[step.site].name}: {step.kind} "
        try:
            words += self.perform(step, root / step.path, picked).replace(f"{root}/", "")
        except OSError as error:
            # The path is not there, is of another kind, or the move is one that POSIX forbids.
            if error.errno in IO_FAILURES:
                raise
            return
        self.played.append(words)
        # Stamps count in milliseconds: so a history means the same each time it is played.
        now_ns = clock.now_ns()
        until(lambda: clock.now_ns() > now_ns + 2_000_000, "the clock goes on", poll_s=0.001)

    def perform(self, step: Step, path: Path, picked: Path | None) -> str:
        match step.kind, picked:
            case "make", _:
                path.mkdir()
                return str(path)
            case "fill", _:
                with path.open("xb") as file:
                    file.write(step.token)
                return str(path)
            case "edit", Path():
                with picked.open("r+b") as file:
                    file.truncate()
                    file.write(step.token)
                return str(picked)
            case "move", Path():
                picked.rename(path)
                return f"{picked} {path}"
            case "link", Path():
                path.hardlink_to(picked)
                self.linked.add(path.lstat().st_ino)
                return f"{picked} {path}"
            case "remove", Path():
                shutil.rmtree(picked) if picked.is_dir() else picked.unlink()
                return str(picked)
        return ""


def play(player: Player, history: History) -> None:
    """Play a history from an empty tree.  Raises AssertionError where a promise is broken."""
    sites = player.sites
    clear(sites)
    for steps in history:
        cut(*sites)
        player.played.append("-- apart")
        known = tokens(look_whole(sites[0]))
        for step in steps:
            player.play(step)
        apart = [look_whole(site) for site in sites]
        player.played.append("-- together")
        heal(*sites)
        check(player, known, apart)


class Whole(NamedTuple):
    entries: dict[bytes, Entry]
    contents: dict[bytes, bytes]


def look_whole(site: Site) -> Whole:
    """Look at a tree.  Raises AssertionError where what is listed is not there."""
    try:
        entries = look(site.mountpoint)
        contents = {
            path: Path(site.mountpoint, os.fsdecode(path)).read_bytes()
            for path, entry in entries.items()
            if entry.kind == stat.S_IFREG
        }
    except FileNotFoundError as error:
        raise AssertionError(f"{error.filename!r} is listed but not found") from error
    return Whole(entries, contents)


def tokens(seen: Whole, but: Collection[int] = ()) -> set[bytes]:
    """Return the contents of all files but those with these inode numbers."""
    return {content for path, content in seen.contents.items() if seen.entries[path].ino not in but} - {b""}


def check(player: Player, known: set[bytes], apart: Sequence[Whole]) -> None:
    together = at_once(look_whole, player.sites)
    for other in together[1:]:
        assert_equal(together[0].entries, other.entries)
    assert_is_tree(together[0].entries)
    # P3: what a site showed while apart and nobody else can have seen is there after the heal.  Of
    # a file with several names each may be removed somewhere (row 19): that is an orphan.
    unseen = set().union(*(tokens(seen, but=player.linked) for seen in apart)) - known
    lost = unseen - tokens(together[0])
    assert not lost, f"lost: {lost}"


def assert_is_tree(entries: dict[bytes, Entry]) -> None:
    """P4: no directory in two places, link counts right."""
    directories = Counter(entry.ino for entry in entries.values() if entry.kind == stat.S_IFDIR)
    assert not [ino for ino, count in directories.items() if count > 1]
    files = {path: entry for path, entry in entries.items() if entry.kind != stat.S_IFDIR}
    names = Counter(entry.ino for entry in files.values())
    shown = {path: entry.nlink for path, entry in files.items()}
    assert shown == {path: names[entry.ino] for path, entry in files.items()}


def clear(sites: Sequence[Site]) -> None:
    """Remove all there is, everywhere."""
    at_once(Site.online, sites)
    root = sites[0].mountpoint

    def is_empty() -> bool:
        subprocess.run(["rm", "-rf", *root.iterdir()], check=False, capture_output=True)
        return not os.listdir(root)

    until(is_empty, f"{root} is empty")
    meet(*sites)


# -- the search ----------------------------------------------------------------------------------


def shrink(history: History, fails: Callable[[History], bool]) -> History:
    """Return a history that fails and of which no part can be left out."""
    size = STEPS // 2
    while size:
        for round_number in range(len(history)):
            start = 0
            while start < len(history[round_number]):
                kept = history[round_number][:start] + history[round_number][start + size :]
                shorter = [*history[:round_number], kept, *history[round_number + 1 :]]
                if fails(shorter):
                    history = shorter
                else:
                    start += size
        size //= 2
    return history


def failure_of(sites: Sequence[Site], history: History) -> str:
    """Return what was done and what was wrong then, "" where all promises hold."""
    player = Player(sites)
    try:
        play(player, history)
    except (AssertionError, OSError) as error:
        return "\n".join([*player.played, str(error)])
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0..100", help="FROM..TO")
    parser.add_argument("--shrink", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # take the mounts away then, too
    first, last = (int(part) for part in options.seeds.split(".."))
    with tempfile.TemporaryDirectory(prefix="elmer-") as directory:
        sites = Sites(Path(directory))
        try:
            trio = sites.group("abc")
            for seed in range(first, last):
                history = draw(seed)
                failure = failure_of(trio, history)
                if failure:
                    print(f"seed {seed} fails:\n{failure}", flush=True)  # noqa: T201
                if failure and options.shrink:
                    history = shrink(history, lambda shorter: bool(failure_of(trio, shorter)))
                    print(f"shortest:\n{failure_of(trio, history)}")  # noqa: T201
                if failure:
                    return 1
            sites.close()
        finally:
            sites.end()
    print(f"{last - first} histories: all promises hold")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
