"""A worker for tests: its tasks append their id to the file named by ECHO_FILE."""

from __future__ import annotations

import os

from app import queue

app = queue.celery_app()


@app.task(name=queue.RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(id: str) -> None:
    _note(f"job {id}")


@app.task(name=queue.INSPECT_MODEL)  # type: ignore[untyped-decorator]
def inspect_model(id: str) -> None:
    _note(f"model {id}")


def _note(line: str) -> None:
    fd = os.open(os.environ["ECHO_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
