"""`elmer demo`: the main job on this machine, before the user's eyes.

Three replicas of one volume, each a process with a store and a mount of its own.  A real tree is
copied in through one mount and comes out of the other two; the three are cut off, changed against
each other, and meet again.  What the demo says about the end is what it read through the mounts;
where that is not what docs/conflicts.md promises it says so and ends with 1.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from elmer import clock
from elmer import demo_tree as trees
from elmer.cli_tables import records_table
from elmer.demo_cases import CASES, Facts, Verdict, untouched
from elmer.demo_sites import DemoFailedError, Sites, Stop, StoppedError

NAMES = ("a", "b", "c")
COPIED = "stdlib"  # where the tree goes in the volume
LIMIT_S = 600.0  # it takes less than a minute; but nothing may run for ever
GRACE_S = 5.0
SYNC_TIMEOUT_S = 120
STATUS_OF_SIGNAL = 128  # as a shell tells of a process that a signal ended


def run(console: Console) -> int:
    """Run the demo.  Returns 0 where all ended as documented, 1 if not, 128 + n for signal n."""
    stop = Stop(LIMIT_S)
    with stop.on_signals():
        started_s = time.monotonic()
        sites = Sites(stop, NAMES)
        story = _Story(console, stop, sites)
        try:
            story.start()
            _watch(story, stop)
        finally:
            sites.end()
            story.join(GRACE_S)  # the kernel has ended all that it waited for
            left = sites.remove()
        for problem in left:
            console.print(f"[red]{escape(problem)}[/]")
        return _conclude(console, stop, story, left, time.monotonic() - started_s)


def _watch(story: _Story, stop: Stop) -> None:
    """Wait for the story's end; after a stop, no longer than it needs to notice."""
    deadline = time.monotonic() + LIMIT_S
    while story.is_alive():
        story.join(0.1)
        if stop.event.is_set():
            story.join(GRACE_S)
            return
        if time.monotonic() > deadline:
            stop.note_overdue()


def _conclude(console: Console, stop: Stop, story: _Story, left: Sequence[str], seconds: float) -> int:
    if stop.signal is not None:
        console.print(f"[yellow]{stop.reason}; everything was taken away again[/]")
        return STATUS_OF_SIGNAL + stop.signal
    if isinstance(story.error, DemoFailedError | StoppedError | OSError):
        console.print(f"[bold red]failed:[/] {escape(str(story.error))}")
        return 1
    if story.error is not None:
        raise story.error
    if left or not story.as_documented:
        console.print("[bold red]not everything ended as documented[/]")
        return 1
    console.print(
        f"[bold green]All as documented[/], in {seconds:.0f} s. "
        "No process, mount or file of the demo is left."
    )
    return 0


