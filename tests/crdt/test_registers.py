"""What is kept of one key: the same whatever order its facts arrive in, and however often."""

from hypothesis import given

from crdt.causality import Stamp, covers
from crdt.facts import Birth, Field, Kind
from crdt.rows import Inode, Link, Stamped
from crdt.view import merged_xattr, shown_xattr
from tests.laws import check_converges
from tests.strategies import (
    INO,
    mode_settings,
    owner_settings,
    placements,
    xattr_settings,
)


def inode_with(settings):
    inode = Inode(INO, [Stamped(INO, 1, 1, Birth(INO, Kind.REGULAR, 0o777, 0, 0, 0))])
    for setting in settings:
        inode.set_register(setting)
    return inode


def link_with(settings):
    link = Link()
    for setting in settings:
        link.place(setting)
    return link


def xattr_with(settings):
    values = []
    for setting in settings:
        values = merged_xattr(values, setting)
    return values


def newest(settings):
    return max((Stamp(each.hlc, each.dot) for each in settings), default=None)


def not_replaced(settings):
    """The definition: nobody who had seen it set the key again."""
    return {s.dot for s in settings if not any(covers(o.fact.context, s.dot) for o in settings)}


def test_a_register_converges():
    check_converges(mode_settings, lambda s: set(inode_with(s).registers.get(Field.MODE, ())))


def test_placements_of_a_link_converge():
    check_converges(placements, lambda s: set(link_with(s).placements))


def test_an_extended_attribute_converges():
    check_converges(xattr_settings, lambda s: set(xattr_with(s)))


@given(mode_settings)
def test_concurrent_modes_show_the_bits_that_all_leave(settings):
    bits = 0o777
    for each in settings:
        if each.dot in not_replaced(settings):
            bits &= each.fact.value
    assert inode_with(settings).mode == bits


@given(owner_settings)
def test_of_concurrent_owners_the_last_shows(settings):
    left = [each for each in settings if each.dot in not_replaced(settings)]
    shown = inode_with(settings).last_set(Field.UID)
    assert (shown and shown.stamp) == newest(left)


@given(placements)
def test_a_placement_counts_unless_another_replaced_it(settings):
    assert {each.dot for each in link_with(settings).placements} == not_replaced(settings)


@given(placements)
def test_a_link_stands_at_its_newest_placement(settings):
    if settings:
        left = [each for each in settings if each.dot in not_replaced(settings)]
        assert link_with(settings).where().stamp == newest(left)


@given(xattr_settings)
def test_of_concurrent_settings_of_an_attribute_set_beats_remove(settings):
    left = [each for each in settings if each.dot in not_replaced(settings)]
    values = [each for each in left if each.fact.value is not None]
    expected = max(values, key=lambda each: each.stamp).fact.value if values else None
    assert shown_xattr(xattr_with(settings)) == expected
