"""What changed besides the answers to its requests, told to the kernel: it caches all for ever.

A change goes out as raw FUSE_NOTIFY messages on the descriptor of /dev/fuse: unlike llfuse's queue
they are done when the write returns, so one can wait for them (`drain`), and say whether the kernel
knew the inode.

Two orders matter.  Entries go before inodes: the notification of an entry waits for a LOOKUP or
CREATE of it that is under way, whose reply would otherwise bring old attributes after the new ones
were announced.  And never is anything written here with a lock held that a handler needs, nor by a
handler: the kernel may wait for a request that is in flight.

Where no entry is told, the same race leaves its trace: the kernel does not know an inode (ENOENT)
whose lookup we have answered.  Then it is told again, until the reply has arrived or was forgotten.

What the kernel cannot know, since no look-up of it was answered, is not told: of a catch-up on a new
mount that is nearly all.

To drop a file's pages waits for reads of it that are under way, and those may wait for a peer.  So
there are more threads than requests that may wait (elmer.fuse), and one inode occupies one thread.
Before its pages go, what is dirty in a mapping of it is written: requests come in meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)

INVALIDATE_INODE = 2  # FUSE_NOTIFY_INVAL_INODE of linux/fuse.h
INVALIDATE_ENTRY = 3
# Each begins with its length, its code, and 0.
_INODE = struct.Struct("=IiQQqq")  # inode, offset (negative: attributes only), length (0: all)
_ENTRY = struct.Struct("=IiQQII")  # parent, length of the name, 0; then the name and a 0 byte

# What a mount has none of: it was never known, or it is gone.
NOT_KNOWN = (errno.ENOENT, errno.ENOTDIR)
GONE = (errno.ENOTCONN, errno.ENODEV, errno.EBADF)

RETRY_FIRST_S = 0.0005
RETRY_MAX_S = 1.0


class Channel:
    """The notifications themselves.  Both return whether the kernel knew what it was told about."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def inode(self, ino: int, content: bool) -> bool:  # noqa: FBT001  (as of all notifications)
        offset = 0 if content else -1
        return self._write(_INODE.pack(_INODE.size, INVALIDATE_INODE, 0, ino, offset, 0))

    def entry(self, parent: int, name: bytes) -> bool:
        length = _ENTRY.size + len(name) + 1
        head = _ENTRY.pack(length, INVALIDATE_ENTRY, 0, parent, len(name), 0)
        return self._write(head + name + b"\0")

    def _write(self, message: bytes) -> bool:
        try:
            os.write(self.descriptor, message)
        except OSError as error:
            if error.errno in NOT_KNOWN:
                return False
            if error.errno not in GONE:
                raise
        return True


@dataclass(eq=False, slots=True)
class Batch:
    """Changes that were told together: entries as (parent, name), inodes with "content too"."""

    entries: Collection[tuple[int, bytes]]
    inodes: Mapping[int, bool]
    steps_left: int = 1  # its own, and one for each file whose pages are to go

    @property
    def is_done(self) -> bool:
        return self.steps_left == 0


class Invalidator:
    """`is_known` says whether the kernel was told of an inode and has not forgotten it."""

    def __init__(self, channel: Channel, is_known: Callable[[int], bool], threads: int) -> None:
        self.channel = channel
        self.is_known = is_known
        lock = threading.Lock()
        self.work = threading.Condition(lock)
        self.done = threading.Condition(lock)
        self.batches: deque[Batch] = deque()
        self.contents: dict[int, list[Batch]] = {}  # files whose pages are to go, and who waits
        self.dropping: set[int] = set()  # files whose pages are going
        self.under_way: set[Batch] = set()
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, name=f"invalidate-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def tell(self, entries: Collection[tuple[int, bytes]], inodes: Mapping[int, bool]) -> Batch:
        """Have the kernel told.  Returns at once; may be called with any lock held."""
        batch = Batch(entries, inodes)
        with self.work:
            self.batches.append(batch)
            self.under_way.add(batch)
            self.work.notify()
        return batch

    def wait(self, batch: Batch, timeout_s: float) -> bool:
        """Wait until the kernel has heard all of a batch; return whether it has."""
        with self.done:
            return self.done.wait_for(lambda: batch.is_done or self.stopping.is_set(), timeout_s)

    def drain(self, timeout_s: float) -> bool:
        """As `wait`, for all that was told so far."""
        with self.done:
            batches = list(self.under_way)
            return self.done.wait_for(
                lambda: self.stopping.is_set() or all(batch.is_done for batch in batches), timeout_s
            )

    def stop(self, timeout_s: float) -> None:
        """End the threads, as far as the kernel lets them go; what is left is not told."""
        with self.work:
            self.stopping.set()
            self.work.notify_all()
            self.done.notify_all()
        for thread in self.threads:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self.work:
                self.work.wait_for(lambda: self.stopping.is_set() or self._has_work())
                if self.stopping.is_set():
                    return
                batch = self.batches.popleft() if self.batches else None
                ino = self._take_content() if batch is None else None
                if self._has_work():
                    self.work.notify()  # this thread may be stuck with its own for a while
            if batch is not None:
                self._tell_batch(batch)
            elif ino is not None:
                self._drop_content(*ino)

    def _has_work(self) -> bool:
        return bool(self.batches) or self._next_content() is not None

    def _next_content(self) -> int | None:
        return next((ino for ino in self.contents if ino not in self.dropping), None)

    def _take_content(self) -> tuple[int, list[Batch]]:
        ino = self._next_content()
        assert ino is not None
        self.dropping.add(ino)
        return ino, self.contents.pop(ino)

    def _tell_batch(self, batch: Batch) -> None:
        with self._done_in_any_case():
            for parent, name in batch.entries:
                if self.is_known(parent):
                    self._write(self.channel.entry, parent, name)
            for ino, content in batch.inodes.items():
                if not content:
                    self._tell_inode(ino, content=False)
        with self.work:
            with self._done_in_any_case():
                for ino in [ino for ino, content in batch.inodes.items() if content and self.is_known(ino)]:
                    self.contents.setdefault(ino, []).append(batch)
                    batch.steps_left += 1
            self._step(batch)

    @contextmanager
    def _done_in_any_case(self) -> Iterator[None]:
        """Somebody waits for what is done here: a bug of ours must not keep him, nor end the thread."""
        try:
            yield
        except Exception:
            log.exception("a notification failed")

    def _drop_content(self, ino: int, batches: list[Batch]) -> None:
        with self._done_in_any_case():
            self._tell_inode(ino, content=True)
        with self.work:
            self.dropping.remove(ino)
            for batch in batches:
                self._step(batch)

    def _step(self, batch: Batch) -> None:
        batch.steps_left -= 1
        if batch.is_done:
            self.under_way.remove(batch)
            self.done.notify_all()

    def _tell_inode(self, ino: int, *, content: bool) -> None:
        pause_s = RETRY_FIRST_S
        while self.is_known(ino) and not self._write(self.channel.inode, ino, content):
            if pause_s > RETRY_MAX_S or self.stopping.wait(pause_s):
                log.warning("the kernel does not know inode %#x, whose look-up was answered", ino)
                return
            pause_s *= 2

    def _write(self, tell: Callable[..., bool], *what: object) -> bool:
        """Return whether the kernel knew it.  What it refuses is our fault, and ends no thread."""
        try:
            return tell(*what)
        except OSError:
            log.exception("the kernel refused a notification of %r", what)
            return True
