"""What a command answers where it cannot do what was asked, and the exit status that says so.

A `CommandError` is told to a person in one or two lines: it names the path, the peer or the key,
and says what to do.  Anything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    DONE = 0
    NOT_SO = 1  # not (yet) so: not equal in time, busy, findings
    USAGE = 2  # the arguments do not fit what is there
    UNREACHABLE = 3  # no daemon, or no peer, answers
    STORE = 4  # the store cannot be used: taken, damaged, of another format
    MOUNT = 5  # the system does not let us mount
    SOURCE = 6  # elmer's source tree is not here


class CommandError(Exception):
    """`status` is the exit status of the command."""

    def __init__(self, message: str, status: ExitStatus) -> None:
        super().__init__(message)
        self.status = status


def no_such_record(name: str) -> CommandError:
    return CommandError(
        f"there is no record {name}; `elmer conflicts` lists those that there are", ExitStatus.NOT_SO
    )
