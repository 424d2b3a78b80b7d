"""Whether a fact of a peer is one that a replica could have made, where its own shape does not say so.

`crdt.encoding` checks types and bounds; here a fact is held against what it names.  What fails raises
LookupError, and the commit is refused with the connection (promise P8): merged, it would stay, on every
replica that hears of it.
"""

from __future__ import annotations

from crdt.causality import Dot, replica_of
from crdt.entries import branch_ino
from crdt.facts import (
    DERIVED,
    ROOT,
    Acknowledgement,
    Birth,
    Fact,
    Field,
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
from crdt.policy import check_setting
from crdt.rows import Inode
from crdt.state import State, member_key

BOUNDS = {
    Field.MODE: 0o7777,
    Field.UID: (1 << 32) - 1,
    Field.GID: (1 << 32) - 1,
    Field.POLICY: max(Policy),
}
POLICY_MAX = max(Policy)


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
            state.known(fact.ino)
            most = BOUNDS.get(fact.field)
            _require(most is None or 0 <= fact.value <= most, "{} is no value for it", fact)
        case Setting():
            check_setting(fact)
        case Acknowledgement():
            maker = state.get(member_key(replica_of(fact.dot)))
            _require(maker is not None, f"a commit of {replica_of(fact.dot)}, which is no member")
        case Removal() | Pin() | Xattr():
            state.known(fact.ino)


def _check_birth(state: State, dot: Dot, birth: Birth) -> None:
    _require(birth.policy <= POLICY_MAX, "the merge policy {}; is the peer newer?", birth.policy)
    _require(not birth.exclusive or birth.kind == Kind.REGULAR, "what is created with O_EXCL is a file")
    if birth.lineage is not None:
        _require(birth.kind == Kind.REGULAR and birth.claims is None, "what goes on from another is a file")
        _require(_check_ref(state, birth.lineage).is_regular, "what a file goes on from is a file")
    if birth.claims is None:
        _require(int(birth.ino) == dot, "the inode {} is not numbered by its commit", birth.ino)
        return
    _require(birth.kind == Kind.REGULAR, "what is split off is a file")
    _require(birth.ino == branch_ino(birth.claims), "{} is not the number of that branch", birth.ino)
    _check_ref(state, birth.claims)


def _check_placement(state: State, placement: Placement) -> None:
    inode = state.known(placement.ino)
    _require(placement.ino != ROOT, "the root stands nowhere")
    _require(state.known(placement.parent).is_directory, "{} is no directory", placement.parent)
    _require(
        not inode.is_directory or int(placement.link) == placement.ino, "a directory has one link, its own"
    )


def _check_version(state: State, dot: Dot, version: Version) -> None:
    _require(not state.known(version.ino).is_directory, "{} has no content", version.ino)
    _require(bool(version.parents), "a version extends another")
    for parent in version.parents:
        _check_ref(state, parent)
    if version.lineage is not None:
        _check_ref(state, version.lineage)
    _require((version.appends or 0) <= version.size, "what was appended to is part of it")
    own = int(version.version) == dot and dot != int(version.ino)
    _require(own or bool(version.settles and version.version & DERIVED), "the number {}", version.version)


def _check_ref(state: State, ref: Ref) -> Inode:
    """Return the inode that a version which is known here was written to."""
    inode = state.known(ref.ino)
    is_first = int(ref.version) == ref.ino and not inode.is_directory
    _require(is_first or state.version(ref) is not None, "the version {} is not known here", ref)
    return inode


def _require(holds: bool, otherwise: str, what: object = "") -> None:  # noqa: FBT001 - reads as an assertion
    """Raises LookupError where it does not hold; `what` comes where `otherwise` has {}."""
    if not holds:
        raise LookupError(otherwise.format(what))
