"""Which merge policy a file has: set on it, its directory's when it was made, or by a pattern."""

from __future__ import annotations

import errno
import os

import pytest

from crdt.facts import Policy
from tests.shell import Shell, exchange, shells

MERGE = b"user.elmer.merge"


def policy(shell: Shell, path: str) -> bytes | None:
    ino = shell.stat(path).ino
    try:
        return shell.fs.getxattr(ino, MERGE)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None


def choose(shell: Shell, path: str, value: bytes | None, flags: int = 0) -> None:
    shell.world.tick()
    ino = shell.stat(path).ino
    if value is None:
        shell.fs.removexattr(ino, MERGE)
    else:
        shell.fs.setxattr(ino, MERGE, value, flags)


def is_listed(shell: Shell, path: str) -> bool:
    return MERGE in shell.fs.listxattr(shell.stat(path).ino)


def test_a_policy_is_set_read_and_taken_back():
    (a,) = shells(0)
    a.create("f")
    assert policy(a, "f") is None
    for value in (b"blocks", b"append", b"keep"):
        choose(a, "f", value)
        assert policy(a, "f") == value
        assert is_listed(a, "f")
    choose(a, "f", None)
    assert policy(a, "f") is None
    assert not is_listed(a, "f")


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"best", errno.EINVAL), (b"", errno.EINVAL), (b"KEEP", errno.EINVAL), (b"text", errno.EOPNOTSUPP)],
)
def test_what_is_no_policy_is_refused_and_changes_nothing(value, code):
    (a,) = shells(0)
    a.create("f")
    choose(a, "f", b"append")
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the errno is what matters
        choose(a, "f", value)
    assert refused.value.errno == code
    assert policy(a, "f") == b"append"


