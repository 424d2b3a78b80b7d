"""Random histories: which calls are made, by Hypothesis."""

from __future__ import annotations

import os
import stat
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN
from typing import ClassVar, NamedTuple

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.shortening import shortest
from tests.system.host.calls import NOW, OMIT, Flags, Mode
from tests.system.host.pair import Different, Pair, failure_of, play_on

OPEN_MAX = 6  # files and directories

numbers = st.integers(0, 1 << 10)  # which of what there is
users = st.sampled_from(["root", "ann", "ann", "bob"])
names = st.sampled_from(["a", "b", "c", "d"])
odd = st.sampled_from(
    [
        "",
        ".",
        "..",
        "a/",
        "b/",
        "a/.",
        "b/..",
        "a/b/",
        "./c",
        "a//b",
        "/a",
        "/",
        "n" * 255,
        "n" * 256,
        "a/n" * 2000,
    ]
)
texts = st.sampled_from(
    ["a", "b", "../b", "c/a", "none", ".", "..", "/a", "/b/c", "a/", "", "t" * 4095, "../a/b"]
)
modes = st.sampled_from(
    [
        *(0o755, 0o700, 0o777, 0o1777, 0o3777, 0o2770, 0o2755, 0o750, 0o711, 0o311, 0o555),
        *(0o644, 0o600, 0o666, 0o640, 0o060, 0o006, 0o4711, 0o2711, 0o6755, 0o2644, 0o000),
    ]
).map(Mode)
ids = st.sampled_from([-1, 0, 1001, 1002, 3000, 3001])
# Whether a chown that changes nothing moves ctime POSIX leaves open.
owners = st.tuples(ids, ids).filter(lambda owner: owner != (-1, -1))
sizes = st.sampled_from([0, 1, 100, 4095, 4096, 4097, 32_768, 40_000, 150_000])
offsets = sizes
data = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(1, 255),
    st.sampled_from([0, 1, 3, 100, 4096, 5000, 40_000]),
)
times = st.sampled_from(
    [NOW, OMIT, 0, 1, -1_000_000_001, 1_000_000_000_123_456_789, 2**31 * 10**9, 1_234_567_890_000_000_001]
)
flags = st.builds(
    lambda access, *more: Flags(access | sum({*more})),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]),
    st.sampled_from([0, os.O_CREAT]),
    st.sampled_from([0, 0, os.O_EXCL, os.O_TRUNC, os.O_APPEND]),
    st.sampled_from([0, 0, 0, 0, os.O_DIRECTORY, os.O_NOFOLLOW]),
)
xattrs = st.sampled_from(["user.a", "user.b", "user.", "trusted.a", "security.a", "system.a", "other.a"])
values = st.sampled_from([b"", b"v", b"w" * 1000])


class Somewhere(NamedTuple):
    """A path by what is there: one of those that have a name, and a name inside, or beside it."""

    number: int
    name: str
    how: str


plain = st.lists(names, min_size=1, max_size=3).map("/".join)
known = st.builds(Somewhere, numbers, names, st.just("it"))
fresh = st.builds(Somewhere, numbers, names, st.sampled_from(["inside", "beside"]))
paths = st.one_of(known, known, known, known, fresh, plain, odd)
new_paths = st.one_of(fresh, fresh, fresh, known, plain, odd)


BEGINNING = """
ann.mkdir('a', 0o755)
ann.mkdir('a/b', 0o2775)
ann.open('a/c', O_RDWR | O_CREAT, 0o644, 1)
ann.write(1, b'x' * 5000)
bob.mkdir('b', 0o1777)
bob.mknod('b/a', 0o104755)
bob.symlink('../a', 'b/b')
root.mkdir('c', 0o755)
root.mknod('c/a', 0o010644)
root.symlink('a/b', 'd')
ann.link('a/c', 'b/c')
""".strip().splitlines()


class Open(NamedTuple):
    label: int
    kind: str


