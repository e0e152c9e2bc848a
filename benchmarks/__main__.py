"""`python -m benchmarks [name ...]` = `make bench`: run the benchmarks and print one table.

`quality` and `repair` run only if named. `python -m benchmarks coverage [model ...]` writes docs/coverage.md instead,
`python -m benchmarks criteria [name ...]` the table of docs/criteria.md; both take long.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Figure

ALL = ("surgery", "growth", "inspection", "dry_run", "job", "upload", "polling", "imports")
# Measured only when named: quality takes a quarter of an hour, repair some minutes.
NAMED = ("quality", "repair")
# These write a page of the docs.
PAGES = ("coverage", "criteria")


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmarks, or all; 1 if a goal was missed."""
    if arguments and arguments[0] in PAGES:
        return int(importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:]))
    if unknown := set(arguments) - {*ALL, *NAMED}:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*ALL, *NAMED, *PAGES))}\n")
        return 2
    figures: list[Figure] = []
    for name in arguments or ALL:
        sys.stderr.write(f"measuring {name} ...\n")
        figures += importlib.import_module(f"benchmarks.{name}").measure()
    Console(width=None if sys.stdout.isatty() else 140).print(table(figures))
    for figure in figures:
        if figure.note:
            print(f"{figure.name}: {figure.note}")
    return 0 if all(figure.met for figure in figures) else 1


def table(figures: Sequence[Figure]) -> Table:
    """One row per figure: medians, ratio, goal."""
    made = Table("what", "over", "ours", "reference", "ratio", "goal")
    for figure in figures:
        reference = f"{median(figure.reference):.4g} {figure.unit}" if figure.reference else "not measured"
        ratio = "–" if figure.ratio is None else f"{figure.ratio:.3g}"
        goal = "–" if figure.goal is None else f"{figure.goal:g} {'met' if figure.met else 'MISSED'}"
        made.add_row(figure.name, figure.over, f"{median(figure.ours):.4g} {figure.unit}", reference, ratio, goal)
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
