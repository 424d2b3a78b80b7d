"""A process goes on in the background, and the one that started it waits until it says it works.

    report = detach(log)        in the parent: never returns, but exits as the child reports
    report.ready({...})         in the child: the parent prints this and exits with 0
    report.failed(error)        the parent prints the error and exits with its status

The child is in a session of its own, in /, and has no terminal.  What it and the libraries write to
its standard error goes to the log.  Must be called before there are threads: fork(2) keeps one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol

from elmer.exits import CommandError, ExitStatus


class Report(Protocol):
    def ready(self, said: dict[str, Any]) -> None: ...

    def failed(self, error: CommandError) -> None: ...


class PipeReport:
    """To the parent, through a pipe that is closed after the first report."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int | None = descriptor

    def ready(self, said: dict[str, Any]) -> None:
        self._send({"said": said})

    def failed(self, error: CommandError) -> None:
        self._send({"error": str(error), "status": int(error.status)})

    def _send(self, message: dict[str, Any]) -> None:
        if self.descriptor is None:
            return
        with open(self.descriptor, "wb") as pipe:  # noqa: PTH123  (a descriptor, no path)
            pipe.write(json.dumps(message).encode())
        self.descriptor = None


def detach(log: Path) -> PipeReport | dict[str, Any]:
    """Return a report in the child; in the parent what the child said once it works.

    Raises CommandError in the parent where the child failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child != 0:
        os.close(writing)
        os.waitpid(child, 0)
        return _wait(reading, log)
    os.close(reading)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    os.chdir("/")
    _redirect(log)
    return PipeReport(writing)


def _redirect(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, descriptor in ((null, 0), (null, 1), (file, 2)):
        os.dup2(source, descriptor)
    os.close(null)
    os.close(file)


def _wait(reading: int, log: Path) -> dict[str, Any]:
    with open(reading, "rb") as pipe:
        message = pipe.read()
    if not message:
        raise CommandError(f"the daemon ended before it worked; see {log}", ExitStatus.MOUNT)
    report = json.loads(message)
    if "error" in report:
        raise CommandError(report["error"], ExitStatus(report["status"]))
    said: dict[str, Any] = report["said"]
    return said
