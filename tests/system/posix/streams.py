"""Directory streams of the C library: os.listdir leaves out dots, and tells no offsets."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.fdopendir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long


class Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


libc.readdir.restype = ctypes.POINTER(Dirent)


class Stream:
    """A directory stream of the C library: os.listdir leaves out dots, and tells no offsets."""

    def __init__(self, path: Path) -> None:
        self.stream = ctypes.c_void_p(libc.fdopendir(os.open(path, os.O_RDONLY | os.O_DIRECTORY)))

    def read(self) -> Dirent | None:
        """Return the next entry, None at the end.  Raises OSError."""
        ctypes.set_errno(0)
        entry = libc.readdir(self.stream)
        if not entry:
            if ctypes.get_errno():
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return None
        return Dirent.from_buffer_copy(entry.contents)

    def tell(self) -> int:
        return libc.telldir(self.stream)

    def seek(self, offset: int) -> None:
        libc.seekdir(self.stream, ctypes.c_long(offset))

    def rewind(self) -> None:
        libc.rewinddir(self.stream)

    def rest(self) -> list[bytes]:
        return [entry.name for entry in iter(self.read, None)]


@contextmanager
def streamed(path: Path) -> Iterator[Stream]:
    stream = Stream(path)
    try:
        yield stream
    finally:
        libc.closedir(stream.stream)