def test_the_flags_of_setxattr_go_by_what_was_set_by_hand():
    (a,) = shells(0)
    a.mkdir("d")
    choose(a, "d", b"append")
    a.create("d/f")
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        choose(a, "d/f", b"keep", os.XATTR_REPLACE)
    choose(a, "d/f", b"keep", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        choose(a, "d/f", b"append", os.XATTR_CREATE)
    choose(a, "d/f", b"blocks", os.XATTR_REPLACE)
    assert policy(a, "d/f") == b"blocks"


def test_to_take_back_what_was_not_set_by_hand_fails():
    (a,) = shells(0)
    a.mkdir("d")
    choose(a, "d", b"append")
    a.create("d/f")
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        choose(a, "d/f", None)
    assert policy(a, "d/f") == b"append"


def test_only_files_and_directories_have_one():
    (a,) = shells(0)
    a.symlink("s", "target")
    with pytest.raises(PermissionError):
        choose(a, "s", b"keep")


def test_what_is_made_in_a_directory_has_its_policy_and_does_not_list_it():
    """So `cp -a` of a tree copies what somebody set, and no more."""
    (a,) = shells(0)
    a.mkdir("d")
    choose(a, "d", b"append")
    a.create("d/f")
    a.mkdir("d/e")
    a.create("d/e/g")
    assert [policy(a, path) for path in ("d/f", "d/e", "d/e/g")] == [b"append"] * 3
    assert [is_listed(a, path) for path in ("d", "d/f", "d/e", "d/e/g")] == [True, False, False, False]


def test_moving_a_file_or_its_directory_decides_nothing_anew():
    (a,) = shells(0)
    for name in "de":
        a.mkdir(name)
    choose(a, "d", b"append")
    choose(a, "e", b"blocks")
    a.create("d/f")
    a.move("d/f", "e/f")
    assert policy(a, "e/f") == b"append"
    a.move("e", "d/e")
    assert policy(a, "d/e/f") == b"append"
    assert policy(a, "d/e") == b"blocks"
    choose(a, "d", b"keep")
    assert policy(a, "d/e/f") == b"append"


def test_taking_back_gives_what_the_file_was_made_with():
    (a,) = shells(0)
    a.mkdir("d")
    choose(a, "d", b"append")
    a.create("d/f")
    choose(a, "d/f", b"keep")
    choose(a, "d/f", None)
    assert policy(a, "d/f") == b"append"


def test_the_patterns_of_the_volume_choose_on_all_replicas_for_files_alone():
    a, b = shells(0, 0)
    a.replica.set_pattern("*.log", Policy.APPEND)
    b.hear(a)
    for shell in (a, b):
        name = shell.replica.name
        shell.create(f"{name}.log")
        shell.mkdir(f"dir-{name}.log")
        shell.create(f"{name}.txt")
        assert policy(shell, f"{name}.log") == b"append"
        assert policy(shell, f"dir-{name}.log") is policy(shell, f"{name}.txt") is None
    a.replica.set_pattern("*.log", Policy.UNSET)
    b.hear(a)
    b.create("later.log")
    assert policy(b, "later.log") is None
    assert policy(b, "B.log") == b"append"
    exchange(a, b)


def test_a_directory_decides_before_the_patterns():
    (a,) = shells(0)
    a.replica.set_pattern("*.log", Policy.APPEND)
    a.mkdir("d")
    choose(a, "d", b"keep")
    a.create("d/x.log")
    assert policy(a, "d/x.log") == b"keep"


def test_patterns_are_there_after_a_restart():
    (a,) = shells(0)
    a.replica.set_pattern("*.log", Policy.APPEND)
    a.open()
    a.create("x.log")
    assert policy(a, "x.log") == b"append"


def test_patterns_that_two_replicas_set_at_once_both_hold():
    a, b = shells(0, 0)
    a.replica.set_pattern("*.log", Policy.APPEND)
    b.world.tick()
    b.replica.set_pattern("*.db", Policy.BLOCKS)
    exchange(a, b)
    assert a.replica.patterns.patterns == b.replica.patterns.patterns
    a.create("x.db")
    b.create("x.log")
    assert (policy(a, "x.db"), policy(b, "x.log")) == (b"blocks", b"append")


def test_of_policies_that_are_set_at_once_the_last_holds_also_against_taking_back():
    a, b = shells(0, 0)
    for name in "fg":
        a.create(name)
        choose(a, name, b"keep")
    b.hear(a)
    choose(a, "f", b"blocks")
    choose(b, "f", b"append")
    choose(a, "g", b"blocks")
    choose(b, "g", None)
    exchange(a, b)
    for shell in (a, b):
        assert policy(shell, "f") == b"append"
        assert policy(shell, "g") is None


def test_a_policy_that_replaces_another_is_not_undone_by_a_clock_behind():
    a, b = shells(0, -1000)
    a.create("f")
    choose(a, "f", b"append")
    b.hear(a)
    choose(b, "f", b"keep")
    exchange(a, b)
    assert policy(a, "f") == b"keep"


def test_of_the_policies_of_a_unions_members_the_last_that_was_set_holds():
    a, b = shells(0, 0)
    for shell, value in ((a, b"append"), (b, b"keep")):
        shell.mkdir("d")
        choose(shell, "d", value)
    exchange(a, b)
    for shell in (a, b):
        assert policy(shell, "d") == b"keep"
        shell.create(f"d/{shell.replica.name}")
        assert policy(shell, f"d/{shell.replica.name}") == b"keep"


def test_a_union_has_the_policy_that_was_set_on_one_of_its_members():
    a, b = shells(0, 0)
    a.mkdir("d")
    choose(a, "d", b"append")
    b.mkdir("d")
    exchange(a, b)
    for shell in (a, b):
        assert policy(shell, "d") == b"append"
        assert is_listed(shell, "d")
        shell.create(f"d/{shell.replica.name}")
        assert policy(shell, f"d/{shell.replica.name}") == b"append"
    choose(b, "d", b"keep")
    exchange(a, b)
    assert policy(a, "d") == b"keep"


def test_a_conflict_entry_has_its_files_policy_and_keeps_it_as_a_file_of_its_own():
    a, b = shells(0, 0)
    a.create("f")
    choose(a, "f", b"keep")
    b.hear(a)
    a.write("f", "from A")
    b.write("f", "from B")
    (entry,) = (path for path in exchange(a, b) if path != "f")
    assert policy(a, entry) == b"keep"
    a.chmod(entry, 0o600)
    choose(a, "f", b"append")
    exchange(a, b)
    assert policy(b, entry) == b"keep"
    assert policy(b, "f") == b"append"


def test_digests_differ_where_policies_do():
    (a,) = shells(0)
    a.create("f")
    before = a.fs.digest()
    choose(a, "f", b"append")
    assert a.fs.digest() != before
