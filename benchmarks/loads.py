"""What a client does: each load prepares a directory, then measures one thing in it.

Every phase runs in a process of its own (`python -m benchmarks.loads PHASE LOAD DIRECTORY SCALE`),
so that a file system that hangs stops that process and not the run, and so that client and daemon
can be put on one core.  Between the phases the runner drops caches where the load says so.

What is written is random (no compression, no two equal blocks), and each load looks at what it got:
a file system that answers fast and wrong has failed.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

KIB = 1024
MIB = 1024 * KIB
BLOCK = 4 * KIB
AROUND = 16 * MIB
SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done.  `passes` is how often what is warm is looked at."""

    files: int = 5000
    mib: int = 1024
    overwrites: int = 10_000
    transactions: int = 500
    fsyncs: int = 500
    passes: int = 5

    def content_size(self) -> int:
        return self.mib * MIB

    def overwritten_blocks(self) -> int:
        return min(self.content_size(), 64 * MIB) // BLOCK


@dataclass(frozen=True, slots=True)
class Measured:
    """`figure` is in the load's unit; `operations` are what the daemon's processor time is shared
    out over (files, writes of the client, transactions)."""

    figure: float
    operations: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """`drop`: what the runner does between the phases; `lower_is_better` is for times.

    What is `bulky` is removed after the measurement; the rest stays until the end of the run, since
    removing many files changes how fast ext4 makes the next ones (`systems.Plain`).
    """

    title: str
    unit: str
    prepare: Callable[[Scale], None]
    measure: Callable[[Scale], Measured]
    drop: str = ""  # "entries", "pages" (which are entries too), or "mount" (pages, and mount anew)
    lower_is_better: bool = False
    bulky: bool = False


class Content:
    """Random bytes without end, cheap to take: parts of one size are all different, and repeat
    nothing that a compressor still remembers."""

    def __init__(self, seed: int = 2021) -> None:
        # Each time around starts one byte later, so no aligned block comes twice.
        self.bytes = memoryview(random.Random(seed).randbytes(AROUND + 2 * MIB))

    def part(self, index: int, size: int) -> memoryview:
        times, start = divmod(index * size, AROUND)
        start += times % MIB
        return self.bytes[start : start + size]


def names_of(scale: Scale) -> list[bytes]:
    return [b"f%06d" % index for index in range(scale.files)]


def per_second(operations: int, started_s: float) -> Measured:
    seconds = time.perf_counter() - started_s
    return Measured(operations / seconds, operations, seconds)


def megabytes_per_second(size: int, operations: int, started_s: float) -> Measured:
    seconds = time.perf_counter() - started_s
    return Measured(size / 1e6 / seconds, operations, seconds)


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"{what}: {found!r}, expected {expected!r}")


def expect_content(what: str, found: bytes, written: memoryview) -> None:
    if found != written:
        raise ValueError(f"the content of {what} is not what was written")


def nothing(scale: Scale) -> None:
    """The empty directory is all that is needed."""


def write_files(scale: Scale) -> None:
    write_each(names_of(scale), Content())


def write_each(names: list[bytes], content: Content) -> None:
    for index, name in enumerate(names):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, content.part(index, BLOCK))
        os.close(fd)


