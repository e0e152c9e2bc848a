"""How long a fresh process takes to import the service, over its libraries alone."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.figure import Figure

ROUNDS = 5


def measure() -> list[Figure]:
    """Both in turn, each in a process of its own."""
    pairs = [(seconds("app.main"), seconds("fastapi, sqlalchemy, alembic, celery")) for _ in range(ROUNDS)]
    ours, reference = zip(*pairs, strict=True)
    return [Figure("import app.main", "its libraries", ours, reference)]


def seconds(modules: str) -> float:
    """From the start of the process to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
    return time.perf_counter() - started
