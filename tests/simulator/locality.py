"""Law L2: a program changes what POSIX says, and nothing else of what its replica shows.

From what stood there before follows what must stand there after each system call.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

from tests.walk import Found

SET_USER_ID, ALL_BITS = 0o4000, 0o7777
ANY = -1  # an inode number that is new; of an orphan that gets a name, the mode that it had
ANYTHING = b"<anything>"  # a content that is not looked at


class Face(NamedTuple):
    """What a program sees at a path; of a directory without what is in it."""

    type_bits: int
    ino: int
    mode: int
    uid: int
    content: bytes | None  # None: not here

    @property
    def is_file(self) -> bool:
        return self.type_bits == stat.S_IFREG


Faces = dict[bytes, Face]


def faces(found: dict[bytes, Found]) -> Faces:
    shown = {}
    for path, each in found.items():
        a = each.attributes
        content = b"" if each.is_directory else each.content
        shown[path] = Face(stat.S_IFMT(a.mode), a.ino, stat.S_IMODE(a.mode), a.uid, content)
    return shown


def written(before: Faces, path: bytes, content: bytes) -> Faces:
    """All names of the file show it."""
    if path not in before:
        return {**before, path: Face(stat.S_IFREG, ANY, 0o644, ANY, content)}
    ino = before[path].ino
    return {
        p: clear_set_user_id(f)._replace(content=content) if f.ino == ino else f for p, f in before.items()
    }


def clear_set_user_id(face: Face) -> Face:
    return face._replace(mode=face.mode & ~SET_USER_ID)


def saved(before: Faces, path: bytes, content: bytes) -> Faces:
    return {**before, path: Face(stat.S_IFREG, ANY, 0o644, ANY, content)}


def made(before: Faces, path: bytes, kind: int, mode: int, content: bytes = b"") -> Faces:
    return {**before, path: Face(kind, ANY, mode, ANY, content)}


def removed(before: Faces, path: bytes) -> Faces:
    """With all that is inside."""
    return {p: f for p, f in before.items() if p != path and not p.startswith(path + b"/")}


def renamed(before: Faces, source: bytes, target: bytes) -> Faces:
    if target in before and before[target].ino == before[source].ino:
        return before  # two names of one inode: rename(2) does nothing
    want = {p: f for p, f in before.items() if p != target}
    for path in [p for p in want if p == source or p.startswith(source + b"/")]:
        want[target + path[len(source) :]] = want.pop(path)
    return want


def moved_all(before: Faces, source: bytes, target: bytes) -> Faces:
    """`mv source/* target/`: what is there is replaced, unless rename(2) refuses it."""
    want = before
    if target == source:
        return want
    for path in sorted(p for p in before if p.rpartition(b"/")[0] == source):
        goal = target + b"/" + path.rpartition(b"/")[2]
        if _may_take(want, path, goal):
            want = renamed(want, path, goal)
    return want


def _may_take(before: Faces, source: bytes, target: bytes) -> bool:
    if target.startswith(source + b"/"):
        return False
    if target not in before:
        return True
    kinds = [stat.S_ISDIR(before[path].type_bits) for path in (source, target)]
    return kinds[0] == kinds[1] and not any(path.startswith(target + b"/") for path in before)


def chmoded(before: Faces, path: bytes, mode: int) -> Faces:
    ino = before[path].ino
    return {p: f._replace(mode=mode) if f.ino == ino else f for p, f in before.items()}


def chowned(before: Faces, path: bytes, uid: int) -> Faces:
    """Takes set-user-id away, but from a directory."""
    ino, kept = before[path].ino, ~0 if before[path].type_bits == stat.S_IFDIR else ~SET_USER_ID
    return {p: f._replace(uid=uid, mode=f.mode & kept) if f.ino == ino else f for p, f in before.items()}


def linked(before: Faces, source: bytes, target: bytes) -> Faces:
    return {**before, target: before[source]}


def named(before: Faces, source: bytes, target: bytes) -> Faces:
    """An orphan has a name now, by rename or link; and its mode, of which only the owner's part showed."""
    want = renamed(before, source, target)
    return {**want, target: want[target]._replace(mode=ANY)}


def difference(want: Faces, shown: Faces, *, but_bits: int = 0, of: bytes = b"") -> str:
    """How `shown` differs from what was wanted; empty where it does not.

    `but_bits`: in these bits of the mode names with `of` in them may differ, and if in all of them in the
    owner too: a content conflict entry has the attributes of its file.
    """
    wrong = []
    for path in sorted(want.keys() | shown.keys()):
        a, b = want.get(path), shown.get(path)
        if a is not None and b is not None:
            ino = b.ino if a.ino == ANY else a.ino
            uid = b.uid if a.uid == ANY else a.uid
            mode = b.mode if a.mode == ANY else a.mode
            content = b.content if a.content == ANYTHING else a.content
            a = a._replace(ino=ino, uid=uid, mode=mode, content=content)
            if of in path:
                bits = a.mode & ~but_bits | b.mode & but_bits
                a = a._replace(mode=bits, uid=b.uid if but_bits == ALL_BITS else a.uid)
        if a != b:
            wrong.append(f"{path!r}: want {a}, shown {b}")
    return "\n    ".join(wrong)
