"""What the demo shows: progress on stderr, live in a terminal and as plain lines elsewhere, and one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Show = Callable[[int, int, str], None]
PAUSE_SECONDS = 5


class Screen:
    """Where people look: stderr, so that stdout holds the table alone."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def say(self, words: str) -> None:
        """One line."""
        self._console.print(words, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Show]:
        """A bar that `show(completed, total, words)` moves; without a terminal a line now and then."""
        if not self._console.is_terminal:
            yield self._plain(title)
            return
        texts = TextColumn("{task.description:<44}"), TextColumn("{task.fields[words]}")
        columns = texts[0], BarColumn(24), TimeElapsedColumn(), texts[1]
        with Progress(*columns, console=self._console) as bars:
            task = bars.add_task(title, total=None, words="")

            def show(completed: int, total: int, words: str) -> None:
                bars.update(task, completed=completed, total=total or None, words=words)

            yield show
            bars.update(task, completed=1, total=1)

    def _plain(self, title: str) -> Show:
        last, said = "", 0.0

        def show(completed: int, total: int, words: str) -> None:
            nonlocal last, said
            if words != last or time.monotonic() > said + PAUSE_SECONDS:
                self.say(f"{title}: {words}" + (f", {completed} of {total}" if total else ""))
                last, said = words, time.monotonic()

        return show


SIDES = ("before", "after")
ROWS = {
    "parameters": "parameters",
    "not zero": "nonzero_parameters",
    "MACs of one sample": "macs",
    "file, bytes": "size_bytes",
    "file gzipped, bytes": "gzip_bytes",
}


def print_table(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the original beside what each job made of it, and what the jobs warn of."""
    table = Table(title="Before and after", title_justify="left")
    table.add_column("")
    for name in ("original", *results):
        table.add_column(name, justify="right")
    for row in rows(list(results.values())):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for name, result in results.items():
        for warning in result["warnings"]:
            console.print(f"{name}: {warning['detail']}", markup=False, highlight=False, soft_wrap=True)


def rows(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The table's rows in words: a label, the original, then each job."""
    sets = [results[0]["measures"]["before"], *(result["measures"]["after"] for result in results)]
    for label, key in ROWS.items():
        yield label, *(f"{measures[key]:,}" for measures in sets)
    latencies = [{side: result["measures"][side]["latency_ms"][0]["median"] for side in SIDES} for result in results]
    yield "latency in ms, of the original", "", *(f"{pair['after']:.2f} of {pair['before']:.2f}" for pair in latencies)
    for split in ("validation", "test"):
        metrics = [result["recovery"][split]["metrics"]["accuracy"] for result in results]
        accuracies = [metrics[0]["original"], *(metric["recovered"] for metric in metrics)]
        yield f"accuracy, {split}", *(f"{value:.2%}" for value in accuracies)
    left = [result["recovery"]["test"]["loss"]["r_recovered"] for result in results]
    yield "R = L_orig / L_pruned, test", "1", *(f"{value:.3f}" for value in left)
