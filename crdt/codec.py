"""Canonical bytes: the one home of msgpack.

Equal values have equal bytes on every replica: lists and tuples are one thing, integers take their
shortest form, and nothing else than integers, bytes, str, bool, None and sequences of these occurs.
`unpack` gives tuples.
"""

from __future__ import annotations

from typing import cast

import msgpack

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


class CodecError(ValueError):
    """Bytes that are no canonical encoding."""


class CorruptStore(Exception):
    """A row of this store is not what was written: the disk is at fault, or we are."""

    def __init__(self, key: bytes, reason: str) -> None:
        super().__init__(f"row {key[:1].decode('ascii', 'replace')}:{key[1:].hex()} is damaged: {reason}")
        self.key = key


def pack(value: object) -> bytes:
    return _packer.pack(value)


def unpack(data: bytes) -> object:
    """Return the value, sequences as tuples.  Raises CodecError on anything malformed."""
    try:
        return cast(object, msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True))
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError(f"not msgpack: {error}") from None
