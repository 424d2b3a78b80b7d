"""elmer that writes out early: python -m tests.crashes.daemon COMMAND ...

RocksDB writes out and compacts every few hundred commits, so that a short recording has that in it too; and
what is written to an open file is a draft after a second.
"""

from elmer import rocks_options, space
from elmer.cli import main
from translation import content

if __name__ == "__main__":
    rocks_options.MIB = space.MIB = 2 << 10
    content.DRAFT_NS = 1
    main()
