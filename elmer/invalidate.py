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
from collections.abc import Callable, Collection, Mapping

log = logging.getLogger(__name__)

INVALIDATE_INODE = 2  # FUSE_NOTIFY_INVAL_INODE of linux/fuse.h
INVALIDATE_ENTRY = 3
_HEADER = struct.Struct("=IiQ")  # length, code, 0
_INODE = struct.Struct("=IiQQqq")  # header, inode, offset (negative: attributes only), length (0: all)
_ENTRY = struct.Struct("=IiQQII")  # header, parent, length of the name, 0; then the name and a 0 byte

# What a mount has none of: it was never known, or it is gone.
NOT_KNOWN = (errno.ENOENT, errno.ENOTDIR)
GONE = (errno.ENOTCONN, errno.ENODEV, errno.EBADF)

RETRY_FIRST_S = 0.0005
RETRY_MAX_S = 1.0


class Channel:
    """The notifications themselves.  Both return whether the kernel knew what it was told about."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def inode(self, ino: int, *, content: bool) -> bool:
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


class Invalidator:
    """`is_known` says whether the kernel was told of an inode and has not forgotten it."""

    def __init__(self, channel: Channel, is_known: Callable[[int], bool], threads: int) -> None:
        self.channel = channel
        self.is_known = is_known
        lock = threading.Lock()
        self.work = threading.Condition(lock)
        self.done = threading.Condition(lock)
        self.told = 0  # batches
        self.batches: deque[tuple[int, Collection[tuple[int, bytes]], Mapping[int, bool]]] = deque()
        # The batch that an inode whose content changed was first told in; oldest first.
        self.contents: dict[int, int] = {}
        self.batches_under_way: set[int] = set()
        self.contents_under_way: dict[int, int] = {}
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, name=f"invalidate-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def tell(self, entries: Collection[tuple[int, bytes]], inodes: Mapping[int, bool]) -> None:
        """Pass on (parent, name) pairs, and inodes with whether their content changed.

        Returns at once; may be called with any lock held.
        """
        if not entries and not inodes:
            return
        with self.work:
            self.told += 1
            self.batches.append((self.told, entries, inodes))
            self.work.notify()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was told before is done; return whether it is."""
        with self.done:
            target = self.told
            return self.done.wait_for(lambda: self._is_done(target), timeout_s)

    def stop(self, timeout_s: float) -> None:
        """End the threads, as far as the kernel lets them go; what is left is not told."""
        with self.work:
            self.stopping.set()
            self.work.notify_all()
            self.done.notify_all()
        for thread in self.threads:
            thread.join(timeout_s)

    def _is_done(self, target: int) -> bool:
        oldest = [
            *self.batches_under_way,
            *self.contents_under_way.values(),
            *([self.batches[0][0]] if self.batches else []),
            *([next(iter(self.contents.values()))] if self.contents else []),
        ]
        return self.stopping.is_set() or all(number > target for number in oldest)

    def _run(self) -> None:
        while True:
            with self.work:
                self.work.wait_for(lambda: self.stopping.is_set() or self._has_work())
                if self.stopping.is_set():
                    return
                work = self._take_batch() if self.batches else self._take_content()
                if self._has_work():
                    self.work.notify()  # this thread may be stuck with its own for a while
            try:
                work()
            except OSError:
                log.exception("the kernel refused a notification")
            with self.done:
                self.done.notify_all()

    def _has_work(self) -> bool:
        return bool(self.batches) or self._next_content() is not None

    def _next_content(self) -> int | None:
        return next((ino for ino in self.contents if ino not in self.contents_under_way), None)

    def _take_batch(self) -> Callable[[], None]:
        number, entries, inodes = self.batches.popleft()
        self.batches_under_way.add(number)
        return lambda: self._tell_batch(number, entries, inodes)

    def _take_content(self) -> Callable[[], None]:
        ino = self._next_content()
        assert ino is not None
        self.contents_under_way[ino] = self.contents.pop(ino)
        return lambda: self._tell_content(ino)

    def _tell_batch(
        self, number: int, entries: Collection[tuple[int, bytes]], inodes: Mapping[int, bool]
    ) -> None:
        try:
            for parent, name in entries:
                self.channel.entry(parent, name)
            for ino, content in inodes.items():
                if not content:
                    self._tell_inode(ino, content=False)
        finally:
            with self.work:
                for ino, content in inodes.items():
                    if content:
                        self.contents.setdefault(ino, number)
                self.batches_under_way.remove(number)

    def _tell_content(self, ino: int) -> None:
        try:
            self._tell_inode(ino, content=True)
        finally:
            with self.work:
                del self.contents_under_way[ino]

    def _tell_inode(self, ino: int, *, content: bool) -> None:
        pause_s = RETRY_FIRST_S
        while not self.channel.inode(ino, content=content) and self.is_known(ino):
            if pause_s > RETRY_MAX_S or self.stopping.wait(pause_s):
                log.warning("the kernel does not know inode %#x, whose lookup was answered", ino)
                return
            pause_s *= 2
