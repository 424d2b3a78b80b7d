"""Plays steps on a cluster, and looks after each whether the laws hold at the replica that it touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from crdt.policy import POLICIES
from replication.limits import Limits
from tests.simulator.acting import act
from tests.simulator.cluster import Cluster, Site
from tests.simulator.extension import extension
from tests.simulator.healed import check_all
from tests.simulator.ledger import Ledger
from tests.simulator.programs import Programs
from tests.simulator.settling import settle
from tests.simulator.steps import SHARED, SITE_NAMES, Setup, Step


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
        if setup.policy:
            self.share()

    def share(self) -> None:
        """Give the first replicas one file, of a merge policy that all others will have, too."""
        self.programs[0].fs.replica.set_pattern("*", POLICIES[self.setup.policy])
        self.programs[0].write((SHARED,), "put", self.data(0), 0)
        self.cluster.connect(0, 1)
        self.cluster.settle(Random(0))

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
            if step.kind in ("heal", "settle"):
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
            case "settle":
                self.heal(random)
                settle(self.cluster.sites, random)
            case _:
                act(self.programs[step.site], step, self.data(step.salt))
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

    def data(self, salt: int) -> bytes:
        """A token, now and then with so much behind it that it is no longer inline, or several blocks.

        A new one, so that a check can say whose write is where; or one of a few, which are the same.
        """
        if self.setup.contents:
            return b"<%06d>" % (1 + salt % self.setup.contents)
        self.token_count += 1
        token = b"<%06d>" % self.token_count
        match salt % (4 if self.setup.policy else 16):
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
        digest = check_all(self.programs, self.cluster.library, self.ledger, random)
        self.trace.append(f"healed {digest}")
        self.acknowledge(random)

    def acknowledge(self, random: Random) -> None:
        """Some people take note of a record, perhaps of the same one."""
        for programs in self.programs:
            listed = programs.fs.records()
            if listed and random.random() < 0.3:
                programs.fs.acknowledge([random.choice(listed).id])
