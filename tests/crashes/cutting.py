"""The power of a site is cut while it talks to a peer: what left it is still there."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.crashes.recorded import Recorded
from tests.crashes.sequences import look
from tests.system.sites import COMMAND_TIMEOUT_S, Site, assert_same_trees, meet


def cut_beside(
    made: Recorded, peer: Site, nth: int, name: str, contents: Sequence[bytes], scratch: Path
) -> None:
    """Write these contents at the recorded site and at a peer, and cut the power of the first before its nth
    change of the store; start it again, and let both meet."""
    site = made.site
    meet(site, peer)
    made.recorder.kill_before(nth)
    with suppress(OSError):
        for number, content in enumerate(contents):
            (site / f"at-a-{name}-{number}").write_bytes(content)
            (peer / f"at-b-{name}-{number}").write_bytes(content)
    assert site.daemon is not None
    assert site.daemon.wait(COMMAND_TIMEOUT_S) == -signal.SIGKILL
    site.kill()
    made.recorder.kill_before(0)
    before = look(str(peer.mountpoint))
    made.lose_power(scratch)
    site.start()
    site.wait_mounted()
    (site / f"after-{name}").write_bytes(b"after the power cut")
    meet(site, peer)
    assert_same_trees(site, peer)
    assert look(str(peer.mountpoint)).keys() >= before.keys()
    assert (peer / f"after-{name}").read_bytes() == b"after the power cut"
    assert "old copy" not in site.log_text() + peer.log_text()
