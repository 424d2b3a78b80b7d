"""One folder a test, on three sites that live as long as this package: starting them is what costs."""

from collections.abc import Iterator

import pytest

from tests.system.conftest import live_sites
from tests.system.rows.folder import Folder
from tests.system.sites import Site, heal


@pytest.fixture(scope="package")
def three_sites() -> Iterator[list[Site]]:
    with live_sites() as made:
        yield made.group("abc")


@pytest.fixture
def folder(shared_triple: list[Site], request: pytest.FixtureRequest) -> Iterator[Folder]:
    yield Folder(shared_triple, request.node.name)
    heal(*shared_triple)
