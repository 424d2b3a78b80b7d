"""Plays steps on a cluster, and looks after each whether the laws hold at the replica that it touched."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeGuard

from replication.limits import Limits
from tests.simulator import editors, trees
from tests.simulator.cluster import Cluster, Site
from tests.simulator.extension import extension
from tests.simulator.healed import check_all
from tests.simulator.histories import SITE_NAMES, Setup, Step
from tests.simulator.laws import require
from tests.simulator.ledger import TOKEN_SIZE, Ledger
from tests.simulator.locality import (
    ALL_BITS,
    SET_USER_ID,
    Faces,
    chmoded,
    chowned,
    difference,
    faces,
    linked,
    made,
    moved_all,
    named,
    removed,
    renamed,
    saved,
    written,
)
from tests.simulator.programs import MARK, ORPHANS_AT, Programs, SymbolicPath, changed


class World:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        limits = Limits(slice_bytes=setup.slice_bytes, stage_commits_max=setup.stage_commits_max)
        self.cluster = Cluster(limits)
        self.cluster.on_merge = self._on_merge
        self.ledger = Ledger()
        self.programs: list[Programs] = []
        self.trace: list[str] = []
        self.token_count = 0
        self.heal_count = 0
        for _ in range(2):
            self.join()

    def _on_merge(self, site: Site, commits: Sequence[bytes]) -> Callable[[], None]:
        programs = self.programs[self.cluster.sites.index(site)]
        found = extension(programs, commits)
        return found.check if found else lambda: None

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
                return
        for programs in self.programs:
            programs.look()

    def _sites(self, arguments: Sequence[object]) -> list[int]:
        sites = [number for number in arguments if isinstance(number, int)]
        if any(number >= len(self.programs) for number in sites):
            raise FileNotFoundError("no such site")
        return sites

    def _crash(self, programs: Programs, is_killed: bool, random: Random) -> None:
        site = programs.site
        programs.handles.opened.clear()
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
        before = faces(programs.look())
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
            case "save_by_rename" | "save_anew" | "save_beside_backup":
                getattr(editors, step.kind)(programs, arguments[0], data, salt)
            case "mkdir":
                programs.mkdir(arguments[0], salt)
            case "symlink":
                programs.symlink(arguments[0], data[:TOKEN_SIZE])
            case "open":
                programs.open(arguments[0], appends=salt % 3 == 0)
            case "write_handle":
                programs.handles.write(salt // 7, data, salt)
            case "fsync_handle":
                programs.handles.fsync(salt)
            case "close_handle":
                programs.handles.close(salt)
            case "tick":
                programs.fs.tick()
            case "remove_tree" | "move_all":
                getattr(trees, step.kind)(programs, *arguments)
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
            case "save_by_rename" | "save_anew" | "save_beside_backup":
                return saved(before, paths[0], data)
            case "mkdir":
                return made(before, paths[0], stat.S_IFDIR, 0o755)
            case "mknod":
                return made(before, paths[0], stat.S_IFIFO, 0o600)
            case "symlink":
                return made(before, paths[0], stat.S_IFLNK, 0o777, data[:TOKEN_SIZE])
            case "unlink" | "rmdir" | "remove_tree":
                return removed(before, paths[0])
            case "rename" | "link" if paths[0].startswith(ORPHANS_AT):
                return named(before, *paths)
            case "rename":
                return renamed(before, *paths) if paths[0] in before else None
            case "move_all":
                return moved_all(before, *paths)
            case "link":
                return linked(before, *paths) if paths[0] in before else None
            case "chmod" if paths[0] in before:
                bits = 0o7700 if paths[0].startswith(ORPHANS_AT) else ALL_BITS
                return chmoded(before, paths[0], step.arguments[1] & bits)
            case "chown" if paths[0] in before:
                return chowned(before, paths[0], step.arguments[1])
            case "setxattr" | "touch":
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
            programs.handles.close_all()
        count = len(self.programs)
        pairs = [(i, i + 1) for i in range(count - 1)]
        if random.random() < 0.5:
            pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        for pair in pairs:
            self.cluster.connect(*pair)
        self.cluster.settle(random)
        digest = check_all(self.cluster.sites, self.cluster.library, self.ledger, random)
        self.trace.append(f"healed {digest}")
        self.acknowledge(random)

    def acknowledge(self, random: Random) -> None:
        """Some people take note of a record, perhaps of the same one."""
        for programs in self.programs:
            listed = programs.fs.records()
            if listed and random.random() < 0.3:
                programs.fs.acknowledge([random.choice(listed).id])


WRITES = ("create", "put", "append", "patch", "cut")
# What is one system call and changes nothing where it fails.
IN_ONE = {
    *("unlink", "rename", "link", "mkdir", "rmdir", "symlink", "mknod", "chmod", "chown"),
    *("setxattr", "touch"),
}


def is_path(argument: object) -> TypeGuard[SymbolicPath]:
    return isinstance(argument, tuple)


def check_locality(step: Step, programs: Programs, want: Faces) -> None:
    sets = {"chmod": ALL_BITS, "chown": ALL_BITS} | dict.fromkeys(WRITES, SET_USER_ID)
    is_orphan = any(programs.whole(p).startswith(ORPHANS_AT) for p in step.arguments[:1] if is_path(p))
    shown = faces(programs.look_again())
    # What a backup held that its program had not looked at is left as an orphan (translation.lineage).
    shown = {path: face for path, face in shown.items() if path in want or not path.startswith(ORPHANS_AT)}
    of = b".orphan-" if is_orphan else MARK
    wrong = difference(want, shown, but_bits=sets.get(step.kind, 0), of=of)
    require(not wrong, "L2", f"{step} changes something else, too:\n    {wrong}")
