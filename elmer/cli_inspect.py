"""elmer status, digest, conflicts and fsck: what is in a store and how it stands.

With a daemon it is asked; without one the store is opened, and nothing in it is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from rich.console import Console

from elmer import config as configuration
from elmer.ask import WALK_TIMEOUT_S, ask
from elmer.cli import console, json_option, say, target_argument
from elmer.cli_tables import ago, amount, conflicts_table, peers_table, records_table, size
from elmer.directory import StoreDirectory, find_holder, held
from elmer.exits import ExitStatus
from elmer.target import resolve, resolve_store

if TYPE_CHECKING:
    from crdt.store import Store
    from translation.fsck import Finding
    from translation.listing import Listing

T = TypeVar("T")

CLOCK_TOLERANCE_MS = 2_000


@click.command()
@target_argument
@json_option
def status(target: str, *, as_json: bool) -> None:
    """Show replica, peers, lag, conflicts, clock and disk.

    \b
    Example:
      elmer status /mnt/photos
    """
    directory = resolve(target).directory
    if find_holder(directory) is not None:
        said = ask(directory, "status", timeout_s=WALK_TIMEOUT_S)
    else:
        said = _status_at_rest(directory)
    if as_json:
        say(said, "", as_json=True)
        return
    for line in _status_lines(said):
        click.echo(line)
    if said["peers"]:
        console().print(peers_table(said["peers"]))


def _status_at_rest(directory: StoreDirectory) -> dict[str, Any]:
    from elmer import status as describe

    config = configuration.load(directory.config)
    said = _at_rest(directory, "status", describe.replica_status)
    return {
        **said,
        **describe.config_status(directory, config),
        "daemon": None,
        "peers": [describe.unreached_peer(url) for url in config.peers],
        "lag": describe.lag(()),
    }


def _status_lines(said: dict[str, Any]) -> list[str]:
    replica, disk, daemon, lag = said["replica"], said["disk"], said["daemon"], said["lag"]
    lines = [
        f"replica    {replica['name']} (number {replica['id']}) of volume {said['volume']}",
        f"store      {said['store']}, {size(disk['store_bytes'])}",
        f"disk       {size(disk['free_bytes'])} free of {size(disk['total_bytes'])}",
        f"members    {', '.join(member['name'] for member in said['members'])}",
        f"facts      {said['facts']} commits",
        f"conflicts  {said['conflicts']}",
        f"overruled  {said['records']}",
        f"orphans    {said['orphans']}",
    ]
    if daemon is None:
        lines.append("daemon     none is running")
    else:
        where = f"mounted on {daemon['mountpoint']}" if daemon["mountpoint"] else "no mount"
        lines.append(f"daemon     process {daemon['pid']}, {where}, listens on {daemon['listen']}")
        if daemon["error"]:
            lines.append(f"problem    {daemon['error']}")
    if said["must_rejoin"]:
        lines.append(f"problem    {said['must_rejoin']}")
    if said["offline"]:
        lines.append("peers      offline: see `elmer online`")
    elif said["peers"]:
        equal_s = lag["seconds_since_equal"]
        equal = "not known" if equal_s is None else f"equal {ago(equal_s)}"
        lines.append(
            f"lag        to receive: {amount(lag['to_receive'])}; to send: {amount(lag['to_send'])}; {equal}"
        )
    if said["clock"]["ahead_ms"] > CLOCK_TOLERANCE_MS:
        lines.append(
            f"clock      a replica's clock runs {said['clock']['ahead_ms'] / 1000:.0f} s ahead of"
            " this one, or did"
        )
    return lines


@click.command()
@target_argument
@json_option
def digest(target: str, *, as_json: bool) -> None:
    """Print one line that is equal on equal replicas.

    It covers the tree that they show: names, kinds, inode numbers, permissions, owners, contents,
    targets of links and extended attributes.

    \b
    Example:
      test "$(elmer digest /mnt/a)" = "$(elmer digest /mnt/b)" && echo equal
    """
    directory = resolve(target).directory
    if find_holder(directory) is not None:
        said = ask(directory, "digest", timeout_s=WALK_TIMEOUT_S)
    else:
        said = _at_rest(directory, "digest", lambda listing: {"digest": listing.digest()})
    say(said, said["digest"], as_json=as_json)


@click.command()
@target_argument
@json_option
def conflicts(target: str, *, as_json: bool) -> None:
    """List what was changed on two sites at once, and could not be made one.

    First the conflict entries. Kinds: "content", another version of the file that it competes with;
    "name", another file of that name. An entry is an ordinary file. Remove it to keep what it competes
    with, rename it over that to keep the entry, or rename it elsewhere to keep both.

    Then the records of what was overruled. Kinds: "move", a directory's move that was skipped, since it
    would have made a cycle; "rename", a name that another one beat; "rmdir", a removed directory that
    stays for what is inside; "unlink", a removed file that stays for an edit; "excl", a file created
    with O_EXCL, as a lock, where another site has created one, too; "rights", a write by somebody
    who lost the right to it meanwhile.

    \b
    Example:
      elmer conflicts /mnt/photos
    """
    directory = resolve(target).directory
    if find_holder(directory) is not None:
        said = ask(directory, "conflicts", timeout_s=WALK_TIMEOUT_S)
    else:
        from elmer import status as describe

        said = _at_rest(directory, "conflicts", describe.conflicts)
    if as_json:
        say(said, "", as_json=True)
        return
    if not said["conflicts"] and not said["records"]:
        click.echo("no conflicts")
    if said["conflicts"]:
        console().print(conflicts_table(said["conflicts"]))
    if said["records"]:
        console().print(records_table(said["records"]))


@click.command()
@click.argument("store")
@json_option
def fsck(store: str, *, as_json: bool) -> int:
    """Check every invariant of a store that is not mounted.  Changes nothing.

    Exit status 1: something is wrong, and each finding is printed, with the files that it is about.
    Exit status 4: the store cannot be mounted; what can be read of it was checked all the same.

    \b
    Example:
      elmer umount /mnt/photos && elmer fsck /srv/photos
    """
    from elmer.volume import opened_to_check
    from translation.fsck import Finding, check

    logging.getLogger("elmer").addHandler(logging.NullHandler())  # all is in the findings
    directory = resolve_store(store)
    waiting = Console(stderr=True)
    with (
        held(directory, "fsck"),
        opened_to_check(directory) as (rows, refusal),
        waiting.status("checking") as progress,
    ):
        findings = [Finding("", refusal)] if refusal else []
        if rows is not None:
            findings += check(cast("Store", rows), lambda count: progress.update(f"{count} rows checked"))
    text = "\n".join(map(_finding_text, findings))
    said = {"findings": [finding._asdict() for finding in findings]}
    say(said, text or f"{directory.path} is in order", as_json=as_json)
    if refusal:
        return ExitStatus.STORE
    return ExitStatus.NOT_SO if findings else ExitStatus.DONE


def _finding_text(finding: Finding) -> str:
    of = f"  [{', '.join(finding.paths)}]" if finding.paths else ""
    return f"{finding.key}: {finding.problem}{of}".removeprefix(": ")


def _at_rest(directory: StoreDirectory, command: str, call: Callable[[Listing], T]) -> T:
    """Call something of the tree of a store without a daemon."""
    from elmer.status import listing_of
    from elmer.volume import opened

    with held(directory, command), opened(directory) as replica:
        return call(listing_of(replica))


COMMANDS = (status, digest, conflicts, fsck)
