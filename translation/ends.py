"""Where the kernel believes that a file ends: by this an append is told from a page of a mapping.

Both are writes, and both may come through a descriptor that was opened to read and to append: its mapping
is shared like any other.  The kernel puts an append at the end that it knows of, which may be an older one,
since a merge changes a file without asking; so what is appended goes to the end whatever the offset.  It
writes back whole pages, from before that end.  The flag that would say which it is does not reach us.
"""

from __future__ import annotations

from crdt.facts import Ino

PAGE = 4096  # bytes; the pages of all machines are multiples of it


class Ends:
    """Of the files that are open to read and to append.  A descriptor that only appends has no mapping."""

    def __init__(self) -> None:
        self.ends: dict[Ino, int] = {}
        self.opened: dict[Ino, int] = {}  # how often each is open so

    def open(self, ino: Ino, size: int) -> None:
        self.opened[ino] = self.opened.get(ino, 0) + 1
        self.ends.setdefault(ino, size)

    def close(self, ino: Ino) -> None:
        self.opened[ino] -= 1
        if not self.opened[ino]:
            del self.opened[ino], self.ends[ino]

    def told(self, ino: Ino, size: int) -> None:
        """The kernel is told this size."""
        if ino in self.ends:
            self.ends[ino] = size

    def wrote(self, ino: Ino, end: int) -> None:
        """The kernel has written up to here, through any descriptor."""
        if ino in self.ends:
            self.ends[ino] = max(self.ends[ino], end)

    def is_page(self, ino: Ino, offset: int) -> bool:
        """Is this written back from a mapping?"""
        return ino in self.ends and offset % PAGE == 0 and offset < self.ends[ino]
