"""What the demo does on the three sites while they are apart, and what must have become of it.

Each case is a row of docs/conflicts.md.  Its verdict is computed from what the mount shows and what
`elmer conflicts` says, never from what was meant to happen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from elmer.demo_tree import Seen

EDITED = "json/decoder.py"
REMOVED = "json/tool.py"
LEFT, RIGHT = "asyncio", "email"  # two directories that are moved into each other
NEW = "NEWS.txt"
UNION = "reports"


class Act(NamedTuple):
    site: str
    says: str
    does: Callable[[Path], None]  # its argument: the copied tree as that site sees it


class Facts(NamedTuple):
    """All that a verdict is made of."""

    tree: Path  # as one of the (equal) mounts shows it
    seen: Mapping[str, Seen]
    manifest: Mapping[str, str]  # SHA-256 of what was copied
    conflicts: Sequence[Mapping[str, Any]]
    records: Sequence[Mapping[str, Any]]
    in_order: bool  # the wall clock did not run backwards during the acts


class Verdict(NamedTuple):
    as_documented: bool
    became: str


def _wrong(seen: str) -> Verdict:
    return Verdict(as_documented=False, became=seen)


class Case(NamedTuple):
    title: str
    acts: tuple[Act, ...]
    judge: Callable[[Facts], Verdict]
    touches: tuple[str, ...]  # whatever is below these was meant to change


def append(name: str, line: bytes) -> Callable[[Path], None]:
    def act(tree: Path) -> None:
        with (tree / name).open("ab") as file:
            file.write(line)

    return act


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def act(tree: Path) -> None:
        (tree / name).write_bytes(content)

    return act


def move(name: str, to: str) -> Callable[[Path], None]:
    def act(tree: Path) -> None:
        (tree / name).rename(tree / to)

    return act


def remove(name: str) -> Callable[[Path], None]:
    def act(tree: Path) -> None:
        (tree / name).unlink()

    return act


def make_directory(name: str, files: Mapping[str, bytes]) -> Callable[[Path], None]:
    def act(tree: Path) -> None:
        (tree / name).mkdir()
        for file, content in files.items():
            (tree / name / file).write_bytes(content)

    return act


def entries_beside(tree: Path, name: str) -> dict[str, list[Path]]:
    """Return the conflict entries of a name, by the replica that their names tell."""
    path = tree / name
    pattern = re.compile(
        rf"{re.escape(path.stem)}\.conflict-([A-Za-z0-9_-]+)-[0-9a-z]+{re.escape(path.suffix)}"
    )
    found: dict[str, list[Path]] = {}
    for entry in sorted(path.parent.iterdir()):
        match = pattern.fullmatch(entry.name)
        if match:
            found.setdefault(match[1], []).append(entry)
    return found


def _judge_edit(facts: Facts) -> Verdict:
    bare = (facts.tree / EDITED).read_bytes()
    entries = entries_beside(facts.tree, EDITED)
    winner = "b" if bare.endswith(b"# edited at b\n") else "a"
    loser = "a" if winner == "b" else "b"
    if set(entries) != {loser} or len(entries[loser]) != 1:
        return _wrong(f"conflict entries: {_names(entries)}")
    other = entries[loser][0].read_bytes()
    kept = {bare, other} == {
        _original(bare) + b"# edited at a\n",
        _original(bare) + b"# edited at b\n",
    }
    return Verdict(
        kept and (winner == "b" or not facts.in_order),
        f"both kept: {EDITED} is the one of {winner}, the newest; "
        f"that of {loser} is {entries[loser][0].name}",
    )


def _original(edited: bytes) -> bytes:
    return edited[: edited.rindex(b"# edited at ")]


def _judge_moves(facts: Facts) -> Verdict:
    inside = {outer: (facts.tree / outer / inner).is_dir() for outer, inner in ((LEFT, RIGHT), (RIGHT, LEFT))}
    placed = [outer for outer, is_there in inside.items() if is_there]
    if len(placed) != 1:
        return _wrong(f"moves that took effect: into {placed or 'neither'}")
    outer, inner = placed[0], RIGHT if placed[0] == LEFT else LEFT
    here = {
        **_below(facts.manifest, outer, outer),
        **_below(facts.manifest, inner, f"{outer}/{inner}"),
    }
    complete = all(name in facts.seen and facts.seen[name].content == sha256 for name, sha256 in here.items())
    reported = [record for record in facts.records if record["kind"] == "move"]
    moved_here = not (facts.tree / inner).exists()
    return Verdict(
        complete and moved_here and len(reported) == 1 and (outer == RIGHT or not facts.in_order),
        f"the first move holds: {outer}/{inner}, all {len(here):,} files there once; "
        f"the other is skipped and reported",
    )


def _below(manifest: Mapping[str, str], directory: str, now_at: str) -> dict[str, str]:
    return {
        f"{now_at}{name.removeprefix(directory)}": sha256
        for name, sha256 in manifest.items()
        if name.startswith(f"{directory}/")
    }


def _judge_removal(facts: Facts) -> Verdict:
    path = facts.tree / REMOVED
    if not path.exists():
        return _wrong(f"{REMOVED} is gone, and the edit with it")
    kept = path.read_bytes().endswith(b"# edited at b\n") and not entries_beside(facts.tree, REMOVED)
    reported = [record["path"].endswith(REMOVED) for record in facts.records if record["kind"] == "unlink"]
    return Verdict(
        kept and reported == [True],
        f"{REMOVED} stays, with the edit of b: the removal had not seen it, and is reported",
    )


def _judge_new_names(facts: Facts) -> Verdict:
    entries = entries_beside(facts.tree, NEW)
    bare = (facts.tree / NEW).read_bytes()
    contents = {bare} | {path.read_bytes() for paths in entries.values() for path in paths}
    winner = bare.decode().removeprefix("written at ").strip()
    named_right = all(
        len(paths) == 1 and paths[0].read_bytes() == _news(site) for site, paths in entries.items()
    )
    return Verdict(
        contents == {_news(site) for site in "abc"}
        and set(entries) == set("abc") - {winner}
        and named_right
        and (winner == "c" or not facts.in_order),
        f"all three kept: {NEW} is the one of {winner}, the newest; beside it {_names(entries)}",
    )


def _news(site: str) -> bytes:
    return f"written at {site}\n".encode()


def _names(entries: Mapping[str, Sequence[Path]]) -> str:
    return ", ".join(path.name for paths in entries.values() for path in paths) or "none"


def _judge_union(facts: Facts) -> Verdict:
    names = sorted(path.name for path in (facts.tree / UNION).iterdir())
    return Verdict(
        names == ["at-b.txt", "at-c.txt"] and not entries_beside(facts.tree, UNION),
        f"one directory {UNION}/ with the files of both: {', '.join(names)}",
    )


CASES = (
    Case(
        "one file edited on two sites",
        (
            Act("a", f"adds a line to {EDITED}", append(EDITED, b"# edited at a\n")),
            Act("b", f"adds another line to {EDITED}", append(EDITED, b"# edited at b\n")),
        ),
        _judge_edit,
        ("json/",),
    ),
    Case(
        "two directories moved into each other",
        (
            Act("a", f"mv {LEFT} {RIGHT}/", move(LEFT, f"{RIGHT}/{LEFT}")),
            Act("b", f"mv {RIGHT} {LEFT}/", move(RIGHT, f"{LEFT}/{RIGHT}")),
        ),
        _judge_moves,
        (f"{LEFT}/", f"{RIGHT}/"),
    ),
    Case(
        "a file removed on one site, edited on another",
        (
            Act("a", f"rm {REMOVED}", remove(REMOVED)),
            Act("b", f"adds a line to {REMOVED}", append(REMOVED, b"# edited at b\n")),
        ),
        _judge_removal,
        ("json/",),
    ),
    Case(
        "one new name on three sites",
        tuple(Act(site, f"writes a new {NEW}", write(NEW, _news(site))) for site in "abc"),
        _judge_new_names,
        (),
    ),
    Case(
        "one new directory on two sites",
        tuple(
            Act(
                site,
                f"mkdir {UNION}, and a file in it",
                make_directory(UNION, {f"at-{site}.txt": _news(site)}),
            )
            for site in "bc"
        ),
        _judge_union,
        (),
    ),
)


def untouched(facts: Facts) -> Verdict:
    """Judge the rest: what nobody touched while apart is what was copied."""
    touched = tuple(name for case in CASES for name in case.touches)
    rest = {name: h for name, h in facts.manifest.items() if not name.startswith(touched)}
    same = sum(name in facts.seen and facts.seen[name].content == h for name, h in rest.items())
    return Verdict(same == len(rest), f"{same:,} of {len(rest):,} are as they were copied")