class _Story(threading.Thread):
    """What happens, in order.  `error` is what ended it early."""

    def __init__(self, console: Console, stop: Stop, sites: Sites) -> None:
        super().__init__(name="demo", daemon=True)
        self.console = console
        self.stop = stop
        self.sites = sites
        self.error: BaseException | None = None
        self.as_documented = False
        self.in_order = True

    def run(self) -> None:
        try:
            self.tell()
        except BaseException as error:  # noqa: BLE001  carried to the main thread, which raises it
            self.error = error

    def tell(self) -> None:
        self.set_up()
        manifest = self.copy_in()
        self.step("Cut: all three go offline")
        self.sites.on_each("offline")
        self.act_apart()
        self.step("Heal: all three go online and meet")
        self.sites.on_each("online")
        seen = self.meet()
        self.as_documented = self.account(manifest, seen)
        self.step("Unmount")
        self.sites.unmount_all()

    def step(self, title: str) -> None:
        self.stop.check()
        self.console.print(f"\n[bold cyan]{title}[/]")

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False)

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[trees.Advance]:
        """Show progress: a bar on a terminal, elsewhere a line at each quarter."""
        if self.console.is_terminal:
            with Progress(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("files"),
                TimeElapsedColumn(),
                console=self.console,
            ) as progress:
                task = progress.add_task(title, total=total)
                yield lambda count: progress.advance(task, count)
        else:
            yield _Quarters(self.console, title, total).advance

    def set_up(self) -> None:
        self.step("Three replicas of one volume, each a process with its store and its mount")
        first = self.sites.all[0]
        self.sites.elmer("init", first.store, "--name", first.name)
        self.sites.mount(first)
        self.note(f"{first.name}: init, mounted at {first.mountpoint}")
        for site in self.sites.all[1:]:
            ticket = self.sites.report("invite", first.mountpoint)["ticket"]
            self.sites.elmer("join", site.store, ticket, "--name", site.name)
            self.sites.mount(site)
            self.note(f"{site.name}: joined with a ticket of {first.name}, at {site.mountpoint}")

    def tree(self, name: str) -> Path:
        site = next(site for site in self.sites.all if site.name == name)
        return site.mountpoint / COPIED

    def copy_in(self) -> dict[str, str]:
        source = trees.standard_library()
        files = trees.choose_files(source)
        self.step(f"A real tree goes in through a: {len(files):,} files of {source}")
        with self.counted("copied into a", len(files)) as advance:
            manifest = trees.copy(source, files, self.tree("a"), self.stop, advance)
        for name in NAMES[1:]:
            with self.counted(f"SHA-256 through {name}", len(manifest)) as advance:
                trees.wait_for(manifest, self.tree(name), self.stop, advance)
        self.note(f"one digest on all three: {self.agree()}")
        return manifest

    def agree(self) -> str:
        """Wait until all have seen the same, and return the digest that they then share."""
        deadline = time.monotonic() + SYNC_TIMEOUT_S
        while True:
            # b may have been equal to a before a heard of c: so ask until all say the same.
            digests = [digest.strip() for digest in self.sites.on_each("digest")]
            self.sites.on_each("sync", "--timeout", str(SYNC_TIMEOUT_S))
            if len(set(digests)) == 1:
                return digests[0]
            if time.monotonic() > deadline:
                shown = dict(zip(NAMES, digests, strict=True))
                raise DemoFailedError(f"the digests still differ: {shown}")
            self.stop.pause()

    def act_apart(self) -> None:
        self.step("Apart, each goes on working")
        before_ns = clock.now_ns()
        for case in CASES:
            for act in case.acts:
                act.does(self.tree(act.site))
                self.note(f"{act.site}: {escape(act.says)}")
                # Stamps count in milliseconds: each act gets one of its own, so that "newest"
                # in what follows is what a person would call so. The clock goes on by 10 ms at most.
                self.stop.pause(0.012)
                now_ns = clock.now_ns()
                self.in_order &= now_ns - before_ns > 1_000_000
                before_ns = now_ns

    def meet(self) -> dict[str, trees.Seen]:
        self.note(f"one digest on all three: {self.agree()}")
        files = sum(1 for _ in trees.walk_files(self.sites.all[0].mountpoint))
        looks: list[dict[str, trees.Seen]] = []
        for site in self.sites.all:
            with self.counted(f"every byte through {site.name}", files) as advance:
                looks.append(trees.look(site.mountpoint, self.stop, advance))
        for name, other in zip(NAMES[1:], looks[1:], strict=True):
            unequal = trees.differences(looks[0], other)
            if unequal:
                shown = "\n".join(unequal[:10])
                raise DemoFailedError(f"a and {name} show {len(unequal)} differences:\n{shown}")
        self.note(
            f"the three mounts are equal: {len(looks[0]):,} entries, names, modes, inode numbers "
            "and every byte"
        )
        return looks[0]

    def account(self, manifest: Mapping[str, str], seen: Mapping[str, trees.Seen]) -> bool:
        """Print the conflicts and what became of each case; return whether all is as documented."""
        report = self.sites.report("conflicts", self.sites.all[0].mountpoint)
        conflicts, records = report["conflicts"], report["records"]
        self.step("What is in conflict, and what was overruled (elmer conflicts)")
        self.console.print(_table_of(conflicts))
        self.console.print(records_table(records))
        inside = {
            name.removeprefix(f"{COPIED}/"): entry
            for name, entry in seen.items()
            if name.startswith(f"{COPIED}/")
        }
        facts = Facts(self.tree("a"), inside, manifest, conflicts, records, self.in_order)
        self.step("What became of each")
        verdicts = [(case.title, case.judge(facts)) for case in CASES]
        verdicts.append(("all other files", untouched(facts)))
        verdicts.append(("the list of conflicts", _judge_list(facts)))
        self.console.print(_verdict_table(verdicts))
        return all(verdict.as_documented for _, verdict in verdicts)


class _Quarters:
    def __init__(self, console: Console, title: str, total: int) -> None:
        self.console, self.title, self.total = console, title, total
        self.done = 0
        self.started_s = time.monotonic()

    def advance(self, count: int) -> None:
        before, self.done = self.done, self.done + count
        if self.total and before * 4 // self.total != self.done * 4 // self.total:
            seconds = time.monotonic() - self.started_s
            self.console.print(
                f"  {self.title}: {self.done:,} of {self.total:,} files, {seconds:.1f} s",
                highlight=False,
            )


def _judge_list(facts: Facts) -> Verdict:
    """The list names what stands beside the files, no more and no less."""
    kinds = sorted(conflict["kind"] for conflict in facts.conflicts)
    listed = {conflict["path"].lstrip("/").removeprefix(f"{COPIED}/") for conflict in facts.conflicts}
    shown = {name for name in facts.seen if ".conflict-" in name}
    return Verdict(
        kinds == ["content", "name", "name"] and listed == shown and len(facts.records) == 2,
        f"{len(listed)} entries, which are files of the mount, and {len(facts.records)} records",
    )


def _table_of(conflicts: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("entry", "kind", "made by", "when", box=None, padding=(0, 2))
    for conflict in conflicts:
        when = datetime.fromtimestamp(conflict["wall_ns"] / 1e9).astimezone()
        table.add_row(
            escape(conflict["path"]),
            conflict["kind"],
            conflict["replica"],
            when.strftime("%Y-%m-%d %H:%M:%S"),
        )
    return table


def _verdict_table(verdicts: Sequence[tuple[str, Verdict]]) -> Table:
    table = Table("", "while apart", "what became of it", box=None, padding=(0, 2))
    for title, verdict in verdicts:
        mark = "[green]ok[/]" if verdict.as_documented else "[bold red]WRONG[/]"
        table.add_row(mark, title, escape(verdict.became))
    return table
