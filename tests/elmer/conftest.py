"""Commands, run in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from elmer.cli import main


class Said(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys) -> Callable[..., Said]:
    def run(*arguments: str | Path) -> Said:
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Said(int(exited.value.code), captured.out, captured.err)

    return run
