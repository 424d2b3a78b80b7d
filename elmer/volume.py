"""The stores of a volume: found one, join one, open one.

A new store directory is filled step by step and marked as whole by its config.json at the end.
Whatever fails before that takes back what was made, so that the same command can be repeated.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from crdt.causality import REPLICA_MAX, ReplicaId
from crdt.codec import CorruptStore
from crdt.facts import Member
from elmer import clock
from elmer import config as configuration
from elmer.config import Config
from elmer.directory import StoreDirectory, mode_at
from elmer.exits import CommandError, ExitStatus
from elmer.joining import Request, decode_members, encode_request
from elmer.rocks import RocksStore, Rows, remains
from elmer.space import release_if_full
from elmer.store_errors import Refusal, StoreError
from elmer.store_files import sync_directory
from elmer.ticket import ID_BYTES, KEY_BYTES, Ticket
from replication.client import request_join
from replication.connection import ConnectionGoneError
from replication.local import PeerError
from translation.replica import NewerFormat, Replica, Volume

NAME = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
DIRECTORY_MODE = 0o700
# Of these the arguments of the command are the cause, not the store.
DAMAGED = {Refusal.DAMAGED, Refusal.LOST_TAIL}
USAGE = {Refusal.NOT_A_STORE, Refusal.NOT_EMPTY}


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise CommandError(f"'{name}' is no name for a replica: 1 to 32 of A-Z a-z 0-9 _ -", ExitStatus.USAGE)


def found(directory: StoreDirectory, name: str) -> None:
    """Make a new volume and its first replica.  Its root belongs to who calls this."""
    check_name(name)
    volume = Volume(*map(secrets.token_bytes, (ID_BYTES, KEY_BYTES, KEY_BYTES)))
    with _filled(directory) as store:
        Replica.create(
            store,
            volume,
            draw_replica(()),
            name,
            secrets.token_bytes(ID_BYTES),
            clock.now_ns(),
            owner_ids=(os.getuid(), os.getgid()),
        )
        configuration.save(directory.config, Config())


def join(directory: StoreDirectory, name: str, ticket: Ticket, config: Config) -> str:
    """Make a further replica of the ticket's volume; return the URL of the member that let it in.

    `config` is that of the new replica; the inviter is added to its peers.
    """
    check_name(name)
    _check_free(directory)
    store_id = secrets.token_bytes(ID_BYTES)
    url, members = _ask_inviter(ticket, Request(name, store_id, config.advertised()))
    volume = Volume(ticket.volume_id, ticket.secret, ticket.digest_key)
    replica = draw_replica([member.replica for member in members])
    for peer in ticket.urls:
        config = config.with_peer(peer)
    with _filled(directory) as store:
        Replica.create(store, volume, replica, name, store_id, clock.now_ns(), members)
        configuration.save(directory.config, config)
    return url


def draw_replica(taken: Collection[ReplicaId]) -> ReplicaId:
    """Return a number that nobody known has.  Two that are drawn at once differ, 8 million to 1."""
    while True:
        drawn = ReplicaId(1 + secrets.randbelow(REPLICA_MAX))
        if drawn not in taken:
            return drawn


@contextmanager
def opened_store(directory: StoreDirectory) -> Iterator[RocksStore]:
    """Yield the rows of a store that the caller holds (elmer.directory.held).

    Raises CommandError (STORE) where they cannot be used.
    """
    with _told():
        release_if_full(directory.reserve)
        store = RocksStore(directory.rows)
    with _closed(store):
        yield store


@contextmanager
def _closed(store: RocksStore) -> Iterator[None]:
    """Close a store at the end.  What went wrong before says more to a person than that this did, too."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            store.close()
        raise
    with _told():
        store.close()


@contextmanager
def opened_to_check(directory: StoreDirectory) -> Iterator[tuple[Rows | None, str]]:
    """As `opened_store`, also where the store is damaged: yield what can be read of it, None where that is
    nothing, and why it is not opened.  Nothing is changed then."""
    try:
        store = RocksStore(directory.rows)
    except StoreError as error:
        if error.refusal not in DAMAGED:
            with _told():
                raise
        with _remains(directory) as rows:
            yield rows, str(error)
        return
    with _closed(store):
        yield store, ""


@contextmanager
def _remains(directory: StoreDirectory) -> Iterator[Rows | None]:
    with ExitStack() as stack:
        try:
            rows = stack.enter_context(remains(directory.rows))
        except StoreError:
            yield None
        else:
            yield rows


@contextmanager
def opened(directory: StoreDirectory) -> Iterator[Replica]:
    """As `opened_store`, the replica."""
    with opened_store(directory) as store:
        with _told():
            replica = Replica(store, clock.now_ns)
        yield replica


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a store cannot be used for into words for a person."""
    try:
        yield
    except StoreError as error:
        status = ExitStatus.USAGE if error.refusal in USAGE else ExitStatus.STORE
        raise CommandError(str(error), status) from error
    except NewerFormat as error:
        raise CommandError(f"{error}; use a newer elmer", ExitStatus.STORE) from error
    except CorruptStore as error:
        raise CommandError(f"{error}; see `elmer fsck`", ExitStatus.STORE) from error
    except OSError as error:
        raise CommandError(str(error), ExitStatus.STORE) from error


def _check_free(directory: StoreDirectory) -> None:
    path = directory.path
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        # RocksDB's binding takes no other; mount points and names in a volume are any bytes.
        raise CommandError(f"{path}: the path of a store must be UTF-8", ExitStatus.USAGE) from error
    if stat.S_ISDIR(mode_at(path)):
        if any(path.iterdir()):
            raise CommandError(f"{path} is not empty; choose a new directory", ExitStatus.USAGE)
    elif os.path.lexists(path):
        raise CommandError(f"{path} is not a directory", ExitStatus.USAGE)
    elif not stat.S_ISDIR(mode_at(path.parent)):
        raise CommandError(f"{path.parent} does not exist", ExitStatus.USAGE)


@contextmanager
def _filled(directory: StoreDirectory) -> Iterator[RocksStore]:
    """Yield an empty store in a new or empty directory; take all back where the block fails."""
    _check_free(directory)
    path = directory.path
    was_there = path.is_dir()
    with _told():
        path.mkdir(exist_ok=True)
        try:
            path.chmod(DIRECTORY_MODE)  # there are keys inside
            store = RocksStore(directory.rows, create=True)
            with _closed(store):
                yield store
            with suppress(PermissionError):  # of a directory that may be written and not listed
                sync_directory(path.absolute().parent)
        except BaseException:
            _empty(path)
            if not was_there:
                path.rmdir()
            raise


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _ask_inviter(ticket: Ticket, request: Request) -> tuple[str, list[Member]]:
    """Return the first address of the ticket that answers, and the members it tells."""
    unreached = []
    for url in ticket.urls:
        nonce = secrets.token_bytes(32)
        asked = request_join(url, ticket.volume_id, ticket.secret, encode_request(request), nonce)
        try:
            return url, decode_members(asyncio.run(asked))
        except ConnectionGoneError as error:
            unreached.append(str(error))
        except PeerError as error:
            raise CommandError(f"{url} refuses: {error}", ExitStatus.UNREACHABLE) from error
    raise CommandError(
        f"the replica that invited cannot be reached ({'; '.join(unreached)});"
        " is it mounted, and its address right?",
        ExitStatus.UNREACHABLE,
    )
