"""The tests of the merge can fail: its rules are broken one at a time, and those that tell of each fail.

The rules and their breakages are in tests/breakages.py.  Each is one change in a copy of the product, in
which the named tests are run as by hand.
"""

from __future__ import annotations

import ast
import compileall
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from tests.breakages import BREAKAGES, STORIES, Breakage

ROOT = Path(__file__).parent.parent
LIMIT_S = 100
# Plugins that the tests of the merge do without, and that take longer to load than they to run.
PLUGINS = ("cacheprovider", "hypothesispytest", "aiohttp")
PYTHON_SETTINGS = ("PYTHONPATH", "PYTHONDEVMODE", "PYTEST_ADDOPTS")  # none of these may lead out of the copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product as far as the merge goes, and of its tests."""
    place = tmp_path_factory.mktemp("broken")
    for package in ("crdt", "translation"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
        # By their hashes: a file that is changed twice in one second would be taken for the same.
        compileall.compile_dir(place / package, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def run(place: Path, tests: list[str]) -> tuple[int, set[str], str]:
    """Run tests; return the exit status, which of them failed, and what was printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=line", "--color=no", "--noconftest"]
    # Not what differs: where CI is set pytest says it in full, and for large contents that takes minutes.
    command += ["--assert=plain", f"--rootdir={place}", *(f"-pno:{plugin}" for plugin in PLUGINS)]
    settings = {name: value for name, value in os.environ.items() if name not in PYTHON_SETTINGS}
    done = subprocess.run(
        [*command, *tests],
        cwd=place,
        env=settings,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    failed = re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    return done.returncode, set(failed), done.stdout + done.stderr


def test_all_of_them_pass_where_nothing_is_broken(copy: Path):
    tests = sorted({test for breakage in BREAKAGES for test in breakage.caught_by})
    status, failed, said = run(copy, tests)
    assert (status, failed) == (0, set()), said


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name.replace(" ", "_"))
def test_a_broken_rule_is_caught(copy: Path, breakage: Breakage):
    path = copy / breakage.file
    source = path.read_text()
    assert source.count(breakage.old) == 1, "the rule is written otherwise now: break that"
    path.write_text(source.replace(breakage.old, breakage.new))
    try:
        status, failed, said = run(copy, list(breakage.caught_by))
    finally:
        path.write_text(source)
    assert (status, failed) == (1, set(breakage.caught_by)), said
    assert not re.search(r"\b(Name|Syntax|Import)Error\b", said), "it is broken otherwise than it says"


def test_each_story_can_fail():
    functions = (
        node for node in ast.parse((ROOT / STORIES).read_text()).body if isinstance(node, ast.FunctionDef)
    )
    told = {f"{STORIES}::{function.name}" for function in functions}
    assert told <= {test for breakage in BREAKAGES for test in breakage.caught_by}


def test_all_of_them_are_in_the_documentation():
    text = (ROOT / "docs/testing.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
    table = {(what, file): set(re.findall(r"`(test_\w+)`", tests)) for what, file, tests in rows}
    assert table == {
        (breakage.name, breakage.file): {test.partition("::")[2] for test in breakage.caught_by}
        for breakage in BREAKAGES
    }
