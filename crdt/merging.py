"""What several heads of a file show together, under the policies `blocks` and `append`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from crdt.facts import DERIVED, Policy, Ref, VersionId


def merging_number(policy: Policy, parents: Sequence[Ref]) -> VersionId:
    """The number of the version that is what these heads show together, wherever it is made."""
    digest = blake2b(bytes([policy]), digest_size=8, person=b"merging")
    for part in parents:
        digest.update(part.ino.to_bytes(8, "big") + part.version.to_bytes(8, "big"))
    return VersionId(DERIVED | int.from_bytes(digest.digest(), "big") >> 1)
