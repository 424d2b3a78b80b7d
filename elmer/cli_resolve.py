"""elmer resolve: a person settles a conflict, or has seen what was overruled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from elmer import config as configuration
from elmer import settling
from elmer.ask import WALK_TIMEOUT_S, ask
from elmer.cli import json_option, say, target_argument
from elmer.directory import StoreDirectory, find_holder, held
from elmer.exits import CommandError, ExitStatus, no_such_record
from elmer.mounts import mount_of
from elmer.target import Target
from elmer.target import resolve as resolve_target


@click.command()
@target_argument
@click.argument("records", metavar="RECORD...", nargs=-1)
@click.option("--acknowledge", is_flag=True, help="Take the records off the list, on all replicas.")
@click.option("--redo", is_flag=True, help="Make the moves again that the records are of, as the newest.")
@click.option("--keep", is_flag=True, help="Keep what TARGET is, and remove what competes with it.")
@click.option("--merge", is_flag=True, help="Move what is in TARGET into the directory of its name.")
@click.option("--all", "of_all", is_flag=True, help="All that `elmer conflicts` lists, in place of RECORD...")
@json_option
def resolve(target: str, records: Sequence[str], *, of_all: bool, as_json: bool, **asked: bool) -> int:
    """Settle what `elmer conflicts` lists.

    Records of what was overruled: --acknowledge changes nothing but the list. --redo makes a move
    again; where a directory would go inside itself, what stood in its way takes its place first. What
    else was overruled is done again in the mount: remove or change what the record is about, and it
    goes by itself.

    Conflict entries, which TARGET names, or the name that they compete for: --keep leaves one file of
    them. --merge, of two directories: what is in the entry goes into the other; what is in both and
    differs stays, and the exit status is 1.

    All but --acknowledge are ordinary requests on the mount, and need one.

    \b
    Examples:
      elmer resolve /mnt/photos rename-office-4k --acknowledge
      elmer resolve /mnt/photos --all --acknowledge
      elmer resolve /mnt/photos move-office-5 --redo
      elmer resolve /mnt/photos/list.conflict-office-7.txt --keep
      elmer resolve /mnt/photos/2026.conflict-office-9 --merge
    """
    modes = [name for name, is_asked in asked.items() if is_asked]
    if len(modes) != 1:
        raise CommandError("say what to do: --acknowledge, --redo, --keep or --merge", ExitStatus.USAGE)
    if modes[0] in ("keep", "merge"):
        if records or of_all:
            raise CommandError(f"--{modes[0]} is of one path, and takes no records", ExitStatus.USAGE)
        return _settle(modes[0], target, as_json=as_json)
    if bool(records) == of_all:
        raise CommandError("name the records, or say --all", ExitStatus.USAGE)
    ids = None if of_all else list(records)
    if modes[0] == "redo":
        return _redo(target, ids, as_json=as_json)
    said = _acknowledge(resolve_target(target).directory, ids)
    count = len(said["acknowledged"])
    say(said, f"acknowledged {count} record{'' if count == 1 else 's'}", as_json=as_json)
    return ExitStatus.DONE


def _mounted(target: Target) -> tuple[Path, dict[str, Any]]:
    """Return the mount point and what is listed.  Raises CommandError (USAGE) where nothing is mounted."""
    if target.mountpoint is None:
        raise CommandError(
            f"{target.directory.path} is not mounted: `elmer mount` it first, this is done through the mount",
            ExitStatus.USAGE,
        )
    return target.mountpoint, ask(target.directory, "conflicts", timeout_s=WALK_TIMEOUT_S)


def _redo(target: str, ids: Sequence[str] | None, *, as_json: bool) -> int:
    mountpoint, listed = _mounted(resolve_target(target))
    known = {record["id"]: record for record in listed["records"]}
    if ids is None:
        ids = [name for name, record in known.items() if record["kind"] in settling.MOVES]
    did = []
    for each in ids:
        if each not in known:
            raise no_such_record(each)
        did += settling.redo(mountpoint, known[each])
    say({"did": did}, "\n".join(did) or "no move was overruled", as_json=as_json)
    return ExitStatus.DONE


def _settle(mode: str, target: str, *, as_json: bool) -> int:
    # The entry may be a symlink, which is meant itself.
    path = Path(os.path.realpath(Path(target).parent), Path(target).name)
    mount = mount_of(path.parent)
    if mount is None or mount.store is None:
        raise CommandError(f"{target} is no path inside a mount of elmer", ExitStatus.USAGE)
    mountpoint, listed = _mounted(resolve_target(str(path.parent)))
    relative, stayed = path.relative_to(mountpoint), list[str]()
    if mode == "keep":
        did = settling.keep(mountpoint, relative, listed["conflicts"])
    else:
        did, stayed = settling.merge(mountpoint, relative, listed["conflicts"])
    lines = [*did, *(f"{each} stays: it differs from what has its name there" for each in stayed)]
    say({"did": did, "stayed": stayed}, "\n".join(lines), as_json=as_json)
    return ExitStatus.NOT_SO if stayed else ExitStatus.DONE


def _acknowledge(directory: StoreDirectory, ids: Sequence[str] | None) -> dict[str, Any]:
    if find_holder(directory) is not None:
        return ask(directory, "acknowledge", {"records": ids}, timeout_s=WALK_TIMEOUT_S)
    from elmer import status as describe
    from elmer.volume import opened
    from translation.records import acknowledge

    with held(directory, "resolve"), opened(directory) as replica:
        configuration.load(directory.config).check_may_go_on()
        found = describe.acknowledgements(describe.listing_of(replica), ids)
        acknowledge(replica, found)
        replica.sync()
    return {"acknowledged": sorted(found)}


COMMANDS = (resolve,)
