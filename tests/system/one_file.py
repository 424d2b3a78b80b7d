"""One file, written to in every way through the mounts of two sites, against bytes in memory.

    python -m tests.system.one_file [MINUTES] [--seed N]

plays random histories for so long, and ends with the shortest of those that show something wrong.  Each has
reads, writes, truncations, holes, appends, shared mappings, fsyncs and files that are opened again, by a
program on each site; and merges in between.

What is expected is a graph of versions.  Who writes goes on from the version that its site showed, and shows
what it wrote, whatever is merged, until it lets the file go.  Who does not write is shown a version that
nobody has gone on from.  In the end every such version is there whole, at the file's name or as a conflict
entry, but for one whose content another one had before.
"""

import argparse
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.shortening import shortest
from tests.system.sites import Site, Sites, assert_same_trees, cut, heal
from tests.system.trees import first_difference
from tests.system.version_graph import Graph, Version
from tests.system.waiting import DEADLINE_S, until

SIZE_MAX = 140_000
STEPS = 60
OPEN_MAX = 4
# A site makes what was gathered a version by itself after 30 s; well before that we do.
GATHERED_S = 10.0
SHORTENING_S = 2.0
EDGES = [0, 1, 4095, 4096, 4097, 8192, 32_767, 32_768, 32_769, 65_536, 100_000]

READ_ONLY, READ_WRITE, APPEND = os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND
LOG = os.O_WRONLY | os.O_APPEND
KINDS = ["pwrite"] * 8 + ["truncate"] * 4 + ["append"] * 5 + ["map"] * 3 + ["store"] * 5 + ["open"] * 4
KINDS += ["close"] * 3 + ["fsync", "truncate_by_name", "unmap", "unmap"] + ["merge"] * 4 + ["settle"]


class Step(NamedTuple):
    """`picks` are numbers from 0 to 1 which choose from what there is when the step is played."""

    kind: str
    site: int
    picks: tuple[float, float, float]
    data: int  # the seed of what is written


def draw(seed: int, steps: int = STEPS) -> list[Step]:
    chance = random.Random(seed)
    return [
        Step(
            chance.choice(KINDS),
            chance.randrange(2),
            (chance.random(), chance.random(), chance.random()),
            chance.getrandbits(32),
        )
        for _ in range(steps)
    ]


