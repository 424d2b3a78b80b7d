"""Plays a sequence in a directory, and tells how far it came.

    python -m tests.crashes.player DIRECTORY NAME...

Prints a line when all is prepared, and goes on when it is given one; then a line after each step.  Ends
with 0 where it came to the end.
"""

import os
import sys

from tests.crashes.sequences import Place, play, prepare


def main() -> None:
    directory, *names = sys.argv[1:]
    place = Place(directory)
    os.mkdir(directory)
    for _ in prepare(place):
        pass
    sys.stdout.write("prepared\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for number, _ in enumerate(play(tuple(names), place), 1):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
