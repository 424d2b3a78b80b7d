"""Editors, and what else works on one file or waits for one: sed, tail, flock, FIFOs, inotify, keys."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs.case import Case, Place, run, started
from tests.system.waiting import until

LINES = "".join(f"line {number}\n" for number in range(2_000))


VIM = ["vim", "-es", "-N", "-u", "NONE", "-i", "NONE"]
VIM_OPTIONS = "set backup writebackup undofile swapfile directory=. undodir=. backupdir=."


def vim(place: Place) -> None:
    """In each of its ways to save; with swap file, backup and undo file beside the text."""
    for backupcopy in ("yes", "no", "auto"):
        path = place.root / f"{backupcopy}.txt"
        path.write_text(LINES)
        path.chmod(0o640)
        (place.root / f"{backupcopy}.link").symlink_to(path.name)
        options = f"{VIM_OPTIONS} backupcopy={backupcopy}"
        edits = ["%s/line 7/LINE 7/e", "normal Gofinis", "write", "undo", "redo", "write"]
        for name in (path, place.root / f"{backupcopy}.link"):
            commands = [part for edit in [options, f"edit {name}", *edits] for part in ("-c", edit)]
            run(*VIM, *commands, "-c", "qall!", cwd=place.root)
        assert path.read_text() == re.sub("line 7", "LINE 7", LINES) + "finis\nfinis\n"
        assert path.stat().st_mode & 0o777 == 0o640
        assert (place.root / f"{backupcopy}.link").is_symlink()
    assert not list(place.root.glob(".*.sw?"))


def vim_recovers(place: Place) -> None:
    """A vim that was killed left a swap file, from which the text comes back."""
    path = place.root / "text"
    path.write_text(LINES)
    edits = ["set updatecount=1 directory=.", "edit text", "normal Gonot saved", "preserve", "!kill -9 $PPID"]
    run(*VIM, *(part for edit in edits for part in ("-c", edit)), cwd=place.root, expect=-9)
    run(*VIM, "-r", "text", "-c", "write! recovered", "-c", "qall!", cwd=place.root)
    assert (place.root / "recovered").read_text() == LINES + "not saved\n"


def stream_editors(place: Place) -> None:
    """ed, sed -i, perl -i, patch, sort -o, tee -a, split, install."""
    path = place.root / "text"
    path.write_text(LINES)
    run("ed", "-s", path, say="1,$s/line/row/\n$a\nend\n.\nw\nq\n")
    run("sed", "-i.bak", "-e", "s/row 1$/first/", path)
    run("perl", "-i", "-pe", "s/^end$/END/", path)
    expected = LINES.replace("line", "row").replace("row 1\n", "first\n") + "END\n"
    assert path.read_text() == expected
    difference = run("diff", "-u", "text.bak", "text", cwd=place.root, expect=1)
    run("patch", "-s", "-R", "text", say=difference, cwd=place.root)
    run("cmp", path, place.root / "text.bak")
    run("sort", "-r", "-o", path, path)
    run("sort", "-o", path, path)
    run("tee", "-a", path, say="more\n")
    assert path.read_text().splitlines() == [
        *sorted(expected.replace("first", "row 1").replace("END", "end").splitlines()),
        "more",
    ]
    run("split", "-l", "100", path, place.root / "part-")
    assert "".join(part.read_text() for part in sorted(place.root.glob("part-*"))) == path.read_text()


# Reads a file again and again, which must be one save, whole, each time.
READER = """
import sys
content = b""
while content[:1] != b"!":
    with open(sys.argv[1], "rb") as file:
        content = file.read()
    assert len(content) == 50_000 and len(set(content)) == 1, (len(content), set(content))
