"""Figures as people read them: Markdown tables, and what they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


def number(value: float) -> str:
    """Three digits that mean something: 84,600 or 14.4 or 0.183."""
    if value >= 1000:
        digits = len(str(round(value)))
        return f"{round(value, 3 - digits):,.0f}"
    for limit, decimals in ((100, 0), (10, 1), (1, 2)):
        if value >= limit:
            return f"{value:.{decimals}f}"
    return f"{value:.3f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is words, the others are figures."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [
        ("-" * width) if column == 0 else ("-" * (width - 1) + ":") for column, width in enumerate(widths)
    ]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured once a round, and what the design asks for, in words."""

    what: str
    values: Sequence[float]
    unit: str
    budget: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


def machine(directory: Path) -> dict[str, str]:
    """What the figures depend on besides the code."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "llfuse": metadata.version("llfuse"),
        "file system": _file_system(directory),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > len(os.sched_getaffinity(0)) / 4:
        print(
            f"warning: other processes are running (load {load:.2f}): only ratios of one run"
            " mean something, if anything",
            file=sys.stderr,
        )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The type of the mount with the longest path above `directory`."""
    best, found = "", "unknown"
    place = f"{directory.resolve()}/"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if place.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, found = point, after.split()[0]
    return found
