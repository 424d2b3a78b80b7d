"""A ticket: the one line of text that lets a further replica into a volume.

    elmer1-BODY     BODY is URL-safe base64 without padding of

    offset  size  field
    0       16    volume id
    16      32    secret of the volume
    48      32    key of the digests
    80      n     addresses of the inviter: URLs in UTF-8, separated by newlines
    80+n    8     BLAKE2b-64 of all before it: finds what was lost in copying, and proves nothing

The number after "elmer" is the version of the encoding.  Whoever has a ticket can join, so it is
kept like a password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NamedTuple

from elmer.exits import CommandError, ExitStatus

PREFIX = "elmer1-"
ID_BYTES = 16
KEY_BYTES = 32
CHECK_BYTES = 8
URLS_START = ID_BYTES + 2 * KEY_BYTES


class Ticket(NamedTuple):
    volume_id: bytes
    secret: bytes
    digest_key: bytes
    urls: tuple[str, ...]


def encode(ticket: Ticket) -> str:
    assert len(ticket.volume_id) == ID_BYTES
    assert len(ticket.secret) == len(ticket.digest_key) == KEY_BYTES
    urls = "\n".join(ticket.urls).encode()
    body = ticket.volume_id + ticket.secret + ticket.digest_key + urls
    return PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")


def decode(text: str) -> Ticket:
    """Return the ticket that `text` stands for.

    Raises CommandError (USAGE) where it is none, was cut or changed on its way, or is of another
    version.
    """
    text = text.strip()
    if not text.startswith(PREFIX):
        if text.startswith("elmer"):
            raise CommandError(
                "this ticket is of another version of elmer; use the same version on both sides",
                ExitStatus.USAGE,
            )
        raise CommandError(
            f"that is no ticket; `elmer invite` prints one, it begins with {PREFIX}",
            ExitStatus.USAGE,
        )
    packed = _decode_base64(text.removeprefix(PREFIX))
    body, check = packed[:-CHECK_BYTES], packed[-CHECK_BYTES:]
    if len(body) < URLS_START or check != _check(body):
        raise _damaged()
    urls = body[URLS_START:].decode()
    ticket = Ticket(
        volume_id=body[:ID_BYTES],
        secret=body[ID_BYTES : ID_BYTES + KEY_BYTES],
        digest_key=body[ID_BYTES + KEY_BYTES : URLS_START],
        urls=tuple(urls.split("\n")) if urls else (),
    )
    if encode(ticket) != text:  # base64 has spare bits in its last character
        raise _damaged()
    return ticket


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged() from error


def _damaged() -> CommandError:
    return CommandError(
        "this ticket is damaged: copy the whole line that `elmer invite` printed", ExitStatus.USAGE
    )


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECK_BYTES).digest()
