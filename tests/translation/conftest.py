"""What tests of the translation share."""

from __future__ import annotations

import pytest

from crdt.blocks import BLOCK_SIZE
from translation import content as content_module
from translation import gathered as gathered_module


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(content_module, "DRAFT_BYTES", 4 * BLOCK_SIZE)
    monkeypatch.setattr(content_module, "MEMORY_BYTES", 6 * BLOCK_SIZE)
    monkeypatch.setattr(content_module, "SLICE_BYTES", 2 * BLOCK_SIZE)
    monkeypatch.setattr(gathered_module, "SLICE_BYTES", 2 * BLOCK_SIZE)