"""


def atomic_saves(place: Place) -> None:
    """Write a temporary file, sync it, rename it over, sync the directory: a reader finds either, whole."""
    path = place.root / "saved"
    path.write_bytes(b"0" * 50_000)
    with path.open("rb") as held, started([sys.executable, "-c", READER, path]) as (reader,):
        save_often(path, place.size(100, 2_000))
        assert reader.wait(60) == 0
        assert held.read() == b"0" * 50_000
        assert os.fstat(held.fileno()).st_nlink == 0
    assert os.listdir(place.root) == ["saved"]


def save_often(path: Path, times: int) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    for number in range(times):
        with (path.parent / f".saved.{number}").open("wb") as file:
            file.write(bytes([ord("a") + number % 26]) * 50_000)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path.parent / f".saved.{number}", path)
        os.fsync(directory)
    os.close(directory)
    (path.parent / ".last").write_bytes(b"!" * 50_000)
    os.replace(path.parent / ".last", path)


def tail_follows(place: Place) -> None:
    """tail -F prints what is appended, and goes on with the file that a rename put in its place."""
    path = place.root / "log"
    path.write_text("old\n")
    with started(["tail", "-n0", "-s0.05", "-F", path]) as (tail,):
        assert tail.stdout
        for number in range(3):
            until(lambda: has_open(tail.pid, path), "tail has the file open")
            with path.open("a") as file:
                file.write(f"added {number}\n")
            assert tail.stdout.readline() == f"added {number}\n"
        (place.root / "new").write_text("rotated\n")
        os.rename(path, place.root / "log.1")
        os.rename(place.root / "new", path)
        assert tail.stdout.readline() == "rotated\n"


def has_open(pid: int, path: Path) -> bool:
    """Whether that process has the file open."""
    try:
        return any(
            os.readlink(f"/proc/{pid}/fd/{number}") == os.fspath(path)
            for number in os.listdir(f"/proc/{pid}/fd")
        )
    except OSError:
        return False


def locks(place: Place) -> None:
    """Counters that many programs add to, one under flock(1), one under lockf(3), come out right."""
    times = place.size(10, 100)
    loop = f"for i in $(seq {times}); do flock lock sh -c 'read n <counter; echo $((n + 1)) >counter'; done"
    (place.root / "counter").write_text("0\n")
    with started(*[["sh", "-c", loop]] * 4, cwd=place.root) as shells:
        assert [shell.wait(300) for shell in shells] == [0] * 4
    assert (place.root / "counter").read_text() == f"{4 * times}\n"

    (place.root / "number").write_bytes(b"0".ljust(20))
    program = (
        "import fcntl, os, sys\nf = os.open('number', os.O_RDWR)\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    fcntl.lockf(f, fcntl.LOCK_EX, 20, 0, 0)\n    n = int(os.pread(f, 20, 0))\n"
        "    os.pwrite(f, str(n + 1).encode().ljust(20), 0)\n    fcntl.lockf(f, fcntl.LOCK_UN, 20, 0, 0)\n"
    )
    with started(*[[sys.executable, "-c", program, str(times * 20)]] * 3, cwd=place.root) as programs:
        assert [each.wait(300) for each in programs] == [0] * 3
    assert int((place.root / "number").read_bytes()) == 3 * times * 20
    with (place.root / "counter").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run("flock", "-n", place.root / "counter", "true", expect=1)


def fifos_and_sockets(place: Place) -> None:
    run("mkfifo", "-m", "600", place.root / "fifo")
    said = run("sh", "-c", "cat <fifo & echo through >fifo; wait", cwd=place.root)
    assert said == "through\n"
    program = (
        "import os, socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('socket')\ns.listen()\n"
        "if os.fork():\n    c = s.accept()[0]\n    assert c.recv(9) == b'hello'\n    os.wait()\n"
        "else:\n    c = socket.socket(socket.AF_UNIX)\n    c.connect('socket')\n    c.send(b'hello')\n"
    )
    run(sys.executable, "-c", program, cwd=place.root)
    assert (place.root / "socket").is_socket()


# <sys/inotify.h>
EVENTS = {
    0x2: "modify",
    0x4: "attrib",
    0x8: "close_write",
    0x40: "moved_from",
    0x80: "moved_to",
    0x100: "create",
    0x200: "delete",
    0x400: "delete_self",
    0x800: "move_self",
}
IN_ISDIR = 0x40000000


@contextmanager
def watched(*paths: Path) -> Iterator[list[tuple[str, str, str]]]:
    """Have inotify watch these; at the end the list has the events: what is watched, kind, name."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    watches = {libc.inotify_add_watch(queue, os.fsencode(path), sum(EVENTS)): path.name for path in paths}
    seen: list[tuple[str, str, str]] = []
    try:
        yield seen
        data = os.read(queue, 1 << 20)
        while data:
            watch, mask, _, length = struct.unpack_from("iIII", data)
            name = data[16 : 16 + length].rstrip(b"\0").decode()
            kind = EVENTS.get(mask & ~IN_ISDIR)
            if kind:  # IN_IGNORED has none
                seen.append((watches[watch], kind, name + "/" * bool(mask & IN_ISDIR)))
            data = data[16 + length :]
    finally:
        os.close(queue)


