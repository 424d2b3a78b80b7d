"""Both sides of a history: the same calls on each, and what must then be the same.

Times are not compared as such: each is of the call that was made when it was, and that must be the same
call on both sides. So the same things changed with the same calls. A history is kept as lines of Python,
which `play` plays again.
"""

from __future__ import annotations

import os
import stat
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.host.calls import COARSE, NOW, OMIT, OPEN_FLAGS, Flags, Mode
from tests.system.host.side import SUPERUSER, Answer, Seen, Side, UnplayableError, User, ask
from tests.system.trees import first_difference
from tests.system.waiting import until

ANN = User("ann", 1001, 1001, (1001, 3000))
BOB = User("bob", 1002, 1002, (1002, 3000, 3001))
USERS = {user.name: user for user in (SUPERUSER, ANN, BOB)}
# Which argument is a mode.
MODE_AT = {"mkdir": 1, "mknod": 1, "open": 2, "chmod": 1, "fchmod": 1, "umask": 0}
# They change nothing that a look sees, so no time is of one of them.
READS = {"stat", "fstat", "access", "readlink", "list", "flist", "lseek", "getxattr", "listxattr", "flock"}
READS |= {"read", "pread", "read_some", "read_rest", "umask"}

# What a line of a history may name.
WORDS = {name: Flags(getattr(os, name)) for name in [*OPEN_FLAGS, "O_RDONLY"]}
WORDS |= {"NOW": NOW, "OMIT": OMIT}


class Different(AssertionError):
    """The mount is not like the host."""

    def __init__(self, lines: Sequence[str], what: str) -> None:
        super().__init__("\n".join(["", *lines, what]))
        self.lines = lines


