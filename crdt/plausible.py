"""Whether a fact of a peer is one that a replica could have made, where its own shape does not say so.

`crdt.encoding` checks types and bounds; here a fact is held against what it names.  What fails raises
LookupError, and the commit is refused with the connection (promise P8): merged, it would stay, on every
replica that hears of it.
"""

from __future__ import annotations

from crdt.causality import Dot, replica_of
from crdt.facts import (
    DERIVED,
    ROOT,
    Acknowledgement,
    Birth,
    Fact,
    Field,
    Ino,
    Kind,
    Pin,
    Placement,
    Policy,
    Ref,
    Register,
    Removal,
    Setting,
    Version,
    Xattr,
)
from crdt.names import branch_ino
from crdt.policy import check_setting
from crdt.rows import Inode
from crdt.state import State, member_key

BOUNDS = {
    Field.MODE: 0o7777,
    Field.UID: (1 << 32) - 1,
    Field.GID: (1 << 32) - 1,
    Field.POLICY: max(Policy),
}


def check(state: State, dot: Dot, fact: Fact) -> None:
    """Raises LookupError where this fact of the commit `dot` fits nothing that is known here."""
    match fact:
        case Birth():
            _check_birth(state, dot, fact)
        case Placement():
            _check_placement(state, fact)
        case Version():
            _check_version(state, dot, fact)
        case Register():
            _known(state, fact.ino)
            most = BOUNDS.get(fact.field)
            _require(most is None or 0 <= fact.value <= most, f"a {fact.field.name} of {fact.value}")
        case Setting():
            check_setting(fact)
        case Acknowledgement():
            maker = state.get(member_key(replica_of(fact.dot)))
            _require(maker is not None, f"a commit of {replica_of(fact.dot)}, which is no member")
        case Removal() | Pin() | Xattr():
            _known(state, fact.ino)


def _check_birth(state: State, dot: Dot, birth: Birth) -> None:
    _require(birth.policy <= max(Policy), f"the merge policy {birth.policy}; is the peer newer?")
    _require(not birth.exclusive or birth.kind == Kind.REGULAR, "what is created with O_EXCL is a file")
    if birth.lineage is not None:
        _require(birth.kind == Kind.REGULAR and birth.claims is None, "what goes on from another is a file")
        _require(_check_ref(state, birth.lineage).is_regular, "what a file goes on from is a file")
    if birth.claims is None:
        _require(int(birth.ino) == dot, f"the inode {birth.ino} is not numbered by its commit {dot}")
        return
    _require(birth.kind == Kind.REGULAR, "what is split off is a file")
    _require(birth.ino == branch_ino(birth.claims), f"{birth.ino} is not the number of that branch")
    _check_ref(state, birth.claims)


def _check_placement(state: State, placement: Placement) -> None:
    inode = _known(state, placement.ino)
    _require(placement.ino != ROOT, "the root stands nowhere")
    _require(_known(state, placement.parent).is_directory, f"{placement.parent} is no directory")
    _require(
        not inode.is_directory or int(placement.link) == placement.ino, "a directory has one link, its own"
    )


def _check_version(state: State, dot: Dot, version: Version) -> None:
    _require(not _known(state, version.ino).is_directory, f"{version.ino} has no content")
    _require(bool(version.parents), "a version extends another")
    for parent in version.parents:
        _check_ref(state, parent)
    if version.lineage is not None:
        _check_ref(state, version.lineage)
    own = int(version.version) == dot and dot != int(version.ino)
    _require(own or bool(version.settles and version.version & DERIVED), f"the number {version.version}")


def _check_ref(state: State, ref: Ref) -> Inode:
    """Return the inode that a version which is known here was written to."""
    inode = _known(state, ref.ino)
    is_first = int(ref.version) == ref.ino and not inode.is_directory
    _require(is_first or state.version(ref) is not None, f"the version {ref} is not known here")
    return inode


def _known(state: State, ino: Ino) -> Inode:
    inode = state.inode(ino)
    if inode is None:
        raise LookupError(f"a fact names the inode {ino}, which is not known here")
    return inode


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise LookupError(otherwise)
