"""What a set of facts shows, computed from scratch: the oracle that the product is compared with.

The product keeps its view in rows, change by change; this computes everything from all facts at each
look, plainly and slowly, so that a reader can check it against the rules.  `show(commits, blocks)` is
the whole of it.  In the order of the computation:

1. `gathered`: facts sorted by what they are about.  What two replicas made alike is one.
2. `places`: where directories and links stand.  Moves of directories are replayed in stamp order.
3. `contents`: the versions of files: whose they are, the branches they form, the heads that show.
4. `names`: what is visible, which names it gets, and the conflict entries.
5. `records`: what was overruled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crdt.facts import Commit
from tests.reference.gathered import Gathered
from tests.reference.names import Shown, View

__all__ = ["Shown", "View", "show"]


def show(commits: Iterable[Commit], blocks: Mapping[bytes, bytes]) -> dict[bytes, Shown]:
    """Return what a program sees: path -> what is there.  `blocks` are the bytes of each hash."""
    return View(Gathered(commits), blocks).snapshot()
