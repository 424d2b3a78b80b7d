"""elmer mount, serve and umount: the daemon of a replica begins and ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from elmer.address import parse_address, peer_url
from elmer.ask import ask
from elmer.background import PipeReport, Report, detach
from elmer.cli import json_option, say
from elmer.directory import StoreDirectory, failure_of_last, find_holder
from elmer.exits import CommandError, ExitStatus
from elmer.log import LEVELS
from elmer.target import resolve, resolve_store

POLL_S = 0.02

listen_option = click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where other replicas reach this one; port 0: one that is free, and kept."
    "  Default: where it listened before, at first a port of 127.0.0.1.",
)
url_option = click.option("--url", metavar="HOST:PORT", help="The address to tell other replicas instead.")
level_option = click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)


class PrintedReport:
    """Of a daemon in the foreground: the first line says that it works."""

    def __init__(self, text: Callable[[dict[str, Any]], str], *, as_json: bool) -> None:
        self.text = text
        self.as_json = as_json

    def ready(self, said: dict[str, Any]) -> None:
        say(said, self.text(said), as_json=self.as_json)

    def failed(self, error: CommandError) -> None:
        raise error


@click.command()
@click.argument("store")
@click.argument("mountpoint")
@listen_option
@url_option
@click.option("--foreground", is_flag=True, help="Stay in the terminal, and log there.")
@click.option(
    "-o",
    "options",
    metavar="OPTION[,OPTION]",
    multiple=True,
    callback=lambda _, __, given: _checked_options(",".join(given)),
    help="As of mount(8): dev, nodev, suid, nosuid, exec, noexec, ro, rw, noatime, relatime.  Of two that"
    " contradict each other the last one counts.  Default: what root mounts has dev and suid, what others"
    " mount has neither.",
)
@level_option
@json_option
def mount(
    store: str,
    mountpoint: str,
    listen: str | None,
    url: str | None,
    options: list[str],
    log_level: str,
    *,
    foreground: bool,
    as_json: bool,
) -> None:
    """Mount a replica, and keep it in step with its peers.

    Returns when the mount answers; the daemon goes on in the background and logs to
    STORE/elmer.log.  MOUNTPOINT must be an empty directory.  As root, all users see the mount, and
    programs of root that are set-user-id work in it, whichever member of the volume made them: where not
    every member is trusted with this machine, mount with -o nosuid,nodev.

    \b
    Examples:
      elmer mount /srv/photos /mnt/photos
      elmer mount /srv/photos /mnt/photos --listen 0.0.0.0:7400 --url files.example.org:7400
      elmer mount /srv/photos /mnt/photos -o nosuid,nodev
    """
    from elmer.daemon import Listening, check_mountpoint
    from elmer.daemon import mount as run

    directory = resolve_store(store)
    _check_unused(directory)
    listening = Listening(*_checked(listen, url))
    path = Path(os.path.realpath(mountpoint))
    check_mountpoint(path, directory.path)

    def text(said: dict[str, Any]) -> str:
        mounted = f"{said['store']} is mounted on {said['mountpoint']}, and listens on {said['listen']}"
        return mounted + _recovered(said)

    if foreground:
        _start_log(log_level, None)
        run(directory, path, listening, PrintedReport(text, as_json=as_json), options)
        return
    report = detach(directory.log)
    if not isinstance(report, PipeReport):
        say(report, text(report), as_json=as_json)
        return
    _start_log(log_level, directory.log)
    _run_detached(lambda: run(directory, path, listening, report, options), report)


@click.command()
@click.argument("store")
@listen_option
@url_option
@level_option
@json_option
def serve(store: str, listen: str | None, url: str | None, log_level: str, *, as_json: bool) -> None:
    """Keep a replica in step with its peers, without a mount.

    Stays in the foreground, and ends by Ctrl-C or SIGTERM.

    \b
    Example:
      elmer serve /srv/photos --listen 0.0.0.0:7400
    """
    from elmer.daemon import Listening
    from elmer.daemon import serve as run

    directory = resolve_store(store)
    _check_unused(directory)
    listening = Listening(*_checked(listen, url))
    _start_log(log_level, None)

    def text(said: dict[str, Any]) -> str:
        return f"{said['store']} is served, and listens on {said['listen']}" + _recovered(said)

    run(directory, listening, PrintedReport(text, as_json=as_json))


@click.command()
@click.argument("target", metavar="MOUNTPOINT")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=600,
    show_default=True,
    help="Seconds to wait until all is on disk.",
)
@json_option
def umount(target: str, timeout_s: float, *, as_json: bool) -> None:
    """Unmount, and wait until all is on disk.

    The daemon has ended then.  Exit status 1: a process has a file open in the mount, or its
    directory there, and is named.

    \b
    Example:
      elmer umount /mnt/photos
    """
    found = resolve(target)
    holder = find_holder(found.directory)
    if holder is None:
        _take_away_stale(found.mountpoint, target, as_json=as_json)
        return
    said = ask(found.directory, "unmount")
    deadline_s = time.monotonic() + timeout_s
    while find_holder(found.directory) is not None:
        if time.monotonic() > deadline_s:
            raise CommandError(
                f"{said['mountpoint']} is unmounted, but its daemon, process {holder.pid}, is"
                f" still writing to {found.directory.path}",
                ExitStatus.NOT_SO,
            )
        time.sleep(POLL_S)
    if failure := failure_of_last(found.directory):
        raise CommandError(f"{said['mountpoint']} is unmounted, but {failure}", ExitStatus.NOT_SO)
    say(said, f"{said['mountpoint']} is unmounted", as_json=as_json)


def _take_away_stale(mountpoint: Path | None, target: str, *, as_json: bool) -> None:
    from elmer.mounts import unmount

    if mountpoint is None:
        raise CommandError(f"{target} is not mounted", ExitStatus.UNREACHABLE)
    unmount(mountpoint, lazily=True)
    say(
        {"mountpoint": str(mountpoint)},
        f"{mountpoint} is unmounted; its daemon had been killed before",
        as_json=as_json,
    )


def _recovered(said: dict[str, Any]) -> str:
    from elmer.recovery import Recovery

    return f"\n{Recovery(**said['recovered'])}" if "recovered" in said else ""


def _check_unused(directory: StoreDirectory) -> None:
    """Say so before anything else is looked at; `held` is what makes sure."""
    if not os.access(directory.path, os.W_OK | os.X_OK):
        raise CommandError(
            f"{directory.path} may not be written by this user, or is on a disk that is mounted read-only",
            ExitStatus.STORE,
        )
    holder = find_holder(directory)
    if holder is not None:
        raise CommandError(f"{directory.path} is in use by {holder}", ExitStatus.STORE)


def _checked_options(given: str) -> list[str]:
    """Return the options of mount(8), the last one of each pair that contradicts itself.

    Raises BadParameter for what it is not for a person to choose.
    """
    from elmer.fuse import CHOICES

    pair_of = {option: pair for pair in CHOICES for option in pair}
    chosen: dict[tuple[str, str], str] = {}
    for option in filter(None, given.split(",")):
        if option not in pair_of:
            raise click.BadParameter(f"'{option}' is none of {', '.join(pair_of)}", param_hint="'-o'")
        chosen[pair_of[option]] = option
    return list(chosen.values())


def _checked(listen: str | None, url: str | None) -> tuple[str | None, str | None]:
    return (
        None if listen is None else str(parse_address(listen)),
        None if url is None else peer_url(url),
    )


def _start_log(level: str, path: Path | None) -> None:
    from elmer import log

    log.start(level, path)


def _run_detached(run: Callable[[], None], report: Report) -> None:
    """Be the daemon: nobody sees what is raised here, but the log and the process that waits."""
    import logging

    status = ExitStatus.DONE
    try:
        run()
    except CommandError as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400  (it says all there is)
        report.failed(error)
        status = error.status
    except BaseException:
        logging.getLogger(__name__).exception("the daemon ended")
        status = ExitStatus.NOT_SO
    finally:
        logging.shutdown()
        with suppress(OSError):
            os.fsync(2)
        # The interpreter would wait for nothing useful: the thread that waits for signals goes on.
        os._exit(status)


COMMANDS = (mount, serve, umount)
