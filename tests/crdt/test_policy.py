"""Which pattern of a volume a name gets its merge policy by."""

import pytest

from crdt.facts import Policy, Setting
from crdt.policy import Patterns, check_setting, pattern_setting


def patterns(**chosen: Policy) -> Patterns:
    return Patterns(pattern_setting(pattern, policy) for pattern, policy in chosen.items())


def test_the_pattern_with_most_characters_of_its_own_holds_whatever_the_order():
    chosen = {"*": Policy.KEEP, "*.log": Policy.APPEND, "x*.log": Policy.BLOCKS}
    for order in (chosen, dict(reversed(chosen.items()))):
        found = patterns(**order)
        assert found.policy_of(b"a.log") == Policy.APPEND
        assert found.policy_of(b"xa.log") == Policy.BLOCKS
        assert found.policy_of(b"a.txt") == Policy.KEEP


def test_a_name_that_matches_nothing_has_no_policy():
    found = patterns(**{"*.log": Policy.APPEND})
    assert found.policy_of(b"log") == Policy.UNSET
    assert found.policy_of(b"a.LOG") == Policy.UNSET
    assert patterns().policy_of(b"a.log") == Policy.UNSET


def test_a_pattern_that_was_taken_back_chooses_nothing():
    taken_back = Patterns([pattern_setting("*.log", Policy.UNSET)])
    assert taken_back.patterns == ()


def test_a_question_mark_is_one_character_and_names_need_not_be_text():
    found = patterns(**{"?.log": Policy.APPEND})
    assert found.policy_of("é.log".encode()) == Policy.APPEND
    assert found.policy_of(b"\xff.log") == Policy.APPEND
    assert found.policy_of(b"\xff\xff.log") == Policy.UNSET


@pytest.mark.parametrize(
    "setting",
    [Setting("merge:a/b", b"keep"), Setting("merge:", b"keep"), Setting("merge:*", b"best"),
     Setting("merge:" + "x" * 201, b"keep")],
)  # fmt: skip
def test_a_setting_of_a_peer_that_is_no_pattern_is_refused(setting):
    with pytest.raises(LookupError):
        check_setting(setting)


def test_a_setting_of_another_kind_is_none_of_its_business():
    check_setting(Setting("history", b"anything"))
    assert Patterns([Setting("history", b"anything")]).patterns == ()
