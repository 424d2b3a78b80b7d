"""What two sites may show of one file: a graph of versions."""

from typing import NamedTuple


class Version(NamedTuple):
    parent: int | None
    content: bytes


class Graph:
    """The versions of one file, and which of them each of two sites has heard of."""

    def __init__(self, content: bytes) -> None:
        self.versions = [Version(None, content)]
        self.known = [{0}, {0}]

    def add(self, site: int, parent: int, content: bytes) -> int:
        self.versions.append(Version(parent, content))
        number = len(self.versions) - 1
        self.known[site].add(number)
        return number

    def merge(self) -> None:
        self.known = [self.known[0] | self.known[1] for _ in self.known]

    def last(self, site: int) -> list[int]:
        """The versions that nobody has gone on from, as far as this site knows."""
        known = self.known[site]
        gone_on_from = {self.versions[each].parent for each in known}
        return sorted(known - gone_on_from)

    def past(self, number: int) -> set[bytes]:
        """The contents that this one goes on from."""
        found, at = set(), self.versions[number].parent
        while at is not None:
            found.add(self.versions[at].content)
            at = self.versions[at].parent
        return found

    def contents(self, site: int) -> set[bytes]:
        return {self.versions[each].content for each in self.last(site)}

    def needed(self) -> set[bytes]:
        """What must be there once all have met: each content that adds something to every other one."""
        last = self.last(0)
        found = set()
        for each in last:
            content = self.versions[each].content
            if not any(content in self.past(other) for other in last if other != each):
                found.add(content)
        return found
