"""Whatever programs do at one site has the results, the errors and the effects that it has on the host's own
file system: system calls of several users, made in a mount and on a tmpfs side by side (tests/system/host).

`scripts/differential` does the same for long, at random.
"""

from pathlib import Path

import pytest

from tests.shortening import shortest
from tests.system.host.machine import search
from tests.system.host.pair import failure_of, play
from tests.system.host.place import beside, mounted_tmpfs, paired
from tests.system.sites import Site
from tests.system.trees import assert_equal, look

HISTORIES, STEPS = 40, 50


def test_random_calls_have_the_results_and_effects_that_they_have_on_the_host(shared_site: Site):
    """And after a restart everything is as it was."""
    with beside(shared_site, "random") as pair:
        search(pair, HISTORIES, STEPS, keep=True)
    before = look(shared_site.mountpoint)
    shared_site.stop()
    shared_site.start()
    shared_site.wait_mounted()
    assert_equal(before, look(shared_site.mountpoint))


def test_a_difference_is_told_by_the_shortest_history_that_shows_it(tmp_path: Path):
    """The other side is no mount here, and keeps set-user-id where root writes, as a mount does not."""
    lines = """
        begin(0o1777)
        ann.mkdir('d', 0o755)
        ann.open('d/f', O_RDWR | O_CREAT, 0o4755, 1)  # 'file'
        bob.chmod('d', 0o777)  # EPERM
        ann.rename('d/f', 'd/g')
        look()
        root.write(1, b'text')  # 4
        bob.stat('d/g')
    """.strip().splitlines()
    with (
        mounted_tmpfs(tmp_path / "a") as a,
        mounted_tmpfs(tmp_path / "b") as b,
        paired(a, b, "history") as pair,
    ):
        found = shortest(lines, lambda part: failure_of(pair, part))
        play(pair, [line for line in lines if "root" not in line])  # that is the same
    assert found is not None
    assert [line.split("  #")[0] for line in found.lines] == [
        "begin(0o777)",
        "ann.mkdir('d', 0o755)",
        "ann.open('d/f', O_RDWR | O_CREAT, 0o4755, 1)",
        "root.write(1, b'text')",
        "look(contents=True)",
    ]
    assert "d/f: mode: 0o100755 on the host, 0o104755 on the mount" in str(found)


@pytest.mark.parametrize("other", ["d", "e"])
def test_what_changes_when_in_a_directory_is_as_on_the_host(shared_site: Site, other: str):
    """Of a rename, a link and a removal: who loses a name, who gets one, and what is named."""
    with beside(shared_site, f"story-{other}") as pair:
        play(
            pair,
            f"""
                ann.mkdir('d', 0o755)
                ann.mkdir('e', 0o3777)
                ann.mknod('d/f', 0o100644)
                look()
                ann.link('d/f', '{other}/g')
                look()
                bob.rename('{other}/g', 'd/h')
                look()
                ann.rename('{other}/g', 'd/h')
                look()
                ann.rename('d/h', 'd/f')
                look()
                ann.unlink('d/f')
                look()
            """.strip().splitlines(),
        )
