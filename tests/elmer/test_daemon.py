"""Daemons as a person has them: started by `elmer mount`, in the background, and ended."""

import contextlib
import json
import mmap
import os
import pstats
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from elmer.ask import ask
from elmer.directory import StoreDirectory, find_holder
from elmer.exits import ExitStatus
from elmer.mounts import all_mounts, unmount
from elmer.ticket import decode, encode
from elmer.volume import found
from tests.system.sites import check_store, join_store
from tests.system.waiting import until

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parents[2]
COMMAND_TIMEOUT_S = 100


def elmer(*arguments: object, status: int = 0, **options) -> str:
    """Run a command and return what it printed: on standard error where it was to fail."""
    words = [sys.executable, "-m", "elmer", *map(str, arguments)]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )
    assert done.returncode == status, (arguments, done)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr if status else done.stdout


class Site:
    def __init__(self, directory: Path, name: str) -> None:
        self.store = directory / f"store-{name}"
        self.path = directory / name
        self.path.mkdir()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def pid(self) -> int:
        return self.status()["daemon"]["pid"]

    def mount(self, *options: str) -> str:
        return elmer("mount", self.store, self.path, *options)

    def status(self) -> dict:
        return ask(StoreDirectory(self.store), "status")

    def is_mounted(self) -> bool:
        return any(mount.mountpoint == self.path for mount in all_mounts())

    def wait_ended(self) -> None:
        until(lambda: find_holder(StoreDirectory(self.store)) is None, "the daemon has ended")

    def log(self) -> str:
        return (self.store / "elmer.log").read_text()

    def end(self) -> None:
        holder = find_holder(StoreDirectory(self.store))
        if holder is not None and holder.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGKILL)
            self.wait_ended()
        while self.is_mounted():
            unmount(self.path, lazily=True)


@pytest.fixture
def sites(scratch: Path) -> Iterator[list[Site]]:
    """Two sites, the first with a store.  At the end no store is damaged, and no log has a traceback."""
    both = [Site(scratch, "a"), Site(scratch, "b")]
    try:
        found(StoreDirectory(both[0].store), "a")
        yield both
        for site in both:
            if site.is_mounted():
                elmer("umount", site.path)
    finally:
        for site in both:
            site.end()
    for site in both:
        if site.store.exists():
            check_store(site.store)
            assert not (site.store / "elmer.log").exists() or "Traceback" not in site.log()


@pytest.fixture
def site(sites: list[Site]) -> Site:
    return sites[0]


def join(first: Site, second: Site) -> None:
    ticket = ask(StoreDirectory(first.store), "invite", {"url": None})["ticket"]
    join_store(second.store, "b", ticket)


def test_a_mount_answers_when_the_command_returns_and_keeps_what_was_written(site):
    said = site.mount()
    assert re.search(rf"{site.store} is mounted on {site.path}, and listens on 127.0.0.1:\d+", said)
    (site / "f").write_bytes(b"content")
    assert elmer("umount", site.path) == f"{site.path} is unmounted\n"
    assert not site.is_mounted()
    assert find_holder(StoreDirectory(site.store)) is None
    assert not (site.store / "control.sock").exists()
    site.mount()
    assert (site / "f").read_bytes() == b"content"


def test_a_mount_has_the_options_that_it_is_given(site):
    refused = elmer("mount", site.store, site.path, "-o", "nosuid,allow_root", status=ExitStatus.USAGE)
    assert "'allow_root' is none of dev, nodev, suid, nosuid, exec, noexec, rw, ro, relatime" in refused
    assert not site.is_mounted()
    site.mount("-o", "nosuid,nodev")
    assert options_of(site) >= {"nosuid", "nodev"}
    (site / "id").write_bytes(Path("/usr/bin/id").read_bytes())
    (site / "id").chmod(0o4755)
    who = subprocess.run([site / "id", "-u"], user=65_534, capture_output=True, text=True, check=True)
    assert who.stdout == "65534\n"
    elmer("umount", site.path)
    site.mount("-o", "noexec")
    assert options_of(site) & {"nosuid", "nodev", "noexec"} == {"noexec"}


@pytest.mark.parametrize(
    ("given", "mounted"),
    [
        (["-o", "ro,rw"], {"rw", "nosuid"}),
        (["-o", "nosuid,rw", "-o", "ro"], {"ro", "nosuid"}),
        (["-o", "ro", "-o", "suid,nosuid"], {"ro", "nosuid"}),
    ],
)
def test_of_two_options_that_contradict_each_other_the_last_one_counts(site, given, mounted):
    site.mount("-o", "nosuid", *given)
    assert options_of(site) & {"ro", "rw", "nosuid", "suid"} == mounted


