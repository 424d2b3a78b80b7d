"""The benchmarks run, say what failed, and leave nothing behind.  No figure is asserted on."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hotspots import sample_table
from benchmarks.loads import LOADS, Content
from benchmarks.proxy import CountingProxy
from benchmarks.report import number, percentile
from benchmarks.scratch import BenchmarkError, scratch, wait_until
from benchmarks.systems import Floor

REPOSITORY = Path(__file__).resolve().parent.parent
DEADLINE_S = 90.0

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root: it makes bind mounts")

# An elmer whose replicas are one directory: enough for the benchmarks to be run through.
ONE_DIRECTORY = f"""#!{sys.executable}
import json, os, subprocess, sys

match sys.argv[1:]:
    case ["init", store, "--name", _]:
        os.makedirs(store + "/content")
    case ["join", store, ticket, "--name", _, *_]:
        os.makedirs(store)
        os.symlink(ticket, store + "/content")
    case ["mount", store, mountpoint, *_]:
        content = os.path.realpath(store + "/content")
        subprocess.run(["mount", "--bind", content, mountpoint], check=True)
    case ["umount", mountpoint]:
        subprocess.run(["umount", mountpoint], check=True)
    case ["invite", mountpoint, "--json"]:
        print(json.dumps({{"ticket": mountpoint}}))
    case ["sync", *_]:
        pass
    case _:
        sys.exit(2)
