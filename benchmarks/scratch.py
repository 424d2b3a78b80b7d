"""A fresh temporary directory, with all that was started in it, and the way to end it all.

Benchmarks mount file systems and start daemons that outlive the command that started them.  Each
process gets the mark of the run in its environment: children inherit it and daemons keep it, so
whatever the run has started can be found, and nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MARK = "ELMER_BENCHMARK_RUN"
REPOSITORY = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 60.0  # what was killed ends for sure, but a loaded machine takes its time
POLL_S = 0.02


class BenchmarkError(Exception):
    """Something that was to be measured could not be; the message says what and why."""


def wait_until(condition: Callable[[], bool], timeout_s: float, poll_s: float = POLL_S) -> bool:
    """Return whether `condition` came true within `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(poll_s)
    return True


class Scratch:
    """The directory of one run and the processes that carry its mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.children: list[subprocess.Popen[bytes]] = []
        self.outputs = 0
        self.stop_timeout_s = STOP_TIMEOUT_S

    def start(
        self,
        command: Sequence[str],
        *,
        owner: str = "client",
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start `command`; return it with the file that has its standard error (and its output,
        unless `stdout` says where that goes).

        Files, not pipes: a daemon keeps what its starter had open, and a pipe would not end.
        """
        self.outputs += 1
        output = self.path / f"output-{self.outputs}"
        marked = {**os.environ, **(environment or {}), MARK: f"{self.mark}:{owner}"}
        with output.open("wb") as file:
            child = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=file if stdout is None else stdout,
                stderr=file,
                cwd=REPOSITORY,
                env=marked,
                start_new_session=True,  # Ctrl-C reaches the benchmark, which ends its children
            )
        self.children.append(child)
        return child, output

    def run(
        self,
        command: Sequence[str],
        timeout_s: float,
        *,
        owner: str = "client",
        environment: dict[str, str] | None = None,
    ) -> str:
        """Run `command` to its end and return what it wrote.  Raises BenchmarkError."""
        try:
            child, output = self.start(command, owner=owner, environment=environment)
        except OSError as error:
            raise BenchmarkError(f"{command[0]}: {error.strerror}") from error
        if not ends(child, timeout_s):
            child.kill()
            raise BenchmarkError(f"{_short(command)}: no end after {timeout_s:g} s")
        status = child.wait()
        self.children.remove(child)
        text = output.read_text(errors="replace")
        output.unlink()
        if status != 0:
            raise BenchmarkError(f"{_short(command)}: exit status {status}: {_last_lines(text)}")
        return text

    def processes(self, owner: str = "") -> list[int]:
        """The processes of this run, or of one owner in it, daemons and their children too."""
        wanted = f"{MARK}={self.mark}:{owner}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):  # it has just ended, or is another user's
                    environment = Path("/proc", entry, "environ").read_bytes().split(b"\0")
                    if any(
                        variable == wanted if owner else variable.startswith(wanted)
                        for variable in environment
                    ):
                        found.append(int(entry))
        return found

    def cpu_s(self, owner: str) -> float:
        """The processor time that the living processes of `owner` have used, all threads."""
        total_s = 0.0
        for pid in self.processes(owner):
            with contextlib.suppress(OSError):
                # The kernel's number for the CPU clock of a process: clock_getcpuclockid(3).
                total_s += time.clock_gettime((~pid << 3) | 2)
        return total_s

    def mounts(self) -> list[str]:
        """Mount points below the directory, the innermost first."""
        below = f"{os.path.realpath(self.path)}/"
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        # Spaces and the like stand there as octal escapes, see proc_pid_mountinfo(5).
        points = [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in lines]
        return sorted((point for point in points if point.startswith(below)), reverse=True)

    def end(self) -> None:
        """End every process and mount of the run and remove the directory.

        Raises BenchmarkError where a mount cannot be undone: removing the directory would then
        reach through it.
        """
        self.end_processes()
        for point in self.mounts():
            unmount(point, force=True)
        left = [*self.mounts(), *(f"process {pid}" for pid in self.processes())]
        if left:
            raise BenchmarkError(f"left behind: {', '.join(left)}; {self.path} is not removed")
        shutil.rmtree(self.path)

    def end_processes(self, owner: str = "") -> None:
        """End the processes of one owner, or all of the run, and reap those that are our children.

        SIGTERM lets a daemon unmount.  Where that does not end all in time, a client may hang in a
        request that nobody answers: forcing the unmount ends the connection.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes(owner):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            asked = number == signal.SIGTERM
            if wait_until(lambda: self._all_ended(owner), self.stop_timeout_s if asked else KILL_TIMEOUT_S):
                return
            if not owner:
                for point in self.mounts():
                    unmount(point, force=True)

    def _all_ended(self, owner: str) -> bool:
        for child in self.children:
            child.poll()  # else it stays as a zombie
        if self.processes(owner):
            return False
        # One that is just ending has no environment any more to be known by, and no status yet.
        return all(child.poll() is not None or not is_ending(child.pid) for child in self.children)


def is_ending(pid: int) -> bool:
    """Is it a process of ours without a command line: dying, or dead and not waited for?"""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def ends(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for the end of `child`, without the 50 ms that Popen.wait(timeout) may sleep on."""
    process = os.pidfd_open(child.pid)
    try:
        ready, _, _ = select.select([process], [], [], timeout_s)
    finally:
        os.close(process)
    return bool(ready)


def unmount(point: str, *, force: bool = False) -> None:
    """Unmount as root or with fusermount.  Whether it helped, `Scratch.mounts` says."""
    if os.getuid() == 0:
        command = ["umount", *(["-f", "-l"] if force else []), point]
    else:
        command = ["fusermount", "-u", *(["-z"] if force else []), point]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=STOP_TIMEOUT_S, check=False, capture_output=True)


@contextlib.contextmanager
def scratch(base: str | None) -> Iterator[Scratch]:
    """A fresh directory in `base` (default: where temporary files go) that leaves nothing behind,
    at Ctrl-C, SIGTERM or failure neither."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in handlers:
        signal.signal(number, _exit)
    run = Scratch(Path(tempfile.mkdtemp(prefix="elmer-benchmark-", dir=base)).resolve())
    try:
        yield run
    finally:
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)
        run.end()
        for number, handler in {**handlers, signal.SIGINT: interrupt}.items():
            signal.signal(number, handler)


def _exit(number, _frame) -> None:
    raise SystemExit(128 + number)


def _short(command: Sequence[str]) -> str:
    return " ".join(Path(word).name if word.startswith("/") else word for word in command)


def _last_lines(text: str, count: int = 5) -> str:
    lines = [line.strip() for line in text.strip().splitlines()[-count:]]
    return " | ".join(lines) or "it wrote nothing"
