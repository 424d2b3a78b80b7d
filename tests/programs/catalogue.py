"""All cases, in the order of the table that `scripts/programs` prints."""

from __future__ import annotations

from tests.programs import building, copying, databases, editing, loads, versioning
from tests.programs.case import Case

CASES: list[Case] = [
    case for subject in (versioning, databases, building, copying, editing, loads) for case in subject.CASES
]
QUICK = [case for case in CASES if case.quick]
# What each peer gets as well: there the same bytes are checked by the same program.
SHARED = [case for case in CASES if case.check is not None]
