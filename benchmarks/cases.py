"""Cases that a benchmark goes through, one after the other, and the table that it prints."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict

from benchmarks.report import Figure, machine, number, table, warn_if_busy
from benchmarks.scratch import BenchmarkError, Scratch, scratch

Case = Callable[[Scratch, argparse.Namespace], list[Figure]]


def run_cases(what: str, cases: Mapping[str, Case], arguments: argparse.Namespace) -> int:
    """Print the figures of `arguments.only` under the heading `what`; return the exit status.

    A case that cannot be measured is FAILED, and the others are measured.
    """
    with contextlib.suppress(KeyboardInterrupt):
        return _run(what, cases, arguments)
    print("interrupted", file=sys.stderr)
    return 130


def _run(what: str, cases: Mapping[str, Case], arguments: argparse.Namespace) -> int:
    warn_if_busy()
    figures: list[Figure] = []
    problems = []
    with scratch(arguments.dir) as run:
        about = machine(run.path)
        for case in arguments.only:
            print(case, file=sys.stderr)
            try:
                figures += cases[case](run, arguments)
            except BenchmarkError as error:
                problems.append(f"FAILED {case}: {error}")
    if arguments.json:
        said = [{**asdict(figure), "median": figure.median} for figure in figures]
        print(json.dumps({"machine": about, "figures": said, "problems": problems}))
    else:
        print("; ".join(f"{key}: {value}" for key, value in about.items()))
        rows = [(each.what, number(each.median), each.unit, each.budget) for each in figures]
        print(table((what, "figure", "unit", "budget"), rows))
        if problems:
            print("", *problems, sep="\n")
    return 1 if problems else 0