def create_and_write(scale: Scale) -> Measured:
    names, content = names_of(scale), Content()
    started_s = time.perf_counter()
    write_each(names, content)
    measured = per_second(scale.files, started_s)
    expect("files", sorted(os.listdir(b".")), names)
    for index in range(0, scale.files, max(1, scale.files // SAMPLES)):
        with open(b"f%06d" % index, "rb") as file:
            expect_content(f"file {index}", file.read(), content.part(index, BLOCK))
    return measured


def create(scale: Scale) -> Measured:
    names = names_of(scale)
    started_s = time.perf_counter()
    for name in names:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    measured = per_second(len(names), started_s)
    expect("files", sorted(os.listdir(b".")), names)
    return measured


def stat_once(scale: Scale) -> Measured:
    names = names_of(scale)
    started_s = time.perf_counter()
    for name in names:
        os.stat(name)
    measured = per_second(len(names), started_s)
    expect("size", {os.stat(name).st_size for name in names}, {BLOCK})
    return measured


def stat_again(scale: Scale) -> Measured:
    names = names_of(scale)
    for name in names:
        os.stat(name)
    started_s = time.perf_counter()
    for _ in range(scale.passes):
        for name in names:
            os.stat(name)
    measured = per_second(len(names) * scale.passes, started_s)
    expect("size", {os.stat(name).st_size for name in names}, {BLOCK})
    return measured


def rename(scale: Scale) -> Measured:
    pairs = [(name, b"renamed-" + name) for name in names_of(scale)]
    started_s = time.perf_counter()
    for old, new in pairs:
        os.rename(old, new)
    measured = per_second(len(pairs), started_s)
    expect("names", sorted(os.listdir(b".")), [new for _, new in pairs])
    return measured


def unlink(scale: Scale) -> Measured:
    names = names_of(scale)
    started_s = time.perf_counter()
    for name in names:
        os.unlink(name)
    measured = per_second(len(names), started_s)
    expect("names", os.listdir(b"."), [])
    return measured


def write_content(size: int, step: int) -> Measured:
    content = Content()
    started_s = time.perf_counter()
    fd = os.open(b"content", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for index in range(size // step):
        written = os.write(fd, content.part(index, step))
        if written != step:
            raise ValueError(f"a write of {step} wrote {written}")
    os.fsync(fd)
    measured = megabytes_per_second(size, size // step, started_s)
    os.close(fd)
    expect("size", os.stat(b"content").st_size, size)
    return measured


def write_large(scale: Scale) -> Measured:
    return write_content(scale.content_size(), MIB)


def prepare_content(scale: Scale) -> None:
    write_large(scale)


def write_small(scale: Scale) -> Measured:
    return write_content(max(MIB, scale.content_size() // 16), BLOCK)


def read_through(size: int) -> None:
    buffer = bytearray(MIB)
    fd = os.open(b"content", os.O_RDONLY)
    total = 0
    while count := os.readv(fd, [buffer]):
        total += count
    os.close(fd)
    expect("bytes read", total, size)


def check_content(size: int) -> None:
    content = Content()
    fd = os.open(b"content", os.O_RDONLY)
    chunks = size // MIB
    for index in range(0, chunks, max(1, chunks // SAMPLES)):
        expect_content(f"MiB {index}", os.pread(fd, MIB, index * MIB), content.part(index, MIB))
    os.close(fd)


def read_once(scale: Scale) -> Measured:
    size = scale.content_size()
    started_s = time.perf_counter()
    read_through(size)
    measured = megabytes_per_second(size, scale.mib, started_s)
    check_content(size)
    return measured


def read_again(scale: Scale) -> Measured:
    read_through(scale.content_size())
    return read_once(scale)


def prepare_overwrites(scale: Scale) -> None:
    write_content(scale.overwritten_blocks() * BLOCK, MIB)


def overwrite(scale: Scale) -> Measured:
    """The fsync at the end counts: what was only gathered in memory is not written."""
    content = Content(seed=2022)
    picked = random.Random(7)
    blocks = [picked.randrange(scale.overwritten_blocks()) for _ in range(scale.overwrites)]
    fd = os.open(b"content", os.O_RDWR)
    started_s = time.perf_counter()
    for index, block in enumerate(blocks):
        os.pwrite(fd, content.part(index, BLOCK), block * BLOCK)
    os.fsync(fd)
    measured = per_second(len(blocks), started_s)
    last = {block: index for index, block in enumerate(blocks)}
    for block, index in list(last.items())[:SAMPLES]:
        found = os.pread(fd, BLOCK, block * BLOCK)
        expect_content(f"block {block}", found, content.part(index, BLOCK))
    os.close(fd)
    return measured


def open_database() -> sqlite3.Connection:
    database = sqlite3.connect("database", isolation_level=None)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = FULL")
    return database


def prepare_database(scale: Scale) -> None:
    database = open_database()
    database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, content BLOB)")
    database.close()


def commit_transactions(scale: Scale) -> Measured:
    content = Content()
    database = open_database()
    started_s = time.perf_counter()
    for index in range(scale.transactions):
        database.execute("BEGIN")
        database.execute("INSERT INTO entry (content) VALUES (?)", (content.part(index, 100),))
        database.execute("COMMIT")
    measured = per_second(scale.transactions, started_s)
    expect("rows", database.execute("SELECT count(*) FROM entry").fetchone(), (scale.transactions,))
    expect("integrity", database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
    database.close()
    return measured


def append_and_fsync(scale: Scale) -> Measured:
    content = Content()
    fd = os.open(b"log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    times_s = []
    for index in range(scale.fsyncs):
        started_s = time.perf_counter()
        os.write(fd, content.part(index, BLOCK))
        os.fsync(fd)
        times_s.append(time.perf_counter() - started_s)
    os.close(fd)
    expect("size", os.stat(b"log").st_size, scale.fsyncs * BLOCK)
    return Measured(statistics.median(times_s) * 1e3, scale.fsyncs, sum(times_s))


LOADS = {
    "create-write": Load("create + write 4 KiB + close", "/s", nothing, create_and_write),
    "create": Load("create + close", "/s", nothing, create),
    "stat-cold": Load("stat, cold", "/s", write_files, stat_once, drop="entries"),
    "stat-mounted": Load("stat, just mounted", "/s", write_files, stat_once, drop="mount"),
    "stat-warm": Load("stat, warm", "/s", write_files, stat_again),
    "rename": Load("rename", "/s", write_files, rename),
    "write": Load("1 MiB writes + fsync", "MB/s", nothing, write_large, bulky=True),
    "write-small": Load("4 KiB writes + fsync", "MB/s", nothing, write_small, bulky=True),
    "read-cold": Load("read, cold", "MB/s", prepare_content, read_once, drop="pages", bulky=True),
    "read-warm": Load("read, warm", "MB/s", prepare_content, read_again, bulky=True),
    "overwrite": Load("random 4 KiB overwrites + fsync", "/s", prepare_overwrites, overwrite, bulky=True),
    "sqlite": Load("SQLite transactions, FULL", "/s", prepare_database, commit_transactions),
    "fsync": Load("fsync of a 4 KiB append, p50", "ms", nothing, append_and_fsync, lower_is_better=True),
    "unlink": Load("unlink", "/s", write_files, unlink),
}


def main(phase: str, name: str, directory: str, scale_json: str) -> None:
    scale = Scale(**json.loads(scale_json))
    load = LOADS[name]
    if phase == "clean":
        shutil.rmtree(directory)
        return
    if phase == "prepare":
        os.mkdir(directory)
    # Short relative names: what is measured is the file system, not the way to it.
    os.chdir(directory)
    if phase == "prepare":
        load.prepare(scale)
    else:
        gc.disable()
        print(json.dumps(asdict(load.measure(scale))))


if __name__ == "__main__":
    main(*sys.argv[1:])
