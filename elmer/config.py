"""What a person set for one replica, in config.json of its store directory.

It is replaced as a whole, by rename, so a crash leaves the one before or the one after.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from elmer.address import Address, parse_address
from elmer.exits import CommandError, ExitStatus
from elmer.store_files import sync_directory

FORMAT = 1
DEFAULT_LISTEN = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Config:
    """`listen` is where peers reach this replica; a port that was free once is kept.

    `url` is the address to tell others instead, where they reach this one by another.
    `must_rejoin` says why this replica may not write nor meet others any more, where that is so.
    """

    listen: str = DEFAULT_LISTEN
    url: str | None = None
    peers: tuple[str, ...] = ()
    offline: bool = False
    must_rejoin: str = ""

    @property
    def address(self) -> Address:
        return parse_address(self.listen)

    def check_may_go_on(self) -> None:
        """Raises CommandError (STORE) where this replica may not write nor meet others any more."""
        if self.must_rejoin:
            raise CommandError(self.must_rejoin, ExitStatus.STORE)

    def advertised(self) -> tuple[str, ...]:
        """Return the addresses at which others may reach this replica, as far as is known."""
        if self.url is not None:
            return (self.url,)
        return (self.address.url,) if self.address.is_dialable else ()

    def with_peer(self, url: str) -> Config:
        return self if url in self.peers else replace(self, peers=(*self.peers, url))

    def without_peer(self, url: str) -> Config:
        return replace(self, peers=tuple(peer for peer in self.peers if peer != url))


def load(path: Path) -> Config:
    """Raises CommandError (STORE) where the file is damaged or of a newer format."""
    try:
        fields = json.loads(path.read_text())
        found = fields.pop("format")
        if found == FORMAT:
            return Config(**{**fields, "peers": tuple(fields["peers"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{path} is damaged: {error}", ExitStatus.STORE) from error
    raise CommandError(
        f"{path} is of format {found}, this elmer knows {FORMAT}: use a newer elmer",
        ExitStatus.STORE,
    )


def save(path: Path, config: Config) -> None:
    fields: dict[str, Any] = {"format": FORMAT, **asdict(config)}
    new = path.with_suffix(".new")
    with new.open("w") as file:
        json.dump(fields, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_directory(path.parent)
