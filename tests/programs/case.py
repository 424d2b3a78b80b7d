"""A case: something that people do with a program, and what is so afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case works: `root` is an empty directory of the file system in question, `material` one of the
    host's with what the case prepared.  Either is entered by all users."""

    root: Path
    material: Path
    full: bool = False

    def size(self, quick: int, full: int) -> int:
        return full if self.full else quick


def nothing(_place: Place) -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """`prepare` fills the material, once.  `work` is what is timed; it raises where something is not as it
    should be.  `check` must hold wherever what was left in `root` shows: on a peer too.  A case that is not
    `quick` is left to the script.  `packages` are Debian's, beyond those of `scripts/setup test`."""

    name: str
    work: Callable[[Place], None]
    prepare: Callable[[Place], None] = nothing
    check: Callable[[Place], None] | None = None
    packages: tuple[str, ...] = ()
    quick: bool = True


def prepared(case: Case, root: Path, directory: Path, *, full: bool = False) -> Place:
    """Make `root`, and the material in a directory of the host's."""
    material = directory / "material"
    material.mkdir()
    material.chmod(0o755)
    case.prepare(Place(material, material, full))
    root.mkdir()
    return Place(root, material, full)


# What scripts/test tells Python of its compiled files is for the tests, not for the programs on a mount.
OF_TESTS = {"PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"}


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OF_TESTS}


def run(
    *command: str | os.PathLike,
    cwd: Path | None = None,
    say: str | None = None,
    expect: int = 0,
    **settings: str,
) -> str:
    """Run a program with `say` as its input and `settings` in its environment; return its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment(), "LC_ALL": "C", **settings},
        input=say,
        stdin=subprocess.DEVNULL if say is None else None,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    words = " ".join(map(os.fspath, command))
    assert done.returncode == expect, (
        f"`{words}` ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    )
    return done.stdout


@contextmanager
def started(
    *commands: Sequence[str | os.PathLike], cwd: Path | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run programs meanwhile, whose output can be read; what still runs at the end is killed."""
    programs: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            programs.append(  # noqa: PERF401 - those that started are killed where a later one does not
                subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
        yield programs
    finally:
        for program in programs:
            program.kill()
            program.communicate()
