"""What the documents say of the repository is so: tests, files, links, modules, names, and the tour.

Only what a program can check.  docs/conflicts.md names a test for each row; that the test says what the
row says is for people to see.
"""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from elmer import cli_inspect, cli_mount, cli_peers, cli_policy, cli_resolve, cli_sim, cli_volume
from elmer.mounts import all_mounts, unmount

ROOT = Path(__file__).parent.parent
PACKAGES = ("crdt", "translation", "replication", "elmer")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
ROWS = range(1, 33)

FILES_OF_LETTER = {
    "M": ["tests/translation/test_merge.py"],
    "R": ["tests/translation/test_rows.py"],
    "T": ["tests/translation/test_stories.py"],
    "S": sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/system/rows/test_*.py")),
}
TOP_LEVEL = (*PACKAGES, "tests", "docs", "scripts", "benchmarks")

TOUR_HOME = "/home/me/tour"
TOUR_LIMIT_S = 110
# What differs from run to run.
VARIABLE = (
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "WHEN"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
)


def by_name(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=by_name(DOCUMENTS))


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def quoted(path: Path) -> set[str]:
    """Return what stands between backticks in the prose."""
    return set(re.findall(r"`([^`\n]+)`", prose(path)))


def named_tests(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in nodes if isinstance(node, functions) and node.name.startswith("test_")}


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as they are made of them where it is shown."""
    titles = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# -- every document ------------------------------------------------------------------------------------


@each_document
def test_a_document_has_one_title_and_begins_with_it(path: Path):
    titles = re.findall(r"^# .+$", prose(path), flags=re.MULTILINE)
    assert len(titles) == 1, titles
    assert path.read_text().startswith(titles[0])


@each_document
def test_every_relative_link_leads_somewhere(path: Path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert not broken


@each_document
def test_every_file_of_the_repository_that_is_named_is_there(path: Path):
    named = {word.split()[0] for word in quoted(path) if re.match(r"[\w./-]+(?= |$)", word)}
    named = {word.removeprefix("./") for word in named if "/" in word}
    here = {word for word in named if word.partition("/")[0] in TOP_LEVEL}
    assert not {word for word in here if not (ROOT / word).exists()}


@each_document
def test_every_command_that_is_named_is_one(path: Path):
    modules = (cli_inspect, cli_mount, cli_peers, cli_policy, cli_resolve, cli_sim, cli_volume)
    known = {command.name for module in modules for command in module.COMMANDS} | {"demo"}
    named = {match[1] for word in quoted(path) if (match := re.match(r"elmer ([a-z]+)", word))}
    assert named <= known


@each_document
def test_every_member_of_a_class_that_is_named_is_there(path: Path):
    members = dict(class_members())
    named = {match.groups() for word in quoted(path) if (match := re.fullmatch(r"([A-Z]\w+)\.(\w+)", word))}
    assert not {f"{cls}.{name}" for cls, name in named if cls in members and name not in members[cls]}
    assert not {cls for cls, name in named if cls not in members and name not in ("md", "py")}


def class_members() -> Iterator[tuple[str, set[str]]]:
    """Yield the classes of the four packages with the names in them: methods, fields, attributes."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, set()).update(names_in(node))
    yield from found.items()


