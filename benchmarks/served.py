"""The API alone, without a worker, as a process of its own: what is measured here needs no engine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Api:
    """A running API: where it answers and which process it is."""

    host: str
    port: int
    pid: int


@contextmanager
def api(folder: Path) -> Iterator[Api]:
    """An API on a fresh SQLite database in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "SECATEUR_DATA_DIR": str(folder)}
    subprocess.run([sys.executable, "-m", "app.db", "upgrade"], env=environment, check=True)
    served = ["app.main:app", "--http", "app.http.protocol:Protocol", "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", *served, "--no-access-log"]
    process = subprocess.Popen([*command, "--log-level", "warning"], env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/health/live", process)
        yield Api("127.0.0.1", port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