def test_reading_a_mount_with_noatime_moves_no_access_time(site):
    past_ns = 1_000_000_000 * 10**9
    for options in ("relatime", "noatime"):
        site.mount("-o", options)
        path = site / options
        path.write_bytes(b"content")
        os.utime(path, ns=(past_ns, past_ns))
        assert path.read_bytes() == b"content"
        assert (path.stat().st_atime_ns == past_ns) == (options == "noatime")
        elmer("umount", site.path)


def test_a_read_only_mount_shows_what_comes_and_takes_nothing(site):
    site.mount()
    (site / "f").write_bytes(b"content")
    elmer("umount", site.path)
    site.mount("-o", "ro")
    assert (site / "f").read_bytes() == b"content"
    for act in ((site / "f").unlink, (site / "d").mkdir, lambda: (site / "f").write_bytes(b"")):
        with pytest.raises(OSError, match="Read-only file system"):
            act()


def options_of(site: Site) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    (line,) = [line.split() for line in lines if line.split()[4] == str(site.path)]
    return set(line[5].split(","))


def test_the_daemon_is_free_of_who_started_it(site):
    site.mount()
    process = Path(f"/proc/{site.pid}")
    assert os.readlink(process / "cwd") == "/"
    assert os.getsid(site.pid) != os.getsid(0)
    assert {os.readlink(process / "fd" / str(number)) for number in (0, 1)} == {"/dev/null"}
    assert os.readlink(process / "fd" / "2") == str(site.store / "elmer.log")


def test_all_commands_take_a_path_inside_the_mount(site):
    site.mount()
    (site / "d").mkdir()
    digest = elmer("digest", site.store)
    assert elmer("digest", site / "d") == elmer("digest", ".", cwd=site / "d") == digest
    assert json.loads(elmer("status", site / "d", "--json"))["store"] == str(site.store)
    assert json.loads(elmer("sync", site / "d", "--json")) == {"equal": True, "peers": 0, "reason": ""}
    assert elmer("conflicts", site / "no-such-name") == "no conflicts\n"


def test_a_store_is_mounted_once(sites):
    first, second = sites
    first.mount()
    pattern = rf"{first.store} is in use by `elmer mount` at {first.path}, process {first.pid}"
    assert re.search(pattern, elmer("mount", first.store, second.path, status=4))
    assert re.search(pattern, elmer("serve", first.store, status=4))
    assert re.search(pattern, elmer("fsck", first.store, status=4))
    assert not second.is_mounted()


def test_a_mount_point_is_used_once(sites):
    first, second = sites
    first.mount()
    elmer("init", second.store, "--name", "b")
    said = elmer("mount", second.store, first.path, status=2)
    assert f"{first.path} is where {first.store} is mounted" in said
    elmer("umount", first.path)
    (first / "f").touch()
    assert f"{first.path} is not empty" in elmer("mount", second.store, first.path, status=2)
    (first / "f").unlink()


def test_a_store_and_its_mount_point_are_kept_apart(site):
    inside = site.store / "inside"
    inside.mkdir()
    assert f"{inside} is inside the store" in elmer("mount", site.store, inside, status=2)
    inside.rmdir()
    assert "has the store inside" in elmer("mount", site.store, site.store.parent, status=2)
    assert not site.is_mounted()


