"""What a process did to a directory, event by event, and what a crash at any event leaves of it.

`tests/crashes/recorder.c` notes the events.  A kill -9 leaves all that was done before it.  A power cut
leaves less: of a file what it had at its last sync, of a directory the names that it had at its own, and of
all that came after those any part.  So `Disk` keeps both, what is there and what is surely there, and
`image` writes one of the directories that could be found afterwards.
"""

from __future__ import annotations

import enum
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

HEADER = struct.Struct("=IIQQQ")
CONTROL = struct.Struct("=QQ")
PAGE, SECTOR = 4096, 512


class Kind(enum.IntEnum):
    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    LINK = 9
    FAILED = 10


class Event(NamedTuple):
    kind: Kind
    path: str  # below the directory
    ino: int
    offset: int
    data: bytes


class Recorder:
    """Records what one process after the other does to a directory; may kill it."""

    def __init__(self, library: Path, root: Path, scratch: Path) -> None:
        self.library = library
        self.root = root
        self.log = scratch / f"{root.name}.events"
        self.shared = scratch / f"{root.name}.control"
        self.shared.write_bytes(bytes(CONTROL.size))
        with self.shared.open("r+b") as file:
            self.control = mmap.mmap(file.fileno(), CONTROL.size)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "RECORD_ROOT": str(self.root),
            "RECORD_LOG": str(self.log),
            "RECORD_CONTROL": str(self.shared),
        }

    @property
    def count(self) -> int:
        """How many events there were so far."""
        count, _ = CONTROL.unpack(self.control[:])
        return int(count)

    def kill_before(self, nth: int) -> bool:
        """Have the process killed before the nth event from now on; 0: not at all.

        Returns whether that was still to come of the call before.
        """
        _, left = CONTROL.unpack(self.control[:])
        self.control[8:16] = struct.pack("=Q", nth)
        return bool(left)

    def events(self) -> list[Event]:
        """Return all events so far; what came to nothing has the kind FAILED."""
        events = list(decoded(self.log.read_bytes()))
        for number, event in enumerate(events):
            if event.kind is Kind.FAILED:
                events[number - 1] = event
        return events

    def close(self) -> None:
        self.control.close()


def decoded(log: bytes) -> Iterator[Event]:
    at = 0
    while at < len(log):
        kind, path_length, ino, offset, length = HEADER.unpack_from(log, at)
        at += HEADER.size
        path = os.fsdecode(log[at : at + path_length])
        at += path_length
        yield Event(Kind(kind), path, ino, offset, log[at : at + length])
        at += length


def build_recorder(directory: Path) -> Path:
    """Compile the recorder; return the library."""
    library = directory / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source]
    subprocess.run([*command, "-lpthread"], check=True)
    return library


class Loss(enum.Enum):
    """What of the unsynced a crash takes."""

    NOTHING = "kill -9: nothing"
    ALL = "a power cut: all"
    CONTENTS = "a power cut: contents, not names"
    NAMES = "a power cut: names, not contents"
    SOME = "a power cut: pages and names by chance"
    TORN = "a power cut: the end of the last write"


@dataclass
class File:
    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    since: list[Event] = field(default_factory=list)  # writes and truncations since the last sync


Names = dict[str, int | None]  # path -> number of the file, None: a directory


