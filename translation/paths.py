"""Paths of what shows, from the root down, without a slash before them; not on the path of a request."""

from __future__ import annotations

from crdt.facts import ROOT, Ino, LinkId
from crdt.rows import Inode
from translation.intent import Intents


class Paths(Intents):
    def path(self, directory: Ino) -> bytes | None:
        """Return the path of a directory with a slash at its end, None where it does not show."""
        parts: list[bytes] = []
        while directory != ROOT:
            inode = self.state.inode(directory)
            if inode is None or not inode.shown:
                return None
            place = inode.shown[0]
            members = self.view.members(place.parent)
            entries = self.view.group(members, place.name)
            parts.append(next((e.name for e in entries if directory in e.members), place.name) + b"/")
            directory = members[0]
        return b"".join(reversed(parts))

    def path_or_former(self, directory: Ino) -> bytes:
        """As `path`; of a directory that was removed, where it would be if it and those above showed."""
        below: list[bytes] = []
        while (path := self.path(directory)) is None:
            inode = self.inode(directory)
            assert inode.at is not None, directory
            below.append(inode.links[LinkId(directory)].raw_name(inode.at) + b"/")
            directory = inode.at.fact.parent
        return path + b"".join(reversed(below))

    def path_of_link(self, inode: Inode, link: LinkId) -> bytes:
        """Return the path of an inode that shows; of a file, by this link."""
        if inode.is_directory:
            path = self.path(inode.ino)
            assert path is not None, inode.ino
            return path.rstrip(b"/")
        place = next(place for place in inode.shown if place.link == link)
        above = self.path(place.parent)
        assert above is not None, inode.ino
        return above + self.view.entry_at(inode.ino, place).name
