"""Networks of the tests' own: one namespace a site, wires between them that can be cut.

A cut here is a real one: packets vanish and nobody is told.  Names begin with `elmer-` and the
process id, so that runs at the same time do not meet.
"""

import itertools
import os
import subprocess
from typing import Self

_numbers = itertools.count(1)


class Networks:
    """Namespaces that are wired pairwise; `close` removes them and all that is in them."""

    def __init__(self, names: str) -> None:
        self.prefix = f"elmer-{os.getpid()}-{next(_numbers)}"
        self.names = names
        self.made: list[str] = []

    def __enter__(self) -> Self:
        try:
            for name in self.names:
                _ip("netns", "add", self.namespace(name))
                self.made.append(name)
                _ip("-n", self.namespace(name), "link", "set", "lo", "up")
            for left, right in itertools.combinations(self.names, 2):
                self._wire(left, right)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def namespace(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def enter(self, name: str) -> list[str]:
        """Return what to put before a command so that it runs in this network.

        `ip netns exec` would do more: it gives the command its own view of what is mounted, and the
        mounts it makes would not be seen from outside.
        """
        return ["nsenter", f"--net=/run/netns/{self.namespace(name)}", "--"]

    def address(self, name: str, seen_from: str) -> str:
        """Return the address at which `seen_from` reaches `name`."""
        return f"10.77.{self._number(name, seen_from)}.{1 if name < seen_from else 2}"

    def cut(self, left: str, right: str) -> None:
        for here, there in ((left, right), (right, left)):
            _ip("-n", self.namespace(here), "link", "set", f"to-{there}", "down")

    def heal(self, left: str, right: str) -> None:
        for here, there in ((left, right), (right, left)):
            _ip("-n", self.namespace(here), "link", "set", f"to-{there}", "up")

    def close(self) -> None:
        while self.made:
            subprocess.run(["ip", "netns", "delete", self.namespace(self.made.pop())], check=False)

    def _number(self, left: str, right: str) -> int:
        pairs = list(itertools.combinations(self.names, 2))
        return pairs.index((min(left, right), max(left, right))) + 1

    def _wire(self, left: str, right: str) -> None:
        near, far = self.namespace(left), self.namespace(right)
        _ip(
            *("link", "add", f"to-{right}", "netns", near),
            *("type", "veth", "peer", "name", f"to-{left}", "netns", far),
        )
        for here, there in ((left, right), (right, left)):
            address = f"{self.address(here, there)}/24"
            _ip("-n", self.namespace(here), "address", "add", address, "dev", f"to-{there}")
            _ip("-n", self.namespace(here), "link", "set", f"to-{there}", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
