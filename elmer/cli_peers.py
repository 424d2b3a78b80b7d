"""elmer peers, offline, online and sync: whom a replica talks to, and whether."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from elmer import config as configuration
from elmer.address import peer_url
from elmer.ask import ask
from elmer.cli import Group, console, json_option, say, target_argument
from elmer.cli_tables import peers_table
from elmer.directory import StoreDirectory, find_holder, held
from elmer.exits import CommandError, ExitStatus
from elmer.target import resolve

SYNC_TIMEOUT_S = 60.0
# The daemon answers in time; this is how much later its answer may come.
GRACE_S = 30.0


@click.group(cls=Group)
def peers() -> None:
    """The replicas that this one talks to.

    \b
    Examples:
      elmer peers list /mnt/photos
      elmer peers add /mnt/photos files.example.org:7400
      elmer peers remove /mnt/photos office
    """


@peers.command("list")
@target_argument
@json_option
def list_peers(target: str, *, as_json: bool) -> None:
    """List them, with how far they are.

    \b
    Example:
      elmer peers list /mnt/photos
    """
    directory = resolve(target).directory
    said = {"peers": _known(directory)}
    if as_json:
        say(said, "", as_json=True)
    elif not said["peers"]:
        click.echo("no peers; `elmer invite` one, or `elmer peers add` it")
    else:
        console().print(peers_table(said["peers"]))


@peers.command()
@target_argument
@click.argument("url", metavar="HOST:PORT")
@json_option
def add(target: str, url: str, *, as_json: bool) -> None:
    """Talk to the replica that listens at HOST:PORT, too.

    \b
    Example:
      elmer peers add /mnt/photos files.example.org:7400
    """
    directory = resolve(target).directory
    address = peer_url(url)
    if find_holder(directory) is not None:
        ask(directory, "add_peer", {"url": address})
    else:
        with held(directory, "peers"):
            known = configuration.load(directory.config)
            configuration.save(directory.config, known.with_peer(address))
    say({"url": address}, f"{address} is a peer", as_json=as_json)


@peers.command()
@target_argument
@click.argument("peer", metavar="NAME")
@json_option
def remove(target: str, peer: str, *, as_json: bool) -> None:
    """Dial the peer of this NAME or URL no more.

    It stays a member of the volume, and may still dial this replica.

    \b
    Example:
      elmer peers remove /mnt/photos office
    """
    directory = resolve(target).directory
    if find_holder(directory) is not None:
        urls = ask(directory, "remove_peer", {"named": peer})["urls"]
    else:
        urls = [_forget(directory, peer)]
    say({"urls": urls}, f"{' '.join(urls)} is dialed no more", as_json=as_json)


def _forget(directory: StoreDirectory, peer: str) -> str:
    """Without a daemon no names are known, only URLs."""
    with held(directory, "peers"):
        known = configuration.load(directory.config)
        url = next((url for url in known.peers if url in (peer, f"http://{peer}")), None)
        if url is None:
            raise CommandError(
                f"'{peer}' is none of the URLs that are dialed ({', '.join(known.peers) or 'none'});"
                " names are known while the daemon runs",
                ExitStatus.USAGE,
            )
        configuration.save(directory.config, known.without_peer(url))
    return url


@click.command()
@target_argument
@json_option
def offline(target: str, *, as_json: bool) -> None:
    """Stop all talk to peers, until `elmer online`.

    Also over restarts.  Everything else works on, and is merged when this replica is online again.

    \b
    Example:
      elmer offline /mnt/photos
    """
    _set_offline(resolve(target).directory, offline=True)
    say({"offline": True}, "offline", as_json=as_json)


@click.command()
@target_argument
@json_option
def online(target: str, *, as_json: bool) -> None:
    """Resume all talk to peers.

    \b
    Example:
      elmer online /mnt/photos
    """
    _set_offline(resolve(target).directory, offline=False)
    say({"offline": False}, "online", as_json=as_json)


def _set_offline(directory: StoreDirectory, *, offline: bool) -> None:
    if find_holder(directory) is not None:
        ask(directory, "offline" if offline else "online")
        return
    with held(directory, "offline" if offline else "online"):
        known = configuration.load(directory.config)
        if not offline:
            known.check_may_go_on()
        configuration.save(directory.config, replace(known, offline=offline))


@click.command()
@target_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=SYNC_TIMEOUT_S,
    show_default=True,
    help="Seconds.",
)
@json_option
def sync(target: str, timeout_s: float, *, as_json: bool) -> int:
    """Wait until all peers in reach have seen the same.

    Then what this replica has is on their disks, what they have is on this one, and programs here
    see it.  Exit status 1: not so in time, or offline; what is missing is said.  Without any peer
    in reach there is nothing to wait for.

    \b
    Example:
      elmer sync /mnt/photos --timeout 10
    """
    directory = resolve(target).directory
    said = ask(directory, "sync", {"timeout_s": timeout_s}, timeout_s=timeout_s + GRACE_S)
    if not said["equal"]:
        say(said, f"not yet: {said['reason']}", as_json=as_json)
        return ExitStatus.NOT_SO
    many = "1 peer" if said["peers"] == 1 else f"{said['peers']} peers"
    say(said, f"the same as {many}" if said["peers"] else "no peer in reach", as_json=as_json)
    return ExitStatus.DONE


def _known(directory: StoreDirectory) -> list[dict[str, Any]]:
    if find_holder(directory) is not None:
        known: list[dict[str, Any]] = ask(directory, "status")["peers"]
        return known
    from elmer.status import unreached_peer

    return [unreached_peer(url) for url in configuration.load(directory.config).peers]


COMMANDS = (peers, offline, online, sync)
