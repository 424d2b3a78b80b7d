"""SQLite, RocksDB, LMDB, dbm, Redis, PostgreSQL, each checked by its own means."""

from __future__ import annotations

import os
import pwd
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from rocksdict import Options, Rdict, ReadOptions

from tests.programs.case import Case, Place, run, started

# Adds rows, each in a transaction of its own, and says which are committed.
SQLITE_WRITER = """
import itertools, sqlite3, sys
path, journal, first, count = sys.argv[1:]
database = sqlite3.connect(path, timeout=60, isolation_level=None)
assert database.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
database.execute("pragma synchronous=full")
database.execute("create table if not exists t (id integer primary key, text text)")
for number in range(int(first), int(first) + int(count)):
    database.execute("insert into t values (?, ?)", (number, f"{number} " * 200))
    print(number, flush=True)
"""
JOURNALS = ("delete", "truncate", "persist", "wal")


def sqlite_command(path: Path, journal: str, first: int, count: int) -> list[str]:
    return [sys.executable, "-c", SQLITE_WRITER, os.fspath(path), journal, str(first), str(count)]


def sqlite_numbers(path: Path) -> list[int]:
    """Return the numbers of the rows, after the database's own check."""
    with closing(sqlite3.connect(path, timeout=60)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        rows = database.execute("select id, text from t order by id").fetchall()
    assert all(text == f"{number} " * 200 for number, text in rows)
    return [number for number, _ in rows]


def sqlite_transactions(place: Place) -> None:
    """Two programs write to one database at once, in each kind of journal; a third reads."""
    each = place.size(20, 300)
    for journal in JOURNALS:
        path = place.root / f"{journal}.db"
        run(*sqlite_command(path, journal, 0, 1))
        commands = [sqlite_command(path, journal, 1 + number * each, each) for number in range(2)]
        with started(*commands) as writers:
            seen = 0
            while any(writer.poll() is None for writer in writers):
                with closing(sqlite3.connect(path, timeout=60)) as database:
                    (count,) = database.execute("select count(*) from t").fetchone()
                assert count >= seen
                seen = count
            assert [writer.wait() for writer in writers] == [0, 0]
    assert_sqlite(place, expected=1 + 2 * each)


def sqlite_at_large(place: Place) -> None:
    """One large transaction that spills, an index, a roll-back, VACUUM, the command's dump, a backup."""
    rows = place.size(600, 8_000)
    path = place.root / "large.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma cache_size=20")
        database.execute("pragma mmap_size=268435456")
        database.execute("create table t (id integer primary key, text text)")
        with database:
            database.executemany("insert into t values (?, ?)", ((n, f"{n} " * 200) for n in range(rows)))
        with database:
            database.execute("create index by_text on t (text)")
        database.execute("delete from t where id % 3")
        database.rollback()
        with database:
            database.execute("delete from t where id >= ?", (rows // 2,))
        database.execute("vacuum")
        with closing(sqlite3.connect(place.root / "backup.db")) as backup:
            database.backup(backup)
    run("sqlite3", place.root / "restored.db", say=run("sqlite3", path, ".dump"))
    assert_sqlite(place, expected=rows // 2)


def assert_sqlite(place: Place, expected: int | None = None) -> None:
    paths = sorted(place.root.glob("*.db"))
    assert paths
    for path in paths:
        numbers = sqlite_numbers(path)
        assert expected is None or numbers == list(range(expected)), path


# Writes to a database on the mount, with its log synced at each tenth step, and says what is durable.
ROCKSDB_WRITER = """
import random, sys
from rocksdict import Options, Rdict, WriteOptions
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = Options(raw_mode=True)
options.create_if_missing(True)
options.set_write_buffer_size(256 << 10)
options.set_target_file_size_base(256 << 10)
options.set_max_bytes_for_level_base(1 << 20)
database = Rdict(path, options)
synced = WriteOptions()
synced.sync = True
for number in range(first, first + count):
    value = random.Random(number).randbytes(500)
    if number % 10:
        database.put(b"%08d" % number, value)
    else:
        database.put(b"%08d" % number, value, write_opt=synced)
        print(number, flush=True)
database.flush(True)
database.close()
"""


def rocksdb_command(path: Path, first: int, count: int) -> list[str]:
    return [sys.executable, "-c", ROCKSDB_WRITER, os.fspath(path), str(first), str(count)]


def rocksdb_count(path: Path) -> int:
    """Return how many rows there are, after all checksums were verified, and whether they are a prefix."""
    options = Options(raw_mode=True)
    options.set_paranoid_checks(True)
    database = Rdict(os.fspath(path), options)
    try:
        reading = ReadOptions()
        reading.set_verify_checksums(True)
        count = 0
        for key, value in database.items(read_opt=reading):
            assert key == b"%08d" % count, f"{key!r} follows {count - 1}"
            assert value == random.Random(count).randbytes(500)
            count += 1
        return count
    finally:
        database.close()


def rocksdb(place: Place) -> None:
    count = place.size(2_000, 20_000)
    path = place.root / "rocks"
    run(*rocksdb_command(path, 0, count))
    run(*rocksdb_command(path, count, count // 10))
    database = Rdict(os.fspath(path), Options(raw_mode=True))
    database.compact_range(None, None)
    database.close()
    assert_rocksdb(place, count + count // 10)


def assert_rocksdb(place: Place, expected: int | None = None) -> None:
    count = rocksdb_count(place.root / "rocks")
    assert count
    assert expected in (None, count)


def dbm(place: Place) -> None:
    """The databases of Python's library, as far as it has them: of GNU, of NDBM, plain."""
    count = place.size(300, 5_000)
    program = (
        "import dbm, importlib, sys\n"
        "root, count = sys.argv[1], int(sys.argv[2])\n"
        "for name in ('gnu', 'ndbm', 'dumb'):\n"
        "    try:\n"
        "        kind = importlib.import_module('dbm.' + name)\n"
        "    except ImportError:\n"
        "        continue\n"
        "    for flag in ('n', 'w'):\n"
        "        with kind.open(f'{root}/{name}', flag) as database:\n"
        "            for number in range(count):\n"
        "                database[b'%d' % number] = flag.encode() * (1 + number % 700)\n"
        "    with kind.open(f'{root}/{name}', 'r') as database:\n"
        "        assert len(database.keys()) == count\n"
        "        for number in range(count):\n"
        "            assert database[b'%d' % number] == b'w' * (1 + number % 700)\n"
    )
    run("/usr/bin/python3", "-c", program, place.root, str(count))


LMDB = """
import lmdb, sys
root, count = sys.argv[1], int(sys.argv[2])
for writemap in (False, True):
    with lmdb.open(f"{root}/writemap-{writemap}", map_size=256 << 20, writemap=writemap) as database:
        for first in range(0, count, 100):
            with database.begin(write=True) as transaction:
                for number in range(first, first + 100):
                    transaction.put(b"%08d" % number, b"%d" % number * 100)
        reader = database.begin()
        with database.begin(write=True) as transaction:
            for number in range(0, count, 2):
                transaction.delete(b"%08d" % number)
        assert reader.stat()["entries"] == count
        reader.abort()
    with lmdb.open(f"{root}/writemap-{writemap}", map_size=256 << 20, readonly=True) as database:
        with database.begin() as transaction:
            rows = list(transaction.cursor())
    assert rows == [(b"%08d" % n, b"%d" % n * 100) for n in range(1, count, 2)], len(rows)
"""


def prepare_lmdb(place: Place) -> None:
    run(
        sys.executable,
        "-m",
        "pip",
        "-q",
        "--disable-pip-version-check",
        "install",
        "--target",
        place.material,
        "lmdb",
    )


def lmdb(place: Place) -> None:
    """Its pages are read through a mapping and written by pwrite; or, by choice, through the mapping."""
    run(
        sys.executable,
        "-c",
        LMDB,
        place.root,
        str(place.size(500, 20_000)),
        PYTHONPATH=os.fspath(place.material),
    )


@contextmanager
def redis_server(root: Path) -> Iterator[Path]:
    socket = root / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", root]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with (root / "redis.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            while server.poll() is None and "PONG" not in redis(socket, "ping", lenient=True):
                pass
            yield socket
            redis(socket, "shutdown", "save", lenient=True)
            assert server.wait(60) == 0
        finally:
            if server.poll() is None:
                server.kill()


def redis(socket: Path, *words: str, lenient: bool = False) -> str:
    done = subprocess.run(
        ["redis-cli", "-s", socket, *words], capture_output=True, text=True, check=not lenient
    )
    return done.stdout


def redis_append_only(place: Place) -> None:
    count = place.size(200, 5_000)
    with redis_server(place.root) as socket:
        run("redis-cli", "-s", socket, say="".join(f"rpush list {number}\n" for number in range(count)))
        redis(socket, "bgrewriteaof")
        run("redis-benchmark", "-s", socket, "-q", "-n", str(count), "-t", "set,incr,lpush")
    with redis_server(place.root) as socket:
        listed = redis(socket, "lrange", "list", "0", "-1").split()
    assert listed == [str(number) for number in range(count)]


def postgres_program(name: str) -> Path:
    """Return Debian's path of a program of the newest PostgreSQL."""
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))


class Postgres:
    """A server whose files, log and socket are in one directory, run as the user postgres."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        user = pwd.getpwnam("postgres")
        self.user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        directory.mkdir(exist_ok=True)
        os.chown(directory, user.pw_uid, user.pw_gid)

    def run(self, name: str, *arguments: str | os.PathLike, say: str | None = None) -> str:
        home = os.fspath(self.directory)
        return run(
            *self.user,
            postgres_program(name),
            *arguments,
            cwd=self.directory,
            say=say,
            HOME=home,
            PGHOST=home,
        )

    def initdb(self) -> None:
        self.run("initdb", "--pgdata", self.data, "--auth=trust", "--data-checksums", "--no-locale")

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.directory} -c shared_buffers=16MB"
        log = self.directory / "server.log"
        try:
            self.run("pg_ctl", "start", "-w", "-t", "300", "-D", self.data, "-l", log, "-o", options)
        except AssertionError as error:
            said = log.read_text()[-4000:] if log.exists() else ""
            raise AssertionError(f"{error}\n{said}") from error

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.run("pg_ctl", "stop", "-w", "-t", "300", "-m", "fast", "-D", self.data)

    def processes(self) -> list[int]:
        """Return those of the server: they overwrite their environment, but stay in its directory."""
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                if os.readlink(f"/proc/{name}/cwd") == os.fspath(self.data):
                    found.append(int(name))
        return found

    def benchmark(self, log: Path) -> subprocess.Popen[str]:
        """Start transactions without end; each that was committed is a line in a file beside `log`."""
        command = [
            *self.user,
            postgres_program("pgbench"),
            "--no-vacuum",
            "--client=4",
            "--jobs=2",
            "--time=100000",
        ]
        return subprocess.Popen(
            [*command, "--log", f"--log-prefix={log}", f"--host={self.directory}", "postgres"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def query(self, text: str) -> str:
        return self.run("psql", "-X", "-A", "-t", "-c", text, "postgres").strip()

    def check(self) -> None:
        """All heap pages and indexes are in order, and what they say fits together."""
        self.run("pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--no-strict-names")
        for table in ("accounts", "tellers", "branches"):
            short = table[0]
            total = self.query(f"select sum({short}balance) from pgbench_{table}")
            assert total == self.query("select coalesce(sum(delta), 0) from pgbench_history"), table


def postgres(place: Place) -> None:
    server = Postgres(place.root / "pg")
    server.initdb()
    with server.running():
        server.run("pgbench", "--initialize", "--quiet", "--scale", str(place.size(1, 5)), "postgres")
        server.run(
            "pgbench",
            "--no-vacuum",
            "--client=4",
            "--jobs=2",
            f"--transactions={place.size(20, 1_000)}",
            "postgres",
        )
        server.run("vacuumdb", "--full", "--analyze", "--quiet", "postgres")
        server.run(
            "pgbench",
            "--no-vacuum",
            "--client=4",
            "--jobs=2",
            f"--transactions={place.size(20, 300)}",
            "postgres",
        )
        server.check()
        dump = server.run("pg_dump", "--format=custom", "--file", server.directory / "dump", "postgres")
        assert dump == ""
        server.run("createdb", "restored")
        server.run("pg_restore", "--dbname=restored", "--jobs=2", server.directory / "dump")
    server.run("pg_checksums", "--check", "--pgdata", server.data)


CASES = [
    Case("SQLite, one row a transaction", sqlite_transactions, check=assert_sqlite),
    Case("SQLite, large transactions", sqlite_at_large, check=assert_sqlite),
    Case("RocksDB", rocksdb, check=assert_rocksdb),
    Case("dbm", dbm, quick=False),
    Case("LMDB", lmdb, prepare_lmdb, quick=False),
    Case("Redis, append only", redis_append_only, packages=("redis-server",), quick=False),
    Case("PostgreSQL initdb, pgbench, dump", postgres, packages=("postgresql",), quick=False),
]