def put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def cut_at(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class Opened:
    def __init__(self, file: int, flags: int) -> None:
        self.file = file
        self.flags = flags
        self.mapping: mmap.mmap | None = None

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def holds(self) -> bool:
        """Does the file stay what it is for whoever has it open so?"""
        return self.writes and not self.flags & os.O_APPEND

    def close(self) -> None:
        if self.mapping is not None:
            self.mapping.close()
        os.close(self.file)


class Program:
    """A program at one site, with one file.

    `view` is what it shows for as long as it writes, `base` the version that it went on from.
    """

    def __init__(self, number: int, path: Path, graph: Graph, patience_s: float) -> None:
        self.number, self.path, self.graph, self.patience_s = number, path, graph, patience_s
        self.opened: list[Opened] = []
        self.view: bytearray | None = None
        self.base = 0
        self.is_changed = False
        self.since = 0.0

    # -- what is expected ------------------------------------------------------------------------

    def take_up(self, change: Callable[[bytearray], None]) -> None:
        """From now on it shows what it shows, until `may_end`: a version that it knows, changed so.

        Which one is seen only now: a close does not wait for RELEASE, and with that another one may show.
        """
        shown = self.path.read_bytes()
        for number in self.graph.last(self.number):
            view = bytearray(self.graph.versions[number].content)
            change(view)
            if view == shown:
                self.base, self.view = number, view
                return
        raise AssertionError(f"{self.path} shows {brief(shown)}, which goes on from no version of it")

    def changed(self, change: Callable[[bytearray], None]) -> None:
        """A call was made that changes what it shows so."""
        if self.view is None:
            self.take_up(change)
        else:
            change(self.view)
        if not self.is_changed:
            self.since = time.monotonic()
        self.is_changed = True

    def is_version(self) -> None:
        """What was written is a version now."""
        if self.is_changed:
            assert self.view is not None
            self.base = self.graph.add(self.number, self.base, bytes(self.view))
            self.is_changed = False
        self.may_end()

    def may_end(self) -> None:
        if not self.is_changed and not any(each.holds for each in self.opened):
            self.view = None

    def size(self) -> int:
        """About what it has, without asking for it."""
        if self.view is not None:
            return len(self.view)
        return max(len(content) for content in self.graph.contents(self.number))

    def check(self) -> None:
        if self.view is None:
            until(self.compare, "all show one version", self.patience_s)  # RELEASE is not waited for
        else:
            self.compare()

    def compare(self) -> bool:
        expected = self.graph.contents(self.number) if self.view is None else {bytes(self.view)}
        shown = self.path.read_bytes()
        assert shown in expected, f"{self.path} shows {brief(shown)}, not {[brief(e) for e in expected]}"
        for each in self.opened:
            size = os.fstat(each.file).st_size
            assert size == len(shown), f"a descriptor has {size} bytes, not {len(shown)}"
            if each.flags & os.O_ACCMODE != os.O_WRONLY:
                found = os.pread(each.file, SIZE_MAX * 2, 0)
                assert found == shown, f"a descriptor reads {first_difference(found, shown)}"
            if each.mapping is not None:
                end = min(len(each.mapping), len(shown))
                found = each.mapping[:end]
                assert found == shown[:end], f"a mapping reads {first_difference(found, shown)}"
        return True

    # -- what it does ----------------------------------------------------------------------------

    def open(self, flags: int) -> None:
        self.opened.append(Opened(os.open(self.path, flags), flags))
        if self.opened[-1].holds and self.view is None:
            self.take_up(lambda view: None)

    def close(self, opened: Opened) -> None:
        self.opened.remove(opened)
        opened.close()
        if opened.writes:
            self.is_version()
        self.may_end()

    def close_all(self) -> None:
        for opened in list(self.opened):
            self.close(opened)
        self.make_version()

    def make_version(self) -> None:
        """What is changed and not held is a version before somebody waits for it."""
        if self.is_changed:
            file = os.open(self.path, os.O_RDWR)
            os.fsync(file)
            os.close(file)
            self.is_version()

    def write(self, opened: Opened, offset: int, data: bytes) -> None:
        appends = bool(opened.flags & os.O_APPEND)
        if appends:
            assert os.write(opened.file, data) == len(data)
        else:
            assert os.pwrite(opened.file, data, offset) == len(data)
        self.changed(lambda view: put(view, len(view) if appends else offset, data))

    def truncate(self, size: int, opened: Opened | None) -> None:
        if opened is None:
            os.truncate(self.path, size)
        else:
            os.ftruncate(opened.file, size)
        self.changed(lambda view: cut_at(view, size))
        if not self.opened:
            self.is_version()
        elif opened is None and not any(each.writes for each in self.opened):
            self.make_version()

    def store(self, mapping: mmap.mmap, offset: int, data: bytes) -> None:
        end = min(len(mapping), self.path.stat().st_size, offset + len(data))
        if offset < end:
            mapping[offset:end] = data[: end - offset]
            self.changed(lambda view: put(view, offset, data[: end - offset]))

    def fsync(self, opened: Opened) -> None:
        os.fsync(opened.file)
        self.is_version()


class Player:
    """Plays steps in a folder of its own.  `shares`: both programs write to one file, not each to its own.

    `patience_s`: for how long it waits for what must come by itself.
    """

    def __init__(
        self, sites: Sequence[Site], folder: str, *, shares: bool, patience_s: float = DEADLINE_S
    ) -> None:
        self.patience_s = patience_s
        self.sites = sites
        self.folders = [site / folder for site in sites]
        self.shares = shares
        self.told: list[str] = []

    def begin(self) -> None:
        self.folders[0].mkdir()
        names = ["f", "f"] if self.shares else ["f", "g"]
        for name in names:
            (self.folders[0] / name).write_bytes(b"")
        heal(*self.sites)
        cut(*self.sites)
        graphs = {name: Graph(b"") for name in names}
        self.programs = [
            Program(number, self.folders[number] / name, graphs[name], self.patience_s)
            for number, name in enumerate(names)
        ]
        self.graphs = list(graphs.values())

    def play(self, steps: Sequence[Step]) -> None:
        """Raises AssertionError where something is not as expected."""
        self.begin()
        try:
            for step in steps:
                self.perform(step)
            self.settle(0.5)
        finally:
            for program in self.programs:
                for opened in program.opened:
                    opened.close()
        assert_same_trees(*self.sites)

    def perform(self, step: Step) -> None:
        program = self.programs[step.site]
        said = self.act(program, step)
        if said is None:
            return
        self.told.append(f"{self.sites[step.site].name}: {said}")
        for each in self.programs:
            each.check()

    def act(self, program: Program, step: Step) -> str | None:
        """Return what was done, None for nothing."""
        first, second, third = step.picks
        size = program.size()
        data = random.Random(step.data).randbytes(length(third))
        match step.kind:
            case "merge":
                return self.merge() + self.append_unasked(program, first, data)
            case "settle":
                return self.settle(first)
            case "open" if len(program.opened) < OPEN_MAX:
                flags = pick([READ_ONLY, READ_WRITE, READ_WRITE, APPEND, LOG], first)
                program.open(flags)
                return f"open {flags:o}"
            case "truncate_by_name":
                program.truncate(place(second), None)
                return f"truncate by name to {place(second)}"
            case "pwrite" | "append" | "truncate" | "map" | "store" | "close" | "fsync" | "unmap":
                return self.act_on(program, step.kind, first, place(second, size), data)
        return None

    def act_on(self, program: Program, kind: str, chance: float, at: int, data: bytes) -> str | None:
        """The steps that take something that is open."""
        can: dict[str, Callable[[Opened], bool]] = {
            "pwrite": lambda each: each.holds,
            "truncate": lambda each: each.writes,
            "append": lambda each: bool(each.flags & os.O_APPEND),
            "map": lambda each: each.flags & os.O_ACCMODE != os.O_WRONLY and each.mapping is None,
            "store": lambda each: each.mapping is not None and each.writes,
            "unmap": lambda each: each.mapping is not None,
        }
        candidates = [each for each in program.opened if can.get(kind, lambda _: True)(each)]
        if not candidates:
            if len(program.opened) == OPEN_MAX:
                return None
            program.open(pick([APPEND, LOG], at % 2 / 2) if kind == "append" else READ_WRITE)
            return f"open {program.opened[-1].flags:o}"
        opened = pick(candidates, chance)
        which = f"{opened.flags:o} (descriptor {program.opened.index(opened)})"
        match kind:
            case "pwrite" | "append":
                program.write(opened, at, data)
                return f"{kind} {len(data)} bytes at {at}, through {which}"
            case "truncate":
                program.truncate(at, opened)
                return f"truncate to {at}, through {which}"
            case "map":
                size = os.fstat(opened.file).st_size
                if not size:
                    return None
                access = mmap.ACCESS_WRITE if opened.writes else mmap.ACCESS_READ
                opened.mapping = mmap.mmap(opened.file, size, access=access)
                return f"map {size} bytes, through {which}"
            case "store":
                assert opened.mapping is not None
                program.store(opened.mapping, at, data)
                return f"store {len(data)} bytes at {at} in the mapping of {which}"
            case "unmap":
                assert opened.mapping is not None
                opened.mapping.close()  # a descriptor of its own goes with it
                opened.mapping = None
                if opened.writes:
                    program.is_version()
                return f"unmap {which}"
            case "close":
                program.close(opened)
                return f"close {which}"
            case "fsync":
                program.fsync(opened)
                return f"fsync {which}"
        return None

    def merge(self) -> str:
        for program in self.programs:
            is_held = any(each.holds for each in program.opened)
            if program.is_changed and not is_held and time.monotonic() - program.since > GATHERED_S:
                program.make_version()
        heal(*self.sites)
        cut(*self.sites)
        for graph in self.graphs:
            graph.merge()
        return "merge"

    def append_unasked(self, program: Program, chance: float, data: bytes) -> str:
        """Append before anybody looks, which would have the kernel ask where the file ends now."""
        appending = [each for each in program.opened if each.flags & os.O_APPEND]
        if not appending:
            return ""
        program.write(pick(appending, chance), 0, data)
        return f", and append {len(data)} bytes at once"

    def settle(self, chance: float) -> str:
        """All let go, meet, and somebody chooses."""
        for program in self.programs:
            program.close_all()
        heal(*self.sites)
        for graph in self.graphs:
            graph.merge()
        shown = until(self.shown, "what must be there is there", self.patience_s)
        entries = sorted(set(shown) - {"f", "g"})
        here = self.folders[chance > 0.5]
        if entries and chance < 0.7:
            os.rename(here / pick(entries, chance), here / "f")
        for name in set(os.listdir(here)) - {"f", "g"}:
            os.unlink(here / name)
        heal(*self.sites)
        cut(*self.sites)
        for program in self.programs:
            content = program.path.read_bytes()
            program.graph.versions[:] = [Version(None, content)]
            program.graph.known = [{0}, {0}]
            program.base = 0
        assert self.folders[0].joinpath("f").read_bytes() == self.folders[1].joinpath("f").read_bytes()
        return f"all close, meet, and choose one of {len(entries) + 1}"

    def shown(self) -> dict[str, bytes]:
        """Return what both show.  Raises AssertionError where that is not what must be there."""
        both = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in self.folders]
        assert both[0] == both[1], "they show different things"
        for program in self.programs:
            name = program.path.name
            contents = [both[0][each] for each in both[0] if each.split(".")[0] == name]
            expected, needed = program.graph.contents(0), program.graph.needed()
            told = [brief(each) for each in contents]
            assert needed <= set(contents), f"{told} lack {[brief(e) for e in needed - set(contents)]}"
            assert set(contents) <= expected, f"{told} are not {[brief(e) for e in expected]}"
            assert len(contents) == len(set(contents)), f"one content twice: {told}"
        return both[0]


