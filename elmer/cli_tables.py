"""How amounts, times, peers and conflicts are written for people."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

NS_PER_S = 1_000_000_000


def size(count: int) -> str:
    """Return a number of bytes with three digits or so."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def ago(seconds: float) -> str:
    if seconds < 1:
        return "now"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def moment(time_s: float) -> str:
    """Return a time of the wall clock in the time zone of the reader."""
    return datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def amount(behind: dict[str, int | None]) -> str:
    """Return how many facts and bytes are to come or to go."""
    if behind["facts"] is None:
        return "?"
    parts = []
    if behind["facts"]:
        parts.append(f"{behind['facts']} facts")
    if behind["blocks"]:
        parts.append(f"up to {size(behind['bytes_max'] or 0)}")
    return ", ".join(parts) or "nothing"


def peers_table(listed: list[dict[str, Any]]) -> Table:
    titles = ("peer", "address", "connected", "to receive", "to send", "equal", "heard", "problem")
    now_s = time.time()
    table = _table(titles)
    for peer in listed:
        equal_s, contact_s = peer["seconds_since_equal"], peer["last_contact_s"]
        table.add_row(
            *map(
                _text,
                (
                    peer["name"] or "?",
                    peer["url"] or "",
                    "yes" if peer["connected"] else "no",
                    amount(peer["to_receive"]),
                    amount(peer["to_send"]),
                    "never" if equal_s is None else ago(equal_s),
                    "never" if contact_s is None else ago(now_s - contact_s),
                    peer["error"],
                ),
            )
        )
    return table


def patterns_table(listed: list[dict[str, Any]]) -> Table:
    table = _table(("pattern", "policy"))
    for each in listed:
        table.add_row(_text(each["pattern"]), _text(each["policy"]))
    return table


def conflicts_table(listed: list[dict[str, Any]]) -> Table:
    table = _table(("path", "kind", "by", "when", "competes with"))
    for conflict in listed:
        table.add_row(
            *map(
                _text,
                (
                    conflict["path"],
                    conflict["kind"],
                    conflict["replica"],
                    moment(conflict["wall_ns"] / NS_PER_S),
                    conflict["bare"],
                ),
            )
        )
    return table


def records_table(listed: list[dict[str, Any]]) -> Table:
    table = _table(("record", "path", "overruled", "by", "when"))
    for record in listed:
        overruled = record["overruled"]
        table.add_row(
            *map(
                _text,
                (
                    record["id"],
                    record["path"],
                    _what_was_done(overruled),
                    _what_was_done(record["by"]),
                    moment(overruled["wall_ns"] / NS_PER_S),
                ),
            )
        )
    return table


def _what_was_done(side: dict[str, Any]) -> str:
    return f"{side['replica']} {side['did']} {side['path']}"


def _table(titles: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _text(value: str) -> Text:
    """Return a name as it is: no markup, no control characters, and what is no UTF-8 escaped."""
    printable = value.encode("utf-8", "backslashreplace").decode()
    return Text("".join(c if c.isprintable() else repr(c)[1:-1] for c in printable))
