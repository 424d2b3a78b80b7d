"""What a history is made of."""

from __future__ import annotations

from typing import NamedTuple

SITE_NAMES = ["A", "B", "C", "D", "berlin-2", "F", "G", "H"]
SHARED = b"a"  # a file that is there from the beginning, in histories that are about merge policies


class Step(NamedTuple):
    kind: str
    site: int
    arguments: tuple[object, ...] = ()
    salt: int = 0


class Setup(NamedTuple):
    """What a history is played on."""

    skews_ns: tuple[int, ...]
    slice_bytes: int
    stage_commits_max: int
    contents: int = 0  # how many different ones are written; 0: as good as never the same one
    policy: bytes = b""  # for merges, of all files; none: where a step sets one
