"""How long a fresh process takes to import the service, over its libraries alone."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.figure import Figure

ROUNDS = 5
# What `app.main` imports; Celery and Alembic come with the first message and the first upgrade.
LIBRARIES = "fastapi, jinja2, multipart, prometheus_client, pydantic_settings, sqlalchemy.orm, sse_starlette, structlog"


def measure() -> list[Figure]:
    """Both in turn, each in a process of its own."""
    pairs = [(seconds("app.main"), seconds(LIBRARIES)) for _ in range(ROUNDS)]
    ours, reference = zip(*pairs, strict=True)
    return [Figure("import app.main", "its libraries", ours, reference)]


def seconds(modules: str) -> float:
    """From the start of the process to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
    return time.perf_counter() - started
