"""Ask the daemon of a store (elmer.control), without an event loop: a command starts at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elmer.directory import StoreDirectory, find_holder, reachable
from elmer.exits import CommandError, ExitStatus

ANSWER_TIMEOUT_S = 60.0
WALK_TIMEOUT_S = 3_600.0  # where the daemon walks the whole tree, as for a digest
REFUSED = 409  # the answer is a CommandError


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("elmer", timeout=timeout_s)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with reachable(self.path) as address:
            self.sock.connect(address)


def ask(
    directory: StoreDirectory,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> dict[str, Any]:
    """Return what the daemon of a store answers.

    Raises CommandError: with its own text where the daemon refuses, else UNREACHABLE.
    """
    holder = find_holder(directory)
    if holder is not None and holder.is_stuck:
        raise CommandError(f"{directory.path} is in use by {holder}", ExitStatus.UNREACHABLE)
    connection = _Connection(directory.socket, timeout_s)
    try:
        body = json.dumps(arguments or {})
        connection.request("POST", f"/{command}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(directory, error) from error
    finally:
        connection.close()
    return _result(directory, response.status, answer)


def _result(directory: StoreDirectory, status: int, answer: bytes) -> dict[str, Any]:
    if status == http.client.OK:
        result: dict[str, Any] = json.loads(answer)
        return result
    if status == REFUSED:
        refusal = json.loads(answer)
        raise CommandError(refusal["error"], ExitStatus(refusal["status"]))
    raise CommandError(
        f"the daemon of {directory.path} failed ({status}); see {directory.log}",
        ExitStatus.UNREACHABLE,
    )


def _unreachable(directory: StoreDirectory, error: Exception) -> CommandError:
    holder = find_holder(directory)
    if holder is None:
        return CommandError(
            f"no daemon is running for {directory.path}; start it by `elmer mount` or `elmer serve`",
            ExitStatus.UNREACHABLE,
        )
    return CommandError(
        f"{directory.path} is in use by {holder}, which does not answer: {error}",
        ExitStatus.UNREACHABLE,
    )
