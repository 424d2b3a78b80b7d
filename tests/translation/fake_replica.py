"""What `Content` needs of a replica, with real block maps and merges that move them about.

Each version is checked as it is committed: its digest is that of the whole, computed from nothing; its
blocks are there; its base is a branch as it stands.  What was committed is kept as plain bytes too.
"""

from __future__ import annotations

import errno
import os

from crdt import blocks
from crdt.blocks import BLOCK_SIZE, EMPTY_DIGEST, NO_MAP, WritableMap, block_key
from crdt.causality import ReplicaId, make_dot
from crdt.facts import Ino, Ref, Version, VersionId
from crdt.store import MemoryStore
from translation.content import Shown, VersionFields

OURS, THEIRS = ReplicaId(1), ReplicaId(2)
SECOND_NS = 1_000_000_000


class FakeReplica:
    def __init__(self):
        self.digest_key = bytes(range(32))
        self.store = MemoryStore()
        self.clock_ns = 1000 * SECOND_NS
        self.counter = 0
        self.branches = {}  # head -> Shown
        self.contents = {}  # head -> bytes
        self.gone_on = {}  # head -> our head that extends it
        self.head = {}  # ino -> the head that shows
        self.commits = []  # VersionFields
        self.hidden = set()  # hashes of blocks that are not here
        self.fails_after = None  # batches, then the disk is full
        self.asked = []  # keys
        self.logs = set()  # files of the policy `append`

    # The protocol.

    def now_ns(self):
        return self.clock_ns

    def get(self, key):
        self.asked.append(key)
        return None if key[1:] in self.hidden else self.store.get(key)

    def scan(self, start, end):
        return self.store.scan(start, end)

    def put_rows(self, rows):
        if self.fails_after is not None:
            if not self.fails_after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.fails_after -= 1
        self.store.commit(rows)

    def shown(self, ino):
        if ino not in self.head:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.branches[self.head[ino]]

    def shown_to_write(self, ino):
        return self.shown(ino)

    def keeps_for_open(self, owner):
        return False

    def is_log(self, ino):
        return ino in self.logs

    def shown_at(self, ino, head):
        while head in self.gone_on:
            head = self.gone_on[head]
        return self.branches.get(head)

    def commit_version(self, base, fields, rows):
        assert self.branches[base.head] == base
        assert base.head not in self.gone_on
        self.put_rows(rows)
        extended = self.extend(base, OURS, fields)
        self.gone_on[base.head] = extended.head
        if self.head[base.head.ino] == base.head:
            self.head[base.head.ino] = extended.head
        self.commits.append(fields)
        return extended

    # What happens to it.

    def next_version(self, replica):
        self.counter += 1
        return VersionId(make_dot(replica, self.counter))

    def create(self, content=b""):
        version = self.next_version(OURS)
        ino = Ino(version)
        ref = Ref(ino, version)
        self.branches[ref] = Shown(ino, ref, 0, 1, NO_MAP, ino, b"", EMPTY_DIGEST, b"", ())
        self.contents[ref] = b""
        self.head[ino] = ref
        if content:
            self.merge(ino, content, seen=ref)
        return ino

    def put(self, key, value):
        self.store.commit({key: value})

    def extend(self, base, replica, fields):
        """A version in the words of `crdt.facts.Version`, applied to the rows, and checked."""
        ref = Ref(base.head.ino, self.next_version(replica))
        version = Version(
            ref.ino,
            ref.version,
            (base.head,),
            fields.size,
            fields.mtime_ns,
            fields.digest,
            inline=fields.inline,
            cut_bytes=fields.cut_bytes,
            changed=fields.changed,
        )
        assert [index for index, _ in fields.changed] == sorted({i for i, _ in fields.changed})
        if base.inline is not None and fields.inline is None:
            assert 0 in dict(fields.changed) or fields.cut_bytes == 0 or not base.inline.rstrip(b"\0")
        # The branch it leaves keeps a map of its own, under another number: nobody may rely on one.
        kept = NO_MAP
        if base.map:
            kept = 1 << 62 | base.head.version
            WritableMap(self, base.map_ino, base.map).copy_to(kept)
        map_id, _ = blocks.advance(self, base.map_ino, base.map, version)
        self.branches[base.head] = base._replace(map=kept)
        after = Shown(
            base.owner,
            ref,
            fields.size,
            fields.mtime_ns,
            map_id,
            base.map_ino,
            fields.inline,
            fields.digest,
            fields.first_digest,
            (),
        )
        self.branches[ref] = after
        self.contents[ref] = self.whole(after)
        self.check(base, after)
        return after

    def whole(self, branch):
        if branch.inline is not None:
            assert len(branch.inline) == branch.size <= blocks.INLINE_MAX
            return branch.inline
        if branch.size > 1 << 24:
            return b""  # the sparse ones are looked at piece by piece
        content = bytearray(branch.size)
        for index, block_hash in blocks.BlockMap(self, branch.map_ino, branch.map).items():
            block = self.store.get(block_key(block_hash))
            assert blocks.hash_of(block) == block_hash
            start = index * BLOCK_SIZE
            content[start : start + len(block)] = block
        assert len(content) == branch.size
        return bytes(content)

    def check(self, base, after):
        if after.inline is not None:
            digest = blocks.digest_of_inline(self.digest_key, after.inline)
        else:
            items = blocks.BlockMap(self, after.map_ino, after.map).items()
            digest = blocks.digest_of(self.digest_key, after.size, items)
        assert after.digest == digest
        changed = digest if digest != base.digest else b""
        assert after.first_digest == (base.first_digest or changed)

    def merge(self, ino, content, *, seen=None):
        """A peer's version comes that extends `seen`, what shows as a rule; it shows now."""
        base = self.shown(ino) if seen is None else self.branches[seen]
        after = self.extend(base, THEIRS, self.fields_of(base, content))
        self.head[ino] = after.head

    def settle(self, ino, head):
        """A request of ours makes a version of the same content (it settled something)."""
        base = self.shown_at(ino, head)
        fields = self.fields_of(base, self.contents[base.head])
        after = self.extend(base, OURS, fields)
        self.gone_on[base.head] = after.head
        if self.head[ino] == base.head:
            self.head[ino] = after.head

    def fields_of(self, base, content):
        if len(content) <= blocks.INLINE_MAX:
            digest = blocks.digest_of_inline(self.digest_key, content)
            inline, cut, changed = content, None, ()
        else:
            pieces = [
                blocks.trimmed(content[at : at + BLOCK_SIZE]) for at in range(0, len(content), BLOCK_SIZE)
            ]
            changed = tuple((i, blocks.hash_of(piece)) for i, piece in enumerate(pieces))
            self.store.commit({block_key(blocks.hash_of(piece)): piece for piece in pieces if piece})
            digest = blocks.digest_of(self.digest_key, len(content), changed)
            inline, cut = None, 0
        first = base.first_digest or (digest if digest != base.digest else b"")
        return VersionFields(len(content), self.clock_ns, digest, first, inline, cut, changed)

    def rows(self, kind):
        return [key for key in self.store.keys if key[:1] == kind]