"""


def mounts() -> str:
    """All mounts as the kernel lists them, those of other tests too, whose names may be any bytes."""
    return Path("/proc/self/mountinfo").read_text(errors="surrogateescape")


@pytest.fixture
def place(tmp_path):
    """A directory in which a benchmark must leave nothing: no file, no mount, no process."""
    directory = tmp_path / "a place"  # the space is for the parsing of mountinfo
    directory.mkdir()
    yield directory
    assert os.listdir(directory) == []
    assert str(directory).replace(" ", r"\040") not in mounts()
    assert processes_with(str(directory)) == []


def processes_with(path):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if path.encode() in Path("/proc", entry, "cmdline").read_bytes():
                found.append(entry)
    return found


def module(name, *arguments):
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


def run(name, *arguments):
    return subprocess.run(
        module(name, *arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def tiny_mount(place, *arguments):
    return run("mount", "--quick", "--files", 20, "--mib", 1, "--dir", place, *arguments)


@pytest.fixture
def one_directory(tmp_path):
    program = tmp_path / "one-directory"
    program.write_text(ONE_DIRECTORY)
    program.chmod(0o755)
    return program


@pytest.mark.mount
@needs_fuse
@pytest.mark.parametrize(("placement", "wanted"), [("free", list(LOADS)), ("one core", ["create", "fsync"])])
def test_loads_are_measured_on_the_floor_and_on_a_plain_directory(place, placement, wanted):
    may_drop = os.access("/proc/sys/vm/drop_caches", os.W_OK)
    loads = [name for name in wanted if may_drop or not LOADS[name].drop]
    done = tiny_mount(
        place,
        *("--systems", "plain,floor", "--loads", ",".join(loads)),
        *("--placements", placement, "--json"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    found = {(one["placement"], one["load"], one["system"]) for one in results}
    assert found == {(placement, load, name) for load in loads for name in ("plain", "floor")}
    for one in results:
        assert one["errors"] == []
        assert one["median"] > 0
        assert (one["daemon_us_per_operation"] is None) == (one["system"] == "plain")


@pytest.mark.mount
@needs_fuse
def test_a_system_that_does_not_start_is_reported_and_the_others_are_measured(place):
    done = tiny_mount(place, "--elmer", "/bin/false", "--loads", "create", "--placements", "free")
    assert done.returncode == 1
    assert "FAILED elmer, free, create: does not start" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("| create"))
    plain, floor, elmer = (cell.strip() for cell in row.split("|")[3:6])
    assert elmer == "FAILED"
    assert float(plain.replace(",", "")) > 0
    assert float(floor.replace(",", "")) > 0


@pytest.mark.parametrize("name", ["read-warm", "stat-warm", "stat-cold"])
def test_a_load_fails_where_it_finds_other_than_was_written(tmp_path, name):
    """Fast and wrong is no figure."""
    directory = tmp_path / "load"
    scale = '{"files": 3, "mib": 1, "passes": 1}'

    def phase(which):
        return run("loads", which, name, directory, scale)

    assert phase("prepare").returncode == 0
    assert phase("measure").returncode == 0
    for file in directory.iterdir():
        content = file.read_bytes()
        file.write_bytes(bytes(len(content)) if name == "read-warm" else content[:-1])
    assert "ValueError" in phase("measure").stderr
    assert phase("measure").returncode == 1


@pytest.mark.mount
@needs_fuse
@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing_behind(place, signal_number, status):
    command = module("mount", "--systems", "floor", "--loads", "create", "--dir", place)
    # Where pytest runs in the background it ignores Ctrl-C, and so would its children.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [*command, "--files", "10", "--rounds", "1000000"],  # it would run for days
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, ours)
    escaped = str(place).replace(" ", r"\040")
    assert wait_until(lambda: escaped in mounts(), DEADLINE_S), "the floor was never mounted"
    child.send_signal(signal_number)
    assert child.wait(DEADLINE_S) == status


@needs_root
def test_replication_is_measured_from_end_to_end(place, one_directory):
    done = run(
        "replication",
        *("--singles", 3, "--files", 5, "--mib", 1, "--quick", "--json"),
        *("--elmer", one_directory, "--dir", place),
    )
    said = json.loads(done.stdout)
    assert len(said["figures"]) == 14
    # Nothing of it passed the proxies, and that must not be reported as "no bytes".
    (problem,) = said["problems"]
    assert problem.startswith("FAILED bytes on the wire: 5 files of random bytes")
    assert done.returncode == 1


def test_merges_of_moves_and_unions_are_measured(place):
    done = run("merge", "--quick", "--only", "moves,union", "--json", "--dir", place)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == []
    assert len(said["figures"]) == 16
    assert all(figure["median"] > 0 for figure in said["figures"])


@pytest.mark.mount
@needs_fuse
def test_merges_of_files_are_measured_from_end_to_end(place):
    done = run("merge", "--quick", "--only", "files", "--files", 20, "--json", "--dir", place)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == []
    figures = {figure["what"]: figure["median"] for figure in said["figures"]}
    assert len(figures) == 16
    assert figures["rename of a directory with 20 files: facts"] == 1


@pytest.mark.mount
@needs_fuse
def test_starts_are_measured_after_an_end_in_order_and_after_a_kill(place):
    done = run("start", "--quick", "--json", "--dir", place)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == []
    assert len(said["figures"]) == 5
    assert all(figure["median"] > 0 for figure in said["figures"])


@pytest.mark.mount
@needs_fuse
def test_hotspots_show_the_requests_of_a_load(place):
    done = run("hotspots", "--system", "floor", "--load", "create-write", "--files", 20, "--dir", place)
    assert done.returncode == 0, done.stderr
    calls = {
        line.split("|")[1].split()[-1]: line.split("|")[2].strip()
        for line in done.stdout.splitlines()
        if "floor.py" in line and line.count("|") == 5
    }
    assert calls["create"] == "20"
    assert calls["write"] == "20"


def test_samples_are_counted_for_the_innermost_function_and_all_above_it():
    stacks = "main (a.py:1);write (a.py:9) 3\nmain (a.py:1) 1\nmain (a.py:1);main (a.py:1) 1"
    rows = sample_table(stacks, operations=10, top=9).splitlines()[2:]
    own = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:6]] for row in rows}
    # 500 samples a second: one is 2,000 us, shared out over 10 operations.
    assert own["write (a.py:9)"] == ["60.0", "600", "60.0", "600"]
    assert own["main (a.py:1)"] == ["40.0", "400", "100", "1,000"]


@pytest.fixture
def floor(place):
    with scratch(str(place)) as started:
        system = Floor(started, started.path, workers=4)
        system.start()
        yield system.path
        system.stop()


@pytest.mark.mount
@needs_fuse
def test_the_floor_does_what_a_directory_does(floor, tmp_path):
    beside = tmp_path / "beside"
    beside.mkdir()
    assert list(story(floor)) == list(story(beside))


def story(root):
    """Results and errnos of a little of everything, in order."""

    def attempt(call, *arguments):
        try:
            return call(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno]

    content = bytes(Content().part(0, 300_000))
    (root / "d").mkdir()
    yield attempt(os.mkdir, root / "d")
    (root / "d" / "f").write_bytes(content)
    yield (root / "d" / "f").read_bytes() == content
    with open(root / "d" / "f", "r+b") as file:
        file.seek(1000)
        file.write(b"changed")
        file.seek(400_000)
        file.write(b"beyond the end")
        file.truncate(400_010)
    yield (root / "d" / "f").read_bytes()
    os.truncate(root / "d" / "f", 1003)
    os.truncate(root / "d" / "f", 1010)
    yield (root / "d" / "f").read_bytes()
    os.chmod(root / "d" / "f", 0o640)
    os.utime(root / "d" / "f", ns=(5, 7))
    found = os.stat(root / "d" / "f")
    yield oct(found.st_mode), found.st_size, found.st_mtime_ns, found.st_nlink, found.st_uid
    yield attempt(os.rmdir, root / "d")
    yield attempt(os.unlink, root / "absent")
    yield attempt(os.rename, root / "absent", root / "x")
    (root / "d" / "sub").mkdir()
    (root / "e").mkdir()
    yield os.stat(root).st_nlink, os.stat(root / "d").st_nlink
    yield attempt(os.rename, root / "d" / "f", root / "e")
    yield attempt(os.rename, root / "e", root / "d" / "f")
    yield attempt(os.rename, root / "e", root / "d")
    os.rename(root / "d" / "sub", root / "e" / "moved")
    os.rename(root / "d" / "f", root / "e" / "f")
    yield os.stat(root / "e").st_nlink, os.stat(root / "d").st_nlink
    yield sorted(os.listdir(root)), sorted(os.listdir(root / "e")), os.listdir(root / "d")
    with open(root / "e" / "f", "rb") as file:
        os.unlink(root / "e" / "f")
        yield file.read(), os.fstat(file.fileno()).st_nlink
    (root / "d" / "new").write_bytes(b"new")
    (root / "d" / "old").write_bytes(b"old")
    with open(root / "d" / "old", "rb") as replaced:
        os.rename(root / "d" / "new", root / "d" / "old")
        yield replaced.read(), os.fstat(replaced.fileno()).st_nlink
    yield (root / "d" / "old").read_bytes(), os.listdir(root / "d")
    yield attempt(os.open, root / "d" / "old", os.O_CREAT | os.O_EXCL)
    (root / "d" / "old").write_bytes(b"")
    yield os.stat(root / "d" / "old").st_size
    for index in range(1000):
        (root / "e" / f"{index}").touch()
    with os.scandir(root / "e") as entries:
        yield sorted((entry.name, entry.is_dir()) for entry in entries)
    yield stat.S_ISDIR(os.stat(root / "e" / "moved").st_mode)


def test_what_ignores_sigterm_is_ended_too(place):
    ignoring = "import signal; signal.signal(15, signal.SIG_IGN); print('on', flush=True)"
    with scratch(str(place)) as started:
        started.stop_timeout_s = 0.5
        command = [sys.executable, "-c", f"{ignoring}; signal.pause(); signal.pause()"]
        child, output = started.start(command)
        assert wait_until(lambda: output.read_text() == "on\n", DEADLINE_S)
    assert child.returncode == -signal.SIGKILL


def test_a_daemon_that_left_its_parent_is_found_and_ended(place):
    """As `elmer mount` leaves one: in a session of its own, the starter gone."""
    daemon = (
        "import os, signal, sys\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "signal.pause()\n"
    )
    with scratch(str(place)) as started:
        pid_file = started.path / "pid"
        started.run([sys.executable, "-c", daemon, str(pid_file)], DEADLINE_S, owner="elmer")
        assert wait_until(lambda: pid_file.exists() and pid_file.read_text(), DEADLINE_S)
        pid = int(pid_file.read_text())
        assert started.processes("elmer") == [pid]
        assert started.processes("floor") == []
        assert started.cpu_s("elmer") > 0
    assert started.processes() == []


def test_a_command_that_fails_or_does_not_end_says_so(place):
    with scratch(str(place)) as started:
        with pytest.raises(BenchmarkError, match="exit status 3: it is broken"):
            started.run([sys.executable, "-c", "import sys; print('it is broken'); sys.exit(3)"], 60)
        with pytest.raises(BenchmarkError, match=r"no end after 0\.1 s"):
            started.run([sys.executable, "-c", "import signal; signal.pause()"], 0.1)
        with pytest.raises(BenchmarkError, match="No such file"):
            started.run(["/nowhere/elmer"], 60)


def test_the_proxy_counts_every_byte_of_both_directions():
    async def talk():
        answers = []
        ended = asyncio.Semaphore(0)

        async def answer(reader, writer):
            """Twice what was said, at its end."""
            said = await reader.read(-1)
            writer.write(said + said)
            await writer.drain()
            await closed(writer)
            ended.release()

        async def closed(writer):
            writer.close()
            await writer.wait_closed()

        async def say(port, size, look=lambda: None):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes(size))
            await writer.drain()
            look()
            writer.write_eof()
            answers.append(len(await reader.read(-1)))
            await closed(writer)
            await ended.acquire()

        def look():
            round_it.append(proxy.connections_round_it())

        round_it = []
        target = await asyncio.start_server(answer, "127.0.0.1", 0)
        target_port = target.sockets[0].getsockname()[1]
        proxy = CountingProxy(0, target_port)
        proxy.start()
        try:
            await say(proxy.port, 1)
            await say(proxy.port, 3_000_000, look)
            await say(target_port, 10, look)
        finally:
            proxy.stop()
            target.close()
        assert answers == [2, 6_000_000, 20]
        assert round_it == [0, 1]
        return proxy.bytes_to_target, proxy.bytes_from_target

    assert asyncio.run(talk()) == (3_000_001, 6_000_002)


def test_figures_are_shown_with_three_digits():
    values = [84_612, 999.6, 123.4, 14.44, 1.234, 0.0503, 0]
    shown = ["84,600", "1000", "123", "14.4", "1.23", "0.050", "0.000"]
    assert [number(value) for value in values] == shown


def test_a_percentile_is_the_value_that_many_do_not_exceed():
    values = list(range(100, 0, -1))
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.5) == 7.0
