"""The daemon: everything put together, started in order and stopped in order.

Threads of a mount (docs/concurrency.md):
- the main thread runs llfuse's workers and, when they have ended, everything's end;
- `loop` runs asyncio: the hub (with two worker threads of its own) and the control socket;
- `ticks` has drafts written out once a second;
- `invalidate-N` tell the kernel of changes;
- `signals` waits until the mount answers, then for a signal.

An end by `umount` begins in the kernel, where nothing is in use any more: llfuse's loop ends, and the
rest follows.  An end by a signal may find open files: first the peers are left, so that nothing is
merged any more; then the notifications end, while workers still answer what they wait for; then the
mount is unmounted or, if it is in use, its loop is told to end.  In both cases what was gathered is
then committed and synced, and only after that is a mount detached that was in use.

Signals are blocked in all threads, so that none interrupts a step or is lost on the way.
"""

from __future__ import annotations

import contextlib
import cProfile
import gc
import logging
import os
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llfuse

from crdt.facts import ROOT
from elmer import mounts
from elmer.background import Report
from elmer.commands import Commands
from elmer.control import Control
from elmer.directory import StoreDirectory, held, mode_at
from elmer.exits import CommandError, ExitStatus
from elmer.fuse import WAITING_MAX, WORKERS, Operations, mount_options
from elmer.guard import guarded
from elmer.invalidate import Channel, Invalidator
from elmer.kernel import Kernel
from elmer.loop import LoopThread
from elmer.recovery import recovery
from elmer.reports import Reports
from elmer.rocks import RocksStore
from elmer.site import Site
from elmer.space import Space
from elmer.volume import opened
from translation.replica import Replica