def inotify(place: Place) -> None:
    """The events of what programs here do are those of any file system."""
    (place.root / "d").mkdir()
    (place.root / "e").mkdir()
    with watched(place.root / "d", place.root / "e") as seen:
        d, e = place.root / "d", place.root / "e"
        (d / "f").write_text("text")
        (d / "f").chmod(0o600)
        with (d / "f").open("r+") as file:
            os.ftruncate(file.fileno(), 1)
            os.fsync(file.fileno())
        os.setxattr(d / "f", "user.a", b"1")
        os.rename(d / "f", d / "g")
        os.rename(d / "g", e / "g")
        os.link(e / "g", d / "h")
        os.symlink("h", d / "s")
        os.mkdir(d / "sub")
        os.rename(d / "sub", e / "sub")
        os.rmdir(e / "sub")
        os.unlink(d / "h")
        os.unlink(e / "g")
        os.unlink(d / "s")
        os.rmdir(d)
    assert seen == [
        *[
            ("d", kind, "f")
            for kind in ("create", "modify", "close_write", "attrib", "modify", "close_write", "attrib")
        ],
        ("d", "moved_from", "f"),
        ("d", "moved_to", "g"),
        ("d", "moved_from", "g"),
        ("e", "moved_to", "g"),
        ("d", "create", "h"),
        ("d", "create", "s"),
        ("d", "create", "sub/"),
        ("d", "moved_from", "sub/"),
        ("e", "moved_to", "sub/"),
        ("e", "delete", "sub/"),
        ("d", "delete", "h"),
        ("e", "delete", "g"),
        ("d", "delete", "s"),
        ("d", "delete_self", ""),
    ], seen


def keys(place: Place) -> None:
    """ssh-keygen and gpg make keys, whose lock files are hard links, and use them."""
    (place.root / "text").write_text("text\n")
    key = place.root / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key)
    run("ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", key)
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", key, place.root / "text")
    assert key.stat().st_mode & 0o777 == 0o600
    known = place.root / "known_hosts"
    known.write_text(f"example.org {(place.root / 'key.pub').read_text()}")
    run("ssh-keygen", "-q", "-H", "-f", known)
    run("ssh-keygen", "-q", "-R", "example.org", "-f", known)


def gpg(place: Place) -> None:
    home = place.root / "g"
    home.mkdir(mode=0o700)
    settings = {"GNUPGHOME": os.fspath(home)}
    try:
        run(
            "gpg",
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-generate-key",
            "a@example.org",
            **settings,
        )
        (place.root / "text").write_text("text\n")
        run("gpg", "--batch", "--quiet", "--sign", place.root / "text", **settings)
        run("gpg", "--batch", "--quiet", "--verify", place.root / "text.gpg", **settings)
        assert run("gpg", "--batch", "--quiet", "--decrypt", place.root / "text.gpg", **settings) == "text\n"
    finally:
        run("gpgconf", "--kill", "all", **settings)


CASES = [
    Case("vim", vim),
    Case("vim recovers from its swap file", vim_recovers),
    Case("ed, sed -i, perl -i, patch, sort -o", stream_editors, packages=("ed", "perl", "patch")),
    Case("atomic saves under a reader", atomic_saves),
    Case("tail -F", tail_follows),
    Case("flock, lockf", locks),
    Case("mkfifo, a socket", fifos_and_sockets),
    Case("inotify of local changes", inotify),
    Case("ssh-keygen", keys, packages=("openssh-client",)),
    Case("gpg", gpg, packages=("gnupg",), quick=False),
]
