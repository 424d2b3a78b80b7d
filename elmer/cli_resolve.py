"""elmer resolve: a person has seen what was overruled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from elmer import config as configuration
from elmer.ask import ask
from elmer.cli import json_option, say, target_argument
from elmer.directory import StoreDirectory, find_holder, held
from elmer.exits import CommandError, ExitStatus
from elmer.target import resolve as resolve_target


@click.command()
@target_argument
@click.argument("records", metavar="RECORD...", nargs=-1)
@click.option("--acknowledge", is_flag=True, help="Take them off the list, on all replicas.")
@click.option("--all", "of_all", is_flag=True, help="All that `elmer conflicts` lists, in place of RECORD...")
@json_option
def resolve(
    target: str, records: Sequence[str], *, acknowledge: bool, of_all: bool, as_json: bool
) -> None:
    """Settle records of what was overruled, as `elmer conflicts` lists them.

    Nothing but the list is changed: what was overruled stays so. To have it otherwise, do it again:
    rename, remove or change what the record is about, and it goes by itself.

    \b
    Examples:
      elmer resolve /mnt/photos rename-office-4k --acknowledge
      elmer resolve /mnt/photos --all --acknowledge
    """
    if not acknowledge:
        raise CommandError("say what to do with the records: --acknowledge", ExitStatus.USAGE)
    if bool(records) == of_all:
        raise CommandError("name the records, or say --all", ExitStatus.USAGE)
    said = _acknowledge(resolve_target(target).directory, None if of_all else list(records))
    count = len(said["acknowledged"])
    say(said, f"acknowledged {count} record{'' if count == 1 else 's'}", as_json=as_json)


def _acknowledge(directory: StoreDirectory, ids: Sequence[str] | None) -> dict[str, Any]:
    if find_holder(directory) is not None:
        return ask(directory, "acknowledge", {"records": ids})
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
