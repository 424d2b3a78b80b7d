"""Crash points by the thousand: scripts/crash, see `python -m tests.crashes --help`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.crashes.checking import Point, Run, check_points, play_all
from tests.crashes.cutting import cut_beside
from tests.crashes.killing import kill_at_each
from tests.crashes.recorded import WRITES_OUT_EARLY, Recorded, memory_directory
from tests.crashes.recording import Loss, build_recorder
from tests.crashes.sequences import pairs
from tests.system.sites import Sites

SEQUENCES_A_RUN = 6
CUTS_A_MOMENT = 2


@contextmanager
def recorded(library: Path, *, early: bool) -> Iterator[tuple[Recorded, Sites, Path]]:
    with tempfile.TemporaryDirectory(prefix="elmer-") as directory:
        scratch = Path(directory)
        sites = Sites(scratch)
        try:
            made = Recorded(sites, library, scratch)
            if early:
                made.site.program = WRITES_OUT_EARLY
            sites.start(made.site)
            yield made, sites, scratch
            sites.close()
        finally:
            sites.end()


def images(library: Path, chance: Random) -> Iterator[object]:
    """Record a few sequences; yield each image of a crash that is right."""
    drawn = chance.sample(pairs(), SEQUENCES_A_RUN)
    with memory_directory() as memory, recorded(library, early=chance.random() < 0.5) as (made, _, _):
        (memory / "host").mkdir()
        played = play_all(made.recorder, made.site.mountpoint, memory / "host", drawn)
        made.site.kill()
        run = Run(made.base, made.recorder.events(), played)
        points = []
        for event in range(len(run.events) + 1):
            losses = [Loss.NOTHING, *chance.sample(list(Loss)[1:], CUTS_A_MOMENT)]
            points += [Point(event, loss) for loss in losses]
        yield from check_points(run, points, memory)


def kills(library: Path, chance: Random) -> Iterator[object]:
    """Kill a daemon before each change of a few sequences; yield each kill that left what it may."""
    with memory_directory() as memory, recorded(library, early=chance.random() < 0.5) as (made, _, _):
        for number, names in enumerate(chance.sample(pairs(), SEQUENCES_A_RUN)):
            found = kill_at_each(made.site, made.recorder, names, f"s{number}", memory)
            next(found)
            yield from found


def cuts(library: Path, chance: Random) -> Iterator[object]:
    """Cut the power of a site that talks to a peer; yield each cut after which nothing is gone."""
    with recorded(library, early=chance.random() < 0.5) as (made, sites, scratch):
        peer = sites.join(made.site, "b")
        for number in range(10):
            contents = [b"%d" % each * chance.choice([1, 3_000]) for each in range(100)]
            cut_beside(made, peer, chance.randrange(1, 60), str(number), contents, scratch)
            yield number


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/crash", description=__doc__)
    parser.add_argument(
        "--images", type=int, default=3_000, help="of stores after a crash, made from recordings"
    )
    parser.add_argument("--kills", type=int, default=1_000, help="real ones, each with the mount made again")
    parser.add_argument("--cuts", type=int, default=100, help="of the power of a site with a peer")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    os.umask(0o022)
    chance = Random(arguments.seed)
    say(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="elmer-") as directory:
        library = build_recorder(Path(directory))
        for kind, wanted in ((images, arguments.images), (kills, arguments.kills), (cuts, arguments.cuts)):
            begun, done = time.monotonic(), 0
            while done < wanted:
                for _ in kind(library, chance):
                    done += 1
                say(f"{kind.__name__}: {done:,} in {time.monotonic() - begun:.0f} s")
    say("nothing was lost, nothing was torn")


if __name__ == "__main__":
    main()
