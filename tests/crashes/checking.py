"""Recorded runs of sequences on a mount, and whether what a crash leaves of one is what it may leave."""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from elmer.directory import StoreDirectory
from elmer.volume import opened
from tests.crashes.recording import Disk, Event, Loss, Recorder, states
from tests.crashes.sequences import Expected, Found, Place, Tree, play, prepare, sync_directory
from tests.walk import walk
from translation.filesystem import FileSystem
from translation.fsck import check


@dataclass
class Played:
    """A sequence that was played on the mount: how many events there were after each of its moments."""

    names: tuple[str, ...]
    directory: str
    expected: Expected
    begun: int = 0
    ended: list[int] = field(default_factory=list)
    sealed: int = 0  # all of it is durable

    def __str__(self) -> str:
        return f"{self.directory}: {'; '.join(self.names)}"

    def between(self, event: int) -> tuple[int, int]:
        """Return the moment that a crash before this event came after, and the one that was under way."""
        first = max(number for number, ended in enumerate(self.ended) if ended <= event)
        return first, first + (event > self.ended[first])


@dataclass
class Run:
    base: Disk
    events: list[Event]
    played: list[Played]


def play_all(
    recorder: Recorder, mountpoint: Path, host: Path, sequences: list[tuple[str, ...]]
) -> list[Played]:
    """Play sequences on a mount, each in a directory of its own, and on the host's file system."""
    done = []
    for number, names in enumerate(sequences):
        directory = f"s{number}"
        played = Played(names, directory, Expected(names, str(host / directory)), begun=recorder.count)
        place = Place(str(mountpoint / directory))
        os.mkdir(place.path)
        for _ in prepare(place):
            pass
        played.ended.append(recorder.count)
        for _ in play(names, place):
            played.ended.append(recorder.count)
        for _ in sync_directory(place):
            pass
        played.sealed = recorder.count
        moments = len(played.expected.moments)
        assert len(played.ended) == moments, f"{played}: the host does it in {moments} steps"
        done.append(played)
    return done


def shown(store: Path) -> Tree:
    """Open a store as a mount does, check it, and return the tree.  Contents that are not here are empty."""
    with opened(StoreDirectory(store)) as replica:
        filesystem = FileSystem(replica)
        tree = {}
        for path, found in walk(filesystem).items():
            attributes = found.attributes
            xattrs = tuple(
                (os.fsdecode(name), filesystem.getxattr(attributes.ino, name))
                for name in sorted(filesystem.listxattr(attributes.ino))
            )
            kind, mode = stat.S_IFMT(attributes.mode), stat.S_IMODE(attributes.mode)
            nlink = 0 if found.is_directory else attributes.nlink
            content = b"" if found.is_directory else found.content
            tree[os.fsdecode(path[1:])] = Found(kind, mode, nlink, content or b"", xattrs)
        replica.sync()
        assert filesystem.conflict_count() == 0
        findings = list(check(replica.store))
        assert not findings, findings
    return tree


def below(tree: Tree, directory: str) -> Tree | None:
    """Return what is below a directory, None where that is not there."""
    if directory not in tree:
        return None
    prefix = f"{directory}/"
    return {path.removeprefix(prefix): found for path, found in tree.items() if path.startswith(prefix)}


def check_tree(tree: Tree, played: list[Played], event: int, *, power_cut: bool) -> None:
    """Is this what a crash before this event may leave?"""
    for each in played:
        found = below(tree, each.directory)
        if event >= each.sealed:
            assert_one_of(found, [each.expected.moments[-1].tree], each)
        elif event >= each.ended[0]:
            first, last = each.between(event)
            if power_cut:
                first = each.expected.durable_before(first)
            assert_one_of(found, each.expected.legal(first, last), each)
        elif event <= each.begun:
            assert found is None, f"{each} is there before it began"


def assert_one_of(found: Tree | None, legal: list[Tree], played: object) -> None:
    assert found is not None, f"{played} is gone"
    if found in legal:
        return
    nearest = min((differences(found, tree) for tree in legal), key=len)
    raise AssertionError("\n".join([f"{played}: found / one of {len(legal)} that may be:", *nearest]))


def differences(found: Tree, tree: Tree) -> list[str]:
    return [
        f"{path}: {brief(found.get(path))} / {brief(tree.get(path))}"
        for path in sorted(found.keys() | tree.keys())
        if found.get(path) != tree.get(path)
    ]


def brief(found: Found | None) -> str:
    return str(found and found._replace(content=b"%d bytes: %.20r" % (len(found.content), found.content)))


@dataclass(frozen=True)
class Point:
    """A crash before one event, and what it takes."""

    event: int
    loss: Loss


def check_points(run: Run, points: list[Point], scratch: Path) -> Iterator[Point]:
    """Crash at these points, one after the other; yield each that left what it may."""
    wanted: dict[int, list[Point]] = {}
    for point in points:
        wanted.setdefault(point.event, []).append(point)
    for event, disk in enumerate(states(copy.deepcopy(run.base), run.events)):
        for point in wanted.get(event, []):
            image = disk.image(scratch / "image", point.loss, Random(event))
            try:
                tree = shown(image)
                check_tree(tree, run.played, event, power_cut=point.loss is not Loss.NOTHING)
            except Exception as error:
                error.add_note(f"after {point} of {len(run.events)}")
                raise
            yield point
