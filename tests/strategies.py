"""Values for the tests.  Few replicas, few names and small numbers: most bugs need a collision, and a
collision needs a small universe."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from crdt.causality import Context, Dot, ReplicaId, Stamp, VersionVector, join, make_dot
from crdt.facts import Field, Ino, Placement, Register, Xattr
from crdt.rows import Stamped

replicas = st.integers(1, 3).map(ReplicaId)
counters = st.integers(1, 4)
dots = st.builds(make_dot, replicas, counters)
vectors = st.dictionaries(replicas, counters).map(VersionVector)
contexts = st.lists(dots, max_size=4).map(lambda found: join([found]))
stamps = st.builds(Stamp, st.integers(1, 4), dots)
names = st.sampled_from([b"a", b"b"])

INO = Ino(make_dot(ReplicaId(1), 1))


@st.composite
def settings_of_one_key(
    draw: st.DrawFn, make: Callable[[int, Context], Register | Xattr | Placement]
) -> list[Stamped]:
    """What three replicas did to one key, each seeing some of what the others had done before.

    `make` gives the fact from a value and the context that it replaces.
    """
    made: list[Stamped] = []
    seen: dict[int, Context] = dict.fromkeys((1, 2, 3), ())
    for time in range(draw(st.integers(0, 6))):
        replica = draw(replicas)
        if made and draw(st.booleans()):  # it has heard of somebody
            other = draw(st.sampled_from(made))
            seen[replica] = join([seen[replica], other.fact.context, [other.dot]])
        mine = sum(each.dot >> 40 == replica for each in made)
        dot = make_dot(replica, mine + 1)
        # Clocks are wrong: the time says nothing of who saw whom.
        hlc = draw(st.integers(1, 3)) * 10 + time
        made.append(Stamped(dot, hlc, hlc, make(draw(st.integers(0, 7)), seen[replica])))
        seen[replica] = join([seen[replica], [dot]])
    return made


mode_settings = settings_of_one_key(lambda value, seen: Register(INO, Field.MODE, value, seen))
owner_settings = settings_of_one_key(lambda value, seen: Register(INO, Field.UID, value, seen))
xattr_settings = settings_of_one_key(
    lambda value, seen: Xattr(INO, b"user.a", b"%d" % value if value else None, seen)
)
placements = settings_of_one_key(lambda value, seen: Placement(INO, Dot(7), Ino(1), b"ab"[value % 2 :], seen))