log = logging.getLogger(__name__)

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# A thread that is busy in Python keeps each request waiting for up to this long.
SWITCH_INTERVAL_S = 0.0002
GC_THRESHOLDS = (20_000, 20, 50)  # Python's are 700, 10, 10
# How long a signal waits for notifications that are under way.
NOTIFIED_S = 2.0
TOUCH_S = 0.05
FUSE_DEVICE = Path("/dev/fuse")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the person who starts a daemon wants it to listen, None: where it did before.

    `url` is the address to tell others instead.
    """

    listen: str | None
    url: str | None


def serve(directory: StoreDirectory, listening: Listening, report: Report) -> None:
    """Replicate without a mount, until a signal comes."""
    _prepare_process()
    with (
        held(directory, "serve"),
        opened(directory) as replica,
        LoopThread() as loop,
    ):
        lock = threading.Lock()
        site = Site(directory, replica, loop, lock, Space(directory.reserve, _rows_of(replica)))
        commands = Commands(site, "serve", None)
        with site.talking(listening.listen, listening.url), _controlled(site, commands):
            log.info("%s is served, listens on %s", directory.path, site.listening)
            said = {"store": str(directory.path), "listen": str(site.listening)}
            _tell(report, said | _recovered(site))
            signal.sigwait(SIGNALS)
            log.info("a signal came: stopping")
        site.finish()


def mount(
    directory: StoreDirectory,
    mountpoint: Path,
    listening: Listening,
    report: Report,
    options: Collection[str] = (),
) -> None:
    """Mount a store and replicate, until it is unmounted or a signal comes.  `options` are those of mount(8).

    Raises CommandError where it cannot; nothing is mounted then.
    """
    _prepare_process()
    with (
        held(directory, "mount", str(mountpoint)),
        opened(directory) as replica,
        LoopThread() as loop,
    ):
        space = Space(directory.reserve, _rows_of(replica), llfuse.lock_released)
        site = Site(directory, replica, loop, llfuse.lock, space)
        operations = Operations(site.filesystem, space, replica.sync, site.hub.request_blocks)
        commands = Commands(site, "mount", mountpoint)
        site.filesystem.virtual.reports = Reports(loop, commands, llfuse.lock_released)
        site.filesystem.attributes.notes_reading = "noatime" not in options
        site.freeze = operations.freeze
        if site.peers.config.must_rejoin:
            operations.freeze()
        with (
            site.talking(listening.listen, listening.url),
            _controlled(site, commands),
            guarded(mountpoint),
            mounted(operations, directory.path, mountpoint, options) as kernel,
        ):
            site.local.kernel = kernel
            said = {
                "store": str(directory.path),
                "mountpoint": str(mountpoint),
                "listen": str(site.listening),
                **_recovered(site),
            }
            try:
                _answer_requests(site, mountpoint, report, said)
            finally:
                log.info("%s takes no more requests", mountpoint)
                try:
                    site.stop_talking()
                finally:
                    site.finish()
        log.info("%s is unmounted, and all is on disk", mountpoint)


def _rows_of(replica: Replica) -> RocksStore:
    assert isinstance(replica.store, RocksStore), replica.store
    return replica.store


def check_mountpoint(mountpoint: Path, store: Path) -> None:
    """Raises CommandError where this store cannot be mounted here.

    A stale mount of a daemon that was killed is taken away.
    """
    _take_away_stale(mountpoint)
    why, mode = None, mode_at(mountpoint)
    if not mode:
        why = "does not exist"
    elif not stat.S_ISDIR(mode):
        why = "is not a directory"
    elif (there := mounts.at(mountpoint)) is not None and there.store is not None:
        why = f"is where {there.store} is mounted: unmount that first, or choose another directory"
    elif mountpoint.is_relative_to(store):
        why = "is inside the store: choose another directory"
    elif store.is_relative_to(mountpoint):
        why = "has the store inside: choose another directory"
    elif not os.access(mountpoint, os.R_OK | os.X_OK):
        why = "may not be entered by this user"
    elif any(mountpoint.iterdir()):
        why = "is not empty"
    elif os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        why = "may not be written by this user, which fusermount wants"
    if why is not None:
        raise CommandError(f"{mountpoint} {why}", ExitStatus.USAGE)
    _check_fuse()


def _take_away_stale(mountpoint: Path) -> None:
    if not mounts.is_stale(mountpoint):
        return
    there = mounts.mount_of(mountpoint)
    if there is None or there.store is None:
        raise CommandError(
            f"{mountpoint} is a mount whose daemon is gone; unmount it first", ExitStatus.USAGE
        )
    log.warning("%s was left by a daemon that was killed: unmounted", mountpoint)
    mounts.unmount(mountpoint, lazily=True)


def _check_fuse() -> None:
    why = None
    if not FUSE_DEVICE.exists():
        why = "does not exist: load the kernel module (modprobe fuse), or give the container this device"
    elif not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        why = "may not be opened by this user: do it as root, or allow it (chmod 666)"
    elif os.geteuid() != 0 and shutil.which(mounts.FUSERMOUNT) is None:
        raise CommandError("only root can mount without fusermount: install fuse", ExitStatus.MOUNT)
    if why is not None:
        raise CommandError(f"{FUSE_DEVICE} {why}", ExitStatus.MOUNT)


def _prepare_process() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # The caches hold some hundred thousand objects that are in no cycle: looking through all of them every
    # few thousand requests would be most of what the collector does.
    gc.set_threshold(*GC_THRESHOLDS)
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in SIGNALS:
        # What comes when llfuse has just put this back must not end the process half way.
        signal.signal(number, lambda *_: None)


@contextlib.contextmanager
def _controlled(site: Site, commands: Commands) -> Iterator[None]:
    control = Control(site.directory.socket, commands.table())
    site.loop.run(control.start())
    try:
        yield
    finally:
        site.loop.run(control.stop())


@contextlib.contextmanager
def mounted(
    operations: Operations, store: Path, mountpoint: Path, options: Collection[str] = ()
) -> Iterator[Kernel]:
    """Have the kernel send its requests meanwhile; llfuse.main answers them.

    Raises CommandError (MOUNT) where the system refuses.
    """
    all_options = mount_options(mounts.source_of(store), options, for_all_users=os.geteuid() == 0)
    before = _fuse_descriptors()
    try:
        llfuse.init(operations, str(mountpoint), all_options)
    except RuntimeError as error:
        raise CommandError(
            f"cannot mount on {mountpoint}: {error}; the log above this line says why", ExitStatus.MOUNT
        ) from error
    (descriptor,) = _fuse_descriptors() - before
    # A child that had it would keep the mount alive, and hanging, after this process is gone.
    os.set_inheritable(descriptor, False)  # noqa: FBT003
    known = operations.filesystem.known
    invalidator = Invalidator(
        Channel(descriptor), lambda ino: ino == ROOT or ino in known, threads=WAITING_MAX + 1
    )
    invalidator.start()
    try:
        yield Kernel(operations, invalidator)
    finally:
        invalidator.stop(NOTIFIED_S)
        llfuse.close()


def _fuse_descriptors() -> set[int]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if entry.readlink() == FUSE_DEVICE:
                found.add(int(entry.name))
    return found


def _answer_requests(site: Site, mountpoint: Path, report: Report, said: dict[str, Any]) -> None:
    ended = threading.Event()
    waiting = threading.Thread(
        target=_end_at_signal,
        args=(site, mountpoint, report, said, ended),
        name="signals",
        daemon=True,
    )
    waiting.start()
    profile_path = os.environ.get("ELMER_PROFILE")
    try:
        if profile_path is None:
            llfuse.main(workers=WORKERS)
        else:
            _run_profiled(profile_path)
    finally:
        ended.set()


def _run_profiled(path: str) -> None:
    """Write where the time went, by function, to a file for pstats.

    With one worker, the main thread: cProfile sees a single one.
    """
    # While it profiles, CPython 3.11 looks for references in generators that run where there are none, as
    # one does while a large directory is listed, and crashes.
    gc.disable()
    profile = cProfile.Profile()
    try:
        profile.runcall(llfuse.main, workers=1)
    finally:
        profile.dump_stats(path)


def _end_at_signal(
    site: Site, mountpoint: Path, report: Report, said: dict[str, Any], ended: threading.Event
) -> None:
    try:
        mountpoint.stat()  # waits until the first request is answered
    except OSError as error:
        log.error("%s does not answer: %s", mountpoint, error.strerror)  # noqa: TRY400  (it says it all)
    else:
        log.info("%s is mounted on %s, listens on %s", said["store"], said["mountpoint"], said["listen"])
        _tell(report, said)
        number = signal.sigwait(SIGNALS)
        log.info("%s came: stopping", signal.Signals(number).name)
    with contextlib.ExitStack() as steps:  # each is done, whatever became of those before
        steps.callback(_unmount, mountpoint, ended)
        if site.local.kernel is not None:
            # While workers answer: a notification may wait for a request, and without an answer for ever.
            steps.callback(site.local.kernel.invalidator.stop, NOTIFIED_S)
        steps.callback(site.stop_talking)


def _unmount(mountpoint: Path, ended: threading.Event) -> None:
    try:
        mounts.unmount(mountpoint)
    except OSError as error:
        log.info("%s is in use (%s): ending all the same", mountpoint, error.strerror)
        _end_loop(mountpoint, ended)


def _recovered(site: Site) -> dict[str, Any]:
    """Return what is said of a start after a crash, nothing after an end in order."""
    found = recovery(site.replica.store, site.filesystem)
    if not found:
        return {}
    log.warning("%s: %s", site.directory.path, found)
    return {"recovered": asdict(found)}


def _tell(report: Report, said: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who started the daemon may be gone: it works all the same
        report.ready(said)


def _end_loop(mountpoint: Path, ended: threading.Event) -> None:
    """Have llfuse's loop end, by the signal that it reacts to.

    The signal is blocked elsewhere, so it comes here and only sets a flag.  The workers look at it
    after the next request, of which this makes some.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    while not ended.wait(TOUCH_S):
        with contextlib.suppress(OSError):
            os.statvfs(mountpoint)