PLAIN_USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def test_a_plain_user_mounts_where_the_device_lets_him_and_hears_why_where_not(scratch):
    """The device is one of this test's own, in a mount namespace."""
    home = scratch / "home"
    home.mkdir()
    shutil.chown(home, 65534, 65534)
    command = [sys.executable, "-P", "-m", "elmer"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home)}
    tried = subprocess.run(
        [*PLAIN_USER, *command, "--version"], env=environment, capture_output=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"a plain user may not use this interpreter or source tree: {tried.stderr!r}")
    script = f"""
        set -e
        mount -t tmpfs none {scratch}/dev
        mknod {scratch}/dev/fuse c 10 229
        mount --bind {scratch}/dev/fuse /dev/fuse
        cd {home}
        as_user() {{ {shlex.join([*PLAIN_USER, *command])} "$@"; }}
        {shlex.join(PLAIN_USER)} mkdir m
        as_user init s --name a
        chmod 600 /dev/fuse; as_user mount s m || echo status $?
        chmod 666 /dev/fuse; as_user mount s m
        {shlex.join(PLAIN_USER)} sh -c 'echo content > m/f; cat m/f'
        as_user umount m
        as_user mount s {scratch}/dev || echo status $?
        chmod 700 {home}; chown root {home}/s; chmod 700 {home}/s; as_user mount s m || echo status $?
    """
    (scratch / "dev").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
        env=environment,
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    out = done.stdout.splitlines()
    assert [line for line in out if line.startswith(("status", "content"))] == [
        "status 5",
        "content",
        "status 2",
        "status 4",
    ]
    assert f"{home / 'm'} is unmounted" in out
    errors = done.stderr.splitlines()
    assert errors[0] == (
        "elmer: /dev/fuse may not be opened by this user: do it as root, or allow it (chmod 666)"
    )
    assert re.fullmatch(rf"elmer: {scratch}/dev .*", errors[1])
    assert "may not be used by this user: do it as its owner, or as root" in errors[2]


def test_umount_names_who_is_in_the_mount_and_ends_nothing(site):
    site.mount()
    with subprocess.Popen(["sleep", "600"], cwd=site.path) as sleeping:
        said = elmer("umount", site.path, status=1)
        assert f"{site.path} is in use by process {sleeping.pid} (sleep: directory {site.path});" in said
        assert f"kill {site.pid}" in said, "how to end it all the same"
        sleeping.kill()
    with (site / "f").open("wb") as file:
        file.write(b"mapped")
        file.flush()
        assert f"process {os.getpid()} (" in (said := elmer("umount", site.path, status=1))
        assert f"file {site / 'f'}" in said
    with (site / "f").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        file.close()
        assert f"mapping {site / 'f'}" in elmer("umount", site.path, status=1)
    (site / "d").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", site / "d"], check=True)
    assert f"what is mounted on {site / 'd'}" in elmer("umount", site.path, status=1)
    subprocess.run(["umount", site / "d"], check=True)
    (site / "f").write_bytes(b"it goes on")
    elmer("umount", site.path)


def test_a_plain_umount_ends_the_daemon_in_order_too(site):
    site.mount()
    (site / "f").write_bytes(b"content")
    subprocess.run(["umount", site.path], check=True)
    site.wait_ended()
    assert "all is on disk" in site.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_daemon_in_order(site, number):
    site.mount()
    (site / "f").write_bytes(b"content")
    os.kill(site.pid, number)
    site.wait_ended()
    assert not site.is_mounted()
    assert "all is on disk" in site.log()
    site.mount()
    assert (site / "f").read_bytes() == b"content"


def test_a_signal_ends_a_mount_that_is_in_use_and_keeps_what_was_written(site):
    site.mount()
    with (site / "f").open("wb", buffering=0) as file:
        file.write(b"not closed yet")
        os.kill(site.pid, signal.SIGTERM)
        site.wait_ended()
        assert not site.is_mounted()
        with pytest.raises(OSError, match="Transport endpoint"):
            file.write(b"x")
        with contextlib.suppress(OSError):
            file.close()
    site.mount()
    assert (site / "f").read_bytes() == b"not closed yet"


def test_many_signals_end_it_once(site):
    site.mount()
    pid = site.pid
    with contextlib.suppress(ProcessLookupError):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 5:
            os.kill(pid, number)
    site.wait_ended()
    assert not site.is_mounted()
    assert "all is on disk" in site.log()


def test_the_mount_of_a_killed_daemon_is_taken_away_by_the_next(site):
    site.mount()
    (site / "f").write_bytes(b"content")
    descriptor = os.open(site / "f", os.O_RDWR)
    os.fsync(descriptor)
    os.kill(site.pid, signal.SIGKILL)
    site.wait_ended()
    with pytest.raises(OSError, match="Transport endpoint"):
        os.statvfs(site.path)
    site.mount()
    assert (site / "f").read_bytes() == b"content"
    with contextlib.suppress(OSError):
        os.close(descriptor)


def test_umount_takes_away_the_mount_of_a_killed_daemon(site):
    site.mount()
    os.kill(site.pid, signal.SIGKILL)
    site.wait_ended()
    assert "had been killed" in elmer("umount", site.path)
    assert not site.is_mounted()
    assert "no daemon is running" in elmer("sync", site.store, status=3)