class Clock:
    """Which call a time of one side is of."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []

    def note(self, answer: Answer) -> None:
        self.began.append(answer.began_ns)
        self.ended.append(answer.ended_ns)

    def call_of(self, when: int) -> int | None:
        """Return the number of the call, None where no call was made then."""
        number = bisect_right(self.began, when) - 1
        return number if number >= 0 and when <= self.ended[number] else None


class Line(NamedTuple):
    text: str
    changes: bool  # it is a call that `Clock` counts


class Pair:
    """`series` names the directories of its histories."""

    def __init__(self, host: Path, mount: Path, series: str) -> None:
        self.series = series
        self.sides = (Side(host, "host"), Side(mount, "mount"))
        self.number = 0
        self.is_begun = False

    def close(self) -> None:
        for side in self.sides:
            side.close()

    def begin(self, mode: int = 0o777) -> None:
        """A new history."""
        if self.is_begun:
            self.end()
        self.number += 1
        self.lines = [Line(f"begin({Mode(mode)!r})", changes=True)]
        self.clocks = (Clock(), Clock())
        self.is_different = False
        self.quiet_ns = 0  # all calls before were made by then
        self.given: set[int] = set()  # times that a call named
        self.there: list[str] = []  # what had a name on the host when we looked last
        self.let_time_pass()
        began_ns = time.clock_gettime_ns(COARSE)
        ask(self.sides, "begin", self.name, mode)
        self.note([Answer(None, None, began_ns, time.time_ns())] * 2)
        self.is_begun = True

    @property
    def name(self) -> str:
        """Of the directory of this history."""
        return f"{self.series}-{self.number:06}"

    def end(self, *, keep: bool = False) -> None:
        self.is_begun = False
        ask(self.sides, "end")
        if not keep:
            ask(self.sides, "remove", self.name)

    def let_time_pass(self) -> None:
        """Until what is done next has other times than what was done."""
        until(lambda: time.clock_gettime_ns(COARSE) > self.quiet_ns, "the clock goes on", poll_s=0.0005)

    def note(self, answers: list[Answer]) -> None:
        for clock, answer in zip(self.clocks, answers, strict=True):
            clock.note(answer)
        self.quiet_ns = max(answer.ended_ns for answer in answers)

    def do(self, user: str, call: str, *arguments: Any, **named: Any) -> Answer:
        """Make one call on both sides, and return what the host answers.

        Raises Different where the mount answers something else.
        """
        answers = self.make("call", user, call, *arguments, **named)
        self.compare_answers(answers)
        return answers[0]

    def do_and_look(self, user: str, call: str, *arguments: Any, **named: Any) -> Answer:
        """Both at once take half the time."""
        (host, host_seen), (mount, mount_seen) = self.make("call_and_look", user, call, *arguments, **named)
        self.compare_answers([host, mount])
        self.lines.append(Line("look()", changes=False))
        self.compare(host_seen, mount_seen)
        return host

    def make(self, how: str, user: str, call: str, *arguments: Any, **named: Any) -> list[Any]:
        changes = call not in READS
        if changes:
            self.let_time_pass()
        words = [written(each) for each in typed(call, arguments)]
        words += [f"{name}={written(each)}" for name, each in named.items()]
        self.lines.append(Line(f"{user}.{call}({', '.join(words)})", changes))
        if call in ("utimens", "futimens"):
            self.given.update(each for each in arguments[1:3] if each not in (NOW, OMIT))
        return ask(self.sides, how, USERS[user], call, arguments, named)

    def compare_answers(self, answers: list[Answer]) -> None:
        host, mount = answers
        line = self.lines[-1]
        self.lines[-1] = line._replace(text=f"{line.text}  # {came_of(host)}")
        if line.changes:
            self.note(answers)
        if (host.result, host.error) != (mount.result, mount.error):
            self.fail(f"the mount answers: {came_of(mount)}")

    def look(self, *, contents: bool = False) -> None:
        """Raises Different where something is not the same on both sides."""
        self.lines.append(Line(f"look({'contents=True' if contents else ''})", changes=False))
        self.compare(*ask(self.sides, "look", contents=contents))

    def compare(self, host: dict[str, Seen], mount: dict[str, Seen]) -> None:
        self.there = [path for path in host if not path.startswith("open ")]
        if host.keys() != mount.keys():
            self.fail(f"what is there: {sorted(host)} on the host, {sorted(mount)} on the mount")
        found = [f"{path}: {told}" for path in host for told in self.unequal(host[path], mount[path])]
        if found:
            self.fail("\n".join(found))

    def unequal(self, host: Seen, mount: Seen) -> list[str]:
        found = [
            f"{name}: {there!r} on the host, {here!r} on the mount"
            for name, there, here in [
                *zip(host.status._fields, host.status, mount.status, strict=True),
                ("same inode as", host.same_as, mount.same_as),
                ("target", host.target, mount.target),
                ("xattrs", host.xattrs, mount.xattrs),
            ]
            if there != here
        ]
        if host.content != mount.content:
            found.append(f"content: {first_difference(mount.content or b'', host.content or b'')}")
        if host.takes_space and not mount.takes_space:
            found.append("takes no space on the mount")
        if not stat.S_ISFIFO(host.status.mode):
            found += self.unequal_times("mtime", host.mtime_ns, mount.mtime_ns)
            found += self.unequal_times("ctime", host.ctime_ns, mount.ctime_ns)
        return found

    def unequal_times(self, name: str, host_ns: int, mount_ns: int) -> list[str]:
        if host_ns == mount_ns and host_ns in self.given:
            return []
        host, mount = (
            None if when in self.given else clock.call_of(when)
            for clock, when in zip(self.clocks, (host_ns, mount_ns), strict=True)
        )
        if host == mount and host is not None:
            return []
        there, here = self.line_of(host, host_ns), self.line_of(mount, mount_ns)
        return [f"{name}: of {there} on the host, of {here} on the mount"]

    def line_of(self, number: int | None, when: int) -> str:
        if number is None:
            return str(when)
        return "`" + [line.text for line in self.lines if line.changes][number].split("  #")[0] + "`"

    def fail(self, what: str) -> None:
        self.is_different = True
        raise Different([line.text for line in self.lines], what)


def typed(call: str, arguments: Sequence[Any]) -> list[Any]:
    """Modes and flags as people write them."""
    return [
        Mode(each) if at == MODE_AT.get(call) else Flags(each) if (call, at) == ("open", 1) else each
        for at, each in enumerate(arguments)
    ]


def written(argument: Any) -> str:
    """As Python, but short."""
    if isinstance(argument, (str, bytes)) and len(argument) > 40:
        for length in (1, 3):
            if argument == argument[:length] * (len(argument) // length):
                return f"{argument[:length]!r} * {len(argument) // length}"
    return {NOW: "NOW", OMIT: "OMIT"}.get(argument, repr(argument)) if argument else repr(argument)


def came_of(answer: Answer) -> str:
    told = answer.error or repr(answer.result)
    return told if len(told) < 300 else f"{told[:300]} ..."


# -- histories as text ---------------------------------------------------------------------------


class Caller:
    """A user, as a line of a history names it."""

    def __init__(self, pair: Pair, user: str) -> None:
        self.pair, self.user = pair, user

    def __getattr__(self, call: str) -> Callable[..., Any]:
        return partial(self.pair.do, self.user, call)


def play(pair: Pair, lines: Sequence[str]) -> None:
    """Play a history again; what is after a `#` is as it pleases.  Raises Different."""
    if not lines or not lines[0].strip().startswith("begin"):
        pair.begin()
    play_on(pair, lines)
    pair.look(contents=True)
    pair.end()


def play_on(pair: Pair, lines: Iterable[str]) -> None:
    words = {**WORDS, "begin": pair.begin, "look": pair.look}
    words |= {name: Caller(pair, name) for name in USERS}
    for line in lines:
        exec(line.strip(), words)


def failure_of(pair: Pair, lines: Sequence[str]) -> Different | None:
    """Play a history again; None where it shows no difference, or makes no sense."""
    try:
        play(pair, lines)
    except Different as different:
        return different
    except UnplayableError:
        pass
    return None
