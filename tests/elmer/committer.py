"""A process that commits to a store until it is killed: python -m tests.elmer.committer PATH FIRST.

Batch n writes the number n to rows of every family, and a row of its own to two of them.  After a sync
the number of the last batch is printed.
"""

import itertools
import sys
from pathlib import Path
from random import Random

from elmer.rocks import RocksStore

SAME = [b"Dn", b"Zn", b"An", b"Bn", b"Kn"]
FILL = Random(1).randbytes(8192)  # does not compress, so that a small disk is soon full
SYNC_EVERY = 7


def batch(number: int) -> dict[bytes, bytes | None]:
    value = number.to_bytes(8, "big")
    rows: dict[bytes, bytes | None] = dict.fromkeys(SAME, value)
    rows |= {b"A#" + value: value, b"K#" + value: value + FILL * (number % 13)}
    return rows | {b"I#" + (number - 5).to_bytes(8, "big", signed=True): None, b"I#" + value: value}


def numbers_in(store: RocksStore) -> int:
    """Return how many batches are in the store, which must be the first ones, and each whole."""
    found = {store.get(key) for key in SAME}
    assert len(found) == 1, f"torn: {found}"
    value = found.pop()
    last = -1 if value is None else int.from_bytes(value, "big")
    for kind in (b"A", b"K"):
        # Row by row: a full disk holds more than belongs into memory.
        found_rows = store.scan(kind + b"#", kind + b"$")
        numbers = range(last + 1)
        for number, row in itertools.zip_longest(numbers, found_rows):
            assert number is not None, f"{kind!r} has a row too many: {row}"
            key = kind + b"#" + number.to_bytes(8, "big")
            assert row == (key, batch(number)[key]), f"{kind!r} is not whole at {number}"
    inodes = [key for key, _ in store.scan(b"I#", b"I$")]
    assert inodes == [b"I#" + n.to_bytes(8, "big") for n in range(max(0, last - 4), last + 1)]
    return last + 1


def main() -> None:
    path, first = Path(sys.argv[1]), int(sys.argv[2])
    store = RocksStore(path)
    for number in itertools.count(first):
        store.commit(batch(number))
        if number % SYNC_EVERY == 0:
            store.sync()
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
