"""The merge policy of a file or directory, as the extended attribute `user.elmer.merge`.

It is a register of the inode, not an attribute among others: a new file gets its directory's, or what the
patterns of the volume say of its name (Namespace.make).  To read it gives what holds, wherever that comes
from.  It is listed only where it was set on this very inode: who copies a file with its attributes (cp -a,
rsync -X) copies a choice that somebody made, and does not turn what a directory or a pattern gave into
one; and a directory that is copied whole is not full of attributes that nobody set.
"""

from __future__ import annotations

import errno
import os

from crdt.facts import Field, Ino, Kind, Policy
from crdt.policy import NAMES, POLICIES
from crdt.rows import Inode, policy_of
from translation.attributes import AttributeRequests
from translation.intent import posix_error

XATTR = b"user.elmer.merge"
LATER = b"text"  # a policy that this release does not have


class MergePolicies:
    def __init__(self, requests: AttributeRequests) -> None:
        self.requests = requests

    def get(self, ino: Ino) -> bytes:
        """Raises OSError (ENODATA) where nobody chose one: then it is `keep`."""
        policy = policy_of(self._rows(ino))
        if policy == Policy.UNSET:
            raise posix_error(errno.ENODATA, XATTR)
        return NAMES[policy]

    def is_listed(self, ino: Ino) -> bool:
        chosen = [row.last_set(Field.POLICY) for row in self._rows(ino)]
        return any(value is not None and value.fact.value for value in chosen)

    def set(self, ino: Ino, value: bytes, flags: int) -> None:
        """Raises OSError: EINVAL where there is no such policy, EOPNOTSUPP where this release does not have
        it, EPERM of what has no content, EEXIST and ENODATA by the flags, see setxattr(2)."""
        if value == LATER:
            raise posix_error(errno.EOPNOTSUPP, value)
        policy = POLICIES.get(value)
        if policy is None:
            raise posix_error(errno.EINVAL, value)
        listed = self.is_listed(ino)
        if flags & os.XATTR_CREATE and listed:
            raise posix_error(errno.EEXIST, XATTR)
        if flags & os.XATTR_REPLACE and not listed:
            raise posix_error(errno.ENODATA, XATTR)
        if self._rows(ino)[0].birth.kind not in (Kind.REGULAR, Kind.DIRECTORY):
            raise posix_error(errno.EPERM, XATTR)
        self._set(ino, policy)

    def remove(self, ino: Ino) -> None:
        """Take back what was set: what the inode was born with holds again.

        Raises OSError (ENODATA) where it is not listed.
        """
        if not self.is_listed(ino):
            raise posix_error(errno.ENODATA, XATTR)
        self._set(ino, Policy.UNSET)

    def _set(self, ino: Ino, policy: Policy) -> None:
        self.requests.content.flush(ino)  # what was written before this was written under the old one
        self.requests.set_registers(ino, {Field.POLICY: policy})

    def _rows(self, ino: Ino) -> list[Inode]:
        """The inode, of a content conflict entry its file's, or the members of a union."""
        inode = self.requests.target(ino).inode
        if inode.is_directory:
            return [self.requests.inode(member) for member in self.requests.view.members(inode.ino)]
        return [inode]
