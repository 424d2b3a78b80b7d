"""Addresses of peers: HOST:PORT as a person writes it, and the URL that is stored and dialled."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from elmer.exits import CommandError, ExitStatus

# Where one may listen, but not dial.
ANY_HOSTS = {"0.0.0.0", "::"}  # noqa: S104


class Address(NamedTuple):
    host: str
    port: int  # 0: any that is free

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self}"

    @property
    def is_dialable(self) -> bool:
        return self.port != 0 and self.host not in ANY_HOSTS


def parse_address(text: str) -> Address:
    """Return the address that HOST:PORT, [V6HOST]:PORT or :PORT stands for.

    Raises CommandError (USAGE) where `text` is none of these.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    rest_is_empty = not (text.count("/") or text.count("?") or text.count("#") or text.count("@"))
    if port is None or not rest_is_empty:
        raise CommandError(f"'{text}' is no HOST:PORT (for example 192.0.2.7:7400)", ExitStatus.USAGE)
    return Address(host or "127.0.0.1", port)


def peer_url(text: str) -> str:
    """Return the URL of the peer that a person named by HOST:PORT or http://HOST:PORT.

    Raises CommandError (USAGE), for port 0 too, where nobody can be found.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() != "http":
        raise CommandError(f"'{text}': a peer's URL is http://HOST:PORT", ExitStatus.USAGE)
    address = parse_address((rest if separator else text).rstrip("/"))
    if not address.is_dialable:
        raise CommandError(
            f"'{text}' is an address to listen on, not one to reach a peer at", ExitStatus.USAGE
        )
    return address.url
