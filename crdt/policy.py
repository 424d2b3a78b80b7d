"""The names of merge policies, and the patterns by which a volume chooses one for a new file.

A pattern is a setting of the volume, under a key of its own, so that two replicas which set different
patterns both have their way; its value is the name of a policy, or nothing where it was taken back.
Patterns are matched against names, not paths, as by fnmatch(3).  Of several that match a name, the one
with the most characters that stand for themselves holds; of equal ones, the first in order: so there is
no order that people would have to keep, and that a merge could lose.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from crdt.facts import Policy, Setting

PATTERN_KEY = "merge:"  # the key of a pattern's setting begins so
PATTERN_MAX = 200  # characters

NAMES = {Policy.KEEP: b"keep", Policy.BLOCKS: b"blocks", Policy.APPEND: b"append"}
POLICIES = {name: policy for policy, name in NAMES.items()}


class Pattern(NamedTuple):
    pattern: str
    policy: Policy

    @property
    def weight(self) -> int:
        """How many of its characters stand for themselves."""
        return sum(character not in "*?[]" for character in self.pattern)


def check_pattern(pattern: str) -> None:
    """Raises ValueError, saying why, where this is no pattern of a name."""
    if not pattern or len(pattern) > PATTERN_MAX:
        raise ValueError(f"a pattern has 1 to {PATTERN_MAX} characters")
    if "/" in pattern or "\0" in pattern:
        raise ValueError(f"'{pattern}' matches no name: a name has no slash")
    try:
        pattern.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the pattern {pattern!r} is not UTF-8; let a ? stand for such bytes") from None


def pattern_setting(pattern: str, policy: Policy) -> Setting:
    """The fact that sets a pattern, or takes it back (UNSET).  Raises ValueError."""
    check_pattern(pattern)
    return Setting(PATTERN_KEY + pattern, NAMES.get(policy, b""))


def check_setting(setting: Setting) -> None:
    """Raises LookupError where this is a pattern that no replica of this release sets."""
    if not setting.key.startswith(PATTERN_KEY):
        return
    try:
        check_pattern(setting.key.removeprefix(PATTERN_KEY))
    except ValueError as error:
        raise LookupError(str(error)) from error
    if setting.value and setting.value not in POLICIES:
        raise LookupError(f"the merge policy {setting.value!r} is not known; is the peer newer?")


class Patterns:
    """The patterns of a volume, the one that holds before others first."""

    def __init__(self, settings: Iterable[Setting]) -> None:
        found = [
            Pattern(setting.key.removeprefix(PATTERN_KEY), POLICIES[setting.value])
            for setting in settings
            if setting.key.startswith(PATTERN_KEY) and setting.value
        ]
        self.patterns = tuple(sorted(found, key=lambda each: (-each.weight, each.pattern)))

    def policy_of(self, name: bytes) -> Policy:
        """Return what the patterns say of a name, UNSET where none matches."""
        if not self.patterns:
            return Policy.UNSET
        text = name.decode("utf-8", "surrogateescape")
        matching = (each.policy for each in self.patterns if fnmatchcase(text, each.pattern))
        return next(matching, Policy.UNSET)
