"""elmer init, invite and join: how a volume gets its replicas."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from elmer.address import parse_address, peer_url
from elmer.ask import ask
from elmer.cli import json_option, say, target_argument
from elmer.config import DEFAULT_LISTEN, Config
from elmer.directory import StoreDirectory

name_option = click.option(
    "--name",
    required=True,
    help="The name of the replica, for ever: 1 to 32 of A-Z a-z 0-9 _ -."
    "  It stands in the names of conflict entries.",
)
url_option = click.option(
    "--url",
    metavar="HOST:PORT",
    help="Where other replicas reach this one, if not where it listens.",
)
LOOPBACK = ("http://127.", "http://localhost:", "http://[::1]:")


@click.command()
@click.argument("store")
@name_option
@json_option
def init(store: str, name: str, *, as_json: bool) -> None:
    """Make a new volume and its first replica.

    STORE must be new or empty.  It holds the only copy of the data until another replica has
    joined, and the keys of the volume: keep it from others.

    \b
    Example:
      elmer init /srv/photos --name office
    """
    from elmer.volume import found

    directory = _new_directory(store)
    found(directory, name)
    say(
        {"store": str(directory.path), "name": name},
        f"{directory.path} is the replica '{name}' of a new volume; `elmer mount` it",
        as_json=as_json,
    )


@click.command()
@target_argument
@url_option
@json_option
def invite(target: str, url: str | None, *, as_json: bool) -> None:
    """Print a ticket, by which a further replica joins.

    The daemon must be running.  A ticket has the keys of the volume in it: whoever has it can join
    and read everything.

    \b
    Examples:
      elmer invite /mnt/photos
      elmer invite /mnt/photos --url files.example.org:7400
    """
    from elmer.target import resolve

    said = ask(resolve(target).directory, "invite", {"url": url})
    say(said, said["ticket"], as_json=as_json)
    if not as_json and all(address.startswith(LOOPBACK) for address in said["urls"]):
        click.echo(
            "This replica listens on this machine only. For others, mount it with --listen, or"
            " say by --url where they reach it.",
            err=True,
        )


@click.command()
@click.argument("store")
@click.argument("ticket")
@name_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where the new replica is to listen when it is mounted.  Default: a port of 127.0.0.1.",
)
@url_option
@json_option
def join(store: str, ticket: str, name: str, listen: str | None, url: str | None, *, as_json: bool) -> None:
    """Make a further replica of a volume, in the directory STORE.

    The replica that printed the TICKET must be running.  What is in the volume comes when the new
    replica is mounted.

    \b
    Example:
      elmer join /srv/photos "$TICKET" --name home --listen 0.0.0.0:7400 --url home.example.org:7400
    """
    from elmer.ticket import decode
    from elmer.volume import join as join_volume

    directory = _new_directory(store)
    decoded = decode(ticket)
    config = _config(listen, url, local=all(u.startswith(LOOPBACK) for u in decoded.urls))
    inviter = join_volume(directory, name, decoded, config)
    say(
        {"store": str(directory.path), "name": name, "inviter": inviter},
        f"{directory.path} is the replica '{name}' of the volume; `elmer mount` it",
        as_json=as_json,
    )


def _config(listen: str | None, url: str | None, *, local: bool) -> Config:
    """Return where the newcomer will listen: known before it does, so that it can tell the inviter.

    By default nobody but this machine reaches it, so only an inviter on this machine is told.
    """
    told = None if url is None else peer_url(url)
    if listen is not None:
        return Config(listen=str(parse_address(listen)), url=told)
    if told is None and not local:
        return Config()
    address = parse_address(DEFAULT_LISTEN)
    with socket.socket() as probe:
        probe.bind((address.host, 0))
        return Config(listen=str(address._replace(port=probe.getsockname()[1])), url=told)


def _new_directory(store: str) -> StoreDirectory:
    return StoreDirectory(Path(os.path.realpath(store)))


COMMANDS = (init, invite, join)