def pick(candidates: Sequence, chance: float):
    return candidates[int(chance * len(candidates))]


def length(chance: float) -> int:
    return pick([1, 10, 100, 3000, 4096, 5000, 40_000], chance)


def place(chance: float, size: int = SIZE_MAX) -> int:
    """An offset: often at an edge of a page or a block, or at the end, seldom beyond it."""
    kind, rest = divmod(chance * 4, 1)
    if kind == 0:
        return pick(EDGES, rest)
    if kind == 1:
        return max(0, size - int(rest * 10))
    return int(rest * (size + 5000 if kind == 2 else size))


def brief(content: bytes) -> str:
    return f"{len(content)} bytes {content[:4].hex()}..{content[-4:].hex()}"


class Wrong(AssertionError):
    """A history shows something that is not as expected."""


def search(sites: Sequence[Site], name: str, steps: Sequence[Step], *, shares: bool) -> None:
    """Play a history.  Raises Wrong with the shortest part of it that shows something wrong."""
    tries = iter(range(1_000_000))

    def failure_of(part: Sequence[Step]) -> str | None:
        number = next(tries)
        # When it was seen to fail once, less is good enough to find what it takes.
        patience_s = DEADLINE_S if number == 0 else SHORTENING_S
        player = Player(sites, f"{name}-{number}", shares=shares, patience_s=patience_s)
        try:
            player.play(part)
        except (AssertionError, OSError) as error:
            return "\n".join([*player.told, f"{type(error).__name__}: {error}"])
        return None

    failure = failure_of(steps)
    if failure is not None:
        again = shortest(steps, failure_of)
        raise Wrong(f"\n{failure if again is None else again}")


def main() -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # take the mounts away then, too
    ends = time.monotonic() + 60 * options.minutes
    seed = options.seed
    with tempfile.TemporaryDirectory(prefix="elmer-") as directory:
        sites = Sites(Path(directory))
        try:
            pair = sites.group("ab")
            while time.monotonic() < ends:
                search(pair, f"seed-{seed}", draw(seed), shares=seed % 3 > 0)
                seed += 1
            sites.close()
        except Wrong as wrong:
            print(f"seed {seed}:{wrong}")  # noqa: T201
            return 1
        finally:
            sites.end()
    print(f"{seed - options.seed} histories of one file: as expected")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
