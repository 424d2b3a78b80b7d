"""A cluster from one seed: random programs, network, clocks and crashes, and what must hold after each heal.

    python -m tests.simulator --seeds 0..1000 [--steps 90] [--shrink]

A history is a list of steps.  It grows by being played, since what a program can do depends on what is
there; then it can be played again without the generator, and shortened while it still fails.  Small
worlds on purpose: two to five replicas, two or three names, so that everything collides.

After each heal: equal digests; what each replica shows is what tests.reference computes from all facts;
a tree (P4); every acknowledged content accounted for (P3); fsck clean; and the same after a reopening.
"""

from __future__ import annotations

import argparse
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple, TypeGuard

from crdt.facts import Kind
from replication.limits import Limits
from tests.cluster import Cluster, Library, Site
from tests.histories import SITE_NAMES, STEPS_MAX, Generator, Setup, Step
from tests.locality import (
    Faces,
    difference,
    faces,
    linked,
    made,
    removed,
    renamed,
    saved,
    written,
)
from tests.programs import MARK, Ledger, Programs, SymbolicPath, changed, tokens
from tests.reference import CURRENT_RULES, Shown, View
from tests.reference.gathered import Gathered
from tests.reference.records import records
from tests.walk import Found, orphans, walk
from translation.filesystem import FileSystem
from translation.fsck import check as fsck
from translation.replica import Replica