def test_commands_on_the_mount_of_a_killed_daemon_find_its_store(site):
    site.mount()
    os.kill(site.pid, signal.SIGKILL)
    site.wait_ended()
    assert json.loads(elmer("status", site.path, "--json"))["daemon"] is None
    unmount(site.path, lazily=True)


def test_paths_with_any_character_can_be_mounted(scratch):
    site = Site(scratch, "m\\o, u\nnt é")
    site.path = scratch / "\udcff\\, \n"
    site.path.mkdir()
    elmer("init", site.store, "--name", "a")
    try:
        site.mount()
        (site / "f").write_bytes(b"content")
        assert json.loads(elmer("status", site / "f", "--json"))["store"] == str(site.store)
        elmer("umount", site.path)
    finally:
        site.end()


def test_two_sites_meet_by_a_ticket_and_know_each_other(sites):
    first, second = sites
    first.mount()
    (first / "f").write_bytes(b"content")
    elmer("join", second.store, elmer("invite", first.path).strip(), "--name", "b")
    second.mount()
    assert elmer("sync", second.path) == "the same as 1 peer\n"
    assert (second / "f").read_bytes() == b"content"
    assert elmer("digest", second.path) == elmer("digest", first.path)
    for site, other in ((first, "b"), (second, "a")):
        # An address that a peer gave is listed by itself until it is known who answers there.
        until(lambda: len(site.status()["peers"]) == 1, "one peer is listed")  # noqa: B023
        (peer,) = site.status()["peers"]
        assert (peer["name"], peer["connected"]) == (other, True)
        assert peer["url"], "each can dial the other"
        assert peer["to_receive"]["facts"] == peer["to_send"]["facts"] == 0
        assert other in elmer("peers", "list", site.path)


def test_a_join_is_refused_where_the_name_is_taken(sites):
    first, second = sites
    first.mount()
    ticket = elmer("invite", first.path).strip()
    said = elmer("join", second.store, ticket, "--name", "a", status=3)
    assert "refuses: the name 'a' is taken in this volume" in said
    assert not second.store.exists()


def test_a_join_by_a_ticket_of_another_volume_is_refused(sites):
    first, second = sites
    first.mount()
    ticket = decode(elmer("invite", first.path))
    forged = encode(ticket._replace(secret=b"x" * 32))
    assert "refuses" in elmer("join", second.store, forged, "--name", "b", status=3)
    assert not second.store.exists()


def test_offline_lasts_over_restarts(sites):
    first, second = sites
    first.mount()
    join(first, second)
    second.mount()
    elmer("sync", second.path)
    elmer("offline", second.path)
    elmer("umount", second.path)
    second.mount()
    assert second.status()["offline"]
    assert re.match("not yet: .*offline", elmer_out("sync", second.path, "--timeout", "0", status=1))
    (second / "f").write_bytes(b"content")
    elmer("online", second.path)
    elmer("sync", second.path)
    assert (first / "f").read_bytes() == b"content"


def test_a_peer_is_added_and_removed_by_name_while_the_daemon_runs(sites):
    first, second = sites
    first.mount()
    join(first, second)
    second.mount()
    elmer("sync", second.path)
    url = second.status()["peers"][0]["url"]
    assert "no peer of the name or URL 'c'" in elmer("peers", "remove", second.path, "c", status=2)
    assert elmer("peers", "remove", second.path, "a") == f"{url} is dialed no more\n"
    assert json.loads((second.store / "config.json").read_text())["peers"] == []
    assert elmer("peers", "add", second.path, url) == f"{url} is a peer\n"
    elmer("sync", second.path)
    assert json.loads((second.store / "config.json").read_text())["peers"] == [url]


def test_a_port_is_kept_and_a_taken_one_is_left(sites):
    first, second = sites
    first.mount()
    address = first.status()["daemon"]["listen"]
    elmer("umount", first.path)
    first.mount("--listen", "127.0.0.1:0")
    assert first.status()["daemon"]["listen"] == address
    elmer("init", second.store, "--name", "b")
    said = elmer("mount", second.store, second.path, "--listen", address, status=2)
    assert re.search(rf"cannot listen on {address}: .*in use", said)
    assert not second.is_mounted()
    config = json.loads((second.store / "config.json").read_text())
    (second.store / "config.json").write_text(json.dumps({**config, "listen": address}))
    second.mount()
    assert second.status()["daemon"]["listen"] != address


