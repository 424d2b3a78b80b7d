"""Which errors a program may get for a step: those that what it names accounts for, or what is not here."""

from __future__ import annotations

import errno
import stat
from collections.abc import Container, Iterator, Sequence

from tests.simulator.locality import Faces
from tests.simulator.programs import ORPHANS_AT
from tests.simulator.steps import Step

MAKES = {"create", "mkdir", "mknod", "symlink", "rename", "link"}  # what is named last need not be there
OF_DIRECTORIES = {"rmdir", "remove_tree", "move_all"}
ATTRIBUTES = {"setxattr", "policy"}
LONG = 250  # bytes of a name: an editor makes it longer


def accounted_for(
    step: Step, named: Sequence[bytes], before: Faces, now: Container[bytes], *, lacks: bool
) -> set[int]:
    """Return the numbers of these errors.

    `named`: the paths; `now`: what shows afterwards, since what an open file holds is written out first and
    may bring a name back; `lacks`: contents are on their way here.
    """
    due = set(_reasons(step, named, before, lacks=lacks))
    return due | {errno.EEXIST} if step.kind in MAKES and named[-1] in now else due


def _reasons(step: Step, named: Sequence[bytes], before: Faces, *, lacks: bool) -> Iterator[int]:
    kinds = [before[path].type_bits if path in before else 0 for path in named]
    last = named[-1] if named else b""
    needed = [*named[:-1], last.rpartition(b"/")[0]] if step.kind in MAKES else named
    if any(path and path not in before for path in needed):
        yield errno.ENOENT
    if step.kind in MAKES and last in before:
        yield errno.EEXIST
    if any(path.startswith(last + b"/") for path in before):
        yield errno.ENOTEMPTY
    if stat.S_IFDIR in kinds:
        yield errno.EISDIR
    if any(_is_below_a_file(path, before) for path in named):
        yield errno.ENOTDIR
    if step.kind in OF_DIRECTORIES and set(kinds) - {stat.S_IFDIR}:
        yield errno.ENOTDIR
    if step.kind == "rename":
        if kinds[0] == stat.S_IFDIR != kinds[1]:
            yield errno.ENOTDIR
        if kinds[0] == stat.S_IFDIR and (last + b"/").startswith(named[0] + b"/"):
            yield errno.EINVAL
    if set(kinds) - {stat.S_IFDIR, stat.S_IFREG, 0}:
        yield errno.EINVAL  # a fifo, that a program would write to
    if any((path + b"/").startswith(ORPHANS_AT) for path in named):
        yield errno.EPERM
    if any(len(name) > LONG for path in named for name in path.split(b"/")):
        yield errno.ENAMETOOLONG
    if step.kind in ATTRIBUTES:
        yield errno.ENODATA
    if not named:
        yield errno.EBADF
    if lacks or step.kind == "write_handle":  # of a file that is gone nobody may have the content
        yield errno.EIO


def _is_below_a_file(path: bytes, before: Faces) -> bool:
    above = path.rpartition(b"/")[0]
    return bool(above) and (above not in before or before[above].type_bits != stat.S_IFDIR)
