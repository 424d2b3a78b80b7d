"""What a step of a program is: done at one replica, which then shows what POSIX says and nothing else.

That is law L2, with one exception: see `Unsettled`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import TypeGuard

from crdt.facts import Field, Ino, Register, Version
from tests.simulator import editors, trees
from tests.simulator.errors import accounted_for
from tests.simulator.laws import require
from tests.simulator.ledger import TOKEN_SIZE
from tests.simulator.locality import (
    ALL_BITS,
    ANYTHING,
    SET_USER_ID,
    Face,
    Faces,
    chmoded,
    chowned,
    clear_set_user_id,
    difference,
    faces,
    linked,
    made,
    moved_all,
    named,
    removed,
    renamed,
    saved,
    written,
)
from tests.simulator.programs import MARK, ORPHANS_AT, Programs, SymbolicPath, changed
from tests.simulator.steps import Step
from translation import merge_policy

WRITES = ("create", "put", "append", "patch", "cut", "write_handle")
# What is one system call and changes nothing where it fails.
IN_ONE = {
    *("unlink", "rename", "link", "mkdir", "rmdir", "symlink", "mknod", "chmod", "chown"),
    *("setxattr", "touch"),
}


def act(programs: Programs, step: Step, data: bytes) -> None:
    """Raises OSError where the program gets one."""
    before = faces(programs.look())
    unsettled = Unsettled(programs, step, before)
    want = _expected(programs, step, data, before)
    named = [programs.whole(path) for path in step.arguments if is_path(path)]
    unknown = [path for path, face in before.items() if face.content is None]
    lacks = bool(programs.site.waiting()) or any(path.startswith(tuple(named)) for path in unknown)
    programs.acts()
    try:
        _do(programs, step, data)
    except OSError as error:
        due = accounted_for(step, named, before, programs.look_again(), lacks=lacks)
        require(not error.errno or error.errno in due, "POSIX", f"{step} failed without a reason: {error}")
        if step.kind in IN_ONE:
            _check_locality(step, programs, before, unsettled)
        raise
    if want is not None:
        _check_locality(step, programs, want, unsettled)


class Unsettled:
    """The files that are open here, or whose newest content is not here: they may show more than they do,
    and which of its branches an open file shows changes when what was written becomes a version.

    Who acts on one competes with what does not show: then nothing is said of the names around it.  So it is
    where a file comes back that a merge had removed, or made an orphan, since it was written to here (row
    28), and its directories with it.  Else, more may show of it than before.
    """

    def __init__(self, programs: Programs, step: Step, before: Faces) -> None:
        self.programs = programs
        self.files = programs.unsettled()
        self.shown = in_the_tree(before)
        self.commits = set(programs.site.cluster.library.commits)
        self.around: set[bytes] = set()
        if self.files:
            for paths in touched_together(programs, step, before):
                if any(path in before and before[path].ino in self.files for path in paths):
                    self.around.update(map(stem, paths))

    def without(self, want: Faces, shown: Faces) -> tuple[Faces, Faces]:
        """Leave out what nothing is said of."""
        if not self.files:
            return want, shown
        files = self.programs.with_branches(self.files)
        come = files & (in_the_tree(shown) - self.shown)
        back = {p for p, f in shown.items() if f.ino in come}
        around = tuple(self.around | set(map(stem, back)))
        files |= {Ino(shown[path].ino) for path in above(back) if path not in want}
        shown = {p: f for p, f in shown.items() if p in want or f.ino not in files}
        want = {p: f._replace(content=ANYTHING) if f.ino in files else f for p, f in want.items()}
        hiding = self._under_others(shown) | self._had_others(want, shown)
        want = {p: f for p, f in want.items() if p in shown or not self._is_back(p, f)}
        want, shown = (
            {p: f._replace(mode=0) if p in hiding else f for p, f in side.items()} for side in (want, shown)
        )
        if around:
            want, shown = (
                {p: f for p, f in side.items() if f.ino not in files and not p.startswith(around)}
                for side in (want, shown)
            )
        return want, shown

    def _under_others(self, shown: Faces) -> set[bytes]:
        """The paths of files that have one of these as a twin, and of the entries beside such: twins show the
        mode that all leave, and one that comes, or whose content was not seen, may leave less."""
        twins = self.programs.site.replica.view.twins
        owners = {entry.ino: entry.owner for _, entry in self.programs.fs.listing.walk()}
        files = {
            path: owners.get(Ino(face.ino), Ino(face.ino)) for path, face in shown.items() if face.is_file
        }
        hiding = {path: twins(ino) for path, ino in files.items()}
        began_as = self.programs.began_as
        return {path for path, inos in hiding.items() if self.files & {*inos, *map(began_as, inos)}}

    def _had_others(self, want: Faces, shown: Faces) -> set[bytes]:
        """The paths of files that kept the mode which they showed with such a twin, when that left again: the
        step wrote to one, that came back so, and one of its commits set the mode of the other."""
        commits = self.programs.site.cluster.library.commits
        facts = [fact for dot in commits.keys() - self.commits for fact in commits[dot].facts]
        wrote = {fact.ino for fact in facts if isinstance(fact, Version)}
        if not self.files & {*wrote, *map(self.programs.began_as, wrote)}:
            return set()
        kept = {fact.ino for fact in facts if isinstance(fact, Register) and fact.field == Field.MODE}
        return {p for p, f in shown.items() if f.ino in kept and p in want and not f.mode & ~want[p].mode}

    def _is_back(self, path: bytes, face: Face) -> bool:
        """Is this orphan, which is open here, a file again that hides under another?"""
        if not path.startswith(ORPHANS_AT) or face.ino not in self.files:
            return False
        view, ino = self.programs.site.replica.view, Ino(face.ino)
        places = self.programs.site.replica.state.known(ino).shown
        return any(view.entry_at(ino, place).ino != ino for place in places)


def touched_together(programs: Programs, step: Step, before: Faces) -> list[list[bytes]]:
    """The paths that a system call of this step names, for each."""
    paths = [programs.whole(path) for path in step.arguments if is_path(path)]
    if step.kind != "move_all":
        return [paths]
    source, target = paths
    names = [path.rpartition(b"/")[2] for path in before if path.rpartition(b"/")[0] == source]
    return [[source + b"/" + name, target + b"/" + name] for name in names]


def stem(path: bytes) -> bytes:
    """What the names of a file and of the entries beside it begin with."""
    above, slash, name = path.rpartition(b"/")
    return above + slash + (name.partition(MARK)[0].rpartition(b".")[0] or name.partition(MARK)[0])


def in_the_tree(shown: Faces) -> set[int]:
    """The numbers of what has a name, as an orphan has not."""
    return {face.ino for path, face in shown.items() if not path.startswith(ORPHANS_AT)}


def above(paths: Iterable[bytes]) -> set[bytes]:
    """The directories that lead to these."""
    return {path[:at] for path in paths for at, byte in enumerate(path) if byte == ord("/") and at}


def _do(programs: Programs, step: Step, data: bytes) -> None:
    arguments, salt = step.arguments, step.salt
    match step.kind:
        case "create":
            programs.write(arguments[0], "put", data, salt)
        case "put" | "append" | "patch" | "cut":
            programs.write(arguments[0], step.kind, data, salt)
        case "save_by_rename" | "save_anew" | "save_beside_backup":
            getattr(editors, step.kind)(programs, arguments[0], data, salt)
        case "mkdir":
            programs.mkdir(arguments[0], salt)
        case "symlink":
            programs.symlink(arguments[0], data[:TOKEN_SIZE])
        case "open":
            programs.open(arguments[0], appends=salt % 3 == 0)
        case "write_handle":
            programs.handles.write(salt // 7, data, salt)
        case "fsync_handle":
            programs.handles.fsync(salt)
        case "close_handle":
            programs.handles.close(salt)
        case "tick":
            programs.fs.tick()
        case "remove_tree" | "move_all":
            getattr(trees, step.kind)(programs, *arguments)
        case "setxattr":
            programs.setxattr(arguments[0], b"user.k", arguments[1])
        case "policy":
            programs.setxattr(arguments[0], merge_policy.XATTR, arguments[1])
        case _:
            getattr(programs, step.kind)(*arguments)


def _expected(programs: Programs, step: Step, data: bytes, before: Faces) -> Faces | None:
    """What must show after this step where it succeeds; None where that is not known."""
    paths = [programs.whole(p) for p in step.arguments if is_path(p)]
    match step.kind:
        case "create" | "put" | "append" | "patch" | "cut":
            old = before[paths[0]].content if paths[0] in before else b""
            how = "put" if step.kind == "create" else step.kind
            if old is None:
                return None
            return written(before, paths[0], changed(old, how, data, step.salt))
        case "save_by_rename" | "save_anew" | "save_beside_backup":
            return saved(before, paths[0], data)
        case "mkdir":
            return made(before, paths[0], stat.S_IFDIR, 0o755)
        case "mknod":
            return made(before, paths[0], stat.S_IFIFO, 0o600)
        case "symlink":
            return made(before, paths[0], stat.S_IFLNK, 0o777, data[:TOKEN_SIZE])
        case "unlink" | "rmdir" | "remove_tree":
            return removed(before, paths[0])
        case "rename" | "link" if paths[0].startswith(ORPHANS_AT):
            return named(before, *paths) if paths[0] in before else None
        case "rename":
            return renamed(before, *paths) if paths[0] in before else None
        case "move_all":
            return moved_all(before, *paths)
        case "link":
            return linked(before, *paths) if paths[0] in before else None
        case "chmod" if paths[0] in before:
            bits = 0o7700 if paths[0].startswith(ORPHANS_AT) else ALL_BITS
            return chmoded(before, paths[0], step.arguments[1] & bits)
        case "chown" if paths[0] in before:
            return chowned(before, paths[0], step.arguments[1])
        case "write_handle" if programs.handles:
            ino = programs.handles.pick(step.salt // 7).ino
            return {p: clear_set_user_id(f) if f.ino == ino else f for p, f in before.items()}
        case "setxattr" | "touch" | "open" | "write_handle" | "fsync_handle" | "close_handle" | "tick":
            return before
    return None


def is_path(argument: object) -> TypeGuard[SymbolicPath]:
    return isinstance(argument, tuple)


def _check_locality(step: Step, programs: Programs, want: Faces, unsettled: Unsettled) -> None:
    sets = {"chmod": ALL_BITS, "chown": ALL_BITS} | dict.fromkeys(WRITES, SET_USER_ID)
    is_orphan = any(programs.whole(p).startswith(ORPHANS_AT) for p in step.arguments[:1] if is_path(p))
    shown = faces(programs.look_again())
    # What a backup held that its program had not looked at is left as an orphan (translation.lineage).
    shown = {path: face for path, face in shown.items() if path in want or not path.startswith(ORPHANS_AT)}
    of = b".orphan-" if is_orphan else MARK
    wrong = difference(*unsettled.without(want, shown), but_bits=sets.get(step.kind, 0), of=of)
    require(not wrong, "L2", f"{step} changes something else, too:\n    {wrong}")