def test_a_ticket_names_the_url_it_is_told(site):
    site.mount("--listen", "0.0.0.0:0")
    assert "say by --url HOST:PORT" in elmer("invite", site.path, status=2)
    ticket = elmer("invite", site.path, "--url", "files.example.org:7400").strip()
    assert decode(ticket).urls == ("http://files.example.org:7400",)


def test_serve_replicates_without_a_mount_and_ends_by_a_signal(sites):
    first, second = sites
    first.mount()
    (first / "f").write_bytes(b"content")
    join(first, second)
    command = [sys.executable, "-m", "elmer", "serve", str(second.store)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as serving:
        assert serving.stdout.readline().startswith(f"{second.store} is served".encode())
        elmer("sync", second.store)
        assert elmer("digest", second.store) == elmer("digest", first.store)
        assert "is not mounted" in elmer("umount", second.store, status=2)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(COMMAND_TIMEOUT_S) == 0
        assert b"Traceback" not in serving.stderr.read()
    assert elmer("digest", second.store) == elmer("digest", first.store)


def test_the_log_has_no_secret(sites):
    first, second = sites
    first.mount("--log-level", "debug")
    ticket = elmer("invite", first.path).strip()
    join(first, second)
    second.mount("--log-level", "debug")
    elmer("sync", second.path)
    keys = decode(ticket)
    for site in (first, second):
        log = (site.store / "elmer.log").read_bytes()
        assert log
        for key in (ticket.encode(), keys.secret, keys.digest_key):
            assert key not in log
            assert key.hex().encode() not in log
            assert repr(key)[2:-1].encode() not in log


def test_a_profile_is_written_where_it_is_asked_for(site, scratch):
    profile = scratch / "profile"
    elmer_with = {**os.environ, "PYTHONPATH": str(ROOT), "ELMER_PROFILE": str(profile)}
    subprocess.run(
        [sys.executable, "-m", "elmer", "mount", str(site.store), str(site.path)],
        env=elmer_with,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (site / "f").write_bytes(b"content")
    elmer("umount", site.path)
    names = {name for _, _, name in pstats.Stats(str(profile)).stats}
    assert {"create", "write", "flush", "release"} <= names


def elmer_out(*arguments: object, status: int) -> str:
    """Run a command that says on standard output that it is not so."""
    done = subprocess.run(
        [sys.executable, "-m", "elmer", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == status, done
    return done.stdout


def test_a_replica_that_came_back_from_an_old_copy_writes_and_tells_nothing_more(sites, scratch):
    first, second = sites
    first.mount()
    join(first, second)
    second.mount()
    elmer("sync", second.path)
    elmer("umount", first.path)
    shutil.copytree(first.store, scratch / "copy")
    first.mount()
    (first / "f").write_bytes(b"the others have seen this")
    elmer("sync", first.path)
    elmer("umount", first.path)
    shutil.rmtree(first.store)
    (scratch / "copy").rename(first.store)

    first.mount()
    until(lambda: first.status()["must_rejoin"], "the others have told it")
    assert first.status()["offline"]
    with pytest.raises(OSError, match="Read-only file system"):
        (first / "g").write_bytes(b"a number would be used twice")
    assert os.listdir(first.path) == []
    assert "join" in elmer("online", first.path, status=4)
    elmer("umount", first.path)
    first.mount()
    assert first.status()["must_rejoin"]
    with pytest.raises(OSError, match="Read-only file system"):
        (first / "g").mkdir()
    assert (second / "f").read_bytes() == b"the others have seen this"


def test_what_is_dirty_in_a_mapping_never_mixes_with_what_is_merged(sites):
    """llfuse-facts 1, dirty pages: a notification has them written in whole, old bytes included."""
    first, second = sites
    first.mount()
    old, merged = b"o" * 20_000, b"m" * 20_000
    (first / "f").write_bytes(old)
    join(first, second)
    second.mount()
    elmer("sync", second.path)
    with (second / "f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[5_000:5_003] = b"new"
        (first / "f").write_bytes(merged)
        elmer("sync", second.path)
        mapped = bytes(mapping)
    elmer("sync", second.path)
    written = old[:5_000] + b"new" + old[5_003:]
    assert mapped in (written, merged)
    shown = {path.read_bytes() for path in second.path.iterdir()}
    assert shown == {written, merged}
    assert elmer("digest", first.path) == elmer("digest", second.path)
