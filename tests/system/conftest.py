"""Sites for the tests of this directory: fresh ones, or shared by a module where tests keep apart.

At the end of a test its sites are stopped, each store passes fsck and no log has a traceback
(`Sites.close`).  Shared sites live as long as the module: after each test they must still be
mounted, agree, and have clean logs; fsck comes at the module's end.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import mounts_below
from tests.system.sites import Site, Sites, at_once

HERE = Path(__file__).parent
# Several waits of 90 s each may stand in one test; none comes near that but on a broken product.
TIMEOUT_S = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.mount)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture
def sites(scratch: Path) -> Iterator[Sites]:
    made = Sites(scratch)
    yield made
    made.close()


@pytest.fixture
def site(sites: Sites) -> Site:
    return sites.found("a")


@pytest.fixture
def pair(sites: Sites) -> list[Site]:
    return sites.group("ab")


@pytest.fixture
def triple(sites: Sites) -> list[Site]:
    return sites.group("abc")


@contextmanager
def live_sites() -> Iterator[Sites]:
    """Sites for many tests, which keep apart in folders of their own."""
    directory = Path(tempfile.mkdtemp(prefix="elmer-"))
    directory.chmod(0o755)
    made = Sites(directory)
    try:
        yield made
        made.close()
    finally:
        made.end()
        assert not mounts_below(directory)
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def shared_sites() -> Iterator[Sites]:
    with live_sites() as made:
        yield made


@pytest.fixture(scope="module")
def lone_site(shared_sites: Sites) -> Site:
    return shared_sites.found("a")


@pytest.fixture
def shared_site(lone_site: Site) -> Iterator[Site]:
    yield lone_site
    lone_site.check_running()


@pytest.fixture(scope="module")
def two_sites(shared_sites: Sites) -> list[Site]:
    return shared_sites.group("ab")


@pytest.fixture
def shared_pair(two_sites: list[Site]) -> Iterator[list[Site]]:
    at_once(Site.online, two_sites)  # whatever the test before this left
    yield two_sites
    for one in two_sites:
        one.check_running()


@pytest.fixture(scope="module")
def three_sites(shared_sites: Sites) -> list[Site]:
    return shared_sites.group("abc")


@pytest.fixture
def shared_triple(three_sites: list[Site]) -> Iterator[list[Site]]:
    at_once(Site.online, three_sites)
    yield three_sites
    for one in three_sites:
        one.check_running()
