"""Who may import whom, what the core may not touch, and where each library lives.

`elmer -> {translation, replication} -> crdt`. The pure core gets time, randomness and the network
as arguments, so that a whole cluster can be run in one thread from a seed. Tests and benchmarks
are free.
"""

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BELOW = {
    "crdt": set(),
    "translation": {"crdt"},
    "replication": {"crdt"},
    "elmer": {"crdt", "translation", "replication"},
}

PURE = (
    "crdt/*",
    "translation/*",
    "replication/auth.py",
    "replication/backoff.py",
    "replication/message.py",
    "replication/session.py",
)

IMPURE_MODULES = {
    "_thread", "asyncio", "concurrent", "fcntl", "http", "mmap", "multiprocessing", "pathlib",
    "posix", "queue", "random", "sched", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time",
    "urllib", "uuid",
}  # fmt: skip

# Of `datetime` the core needs values, of `os` constants (in upper case) and these.
CLOCKS = ("date.today", "datetime.now", "datetime.utcnow")
PURE_OS = {"fsdecode", "fsencode", "major", "makedev", "minor", "strerror"}
IMPURE_BUILTINS = {"input", "open", "print"}

HOMES = {
    "aiohttp": ("replication/client.py", "replication/server.py", "elmer/control.py"),
    "automerge": ("crdt/text.py",),
    "blake3": ("crdt/blocks.py",),
    "click": ("elmer/cli.py", "elmer/cli_*.py", "elmer/demo*.py"),
    "cryptography": ("replication/auth.py",),
    "llfuse": ("elmer/daemon.py", "elmer/fuse.py", "elmer/invalidate.py"),
    "msgpack": ("crdt/codec.py",),
    "prometheus_client": ("elmer/metrics.py",),
    "rich": ("elmer/cli.py", "elmer/cli_*.py", "elmer/demo*.py"),
    "rocksdict": ("elmer/rocks.py", "elmer/rocks_options.py"),
    "zstandard": ("replication/wire.py",),
}


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def imported(tree: ast.AST) -> set[str]:
    """Return the full names of all modules that are imported, at any depth."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def layer_breaches(path: str, tree: ast.AST) -> Iterator[str]:
    package = path.partition("/")[0]
    for name in imported(tree):
        top = name.partition(".")[0]
        if name.startswith("."):
            yield "a relative import"
        elif top in BELOW and top != package and top not in BELOW[package]:
            yield f"{package} is not above {top}"


def purity_breaches(path: str, tree: ast.AST) -> Iterator[str]:
    if not matches(path, PURE):
        return
    for name in imported(tree):
        if name.partition(".")[0] in IMPURE_MODULES or name == "os.path":
            yield f"imports {name}"
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="os", names=names):
                yield from (f"uses os.{a.name}" for a in names if not is_pure_os(a.name))
            case ast.Attribute(value=ast.Name("os"), attr=attr) if not is_pure_os(attr):
                yield f"uses os.{attr}"
            case ast.Attribute() if ast.unparse(node).endswith(CLOCKS):
                yield f"uses {ast.unparse(node)}"
            case ast.Call(func=ast.Name(name)) if name in IMPURE_BUILTINS:
                yield f"calls {name}"


def is_pure_os(name: str) -> bool:
    return name.isupper() or name in PURE_OS


def home_breaches(path: str, tree: ast.AST) -> Iterator[str]:
    for top in {name.partition(".")[0] for name in imported(tree)}:
        if top in sys.stdlib_module_names or top in BELOW or top == "":
            continue
        if top not in HOMES:
            yield f"{top} has no home"
        elif not matches(path, HOMES[top]):
            yield f"the home of {top} is {', '.join(HOMES[top])}"


def breaches(path: str, source: str) -> list[str]:
    """Return what is wrong with a module of this text at this path, relative to the root."""
    tree = ast.parse(source)
    rules = (layer_breaches, purity_breaches, home_breaches)
    return sorted({breach for rule in rules for breach in rule(path, tree)})


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(ROOT).as_posix() for b in BELOW for p in ROOT.glob(f"{b}/**/*.py"))
)
def test_the_module_keeps_to_its_layer(path):
    assert breaches(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("crdt/view.py", "import translation.replica", "crdt is not above translation"),
        ("crdt/view.py", "from elmer import rocks", "crdt is not above elmer"),
        ("translation/a.py", "import replication", "translation is not above replication"),
        ("replication/client.py", "import translation", "replication is not above translation"),
        ("elmer/daemon.py", "from . import fuse", "a relative import"),
        ("elmer/demo.py", "from tests.conftest import scratch", "tests has no home"),
        ("crdt/hlc.py", "def f():\n    import time", "imports time"),
        ("translation/replica.py", "from random import Random", "imports random"),
        ("replication/session.py", "import asyncio.locks", "imports asyncio.locks"),
        ("replication/auth.py", "import secrets", "imports secrets"),
        ("translation/content.py", "from os.path import join", "imports os.path"),
        ("crdt/facts.py", "import os\nos.urandom(16)", "uses os.urandom"),
        ("crdt/facts.py", "from os import getpid", "uses os.getpid"),
        ("crdt/hlc.py", "import datetime as d\nd.datetime.now()", "uses d.datetime.now"),
        ("crdt/codec.py", "open('/dev/null')", "calls open"),
        ("crdt/facts.py", "import msgpack", "the home of msgpack is crdt/codec.py"),
        (
            "elmer/fuse.py",
            "from rocksdict import Rdict",
            "the home of rocksdict is elmer/rocks.py, elmer/rocks_options.py",
        ),
        ("elmer/control.py", "import requests", "requests has no home"),
    ],
)  # fmt: skip
def test_a_breach_is_found(path, source, found):
    assert breaches(path, source) == [found]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("elmer/daemon.py", "import time, crdt.store, translation, replication.client, llfuse"),
        ("replication/client.py", "import asyncio, aiohttp.web\nfrom crdt.codec import pack"),
        ("translation/content.py", "import os\nos.O_APPEND | os.SEEK_HOLE\nos.strerror(2)"),
        ("replication/auth.py", "from datetime import datetime\ndatetime.fromtimestamp(0)"),
        ("elmer/cli_conflicts.py", "import click, rich.table"),
    ],
)
def test_what_is_allowed_is_no_breach(path, source):
    assert breaches(path, source) == []
