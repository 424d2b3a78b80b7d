"""Files with a merge policy on several replicas, for the tests of those."""

from __future__ import annotations

import os

from crdt.blocks import BLOCK_SIZE
from tests.shell import Shell, exchange, shells

MERGE = b"user.elmer.merge"
HALF = BLOCK_SIZE // 2


def choose(shell: Shell, path: str, value: bytes) -> None:
    shell.world.tick()
    shell.fs.setxattr(shell.stat(path).ino, MERGE, value)


def write_at(shell: Shell, path: str, offset: int, data: bytes) -> None:
    fh = shell.open_file(path, os.O_WRONLY)
    shell.world.tick()
    shell.fs.write(fh, offset, data)
    shell.close(fh)


def put(shell: Shell, path: str, **letters: str) -> None:
    """Write whole blocks: b0="A" fills the first one with A."""
    for name, letter in letters.items():
        write_at(shell, path, int(name[1:]) * BLOCK_SIZE, letter.encode() * BLOCK_SIZE)


def truncate(shell: Shell, path: str, size: int) -> None:
    shell.world.tick()
    shell.fs.setattr(shell.stat(path).ino, size=size)


def word(shell: Shell, path: str = "f") -> str:
    """The first letter of each block, a dot for a hole; a small letter where the last one is not full."""
    data = shell.read(path)
    letters = [chr(data[start] or ord(".")) for start in range(0, len(data), BLOCK_SIZE)]
    if len(data) % BLOCK_SIZE:
        letters[-1] = letters[-1].lower()
    return "".join(letters)


def shared(policy: bytes, content: str | bytes, count: int = 2) -> list[Shell]:
    """A file `f` of this policy, on all replicas."""
    peers = shells(*[0] * count)
    peers[0].create("f")
    choose(peers[0], "f", policy)
    peers[0].write("f", content if isinstance(content, bytes) else content.encode())
    meet(*peers)
    return peers


def blocks(letters: str, count: int = 2) -> list[Shell]:
    return shared(b"blocks", b"".join(letter.encode() * BLOCK_SIZE for letter in letters), count)


def meet(*peers: Shell) -> None:
    """All hear of all, show one thing, without any conflict."""
    exchange(*peers)
    for shell in peers:
        assert shell.fs.conflicts() == []


def head_count(shell: Shell, path: str = "f") -> int:
    inode = shell.replica.state.inode(shell.stat(path).ino)
    assert inode is not None
    return len(inode.heads)


def told(shell: Shell) -> dict[int, bool]:
    """What the kernel was told of since, by inode: True where its pages are old."""
    return shell.replica.take_changes().inodes