class World:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        limits = Limits(slice_bytes=setup.slice_bytes, stage_commits_max=setup.stage_commits_max)
        self.cluster = Cluster(limits)
        self.ledger = Ledger()
        self.programs: list[Programs] = []
        self.trace: list[str] = []
        self.token_count = 0
        self.heal_count = 0
        for _ in range(2):
            self.join()

    def join(self) -> None:
        number = len(self.programs)
        if number < len(self.setup.skews_ns):
            site = self.cluster.add(SITE_NAMES[number], self.setup.skews_ns[number])
            self.programs.append(Programs(site, self.ledger))
            if number:
                self.cluster.connect(0, number)

    # -- steps -----------------------------------------------------------------------------------

    def play(self, step: Step) -> bool:
        """Do one step; False where a program got an error, which is no failure."""
        self.cluster.now_ns += 1_000_000 + step.salt % 100 * 1_000_000
        done = "ok"
        try:
            self._do(step)
        except OSError as error:
            if step.kind == "heal":
                raise
            done = f"{type(error).__name__} {error.errno}"
        self.trace.append(f"{step.kind} {step.site} {step.arguments} {done} {self.heads()}")
        return done == "ok"

    def heads(self) -> str:
        return " ".join(str(p.site.replica.facts_count()) for p in self.programs)

    def _do(self, step: Step) -> None:
        random = Random(step.salt)
        match step.kind:
            case "connect":
                self.cluster.connect(step.site, *self._sites(step.arguments))
            case "disconnect":
                self.cluster.cut(step.site, *self._sites(step.arguments))
            case "run":
                self.cluster.run(random.randrange(1, 12), random)
            case "join":
                self.join()
            case "crash":
                self._crash(self.programs[step.site], step.arguments[0] == "kill", random)
            case "sync":
                self.cluster.sites[step.site].tell()
            case "heal":
                self.heal(random)
            case _:
                self._do_program(self.programs[step.site], step)

    def _sites(self, arguments: Sequence[object]) -> list[int]:
        sites = [number for number in arguments if isinstance(number, int)]
        if any(number >= len(self.programs) for number in sites):
            raise FileNotFoundError("no such site")
        return sites

    def _crash(self, programs: Programs, is_killed: bool, random: Random) -> None:
        site = programs.site
        programs.handles.clear()
        if is_killed:
            site.kill()
            return
        site.crash(random.randint(0, len(site.store.unsynced)))
        self.ledger.forget(site.replica.replica, site.kept_commits)

    def _do_program(self, programs: Programs, step: Step) -> None:
        """One program; afterwards this replica shows what POSIX says and nothing else has changed."""
        data = self.data(step.salt)
        waits = programs.site.waits()  # what is done meanwhile competes with what comes
        if programs.handles or waits or step.kind in ("open", "tick"):
            self._act(programs, step, data)
            return
        before = faces(walk(programs.fs))
        want = self._expected(programs, step, data, before)
        try:
            self._act(programs, step, data)
        except OSError:
            if step.kind in IN_ONE:
                check_locality(step, programs, before)
            raise
        if want is not None:
            check_locality(step, programs, want)

    def _act(self, programs: Programs, step: Step, data: bytes) -> None:
        arguments, salt = step.arguments, step.salt
        match step.kind:
            case "create":
                programs.write(arguments[0], "put", data, salt)
            case "put" | "append" | "patch" | "cut":
                programs.write(arguments[0], step.kind, data, salt)
            case "save":
                programs.save(arguments[0], data, salt)
            case "mkdir":
                programs.mkdir(arguments[0], salt)
            case "open":
                programs.open(arguments[0], appends=salt % 3 == 0)
            case "write_handle":
                programs.write_handle(salt // 7, data, salt)
            case "fsync_handle" | "close_handle":
                getattr(programs, step.kind)(salt)
            case "tick":
                programs.fs.tick()
            case "xattr":
                programs.setxattr(*arguments)
            case _:
                getattr(programs, step.kind)(*arguments)

    def _expected(self, programs: Programs, step: Step, data: bytes, before: Faces) -> Faces | None:
        """What must show after this step where it succeeds; None where that is not known."""
        paths = [programs.whole(p) for p in step.arguments if is_path(p)]
        match step.kind:
            case "create" | "put" | "append" | "patch" | "cut":
                old = before[paths[0]].content if paths[0] in before else b""
                how = "put" if step.kind == "create" else step.kind
                if old is None:
                    return None
                return written(before, paths[0], changed(old, how, data, step.salt))
            case "save":
                return saved(before, paths[0], data)
            case "mkdir":
                return made(before, paths[0], stat.S_IFDIR, 0o755)
            case "mknod":
                return made(before, paths[0], stat.S_IFIFO, 0o600)
            case "symlink":
                return made(before, paths[0], stat.S_IFLNK, 0o777, step.arguments[1])
            case "unlink" | "rmdir" | "remove_tree":
                return removed(before, paths[0])
            case "rename":
                return renamed(before, *paths) if paths[0] in before else None
            case "link":
                return linked(before, *paths) if paths[0] in before else None
            case "chmod" | "chown" if paths[0] in before:
                field = "mode" if step.kind == "chmod" else "uid"
                ino, value = before[paths[0]].ino, step.arguments[1]
                return {p: f._replace(**{field: value}) if f.ino == ino else f for p, f in before.items()}
            case "xattr":
                return before
        return None

    def data(self, salt: int) -> bytes:
        """A token, now and then with so much behind it that it is no longer inline, or several blocks.

        A new one, so that a check can say whose write is where; or one of a few, which are the same.
        """
        if self.setup.contents:
            return b"<%06d>" % (1 + salt % self.setup.contents)
        self.token_count += 1
        token = b"<%06d>" % self.token_count
        match salt % 16:
            case 0:
                return token + b"y" * 6000
            case 1:
                return token + b"z" * 40_000
        return token

    # -- what must hold --------------------------------------------------------------------------

    def heal(self, random: Random) -> None:
        """Close everything, connect all in a line or all with all, wait until all is said; then check."""
        self.heal_count += 1
        for programs in self.programs:
            programs.close_all()
        count = len(self.programs)
        pairs = [(i, i + 1) for i in range(count - 1)]
        if random.random() < 0.5:
            pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        for pair in pairs:
            self.cluster.connect(*pair)
        self.cluster.settle(random)
        self.check()
        self.acknowledge(random)

    def acknowledge(self, random: Random) -> None:
        """Some people take note of a record, perhaps of the same one."""
        for programs in self.programs:
            listed = programs.fs.records()
            if listed and random.random() < 0.3:
                programs.fs.acknowledge([random.choice(listed).id])

    def check(self) -> None:
        library = self.cluster.library
        expected = View(Gathered(library.commits.values()), library.blocks, CURRENT_RULES)
        for site in self.cluster.sites:
            check_site(site, expected)
        digests = {site.name: site.fs.digest() for site in self.cluster.sites}
        assert len(set(digests.values())) == 1, f"unequal digests: {digests}"
        shown = {t for each in expected.snapshot().values() for t in tokens(each.content)}
        shown |= {t for each in expected.orphaned().values() for t in tokens(each.content)}
        missing = self.ledger.missing_from(shown)
        assert not missing, f"acknowledged and lost: {missing}"
        self.trace.append(f"healed {min(digests.values())}")


# What is one system call and changes nothing where it fails.
IN_ONE = {"unlink", "rename", "link", "mkdir", "rmdir", "symlink", "mknod", "chmod", "chown", "xattr"}


def is_path(argument: object) -> TypeGuard[SymbolicPath]:
    return isinstance(argument, tuple)


def check_locality(step: Step, programs: Programs, want: Faces) -> None:
    others = MARK.decode() if step.kind in ("chmod", "chown") else ""
    wrong = difference(want, faces(walk(programs.fs)), but_attributes_of=others)
    assert not wrong, f"{step} changes something else, too:\n    {wrong}"


def check_site(site: Site, expected: View) -> None:
    found, orphaned = walk(site.fs), orphans(site.fs)
    compare(site.name, found, expected.snapshot())
    compare(site.name, orphaned, {name: of_owner(each) for name, each in expected.orphaned().items()})
    listed = {b"/" + conflict.path for conflict in site.fs.conflicts()}
    shown = {path for path, each in expected.snapshot().items() if each.conflict}
    assert listed == shown, f"{site.name} lists as conflicts {listed - shown} and not {shown - listed}"
    check_records(site.name, site.fs, expected)
    findings = [f"{finding.key}: {finding.problem}" for finding in fsck(site.store)]
    assert not findings, f"fsck of {site.name}: {findings}"
    again = FileSystem(Replica(site.store.crashed(len(site.store.unsynced)), site.wall_ns))
    assert again.digest() == site.fs.digest(), f"{site.name} shows something else when reopened"
    assert walk(again) == found, f"{site.name} shows something else when reopened"
    assert orphans(again) == orphaned, f"{site.name} has other orphans when reopened"


def check_records(name: str, fs: FileSystem, expected: View) -> None:
    listed = [(r.id, r.path, tuple(r.overruled), tuple(r.by)) for r in fs.records()]
    want = [(r.id, r.path, tuple(r.overruled), tuple(r.by)) for r in records(expected)]
    assert listed == want, f"{name} lists the records {listed}, and the facts say {want}"


def of_owner(shown: Shown) -> Shown:
    """An orphan is its owner's: nothing protects it any more from others."""
    return shown._replace(mode=shown.mode & 0o7700)


def compare(name: str, found: dict[bytes, Found], expected: dict[bytes, Shown]) -> None:
    want = {
        path: (each.kind, each.ino, each.mode, each.uid, each.gid, each.content)
        for path, each in expected.items()
    }
    got = {path: face(each) for path, each in found.items()}
    wrong = [
        f"{path!r}: want {want.get(path)}, shows {got.get(path)}"
        for path in sorted(want.keys() | got.keys())
        if want.get(path) != got.get(path)
    ]
    assert not wrong, f"{name} shows what the facts do not:\n    " + "\n    ".join(wrong)


KINDS = {
    stat.S_IFREG: Kind.REGULAR,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
}


def face(found: Found) -> tuple[object, ...]:
    attributes = found.attributes
    kind = KINDS[stat.S_IFMT(attributes.mode)]
    content = b"" if kind == Kind.DIRECTORY else found.content
    bits = stat.S_IMODE(attributes.mode)
    return kind, attributes.ino, bits, attributes.uid, attributes.gid, content


class Failure(NamedTuple):
    where: str  # what tells it from other failures
    text: str


def failure_of(act: Callable[[], None]) -> Failure | None:
    """Run this; return how it fails.  Whatever the product raises here is its failure."""
    try:
        act()
    except Exception as error:  # noqa: BLE001
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{type(error).__name__} in {frames[-1].name}"
        return Failure(where, "".join(traceback.format_exception(error)))
    return None


class Run(NamedTuple):
    setup: Setup
    history: list[Step]
    trace: list[str]
    library: Library
    digest: str  # in the end
    failure: Failure | None

    @property
    def commits(self) -> int:
        return len(self.library.commits)


def simulate(seed: int, steps_max: int = STEPS_MAX) -> Run:
    """Grow a history from a seed, by playing it."""
    generator = Generator(seed, steps_max)
    world = World(generator.setup)
    history: list[Step] = []

    def grow() -> None:
        for _ in range(generator.length):
            step = generator.step(world)
            if step is not None:
                history.append(step)
                world.play(step)
        history.append(Step("heal", 0, (), generator.random.getrandbits(30)))
        world.play(history[-1])

    failure = failure_of(grow)
    digest = world.cluster.sites[0].fs.digest()
    return Run(generator.setup, history, world.trace, world.cluster.library, digest, failure)


def replay(setup: Setup, history: Iterable[Step]) -> Failure | None:
    world = World(setup)

    def play() -> None:
        for step in history:
            if step.site < len(world.programs):
                world.play(step)
        if not history or history[-1].kind != "heal":
            world.play(Step("heal", 0))

    history = list(history)
    return failure_of(play)


def shrink(run: Run) -> list[Step]:
    """Leave out halves, quarters, ... single steps, for as long as it fails in the same place."""
    assert run.failure is not None
    history, size = run.history, max(1, len(run.history) // 2)
    while True:
        length, start = len(history), 0
        while start < len(history):
            shorter = history[:start] + history[start + size :]
            failure = replay(run.setup, shorter)
            if failure is not None and failure.where == run.failure.where:
                history = shorter
            else:
                start += size
        if size == 1 and len(history) == length:
            return history
        size = max(1, size // 2)


def report(seed: int, run: Run, *, shorten: bool) -> str:
    assert run.failure is not None
    lines = [f"seed {seed} fails: {run.failure.where}", f"    {run.setup}"]
    history, failure = run.history, run.failure
    if shorten and (again := replay(run.setup, history)) is not None:
        history = shrink(run._replace(failure=again))
        failure = replay(run.setup, history) or failure
    lines += [f"    {step}" for step in history]
    return "\n".join([*lines, failure.text])


def main() -> int:
    parser = argparse.ArgumentParser(description="Play random histories on simulated replicas.")
    parser.add_argument("--seeds", default="0..200", help="FROM..TO")
    parser.add_argument("--steps", type=int, default=STEPS_MAX, help="the most steps of an ordinary history")
    parser.add_argument("--shrink", action="store_true", help="of a failure, the shortest history")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    options = parser.parse_args()
    first, last = (int(part) for part in options.seeds.split(".."))
    began, commits, failures = time.monotonic(), 0, 0
    for seed in range(first, last):
        run = simulate(seed, options.steps)
        commits += run.commits
        if run.failure is not None:
            failures += 1
            print(report(seed, run, shorten=options.shrink), flush=True)  # noqa: T201
            if not options.keep_going:
                break
    seconds, count = time.monotonic() - began, seed + 1 - first
    print(  # noqa: T201
        f"{count} histories, {commits} commits, {failures} failures: {seconds:.1f} s,"
        f" {count / seconds:.1f} histories/s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
