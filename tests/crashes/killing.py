"""kill -9 of a daemon before each change of its store, one after the other, and what the next one shows."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.crashes.checking import assert_one_of
from tests.crashes.recording import Recorder
from tests.crashes.sequences import Expected, Tree, look
from tests.system.sites import COMMAND_TIMEOUT_S, Site, environment


def kill_at_each(
    site: Site, recorder: Recorder, names: tuple[str, ...], directory: str, host: Path
) -> Iterator[Tree]:
    """Play a sequence again and again, each time in a new directory, and kill the daemon before its first
    change of the store, its second, and so on, until it gets to the end.  Yield what was found after each.
    """
    expected = Expected(names, str(host / directory))
    nth = 0
    survived = False
    while not survived:
        nth += 1
        path = site / f"{directory}-{nth}"
        told, survived = play_until_killed(site, recorder, names, path, nth)
        if survived:
            assert told == len(expected.moments) - 1, f"{names}: the host does it in other steps"
        else:
            site.start()
            site.wait_mounted()
        found = look(str(path))
        legal = expected.legal(told, told + 1)
        try:
            assert_one_of(found, legal, f"{directory}: {'; '.join(names)}")
        except AssertionError as error:
            error.add_note(f"after a kill before change {nth}, with {told} steps done")
            raise
        yield found


def play_until_killed(
    site: Site, recorder: Recorder, names: tuple[str, ...], path: Path, nth: int
) -> tuple[int, bool]:
    """Return how many steps the program was told of, and whether the daemon lives."""
    command = [sys.executable, "-m", "tests.crashes.player", path, *names]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment()
    ) as player:
        assert player.stdout is not None
        prepared = player.stdout.readline()
        assert prepared == "prepared\n", player.communicate()[1]
        recorder.kill_before(nth)
        lines, complaint = player.communicate("go on\n", timeout=COMMAND_TIMEOUT_S)
    # It may also come after the last step, with the close of what is still open.
    survived = recorder.kill_before(0)
    assert survived <= (player.returncode == 0), complaint
    assert site.daemon is not None
    if not survived:
        assert site.daemon.wait(COMMAND_TIMEOUT_S) == -signal.SIGKILL, complaint
        site.kill()
    return len([line for line in lines.splitlines(keepends=True) if line.endswith("\n")]), survived