class Disk:
    def __init__(self, base: Path) -> None:
        """Of a directory as it is, all of it durable."""
        self.files: dict[int, File] = {}
        self.names: Names = {}
        self.synced_names: Names = {}
        self.names_since: list[Event] = []  # changes of names, where a directory they touch is not synced yet
        for directory, directories, names in os.walk(base):
            for name in directories:
                self.names[os.path.relpath(os.path.join(directory, name), base)] = None
            for name in names:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if os.path.isfile(path):
                    content = Path(path).read_bytes()
                    self.files[status.st_ino] = File(bytearray(content), content)
                    self.names[os.path.relpath(path, base)] = status.st_ino
        self.synced_names = dict(self.names)
        self.directories = {os.stat(base).st_ino: ""}
        for path, number in self.names.items():
            if number is None:
                self.directories[os.stat(base / path).st_ino] = path

    def do(self, event: Event) -> None:
        match event.kind:
            case Kind.WRITE | Kind.TRUNCATE:
                file = self.files[event.ino]
                changed(file.now, event)
                file.since.append(event)
            case Kind.SYNC if event.offset:
                self._sync_names(self.directories[event.ino])
            case Kind.SYNC:
                file = self.files[event.ino]
                file.synced = bytes(file.now)
                file.since.clear()
            case Kind.FAILED:
                pass
            case _:
                if event.kind is Kind.CREATE:
                    self.files[event.ino] = File()
                elif event.kind is Kind.MKDIR:
                    self.directories[event.ino] = event.path
                renamed(self.names, event)
                self.names_since.append(event)

    def _sync_names(self, directory: str) -> None:
        """Names of other directories that changed together with these go along, as with a journal."""
        kept = []
        for event in self.names_since:
            touched = [event.path, os.fsdecode(event.data)] if event.data else [event.path]
            if any(os.path.dirname(path) == directory for path in touched):
                renamed(self.synced_names, event)
            else:
                kept.append(event)
        self.names_since = kept

    def image(self, target: Path, loss: Loss, random: Random) -> Path:
        """Write one of the directories that a crash now could leave."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        names = self._names_left(loss, random)
        contents = self._contents_left(loss, random)
        made: dict[int, Path] = {}
        for path, number in sorted(names.items()):
            if not (target / path).parent.is_dir():
                continue  # its directory was lost
            if number is None:
                (target / path).mkdir()
            elif number in made:
                os.link(made[number], target / path)
            else:
                made[number] = target / path
                made[number].write_bytes(contents[number])
        return target

    def _names_left(self, loss: Loss, random: Random) -> Names:
        if loss in (Loss.NOTHING, Loss.CONTENTS, Loss.TORN):
            return self.names
        left = dict(self.synced_names)
        if loss is Loss.SOME:
            for event in self.names_since[: random.randint(0, len(self.names_since))]:
                renamed(left, event)
        return left

    def _contents_left(self, loss: Loss, random: Random) -> dict[int, bytes]:
        if loss in (Loss.NOTHING, Loss.NAMES):
            return {ino: bytes(file.now) for ino, file in self.files.items()}
        if loss in (Loss.ALL, Loss.CONTENTS):
            return {ino: file.synced for ino, file in self.files.items()}
        if loss is Loss.TORN:
            return {ino: torn(file, random) for ino, file in self.files.items()}
        return {ino: some(file, random) for ino, file in self.files.items()}


def changed(content: bytearray, event: Event) -> None:
    end = event.offset + len(event.data)
    if event.kind is Kind.TRUNCATE:
        del content[event.offset :]
    if len(content) < event.offset:
        content.extend(bytes(event.offset - len(content)))
    content[event.offset : end] = event.data


def renamed(names: Names, event: Event) -> None:
    """Change names as an event says; what is not there any more leaves nothing to change."""
    other = os.fsdecode(event.data)
    match event.kind:
        case Kind.CREATE:
            names[event.path] = event.ino
        case Kind.MKDIR:
            names[event.path] = None
        case Kind.UNLINK | Kind.RMDIR:
            names.pop(event.path, None)
        case Kind.LINK:
            names[other] = names[event.path]
        case Kind.RENAME if event.path in names:
            names[other] = names.pop(event.path)


def torn(file: File, random: Random) -> bytes:
    """All but the end of the last write.  No sector is overwritten in part."""
    content = bytearray(file.synced)
    for event in file.since[:-1]:
        changed(content, event)
    if file.since:
        last = file.since[-1]
        end = last.offset + random.randint(0, len(last.data))
        if end < len(content):
            end = max(last.offset, end // SECTOR * SECTOR)
        changed(content, last._replace(data=last.data[: end - last.offset]))
    return bytes(content)


def some(file: File, random: Random) -> bytes:
    """Of what was written since the last sync some pages, zeros in place of others."""
    content = bytearray(file.synced)
    end = random.choice([len(file.synced), len(file.now), random.randint(0, len(file.now))])
    for event in file.since:
        if event.kind is Kind.TRUNCATE:
            if random.random() < 0.5:
                changed(content, event)
            continue
        for start in range(event.offset // PAGE * PAGE, event.offset + len(event.data), PAGE):
            if random.random() < 0.5:
                low, high = max(start, event.offset), min(start + PAGE, event.offset + len(event.data))
                part = event.data[low - event.offset : high - event.offset]
                changed(content, event._replace(offset=low, data=part))
    if len(file.now) >= len(file.synced) and len(content) < end:
        content.extend(bytes(end - len(content)))
    return bytes(content)


def states(disk: Disk, events: list[Event]) -> Iterator[Disk]:
    """Yield the disk before each event and after the last: one object that goes on."""
    for event in events:
        yield disk
        disk.do(event)
    yield disk
