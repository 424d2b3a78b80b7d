"""Programs work on a mount whose peer gets everything meanwhile; there they find the same, and go on with it.

The cases are in `tests/programs`.
"""

from pathlib import Path

import pytest

from tests.programs.case import Case, Place, prepared
from tests.programs.catalogue import QUICK
from tests.programs.versioning import git
from tests.system.sites import Site, assert_same_trees, meet
from tests.system.trees import assert_equal, look

NAMES = ("git clone, gc, fsck", "SQLite, one row a transaction", "make -j, touch, make again")
CHECKED = [case for case in QUICK if case.name in NAMES]


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_what_a_program_left_works_on_the_other_site(shared_pair: list[Site], tmp_path: Path, case: Case):
    a, b = shared_pair
    root = f"case-{CHECKED.index(case)}"
    place = prepared(case, a / root, tmp_path)
    case.work(place)
    meet(a, b)
    assert_equal(look(a / root), look(b / root))
    assert case.check is not None
    case.check(Place(b / root, place.material))
    assert a.conflicts() == []


def test_both_sites_work_on_one_repository_in_turn(shared_pair: list[Site]):
    a, b = shared_pair
    git("init", "--quiet", a / "repository", cwd=a.mountpoint)
    (a / "repository" / "f").write_text("text\n")
    git("add", ".", cwd=a / "repository")
    git("commit", "--quiet", "-m", "first", cwd=a / "repository")
    meet(a, b)
    git("fsck", "--full", "--strict", cwd=b / "repository")
    (b / "repository" / "f").write_text("changed at b\n")
    git("commit", "--quiet", "--all", "-m", "second", cwd=b / "repository")
    meet(a, b)
    assert git("status", "--porcelain", cwd=a / "repository") == ""
    git("fsck", "--full", "--strict", cwd=a / "repository")
    assert_same_trees(a, b)
