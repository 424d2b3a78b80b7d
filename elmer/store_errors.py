"""What goes wrong with a store on disk: why one is not opened, and what RocksDB says as an OSError.

rocksdict raises a bare Exception with the text of RocksDB's status; any other exception out of it is
a bug of ours and stays what it is.
"""

from __future__ import annotations

import errno
import os
import re
from enum import Enum
from pathlib import Path

ERRNO_OF = {os.strerror(number): number for number in errno.errorcode}
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Refusal(Enum):
    """Why a store is not opened."""

    IN_USE = "in use"
    NOT_A_STORE = "not a store"
    NOT_EMPTY = "not empty"
    NEWER = "newer"
    DAMAGED = "damaged"
    LOST_TAIL = "lost tail"
    DISK_FULL = "disk full"


class StoreError(Exception):
    """A store is not opened.  Says which one, why, and what to do."""

    def __init__(self, refusal: Refusal, path: Path, what: str, advice: str) -> None:
        super().__init__(f"{path}: {what}; {advice}")
        self.refusal = refusal
        self.path = path


def in_use(path: Path, what: str) -> StoreError:
    return StoreError(Refusal.IN_USE, path, what, "end that first")


def damaged(path: Path, what: str) -> StoreError:
    advice = "restore the directory from a backup, or join this replica again under a new id"
    return StoreError(Refusal.DAMAGED, path, what, advice)


# What lies in the files of RocksDB that its errors name.
HOLDS = {
    r"\d+\.sst": "rows: names, attributes, versions, or where blocks lie",
    r"\d+\.blob": "contents of files",
    r"\d+\.log": "the newest changes",
    r"MANIFEST-\d+": "the list of the other files",
    "CURRENT": "which list of the other files is in use",
}


def _held(text: str) -> str:
    """Return what is in the file that RocksDB speaks of, in brackets."""
    for pattern, holds in HOLDS.items():
        if found := re.search(rf"\b{pattern}\b", text):
            return f" ({found[0]} holds {holds})"
    return ""


def as_os_error(error: Exception, path: Path, key: bytes = b"") -> OSError:
    """Return what RocksDB says as an OSError.

    rocksdict raises bare Exception for it; anything else is a bug of ours and raised as it is.
    """
    if type(error) is not Exception:
        raise error
    text = " ".join(str(error).split())
    number = errno.ENOSPC if _errno(text) in NO_SPACE else errno.EIO
    row = f" (at row {key[:1].decode(errors='replace')} {key[1:].hex()})" if key else ""
    return OSError(number, text + row, str(path))


def as_store_error(error: Exception, path: Path) -> Exception:
    if type(error) is not Exception:
        raise error
    text = str(error)
    number = _errno(text)
    if text.startswith(("IO error: lock hold", "IO error: While lock")):
        return in_use(path, f"RocksDB is open on it ({text})")
    if number in NO_SPACE:
        return StoreError(Refusal.DISK_FULL, path, text, "make room on the disk")
    if number in (errno.EIO, errno.ENOENT):
        return damaged(path, " ".join(text.split()) + _held(text))
    return OSError(number, text, str(path))


def _errno(text: str) -> int:
    """Return the error number in a status of RocksDB, or in what Rust says of an error of its own."""
    if found := re.search(r"\(os error (\d+)\)$", text):
        return int(found[1])
    return ERRNO_OF.get(text.rpartition(": ")[2], errno.EIO)
