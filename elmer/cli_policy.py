"""elmer policy: which merge policy new files get by their names."""

from __future__ import annotations

from typing import Any

import click

from crdt.facts import Policy
from crdt.policy import NAMES, check_pattern
from elmer import config as configuration
from elmer.ask import ask
from elmer.cli import Group, console, json_option, say, target_argument
from elmer.cli_tables import patterns_table
from elmer.directory import StoreDirectory, find_holder, held
from elmer.exits import CommandError, ExitStatus
from elmer.target import resolve

POLICY_NAMES = [name.decode() for name in NAMES.values()]

pattern_argument = click.argument("pattern")


@click.group(cls=Group)
def policy() -> None:
    """What becomes of a file that two sites change at once.

    "keep", which holds unless something else is chosen: both contents are kept whole, one as a
    conflict entry. "blocks": of each block of 32 KiB the newest one holds. "append": records that
    both sites appended are kept, in one order.

    A new file gets the policy of its directory; where that has none, the one of the pattern that
    its name matches. Of several patterns the one with the most characters that stand for
    themselves holds. One file or directory: setfattr -n user.elmer.merge -v append PATH.

    \b
    Examples:
      elmer policy set /mnt/site '*.log' append
      elmer policy list /mnt/site
      elmer policy remove /mnt/site '*.log'
    """


@policy.command("list")
@target_argument
@json_option
def list_patterns(target: str, *, as_json: bool) -> None:
    """List the patterns of the volume, the one that holds before others first.

    \b
    Example:
      elmer policy list /mnt/site
    """
    directory = resolve(target).directory
    said = _listed(directory)
    if as_json:
        say(said, "", as_json=True)
    elif not said["patterns"]:
        click.echo("no patterns: a new file has the policy of its directory, else keep")
    else:
        console().print(patterns_table(said["patterns"]))


@policy.command("set")
@target_argument
@pattern_argument
@click.argument("chosen", metavar="|".join(POLICY_NAMES), type=click.Choice(POLICY_NAMES))
@json_option
def set_pattern(target: str, pattern: str, chosen: str, *, as_json: bool) -> None:
    """Give new files whose names match PATTERN this policy, on all replicas.

    Files that are there keep theirs.

    \b
    Example:
      elmer policy set /mnt/site '*.log' append
    """
    _set(resolve(target).directory, pattern, Policy[chosen.upper()])
    say({"pattern": pattern, "policy": chosen}, f"{pattern}: {chosen}", as_json=as_json)


@policy.command()
@target_argument
@pattern_argument
@json_option
def remove(target: str, pattern: str, *, as_json: bool) -> None:
    """Take back a pattern. Files that got their policy by it keep that.

    \b
    Example:
      elmer policy remove /mnt/site '*.log'
    """
    directory = resolve(target).directory
    known = [each["pattern"] for each in _listed(directory)["patterns"]]
    if pattern not in known:
        raise CommandError(
            f"'{pattern}' is no pattern of this volume ({', '.join(known) or 'none is set'})",
            ExitStatus.USAGE,
        )
    _set(directory, pattern, Policy.UNSET)
    say({"pattern": pattern}, f"{pattern} chooses nothing any more", as_json=as_json)


def _listed(directory: StoreDirectory) -> dict[str, Any]:
    if find_holder(directory) is not None:
        return ask(directory, "patterns")
    from elmer.status import patterns
    from elmer.volume import opened

    with held(directory, "policy"), opened(directory) as replica:
        return patterns(replica)


def _set(directory: StoreDirectory, pattern: str, chosen: Policy) -> None:
    try:
        check_pattern(pattern)
    except ValueError as error:
        raise CommandError(str(error), ExitStatus.USAGE) from error
    if find_holder(directory) is not None:
        ask(directory, "set_pattern", {"pattern": pattern, "policy": chosen.name.lower()})
        return
    from elmer.volume import opened

    with held(directory, "policy"), opened(directory) as replica:
        configuration.load(directory.config).check_may_go_on()
        replica.set_pattern(pattern, chosen)
        replica.sync()


COMMANDS = (policy,)
