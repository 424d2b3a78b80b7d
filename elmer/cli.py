"""The command line: one group, its commands in cli_*, and how errors are told.

An error is one or two lines on standard error and an exit status (elmer.exits), never a traceback:
that would be a bug of ours.  What is printed is for people; with --json it is for programs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from elmer.exits import CommandError, ExitStatus

T = TypeVar("T", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
target_argument = click.argument("target")


# Of a table that goes to a file or a pipe: no cell is broken there.
WIDE = 1_000


def console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def say(said: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result: all of it for a program, `text` for a person."""
    click.echo(json.dumps(said, indent=2) if as_json else text)


class Group(click.Group):
    """Lists its commands in the order in which one needs them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
TARGET is a store directory, or any path inside a mount of it.

\b
Exit status:
  0  done
  1  not (yet) so: not equal in time, busy, findings
  2  wrong arguments
  3  no daemon or no peer answers
  4  the store cannot be used: taken, damaged, or of another format
  5  the system does not let us mount
  6  elmer's source tree, which `sim` needs, is not here

\b
Example, two replicas on one machine:
  elmer init /srv/a --name a
  elmer mount /srv/a /mnt/a
  elmer join /srv/b "$(elmer invite /mnt/a)" --name b
  elmer mount /srv/b /mnt/b
""",
)
@click.version_option(package_name="elmer", message="%(version)s")
def elmer() -> None:
    """A file system with one replica per site: always writable, and merged by itself.

    Each site has a store directory and mounts it.  Sites that can reach each other exchange what
    changed.  What two sites changed at the same time is kept: as one file where it fits together,
    else as a conflict entry beside it.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command (by default that of the process) and exit with its status."""
    from elmer import cli_inspect, cli_mount, cli_peers, cli_policy, cli_resolve, cli_sim, cli_volume

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # of a name that is no text
    for commands in (cli_volume, cli_mount, cli_inspect, cli_resolve, cli_peers, cli_policy, cli_sim):
        for command in commands.COMMANDS:
            elmer.add_command(command)
    elmer.add_command(demo)
    try:
        status = elmer.main(arguments, prog_name="elmer", standalone_mode=False)
    except CommandError as error:
        _fail(str(error), error.status)
    except click.UsageError as error:
        error.show()
        sys.exit(ExitStatus.USAGE)
    except click.ClickException as error:
        _fail(error.format_message(), ExitStatus.USAGE)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", ExitStatus.NOT_SO)
    except BrokenPipeError:  # who reads has seen enough
        sys.stderr.close()
        sys.exit(ExitStatus.NOT_SO)
    except OSError as error:
        _fail(_refusal_of_system(error), ExitStatus.STORE)
    sys.exit(status or ExitStatus.DONE)


def _refusal_of_system(error: OSError) -> str:
    if isinstance(error, PermissionError) and error.filename:
        return f"{error.filename} may not be used by this user: do it as its owner, or as root"
    return str(error)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"elmer: {message}", err=True)
    sys.exit(status)


@click.command()
def demo() -> int:
    """Show three replicas cut apart, changed and merged.

    Needs nothing, leaves nothing behind.

    \b
    Example:
      elmer demo
    """
    from elmer.demo import run

    return run(console())
