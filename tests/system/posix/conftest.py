"""One folder a test, on one site that lives as long as this package: to start it is what costs.

ELMER_POSIX_AT=DIRECTORY has the tests that need one folder run there instead: what they expect is what
Linux does, and ext4 must pass them too.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import live_sites
from tests.system.sites import Site

ELSEWHERE = os.environ.get("ELMER_POSIX_AT")


@pytest.fixture(scope="package")
def lone_site() -> Iterator[Site]:
    with live_sites() as made:
        yield made.found("a")


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    if ELSEWHERE is None:
        path = request.getfixturevalue("shared_site") / request.node.name
        path.mkdir()
        yield path
        return
    path = Path(tempfile.mkdtemp(dir=ELSEWHERE))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
