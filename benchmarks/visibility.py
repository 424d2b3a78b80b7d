"""The two programs that use a pair of replicas: one writes on A, one watches on B.

    python -m benchmarks.visibility ROOT POLL_US

A request is a line of JSON on standard input, {"do": WHAT, ...}; its answer a line on standard
output, with the moments in seconds of the monotonic clock, which all processes of a machine share.
A watcher says "watching" first, so that nothing is written before somebody looks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import blake3

from benchmarks.loads import BLOCK, MIB, Content

WATCH_TIMEOUT_S = 600.0


def write_file(path: str, index: int, content: Content) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, content.part(index, BLOCK))
    os.close(fd)


def file_name(index: int) -> str:
    return f"f{index:06d}"


class Writer:
    """What is done on A."""

    def __init__(self) -> None:
        self.content = Content()

    def file(self, path: str, index: int) -> dict[str, object]:
        write_file(path, index, self.content)
        return {"closed_s": time.monotonic()}

    def files(self, directory: str, count: int) -> dict[str, object]:
        started_s = time.monotonic()
        os.mkdir(directory)
        for index in range(count):
            write_file(os.path.join(directory, file_name(index)), index, self.content)
        return {"started_s": started_s, "closed_s": time.monotonic()}

    def large(self, path: str, mib: int) -> dict[str, object]:
        hasher = blake3.blake3()
        for index in range(mib):
            hasher.update(self.content.part(index, MIB))
        started_s = time.monotonic()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for index in range(mib):
            os.write(fd, self.content.part(index, MIB))
        os.close(fd)
        closed_s = time.monotonic()
        return {"started_s": started_s, "closed_s": closed_s, "digest": hasher.hexdigest()}

    def rename(self, old: str, new: str) -> dict[str, object]:
        started_s = time.monotonic()
        os.rename(old, new)
        return {"started_s": started_s, "closed_s": time.monotonic()}


class Watcher:
    """What is looked for on B, every `poll_s`; without a pause it would take a core from the
    daemons that are measured."""

    def __init__(self, poll_s: float) -> None:
        self.poll_s = poll_s
        self.content = Content()

    def file(self, path: str, index: int) -> dict[str, object]:
        """The name, then its whole content."""
        visible_s = self._when(lambda: os.path.exists(path), path)
        return {"visible_s": visible_s, "readable_s": self._when_equal(path, index)}

    def files(self, directory: str, count: int) -> dict[str, object]:
        """All names, then the content of every one."""
        last = os.path.join(directory, file_name(count - 1))
        self._when(lambda: _size(last) == BLOCK, last)
        visible_s = self._when(lambda: len(os.listdir(directory)) == count, f"all of {directory}")
        for index in range(count):
            self._when_equal(os.path.join(directory, file_name(index)), index)
        return {"visible_s": visible_s, "readable_s": time.monotonic()}

    def large(self, path: str, size: int) -> dict[str, object]:
        """The name and full size, then every byte."""
        visible_s = self._when(lambda: _size(path) == size, path)
        hasher = blake3.blake3()
        buffer = bytearray(MIB)
        fd = os.open(path, os.O_RDONLY)
        while count := os.readv(fd, [buffer]):
            hasher.update(memoryview(buffer)[:count])
        os.close(fd)
        readable_s = time.monotonic()
        return {"visible_s": visible_s, "readable_s": readable_s, "digest": hasher.hexdigest()}

    def rename(self, old: str, new: str, count: int) -> dict[str, object]:
        """The new name with something in it, and the old one gone; then all entries."""
        last = os.path.join(new, file_name(count - 1))
        visible_s = self._when(lambda: os.path.exists(last) and not os.path.exists(old), new)
        found = len(os.listdir(new))
        if found != count:
            raise ValueError(f"{new} has {found} entries instead of {count}")
        return {"visible_s": visible_s}

    def _when_equal(self, path: str, index: int) -> float:
        """A name comes before its content where both are facts of their own."""
        written = self.content.part(index, BLOCK)
        return self._when(lambda: _read(path) == written, f"the content of {path}")

    def _when(self, seen: Callable[[], bool], what: str) -> float:
        deadline_s = time.monotonic() + WATCH_TIMEOUT_S
        while not seen():
            if time.monotonic() > deadline_s:
                raise ValueError(f"{what} did not appear in {WATCH_TIMEOUT_S:g} s")
            if self.poll_s:
                time.sleep(self.poll_s)
        return time.monotonic()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def main(root: str, poll_us: str) -> None:
    os.chdir(root)
    roles = {"write": Writer(), "watch": Watcher(int(poll_us) / 1e6)}
    for line in sys.stdin:
        request = json.loads(line)
        role, what = request.pop("do").split(" ")
        if role == "watch":
            print(json.dumps("watching"), flush=True)
        try:
            answer = getattr(roles[role], what)(**request)
        except (OSError, ValueError) as error:
            answer = {"error": f"{role} {what}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
