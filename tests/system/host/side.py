"""One side of a history: a process that makes the calls it is told to, as the user it is told, and tells
what came of them.

A history has a directory of its own, which is the root of all paths while it lasts (chroot), so that no
symlink leads out of it. Requests and answers are pickled, on standard input and output.
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.host.calls import COARSE, ROOT, Calls, Status, all_listed, shown

# Not `-m`: what is pickled must be of this module, not of `__main__`.
RUN = "from tests.system.host import side; side.main()"
REPOSITORY = Path(__file__).resolve().parents[3]


class User(NamedTuple):
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


SUPERUSER = User("root", 0, 0, (0,))


class UnplayableError(Exception):
    """A call that makes no sense: of a file that is not open, for example."""


class Failed(NamedTuple):
    why: str


class Answer(NamedTuple):
    """What came of a call: its result or the name of its error; and between which times it was made."""

    result: Any
    error: str | None
    began_ns: int
    ended_ns: int


class Seen(NamedTuple):
    """Something as a look sees it."""

    status: Status
    mtime_ns: int
    ctime_ns: int
    takes_space: bool
    same_as: str  # the first path or label of the same inode
    target: str
    xattrs: tuple[tuple[str, bytes], ...]
    content: bytes | None


class Process:
    """The process, in its own eyes."""

    def __init__(self, directory: str, *, is_mount: bool) -> None:
        self.base = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self.outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        self.is_mount = is_mount
        self.user = SUPERUSER
        self.masks: dict[str, int] = {}
        self.calls = Calls(is_mount=is_mount)

    def begin(self, name: str, mode: int) -> None:
        """A new history, in an empty directory of this name."""
        os.mkdir(name, dir_fd=self.base)
        root = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.base)
        os.fchmod(root, mode)
        self.masks = {}
        self.calls = Calls(is_mount=self.is_mount)
        self.calls.files[ROOT] = root
        os.fchdir(root)
        os.chroot(".")

    def end(self) -> None:
        self.become(SUPERUSER)
        for file in self.calls.files.values():
            os.close(file)
        self.calls.files.clear()
        os.fchdir(self.outside)
        os.chroot(".")

    def remove(self, name: str) -> None:
        shutil.rmtree(name, dir_fd=self.base)

    def become(self, user: User) -> None:
        if user != self.user:
            os.seteuid(0)
            os.setgroups(user.groups)
            os.setegid(user.gid)
            os.seteuid(user.uid)
            self.user = user
        os.umask(self.masks.get(user.name, 0o022))

    def umask(self, mask: int) -> None:
        self.masks[self.user.name] = mask

    def call_and_look(self, *call: Any) -> tuple[Answer, dict[str, Seen]]:
        return self.call(*call), self.look(contents=False)

    def call(self, user: User, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Answer:
        self.become(user)
        function = self.umask if name == "umask" else getattr(self.calls, name)
        began_ns = time.clock_gettime_ns(COARSE)
        try:
            result, error = function(*arguments, **named), None
        except OSError as failed:
            result, error = None, errno.errorcode[failed.errno or 0]
        ended_ns = time.time_ns()
        if self.calls.listings:
            self.become(SUPERUSER)
            self.calls.changed()
        return Answer(result, error, began_ns, ended_ns)

    def look(self, *, contents: bool) -> dict[str, Seen]:
        """Everything that has a name, by its path, and what is open, by its label."""
        self.become(SUPERUSER)
        look = Look(contents=contents)
        look.walk("", ".", self.calls.files[ROOT])
        for label, file in sorted(self.calls.files.items()):
            look.note(f"open {label}", os.fstat(file), "", None)
        return look.found


class Look:
    def __init__(self, *, contents: bool) -> None:
        self.contents = contents
        self.found: dict[str, Seen] = {}
        self.first: dict[int, str] = {}

    def walk(self, path: str, name: str, above: int) -> None:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=above)
        try:
            for entry in sorted(all_listed(directory), key=lambda entry: entry.name):
                if entry.name not in (".", ".."):
                    self.at(f"{path}{entry.name}", entry.name, directory)
        finally:
            os.close(directory)

    def at(self, path: str, name: str, directory: int) -> None:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else ""
        self.note(path, status, target, path)
        if stat.S_ISDIR(status.st_mode):
            self.walk(f"{path}/", name, directory)

    def note(self, key: str, status: os.stat_result, target: str, path: str | None) -> None:
        is_file = stat.S_ISREG(status.st_mode)
        self.found[key] = Seen(
            shown(status),
            status.st_mtime_ns,
            status.st_ctime_ns,
            is_file and status.st_blocks > 0,
            self.first.setdefault(status.st_ino, key),
            target,
            xattrs_of(path) if path is not None else (),
            content_of(path) if path is not None and is_file and self.contents else None,
        )


def xattrs_of(path: str) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def content_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# -- the process from outside --------------------------------------------------------------------


def ask(sides: Sequence[Side], method: str, *arguments: Any, **named: Any) -> list[Any]:
    """Have all sides do the same, and return what each answers.  Raises UnplayableError."""
    for side in sides:
        side.send(method, *arguments, **named)
    answers = [side.receive() for side in sides]
    both = zip(sides, answers, strict=True)
    failed = [f"{side.kind}: {answer.why}" for side, answer in both if isinstance(answer, Failed)]
    if failed:
        raise UnplayableError("\n".join(failed))
    return answers


class Side:
    def __init__(self, directory: Path, kind: str) -> None:
        self.kind = kind
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", RUN, directory, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def send(self, method: str, *arguments: Any, **named: Any) -> None:
        assert self.process.stdin is not None
        assert self.process.poll() is None, f"{self.kind} ended with {self.process.returncode}"
        pickle.dump((method, arguments, named), self.process.stdin)
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return pickle.load(self.process.stdout)

    def close(self) -> None:
        self.process.communicate(timeout=60)


def main() -> None:
    """What the process does: answer until nobody asks any more."""
    process = Process(sys.argv[1], is_mount=sys.argv[2] == "mount")
    while True:
        try:
            method, arguments, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = getattr(process, method)(*arguments, **named)
        except Exception:  # noqa: BLE001 - it is told to who asked
            answer = Failed(traceback.format_exc())
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