def names_in(definition: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@each_document
def test_every_test_that_is_named_is_there(path: Path):
    named = {word for word in quoted(path) if re.fullmatch(r"test_\w+", word)}
    if named:
        there = set().union(*(named_tests(file) for file in (ROOT / "tests").rglob("test_*.py")))
        assert not named - there


# -- the table of conflicts ----------------------------------------------------------------------------


def table_rows() -> list[list[str]]:
    lines = prose(ROOT / "docs/conflicts.md").splitlines()
    rows = [line for line in lines if re.match(r"\| \d+ \|", line)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_every_pair_of_operations_is_in_the_table():
    described = [row for row in table_rows() if len(row) != 2]
    assert {int(row[0]) for row in described} == set(ROWS)
    for row in described:  # number, before, A, B, afterwards, why
        assert len(row) == 6, row
        assert all(row), row


def test_every_row_of_the_table_names_tests_that_are_where_it_says():
    tests = {
        letter: set().union(*(named_tests(ROOT / file) for file in files))
        for letter, files in FILES_OF_LETTER.items()
    }
    listed = {int(row[0]): row[1] for row in table_rows() if len(row) == 2}
    assert set(listed) == set(ROWS)
    for row, cell in listed.items():
        for part in cell.split("; "):
            letter, _, rest = part.partition(" ")
            names = re.findall(r"`(test_\w+)`", rest)
            assert names, f"row {row} names no test: {part}"
            assert not set(names) - tests[letter], f"row {row}: not in {FILES_OF_LETTER[letter]}"


def test_every_test_of_a_row_is_in_the_table():
    text = (ROOT / "docs/conflicts.md").read_text()
    for file in itertools.chain(*FILES_OF_LETTER.values()):
        of_rows = {name for name in named_tests(ROOT / file) if re.match(r"test_row_\d+_", name)}
        assert not {name for name in of_rows if f"`{name}`" not in text}


# -- architecture and decisions ------------------------------------------------------------------------


def test_architecture_names_every_module_and_no_other():
    text = prose(ROOT / "docs/architecture.md")
    for package in PACKAGES:
        start = text.index(f"### {package}: ")
        section = re.split(r"^##+ ", text[start + 4 :], maxsplit=1, flags=re.MULTILINE)[0]
        cells = re.findall(r"^\| ([^|]+) \|", section, flags=re.MULTILINE)
        named = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
        there = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
        assert named == there, package


def test_decisions_are_numbered_without_gaps():
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for number, path in enumerate(paths, 1):
        assert path.read_text().startswith(f"# {number}. "), path


def test_every_decision_and_document_that_the_code_names_is_there():
    missing = set()
    for package in (*PACKAGES, "tests", "benchmarks", "scripts"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix not in (".py", "") or not path.is_file():
                continue
            for named in re.findall(r"docs/[\w/-]+(?:\.md)?", path.read_text()):
                if not list(ROOT.glob(f"{named}*")):
                    missing.add(f"{path.relative_to(ROOT)}: {named}")
    assert not missing


# -- the tour ------------------------------------------------------------------------------------------


def tour() -> list[tuple[str, list[str]]]:
    """Return the commands of the README's tour, each with the lines it is said to print."""
    found: list[tuple[str, list[str]]] = []
    text = (ROOT / "README.md").read_text()
    for block in re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def without_what_varies(lines: list[str], home: str) -> list[str]:
    text = "\n".join(line.rstrip() for line in lines).replace(home, TOUR_HOME)
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return [re.sub(r" {2,}", "  ", line) for line in text.splitlines()]


def run_as_a_person(commands: list[str], place: Path) -> list[list[str]]:
    """Run commands in one shell, as in a terminal; return what each printed.

    A person takes longer from one to the next than a clock to go on by a tick (10 ms at most): what is done
    later is newer, also on another site.
    """
    program = place / "bin" / "elmer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m elmer "$@"\n')
    program.chmod(0o755)
    home = place / "tour"
    home.mkdir()
    mark = "== end of command =="
    script = "".join(f"{command}\nsleep 0.02\necho '{mark}'\n" for command in commands)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONDEVMODE": "",
        "LC_ALL": "C.UTF-8",
    }
    with (place / "script").open("w+") as file, (place / "printed").open("w+") as printed:
        file.write(script)
        file.flush()
        # To a file: the daemons that stay in the background would keep a pipe open.
        subprocess.run(
            ["bash", file.name],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            timeout=TOUR_LIMIT_S,
            check=False,
        )
        printed.seek(0)
        parts = printed.read().split(mark + "\n")
    return [part.splitlines() for part in parts[:-1]]


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    yield scratch
    for mount in all_mounts():
        if scratch in mount.mountpoint.parents:
            unmount(mount.mountpoint, lazily=True)
    shutil.rmtree(scratch / "tour", ignore_errors=True)


@pytest.mark.system
@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_tour_in_the_readme_prints_what_it_says(place: Path):
    told = tour()
    printed = run_as_a_person([command for command, _ in told], place)
    home = str(place / "tour")
    assert [(command, without_what_varies(lines, home)) for command, lines in told] == [
        (command, without_what_varies(lines, home)) for (command, _), lines in zip(told, printed, strict=True)
    ]
