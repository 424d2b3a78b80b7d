"""Plays histories of system calls on a mount and on the host's own file system, and says where they differ.

    python -m tests.system.host [MINUTES]
    python -m tests.system.host --play FILE

The first plays random histories for so long; it ends with the shortest of those that differ. The second plays
one again, as it was printed. `--seed N` begins with the random numbers of that seed.
"""

import argparse
import sys
import time

from tests.system.host.machine import search
from tests.system.host.pair import Different, Pair, play
from tests.system.host.place import pair_of_sides

HISTORIES = 50  # in a round
STEPS = 60


def search_for(pair: Pair, first_seed: int, minutes: float) -> None:
    """Raises Different."""
    ends = time.monotonic() + 60 * minutes
    number = first_seed
    while time.monotonic() < ends:
        say(f"seed {number}, {pair.number} histories played")
        search(pair, HISTORIES, STEPS, keep=False, random_seed=number)
        number += 1


def say(what: str) -> None:
    print(what, flush=True)  # noqa: T201


def main() -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--play", type=argparse.FileType())
    options = parser.parse_args()
    with pair_of_sides() as pair:
        try:
            if options.play is not None:
                play(pair, options.play.read().splitlines())
            else:
                search_for(pair, options.seed, options.minutes)
        except Different as different:
            say(str(different))
            return 1
    say(f"{pair.number} histories: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