class HostMachine(RuleBasedStateMachine):
    pair: ClassVar[Pair]
    keeps = True  # the trees of all histories, to look at them later

    @initialize(
        mode=st.sampled_from([0o777, 0o777, 0o1777, 0o755, 0o2777]).map(Mode),
        is_empty=st.sampled_from([False, False, False, True]),
        every=st.sampled_from([1, 1, 7]),
    )
    def begin(self, mode, is_empty, every):
        self.pair.begin()
        self.every, self.since = every, 0  # how seldom we look
        self.open: list[Open] = []
        self.labels = 0
        if not is_empty:
            play_on(self.pair, BEGINNING)
            self.open, self.labels = [Open(1, "file")], 1
        self.pair.do_and_look("root", "chmod", ".", mode)

    def path(self, path: str | Somewhere) -> str:
        if isinstance(path, str):
            return path
        if not self.pair.there:
            return path.name
        it = self.pair.there[path.number % len(self.pair.there)]
        if path.how == "it":
            return it
        return f"{it}/{path.name}" if path.how == "inside" else os.path.join(os.path.dirname(it), path.name)

    def at(self, number: int) -> dict[str, int]:
        """One call in some is relative to a directory that is open."""
        directories = [each.label for each in self.open if each.kind == "directory"]
        if number % 4 or not directories:
            return {}
        return {"at": directories[number // 4 % len(directories)]}

    def file(self, number: int) -> int:
        return self.open[number % len(self.open)].label

    def do(self, user, call, *arguments, **named):
        self.since += 1
        if self.since < self.every:
            return self.pair.do(user, call, *arguments, **named)
        self.since = 0
        return self.pair.do_and_look(user, call, *arguments, **named)

    # -- names -----------------------------------------------------------------------------------

    @rule(user=users, path=new_paths, mode=modes, at=numbers)
    def mkdir(self, user, path, mode, at):
        self.do(user, "mkdir", self.path(path), mode, **self.at(at))

    @rule(
        user=users,
        path=new_paths,
        kind=st.sampled_from([stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, 0]),
        mode=modes,
        at=numbers,
    )
    def mknod(self, user, path, kind, mode, at):
        device = os.makedev(1, 3) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        self.do(user, "mknod", self.path(path), Mode(kind | mode), device, **self.at(at))

    @rule(user=users, text=texts, path=new_paths, at=numbers)
    def symlink(self, user, text, path, at):
        self.do(user, "symlink", text, self.path(path), **self.at(at))

    @rule(user=users, path=paths)
    def readlink(self, user, path):
        self.do(user, "readlink", self.path(path))

    @rule(user=users, path=paths, to=new_paths, follow=st.booleans(), at=numbers)
    def link(self, user, path, to, follow, at):
        self.do(user, "link", self.path(path), self.path(to), follow, **self.at(at))

    @rule(user=users, path=paths, at=numbers)
    def unlink(self, user, path, at):
        self.do(user, "unlink", self.path(path), **self.at(at))

    @rule(user=users, path=paths, at=numbers)
    def rmdir(self, user, path, at):
        self.do(user, "rmdir", self.path(path), **self.at(at))

    @rule(user=users, path=paths, to=new_paths, at=numbers)
    def rename(self, user, path, to, at):
        self.do(user, "rename", self.path(path), self.path(to), **self.at(at))

    @rule(user=users, path=paths, to=new_paths)
    def rename_more(self, user, path, to):
        self.do(user, "rename", self.path(path), self.path(to))

    @rule(user=users, path=paths, follow=st.booleans(), mode=st.integers(0, 7))
    def ask(self, user, path, follow, mode):
        path = self.path(path)
        self.do(user, "stat", path, follow)
        self.do(user, "access", path, mode)
        self.do(user, "list", path)

    # -- attributes ------------------------------------------------------------------------------

    @rule(user=users, path=paths, mode=modes, at=numbers)
    def chmod(self, user, path, mode, at):
        self.do(user, "chmod", self.path(path), mode, **self.at(at))

    @rule(user=users, path=paths, owner=owners, follow=st.booleans())
    def chown(self, user, path, owner, follow):
        self.do(user, "chown", self.path(path), *owner, follow)

    @rule(user=users, path=paths, atime=times, mtime=times, follow=st.booleans())
    def utimens(self, user, path, atime, mtime, follow):
        self.do(user, "utimens", self.path(path), atime, mtime, follow)

    @rule(user=users, path=paths, size=sizes)
    def truncate(self, user, path, size):
        self.do(user, "truncate", self.path(path), size)

    @rule(
        user=users,
        path=paths,
        name=xattrs,
        value=values,
        flags=st.sampled_from([0, 0, 1, 2]),
        follow=st.booleans(),
    )
    def setxattr(self, user, path, name, value, flags, follow):
        self.do(user, "setxattr", self.path(path), name, value, flags, follow)

    @rule(user=users, path=paths, name=xattrs, follow=st.booleans())
    def read_and_remove_xattr(self, user, path, name, follow):
        path = self.path(path)
        self.do(user, "listxattr", path, follow)
        self.do(user, "getxattr", path, name, follow)
        self.do(user, "removexattr", path, name, follow)

    @rule(user=users, mask=st.sampled_from([0, 0o022, 0o077, 0o027]).map(Mode))
    def umask(self, user, mask):
        self.do(user, "umask", mask)

    # -- what is open ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < OPEN_MAX)
    @rule(user=users, path=paths, flags=flags, mode=modes, at=numbers)
    def open_file(self, user, path, flags, mode, at):
        self.labels += 1
        answer = self.do(user, "open", self.path(path), flags, mode, self.labels, **self.at(at))
        if answer.result in ("file", "directory"):
            self.open.append(Open(self.labels, answer.result))

    @precondition(lambda self: len(self.open) < OPEN_MAX)
    @rule(user=users, path=paths)
    def open_directory(self, user, path):
        self.open_file(user, path, Flags(os.O_RDONLY | os.O_DIRECTORY), Mode(0), 1)

    @precondition(lambda self: len(self.open) < OPEN_MAX)
    @rule(user=users, path=new_paths, mode=modes, content=data)
    def make_file(self, user, path, mode, content):
        self.open_file(user, path, Flags(os.O_RDWR | os.O_CREAT), mode, 1)
        if self.open and self.open[-1] == (self.labels, "file"):
            self.do(user, "write", self.labels, content)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers)
    def close(self, user, which):
        self.do(user, "close", self.open.pop(which % len(self.open)).label)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, offset=offsets, size=sizes)
    def read(self, user, which, offset, size):
        self.do(user, "pread", self.file(which), size, offset)
        self.do(user, "read", self.file(which), size)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, content=data)
    def write(self, user, which, content):
        self.do(user, "write", self.file(which), content)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, content=data, offset=offsets)
    def pwrite(self, user, which, content, offset):
        self.do(user, "pwrite", self.file(which), content, offset)

    @precondition(lambda self: any(each.kind == "file" for each in self.open))
    @rule(
        user=users,
        which=numbers,
        offset=st.one_of(offsets, st.just(-1)),
        whence=st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]),
    )
    def lseek(self, user, which, offset, whence):
        files = [each.label for each in self.open if each.kind == "file"]
        self.do(user, "lseek", files[which % len(files)], offset, whence)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, size=sizes)
    def ftruncate(self, user, which, size):
        self.do(user, "ftruncate", self.file(which), size)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, to=numbers, size=sizes, offset=offsets, to_offset=offsets)
    def copy(self, user, which, to, size, offset, to_offset):
        self.do(user, "copy", self.file(which), self.file(to), size, offset, to_offset)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers)
    def fsync_and_fstat(self, user, which):
        self.do(user, "fsync", self.file(which))
        self.do(user, "fstat", self.file(which))

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, mode=modes, owner=st.one_of(st.none(), owners))
    def fchmod_or_fchown(self, user, which, mode, owner):
        if owner is not None:
            self.do(user, "fchown", self.file(which), *owner)
        else:
            self.do(user, "fchmod", self.file(which), mode)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, atime=times, mtime=times)
    def futimens(self, user, which, atime, mtime):
        self.do(user, "futimens", self.file(which), atime, mtime)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, name=xattrs, value=values)
    def fsetxattr(self, user, which, name, value):
        self.do(user, "fsetxattr", self.file(which), name, value)

    @precondition(lambda self: self.open)
    @rule(user=users, which=numbers, operation=st.sampled_from([LOCK_SH, LOCK_EX, LOCK_UN]))
    def flock(self, user, which, operation):
        self.do(user, "flock", self.file(which), operation)

    @precondition(lambda self: any(each.kind == "directory" for each in self.open))
    @rule(user=users, which=numbers, how=st.sampled_from(["read_some", "read_some", "read_rest", "flist"]))
    def read_directory(self, user, which, how):
        directories = [each.label for each in self.open if each.kind == "directory"]
        self.do(user, how, directories[which % len(directories)])

    # -- the end ---------------------------------------------------------------------------------

    def teardown(self):
        if not self.pair.is_begun:
            return
        if not self.pair.is_different:
            self.pair.look(contents=True)
            for each in self.open:
                self.pair.do("root", "close", each.label)
            self.pair.look(contents=True)
        self.pair.end(keep=self.keeps)


def search(pair: Pair, histories: int, steps: int, *, keep: bool, random_seed: int | None = None) -> None:
    """Play random histories, the same ones in each run where there is no seed.

    Raises Different with the shortest history that shows the difference.
    """

    class Machine(HostMachine):
        keeps = keep

    Machine.pair = pair
    how = settings(
        max_examples=histories,
        stateful_step_count=steps,
        derandomize=random_seed is None,
        phases=[Phase.generate],  # what is found is made shorter line by line
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        print_blob=False,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        seeded = Machine if random_seed is None else seed(random_seed)(Machine)
        run_state_machine_as_test(seeded, settings=how)
    except Different as different:
        again = shortest(different.lines, lambda lines: failure_of(pair, lines))
        raise (again or different) from None
