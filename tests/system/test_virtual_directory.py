"""The virtual directory `.elmer`, as programs find it through real mounts of two sites."""

import errno
import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.rows.folder import remove, write
from tests.system.sites import Site, cut, heal, meet

NOBODY = 65534


@pytest.fixture
def shared_site(shared_pair: list[Site]) -> Site:
    return shared_pair[0]


def run(*words: str | Path, user: int | None = None) -> str:
    status, said = tried(*words, user=user)
    assert status == 0, said
    return said


def tried(*words: str | Path, user: int | None = None) -> tuple[int, str]:
    """Return the exit status of a program, and what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        user=user,
        group=user,
    )
    return done.returncode, done.stdout


def conflicts_in(site: Site) -> set[str]:
    return set(os.listdir(site / ".elmer/conflicts"))


def orphans_in(site: Site) -> set[str]:
    return set(os.listdir(site / ".elmer/orphans"))


def write_on_both(pair: list[Site], name: str) -> str:
    """Have a file that both wrote, b later; return the name of its conflict entry."""
    a, b = pair
    (a / name).write_bytes(b"old")
    meet(a, b)
    cut(a, b)
    write(a / name, b"from a")
    write(b / name, b"from b")
    heal(a, b)
    (entry,) = (each for each in os.listdir((a / name).parent) if each.startswith(f"{Path(name).name}.conf"))
    return entry


def orphan(pair: list[Site], name: str, content: bytes = b"text", owner: int = 0) -> str:
    """Have a file of which each site removed the name that the other left; return how it is listed."""
    a, b = pair
    (a / name).write_bytes(content)
    os.chown(a / name, owner, owner)
    (a / f"{name}-2").hardlink_to(a / name)
    ino = (a / name).stat().st_ino
    meet(a, b)
    cut(a, b)
    (a / name).unlink()
    (b / f"{name}-2").unlink()
    heal(a, b)
    (found,) = (each for each in orphans_in(a) if each.endswith(f".orphan-{ino}"))
    assert found in orphans_in(b)
    return found


# -- programs do not meet it ---------------------------------------------------------------------------


WALKS: dict[str, Callable[[Path, Path], str]] = {
    "find": lambda root, _: run("find", root),
    "ls": lambda root, _: run("ls", "-lAR", root),
    "du": lambda root, _: run("du", "-a", root),
    "tar": lambda root, _: run("tar", "cvf", "/dev/null", "-C", root, "."),
    "rsync": lambda root, to: run("rsync", "-aXH", f"{root}/", to / "r") + run("find", to / "r"),
    "cp": lambda root, to: run("cp", "-a", root, to / "c") + run("find", to / "c"),
    "git": lambda root, to: run(
        "git", f"--git-dir={to / 'g'}", f"--work-tree={root}", "-c", "init.defaultBranch=m", "init"
    ) + run("git", f"--git-dir={to / 'g'}", f"--work-tree={root}", "status", "--porcelain"),
}  # fmt: skip


@pytest.mark.parametrize("program", WALKS)
def test_who_walks_the_tree_does_not_meet_it(shared_site: Site, tmp_path: Path, program: str):
    (shared_site / "walked-to").write_bytes(b"text")
    said = WALKS[program](shared_site.mountpoint, tmp_path)
    assert "walked-to" in said
    assert ".elmer" not in said
    assert (shared_site / ".elmer").is_dir(), "it is there all the same"


def test_its_name_is_taken_and_nothing_can_be_made_in_it(shared_site: Site):
    elmer = shared_site / ".elmer"
    with pytest.raises(FileExistsError):
        elmer.mkdir()
    refused: list[Callable[[], object]] = [
        lambda: (elmer / "new").write_bytes(b""),
        (elmer / "conflicts/new").mkdir,
        lambda: (elmer / "status.json").write_bytes(b""),
        (elmer / "status.json").unlink,
        (elmer / "conflicts").rmdir,
        lambda: elmer.rename(shared_site / "moved"),
        lambda: elmer.chmod(0o777),
        lambda: os.utime(elmer),
        lambda: os.setxattr(elmer, "user.k", b"v"),
        lambda: (shared_site / "linked").hardlink_to(elmer / "status.json"),
    ]
    for act in refused:
        with pytest.raises(PermissionError) as error:
            act()
        assert error.value.errno == errno.EPERM
    assert sorted(os.listdir(elmer)) == ["conflicts", "orphans", "status.json"]
    assert os.listxattr(elmer) == []


def test_its_numbers_and_links_are_counted_right(shared_site: Site):
    elmer = shared_site / ".elmer"
    assert elmer.stat().st_nlink == 4
    for entry in os.scandir(elmer):
        assert entry.inode() == entry.stat().st_ino
        assert entry.stat().st_ino < 1 << 40, "no replica has made it"
    listed = [entry for entry in os.scandir(shared_site.mountpoint) if entry.is_dir()]
    assert shared_site.mountpoint.stat().st_nlink == 2 + len(listed)
    assert os.statvfs(elmer).f_namemax == 255


# -- status.json ---------------------------------------------------------------------------------------


def status_in(site: Site) -> dict[str, object]:
    return json.loads((site / ".elmer/status.json").read_bytes())


def test_the_status_is_what_the_command_prints(shared_pair: list[Site]):
    a, b = shared_pair
    meet(a, b)
    varies = {"peers", "lag", "disk", "facts", "clock"}
    said, printed = status_in(a), a.report("status")
    assert said.keys() == printed.keys()
    assert {key: said[key] for key in said if key not in varies} == {
        key: printed[key] for key in printed if key not in varies
    }
    assert said["replica"]["name"] == "a"
    assert [peer["name"] for peer in said["peers"]] == ["b"]


def test_the_status_is_of_now_whoever_has_it_open(shared_site: Site):
    path = shared_site / ".elmer/status.json"
    with path.open("rb") as opened:
        for offline in (True, False, True, False):
            shared_site.ask("offline" if offline else "online")
            assert status_in(shared_site)["offline"] is offline
        assert json.loads(opened.read())["offline"] is False, "what was opened before all that"


def test_a_status_is_whole_for_each_of_many_readers(shared_site: Site, tmp_path: Path):
    path = shared_site / ".elmer/status.json"
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            shared_site.ask("offline")
            shared_site.ask("online")

    def read(_: int) -> None:
        said = b""
        with path.open("rb", buffering=0) as file:
            while part := file.read(100):
                said += part
            assert len(said) == os.fstat(file.fileno()).st_size
        json.loads(said)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(read, range(60)))
    finally:
        stop.set()
        changing.join()
    run("cp", "-a", path, tmp_path / "copy")
    assert json.loads((tmp_path / "copy").read_bytes())["replica"]["name"] == "a"


# -- conflicts/ ----------------------------------------------------------------------------------------


def test_each_conflict_entry_has_a_link_until_it_is_settled(shared_pair: list[Site]):
    a, b = shared_pair
    for site in (a, b):
        (site / "100%").mkdir(exist_ok=True)
    entry = write_on_both(shared_pair, "100%/f")
    name = f"100=25%{entry}"
    for site in (a, b):
        link = site / ".elmer/conflicts" / name
        assert name in conflicts_in(site)
        assert os.readlink(link) == f"../../100%/{entry}"
        assert link.read_bytes() == b"from a"
        assert link.stat().st_ino == (site / "100%" / entry).stat().st_ino
    assert len(conflicts_in(a)) == len(a.conflicts())
    (a / "100%" / entry).unlink()
    assert not os.path.lexists(a / ".elmer/conflicts" / name)
    meet(a, b)
    assert not os.path.lexists(b / ".elmer/conflicts" / name)
    assert name not in conflicts_in(a) | conflicts_in(b)


def test_the_names_of_others_files_are_seen_by_the_owner_of_the_volume_only(shared_pair: list[Site]):
    a, _ = shared_pair
    entry = write_on_both(shared_pair, "of-root")
    a.mountpoint.parent.chmod(0o755)
    run("ls", a / ".elmer", user=NOBODY)
    for program, path in (("ls", "conflicts"), ("cat", "status.json")):
        status, said = tried(program, a / ".elmer" / path, user=NOBODY)
        assert status != 0
        assert entry not in said


# -- orphans/, row 19 ----------------------------------------------------------------------------------


def test_row_19_a_file_without_a_name_is_read_on_both_sites(shared_pair: list[Site], tmp_path: Path):
    a, b = shared_pair
    content = os.urandom(100_000)
    name = orphan(shared_pair, "both", content)
    for site in (a, b):
        path = site / ".elmer/orphans" / name
        assert path.read_bytes() == content
        assert (path.stat().st_nlink, stat.S_IMODE(path.stat().st_mode)) == (1, 0o600)
        run("cp", "-a", path, tmp_path / site.name)
        assert (tmp_path / site.name).read_bytes() == content
    assert (a / ".elmer/orphans" / name).stat().st_ino == (b / ".elmer/orphans" / name).stat().st_ino
    count = b.report("status")["orphans"]
    assert 0 < count <= len(orphans_in(b))
    assert f"orphans    {count}" in b.elmer("status").splitlines()


def test_an_orphan_is_read_by_its_owner_and_nobody_else(shared_pair: list[Site]):
    a, _ = shared_pair
    a.mountpoint.parent.chmod(0o755)
    of_root = a / ".elmer/orphans" / orphan(shared_pair, "of-root", b"secret")
    of_nobody = a / ".elmer/orphans" / orphan(shared_pair, "of-nobody", b"his", owner=NOBODY)
    assert run("cat", of_nobody, user=NOBODY) == "his"
    status, said = tried("cat", of_root, user=NOBODY)
    assert status == 1
    assert "Permission denied" in said


def test_row_19_a_file_gets_a_name_again_on_both_sites(shared_pair: list[Site]):
    a, b = shared_pair
    name = orphan(shared_pair, "again")
    ino = (a / ".elmer/orphans" / name).stat().st_ino
    run("mv", a / ".elmer/orphans" / name, a / "found")
    meet(a, b)
    for site in (a, b):
        assert (site / "found").read_bytes() == b"text"
        assert ((site / "found").stat().st_ino, (site / "found").stat().st_nlink) == (ino, 1)
        assert name not in orphans_in(site)
        assert not (site / ".elmer/orphans" / name).exists()
    name = orphan(shared_pair, "linked")
    run("ln", b / ".elmer/orphans" / name, b / "found-by-ln")
    meet(a, b)
    assert (a / "found-by-ln").read_bytes() == b"text"
    assert name not in orphans_in(a) | orphans_in(b)


def test_row_19_a_removed_orphan_is_gone_on_both_sites(shared_pair: list[Site]):
    a, b = shared_pair
    name = orphan(shared_pair, "unwanted")
    (b / ".elmer/orphans" / name).unlink()
    assert name not in orphans_in(b)
    meet(a, b)
    assert name not in orphans_in(a)
    assert not (a / ".elmer/orphans" / name).exists()


def test_an_orphan_is_its_owners_to_take_and_nobody_elses(shared_pair: list[Site]):
    a, _ = shared_pair
    a.mountpoint.parent.chmod(0o755)
    (a / "his").mkdir(exist_ok=True)
    os.chown(a / "his", NOBODY, NOBODY)
    his = a / ".elmer/orphans" / orphan(shared_pair, "his-own", owner=NOBODY)
    other = a / ".elmer/orphans" / orphan(shared_pair, "not-his")
    for words in (("mv", "-f", other, a / "his/taken"), ("rm", "-f", other)):
        status, said = tried(*words, user=NOBODY)
        assert status == 1
        assert "not permitted" in said
    assert other.read_bytes() == b"text"
    run("mv", his, a / "his/mine", user=NOBODY)
    assert (a / "his/mine").read_bytes() == b"text"


def test_all_may_read_an_orphan_that_has_a_name_again_as_they_could_before(shared_pair: list[Site]):
    a, b = shared_pair
    for site in (a, b):
        site.mountpoint.parent.chmod(0o755)
    names = [orphan(shared_pair, each) for each in ("by-mv", "by-ln")]
    for site in (a, b):
        for name in names:
            assert tried("cat", site / ".elmer/orphans" / name, user=NOBODY)[0] == 1  # the kernel knows why
    run("mv", a / ".elmer/orphans" / names[0], a / "read-by-all-1")
    run("ln", a / ".elmer/orphans" / names[1], a / "read-by-all-2")
    meet(a, b)
    for site in (a, b):
        for number in (1, 2):
            assert run("cat", site / f"read-by-all-{number}", user=NOBODY) == "text"


def orphan_with_two_contents(pair: list[Site], name: str) -> dict[str, bytes]:
    a, b = pair
    before = orphans_in(a)
    (a / name).write_bytes(b"old")
    (a / f"{name}-2").hardlink_to(a / name)
    meet(a, b)
    cut(a, b)
    (a / name).write_bytes(b"from a")
    (b / name).write_bytes(b"from b")
    (a / name).unlink()
    (b / f"{name}-2").unlink()
    heal(a, b)
    names = orphans_in(a) - before
    assert names == orphans_in(b) - before
    return {each: (a / ".elmer/orphans" / each).read_bytes() for each in names}


@pytest.mark.parametrize("program", ["mv", "rm", "cp"])
def test_each_content_of_an_orphan_is_moved_removed_and_copied(
    shared_pair: list[Site], tmp_path: Path, program: str
):
    """Law L7: of names that were listed before none is gone when its turn comes."""
    a, b = shared_pair
    contents = orphan_with_two_contents(shared_pair, f"for-{program}")
    assert sorted(contents.values()) == [b"from a", b"from b"]
    # The file itself first, then what would be a conflict entry beside it.
    names = sorted(contents, key=lambda name: int(name.partition("orphan-")[2]))
    paths = [a / ".elmer/orphans" / name for name in names]
    target = a / f"by-{program}"
    target.mkdir()
    words = {"mv": ["mv", *paths, target], "rm": ["rm", "-rf", *paths], "cp": ["cp", "-a", *paths, tmp_path]}
    run(*words[program])
    meet(a, b)
    for site in (a, b):
        moved = {path.name: path.read_bytes() for path in (site / f"by-{program}").iterdir()}
        assert moved == (contents if program == "mv" else {})
        assert (contents.keys() <= orphans_in(site)) == (program == "cp")
    if program == "cp":
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_an_orphan_is_edited_where_it_is(shared_pair: list[Site]):
    a, b = shared_pair
    name = orphan(shared_pair, "edited")
    before = set(os.listdir(a.mountpoint))
    with (a / ".elmer/orphans" / name).open("ab") as file:
        file.write(b", and more")
    run("truncate", "--size=8", b / ".elmer/orphans" / orphan(shared_pair, "cut", b"long text"))
    meet(a, b)
    assert (b / ".elmer/orphans" / name).read_bytes() == b"text, and more"
    assert set(os.listdir(a.mountpoint)) == set(os.listdir(b.mountpoint)) == before


def test_what_a_program_writes_that_opened_it_by_a_name_is_not_lost(shared_pair: list[Site]):
    """Row 28: it shows under the name that was removed last, as an edit beats a removal."""
    a, b = shared_pair
    (a / "open").write_bytes(b"text")
    (a / "open-2").hardlink_to(a / "open")
    meet(a, b)
    cut(a, b)
    with (a / "open").open("r+b") as file:
        remove(a / "open")
        remove(b / "open-2")
        heal(a, b)
        assert not (a / "open-2").exists()
        file.write(b"TEXT")
    meet(a, b)
    assert not (a / "open").exists()
    assert (a / "open-2").read_bytes() == (b / "open-2").read_bytes() == b"TEXT"


# -- hidden attributes -------------------------------------------------------------------------------------


def test_where_a_file_came_from_is_said_and_not_copied(shared_pair: list[Site], tmp_path: Path):
    a, b = shared_pair
    entry = write_on_both(shared_pair, "whence")
    os.setxattr(b / entry, "user.k", b"v")  # it is a file of its own from now on
    beside = write_on_both(shared_pair, "whence-else")
    assert os.getxattr(b / beside, "user.elmer.replica") == b"a"
    assert os.getxattr(b / "whence-else", "user.elmer.writer") == b"b"
    assert os.getxattr(b / "whence-else", "user.elmer.ino") == b"%d" % (a / "whence-else").stat().st_ino
    told = json.loads(os.getxattr(b / beside, "user.elmer.conflict"))
    assert (told["kind"], told["replica"], told["bare"]) == ("content", "a", "whence-else")
    assert [os.getxattr(site.mountpoint, "user.elmer.replica") for site in (a, b)] == [b"a", b"b"]
    with pytest.raises(PermissionError):
        os.setxattr(b / beside, "user.elmer.replica", b"c")
    for program in (["cp", "-a"], ["rsync", "-aX"]):
        copy = tmp_path / program[0]
        run(*program, b / entry, copy)
        assert os.listxattr(copy) == ["user.k"]
