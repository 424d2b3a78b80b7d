"""The kinds of facts: all that is replicated (design section 4).

The replicated state is a set of facts, a merge is the union of two such sets, and what a program sees
is the *view*, a pure function of it (crdt.view).  A *commit* is the atomic group of facts that one
local operation makes under one dot; its stamp and wall time hold for each of them.

Facts that replace or remove others carry the *context* of what they replace, directly or not, so what
was superseded before it was sent need never be sent.  Two kinds of facts have an identity that does
not come from their dot, so that two replicas which make the same one make one fact:

- the placement that a *split* gives a conflict entry (`Placement.split`); contexts name it by the flag
  `over_split`, because there is at most one for a link;
- a *settling* version, whose number is a hash of what was chosen over what, or of the heads that show
  together in it (crdt.merging).

Facts are named tuples: they are built and packed on the path of every request, and a frozen dataclass
costs three times as much.  Tell them apart by class, never by `==` between two kinds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, NewType

from crdt.causality import Context, Dot, ReplicaId, Stamp

Ino = NewType("Ino", int)
LinkId = NewType("LinkId", int)  # the dot of the commit that made it; of a directory its inode number
VersionId = NewType("VersionId", int)  # the dot of its commit; of a settling version DERIVED | a hash

ROOT = Ino(1)
DERIVED = 1 << 63  # the bit of numbers that are derived, and not a dot


class Kind(IntEnum):
    REGULAR = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHARACTER = 6
    BLOCK = 7


class Field(IntEnum):
    """The registers of an inode."""

    MODE = 1  # the twelve permission bits; concurrent ones show what all of them leave
    UID = 2  # last writer wins, like the others
    GID = 3
    MTIME = 4  # nanoseconds, where somebody set it by hand
    POLICY = 5  # a `Policy`; UNSET takes back what was set, and what the inode was born with holds


class Policy(IntEnum):
    """How several heads of a file are shown (design section 5); of a directory, what its new files get."""

    UNSET = 0  # nobody chose: as KEEP
    KEEP = 1
    BLOCKS = 2
    APPEND = 3


class RecordKind(IntEnum):
    """How an operation was overruled by a concurrent one (crdt.records)."""

    MOVE = 1
    RENAME = 2
    RMDIR = 3
    UNLINK = 4
    EXCL = 5
    RIGHTS = 6


class Ref(NamedTuple):
    """A version: the inode it was written to, and its number there."""

    ino: Ino
    version: VersionId


class Left(NamedTuple):
    """A directory that a link was taken from, or stood in since it was last told: its mtime.

    hlc 0: by this very fact.  Else by one that this fact replaces, at that time: it may never be sent.
    """

    directory: Ino
    hlc: int = 0
    wall_ns: int = 0


class Birth(NamedTuple):
    """An inode.  A file is born with an empty version, whose number is the inode's own.

    `claims`: it was split off a conflict entry, and the branch from that version on belongs to it.  Such
    an inode has no version of its own at birth, and the number that the entry had (DERIVED).

    `lineage`: the version of another file that had been removed at the name where this one was created,
    and which it goes on from: that of the version that it is born with.

    `exclusive`: it was created with O_EXCL, so its author relies on there having been nothing at its name.
    """

    ino: Ino
    kind: Kind
    mode: int
    uid: int
    gid: int
    maker: int  # uid of who made it: directories of one maker may be a union
    policy: int = Policy.UNSET
    rdev: int = 0
    target: bytes = b""  # of a symlink
    claims: Ref | None = None
    lineage: Ref | None = None
    exclusive: bool = False


class Placement(NamedTuple):
    """A link stands at a name.  Its key is the dot of its commit, but for a split's (see above)."""

    ino: Ino
    link: LinkId
    parent: Ino
    name: bytes
    context: Context = ()
    over_split: bool = False
    split: bool = False
    native: bool = False  # a directory that was created here and never left
    rank: Stamp | None = None  # inherited from the file it replaced; None: its own stamp
    mates: tuple[Ino, ...] = ()  # directories that this commit moved to this name together
    via: Ref | None = None  # the version whose lineage says which version this replaced
    left: tuple[Left, ...] = ()


class Removal(NamedTuple):
    """Somebody removed a link, having seen these placements of it and these heads of its inode.

    `drops`: those of the heads that its author meant to be gone (none, where another name was left).
    """

    ino: Ino
    link: LinkId
    context: Context
    over_split: bool = False
    seen: tuple[Ref, ...] = ()
    drops: tuple[Ref, ...] = ()
    left: tuple[Left, ...] = ()


class Pin(NamedTuple):
    """A name for one placement (`placement` is its dot, 0 the split's); it keeps nothing alive."""

    ino: Ino
    link: LinkId
    placement: Dot
    name: bytes


class Caller(NamedTuple):
    """Whose process asks for something, as far as permission bits go."""

    uid: int
    gid: int


SUPERUSER = Caller(0, 0)


class Version(NamedTuple):
    """Content.  `parents[0]` is the head of the branch that it extends; it settles the other parents.

    What it holds is relative to its first parent: first everything from `cut_bytes` on becomes zero
    (None: nothing does), then the blocks of `changed` are replaced (index, hash; an empty hash is a
    hole).  Or it holds all its content as `inline` bytes.  A superseded version may lack both and is
    then `bare`: its content is gone, its place in the history is not.
    """

    ino: Ino
    version: VersionId
    parents: tuple[Ref, ...]
    size: int  # bytes
    mtime_ns: int
    digest: bytes  # of the whole content (crdt.blocks)
    first_digest: bytes = b""  # of the first content on this branch that differs from what it began with
    inline: bytes | None = None
    cut_bytes: int | None = None
    changed: tuple[tuple[int, bytes], ...] = ()
    bare: bool = False
    settles: bool = False  # a choice among branches, no new content
    lineage: Ref | None = None  # the version of another file that this one replaced by rename
    appends: int | None = None  # under `append`: the size that its writer saw; what follows was added
    # Who wrote it, where owner, group and mode let them; None: root, or what else let them is not known.
    writer: Caller | None = None
    under: Context = ()  # the settings of owner, group and mode that its writer had heard of


class Register(NamedTuple):
    """A field of an inode was set, replacing the values that `context` covers.

    Of owner, group and mode the context also covers the versions that its author was shown (crdt.rights).  So
    it covers no value unseen: who was shown a commit of a replica has heard of all that came before it there.
    """

    ino: Ino
    field: Field
    value: int
    context: Context


class Xattr(NamedTuple):
    """An extended attribute was set, or removed (None).  Concurrently, set beats remove."""

    ino: Ino
    name: bytes
    value: bytes | None
    context: Context


class Member(NamedTuple):
    """A replica of the volume.  Later facts of one replica replace earlier ones by stamp."""

    replica: ReplicaId
    name: str
    store_id: bytes  # 16 random bytes of its store: tells a copied replica id from the original
    state: int  # 1 active, 2 retired, 3 evicted


class Setting(NamedTuple):
    """A setting of the volume; last writer wins.  Those that there are: crdt.policy."""

    key: str
    value: bytes


class Acknowledgement(NamedTuple):
    """Somebody has taken note that an operation on this inode was overruled: that of the commit `dot`."""

    ino: Ino
    kind: RecordKind
    dot: Dot


Fact = Birth | Placement | Removal | Pin | Version | Register | Xattr | Member | Setting | Acknowledgement


class Commit(NamedTuple):
    """The facts of one dot, with the writer's wall clock (ns since 1970) for people to read."""

    dot: Dot
    hlc: int
    wall_ns: int
    facts: tuple[Fact, ...]

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.hlc, self.dot)
