"""The laws of the merge (docs/conflicts.md), and how one that does not hold is told."""

from __future__ import annotations

LAWS = {
    "L1": "the same facts show the same, and what the facts show",
    "L2": "a program changes what POSIX says, and nothing else",
    "L3": "nothing that was written is lost",
    "L4": "a merged write changes the entry that it extends, and nothing else",
    "L5": "a choice holds",
    "L6": "what shows is a tree",
    "L7": "`rm -r` and `mv d/* e/` never fail half way",
    "once": "a commit says a thing once: a field has one value, a version one content",
    "fsck": "the rows of a store fit together",
    "reopened": "a store that is opened again shows the same",
    "POSIX": "a program finds what it has just done, and gets no error without a reason",
}


class Broken(AssertionError):
    """One of `LAWS` does not hold."""

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}, {LAWS[law]}: {detail}")
        self.law = law


def require(holds: object, law: str, detail: str) -> None:
    if not holds:
        raise Broken(law, detail)
