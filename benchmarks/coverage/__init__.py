"""The engine on every builder of `keras.applications` at real size: `python -m benchmarks coverage [NAME ...]`.

Each model runs in processes of its own and leaves one JSON file in `docs/coverage/`; `docs/coverage.md` is rendered
from all that are there. Models whose file is there already are passed over unless they are named.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.coverage import page
from benchmarks.coverage.builders import names_of_all
from benchmarks.coverage.page import Row

SECONDS = 3600
COMMAND = [sys.executable, "-m", "benchmarks.coverage.model"]


def main(wanted: Sequence[str]) -> int:
    """Measure what is named, or what has no row yet, and render the page; 1 if a row tells of a failure."""
    known = names_of_all()
    if unknown := set(wanted) - set(known):
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}\n")
        return 2
    done = page.rows()
    for name in wanted or [name for name in known if name not in done]:
        row = measure(name)
        page.keep(row)
        page.write(known)
        sys.stderr.write(f"{name}: {row.problem or 'fine'}, {row.seconds:.0f} s\n")
    page.write(known)
    return int(any(row.problem for row in page.rows().values()))


def measure(name: str) -> Row:
    """One builder's row, from processes of its own; what went wrong is its `problem`."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*COMMAND, name, folder], capture_output=True, text=True, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return Row(name, problem=f"not done after {SECONDS} seconds", seconds=time.monotonic() - began)
        path = Path(folder, "row.json")
        if path.exists():
            return page.read(path)
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    return Row(name, problem=f"exit code {done.returncode}: {last}", seconds=time.monotonic() - began)
