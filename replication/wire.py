"""Frames: the bytes of messages, compressed where that pays, bounded on both sides.

| offset | size | field |
|---|---|---|
| 0 | 1 | form: 0 plain, 1 one Zstandard frame that says its content size |
| 1 | - | messages (`replication.message`) |

A frame cannot grow beyond the bound when it is decompressed, whatever its header claims: the content
size is checked before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from replication.limits import Limits
from replication.local import PeerError
from replication.message import Alive, Message, pack_messages, unpack_messages

PLAIN = b"\x00"
COMPRESSED = b"\x01"
LEVEL = 1  # about 400 MB/s on text, several GB/s on what does not compress
WORTH = 0.9  # of the size: else it goes as it is and the peer need not decompress

ALIVE = PLAIN + pack_messages([Alive()])


def seal(messages: Sequence[Message], limits: Limits) -> bytes:
    data = pack_messages(messages)
    assert len(data) < limits.frame_bytes_max, f"a frame of {len(data)} bytes"
    if len(data) >= limits.compress_bytes_min:
        compressed = zstandard.ZstdCompressor(level=LEVEL).compress(data)
        if len(compressed) < len(data) * WORTH:
            return COMPRESSED + compressed
    return PLAIN + data


def unseal(frame: bytes, limits: Limits) -> list[Message]:
    """Return the messages of a frame.  Raises PeerError."""
    if len(frame) > limits.frame_bytes_max:
        raise PeerError(f"a frame of {len(frame)} bytes: at most {limits.frame_bytes_max} are taken")
    form, data = frame[:1], frame[1:]
    if form == COMPRESSED:
        data = _decompressed(data, limits.frame_bytes_max)
    elif form != PLAIN:
        raise PeerError(f"a frame of unknown form {form.hex()}")
    return unpack_messages(data)


def _decompressed(data: bytes, bytes_max: int) -> bytes:
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= bytes_max:
            raise PeerError(f"a compressed frame that claims {size} bytes (at most {bytes_max})")
        decompressor = zstandard.ZstdDecompressor(max_window_size=max(bytes_max, 1024))
        return decompressor.decompress(data, max_output_size=bytes_max, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PeerError(f"a frame that does not decompress: {error}") from None
