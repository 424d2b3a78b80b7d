"""Three replicas on this machine for the demo: their processes, mounts and stores in one directory.

Whatever happens, nothing stays behind.  What makes that so:

- Signals only set a flag (`Stop`), which every loop and wait of the story checks: so no signal can
  cut a step in half, say between the start of a process and the note that it was started.
- The story runs in a thread of its own.  Where it hangs in a file system that no longer answers,
  the main thread kills the daemons, and the kernel then ends the call.
- Daemons run in the foreground, as our children, each in a session of its own: the terminal's
  Ctrl-C reaches the demo only, which stops them in order.
- The directory is removed only when nothing is mounted in it any more: to remove a tree through a
  mount would remove what is in the volume.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from elmer.mounts import all_mounts, unmount

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S = 0.05
MOUNT_DEADLINE_S = 60.0
ORDERLY_STOP_S = 10.0


class DemoFailedError(Exception):
    """The product did something else than the demo promises.  Its text is for the user."""


class StoppedError(Exception):
    """A signal came, or the time was up."""


class Stop:
    """Whether the demo is to end now, and why."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.signal: signal.Signals | None = None
        self.overdue = False
        self.event = threading.Event()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        def note(number: int, _frame: FrameType | None) -> None:
            self.signal = self.signal or signal.Signals(number)
            self.event.set()

        before = {number: signal.signal(number, note) for number in STOPPING_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def reason(self) -> str:
        if self.signal is not None:
            return f"stopped by {self.signal.name}"
        return f"stopped after {self.limit_s:.0f} s" if self.overdue else "stopped"

    def note_overdue(self) -> None:
        self.overdue = True
        self.event.set()

    def check(self) -> None:
        if self.event.is_set():
            raise StoppedError(self.reason)

    def pause(self, seconds: float = POLL_S) -> None:
        self.event.wait(seconds)
        self.check()


@dataclass
class Site:
    """One replica: `daemon` is its process while it is mounted."""

    name: str
    store: Path
    mountpoint: Path
    log: Path
    daemon: subprocess.Popen[bytes] | None = None


class Sites:
    """All sites of the demo, and every process that it started."""

    def __init__(self, stop: Stop, names: Sequence[str]) -> None:
        self.stop = stop
        self.lock = threading.Lock()
        self.closed = False
        self.processes: list[subprocess.Popen[bytes]] = []
        self.directory = Path(tempfile.mkdtemp(prefix="elmer-demo-")).resolve()
        self.all = [
            Site(
                name,
                self.directory / f"store-{name}",
                self.directory / name,
                self.directory / f"{name}.log",
            )
            for name in names
        ]

    def elmer(self, *arguments: str | Path) -> str:
        """Run one command of elmer and return what it printed."""
        return self._finished(self._start(arguments), arguments)

    def report(self, *arguments: str | Path) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.elmer(*arguments, "--json"))
        return report

    def on_each(self, command: str, *options: str) -> list[str]:
        """Run one command on all sites at the same time."""
        calls: list[list[str | Path]] = [[command, site.mountpoint, *options] for site in self.all]
        running = [self._start(call) for call in calls]
        return [self._finished(*pair) for pair in zip(running, calls, strict=True)]

    def mount(self, site: Site) -> None:
        """Mount a site and wait until it answers."""
        site.mountpoint.mkdir()
        site.daemon = self._start(
            ("mount", site.store, site.mountpoint, "--listen", "127.0.0.1:0", "--foreground"),
            log=site.log,
        )
        deadline = time.monotonic() + MOUNT_DEADLINE_S
        while not (site.mountpoint.is_mount() and self._answers(site)):
            if site.daemon.poll() is not None or time.monotonic() > deadline:
                raise DemoFailedError(f"site {site.name} did not mount:\n{_end_of(site.log)}")
            self.stop.pause()

    def unmount_all(self) -> None:
        """The orderly end: everything is on disk when this returns."""
        self.on_each("umount")
        for site in self.all:
            while site.daemon is not None and site.daemon.poll() is None:
                self.stop.pause()

    def end(self) -> None:
        """End every process and every mount; none can be started any more."""
        with self.lock:
            self.closed = True
        self._end_processes()
        for mountpoint in mounts_below(self.directory):
            with suppress(OSError):  # `remove` says which are left
                unmount(mountpoint, lazily=True)

    def remove(self) -> list[str]:
        """Remove the directory, after `end`.  Returns what had to stay, in words."""
        mounted = mounts_below(self.directory)
        if mounted:
            return [f"{path} is still mounted; {self.directory} was left alone" for path in mounted]
        shutil.rmtree(self.directory, ignore_errors=True)
        return [f"{self.directory} was not removed"] if self.directory.exists() else []

    def _start(self, arguments: Sequence[str | Path], log: Path | None = None) -> subprocess.Popen[bytes]:
        with self.lock:
            if self.closed:
                raise StoppedError(self.stop.reason)
            process = _popen([sys.executable, "-P", "-m", "elmer", *map(str, arguments)], log)
            self.processes.append(process)
            return process

    def _finished(self, process: subprocess.Popen[bytes], arguments: Sequence[str | Path]) -> str:
        while True:
            try:
                out, err = process.communicate(timeout=POLL_S)
                break
            except subprocess.TimeoutExpired:
                self.stop.check()
        if process.returncode != 0:
            self.stop.check()
            said = (err + out).decode(errors="replace").strip()
            raise DemoFailedError(
                f"`elmer {' '.join(map(str, arguments))}` ended with {process.returncode}: {said}"
            )
        return out.decode()

    def _answers(self, site: Site) -> bool:
        """Whether the daemon hears commands too, not only the kernel."""
        process = self._start(("status", site.mountpoint, "--json"))
        try:
            self._finished(process, ("status",))
        except DemoFailedError:
            return False
        return True

    def _end_processes(self) -> None:
        running = [process for process in self.processes if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + ORDERLY_STOP_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(ORDERLY_STOP_S)


def mounts_below(directory: Path) -> list[Path]:
    """Return the mount points below a directory, innermost first."""
    inside = [mount.mountpoint for mount in all_mounts() if directory in mount.mountpoint.parents]
    return sorted(inside, key=lambda path: len(path.parts), reverse=True)


def _popen(command: list[str], log: Path | None) -> subprocess.Popen[bytes]:
    source = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    with ExitStack() as stack:
        to = subprocess.PIPE if log is None else stack.enter_context(log.open("ab"))
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=to,
            start_new_session=True,
            env=environment,
        )


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-15:]) or "(it said nothing)"
