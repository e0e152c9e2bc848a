"""The service on its embedded default, for as long as a `with` block lasts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = "secateur is ready on "
START_SECONDS = 60
STOP_SECONDS = 30


@contextmanager
def running(data_dir: Path, log: Path) -> Iterator[str]:
    """Start API and worker on a free port, yield the address, stop them whatever happens; `log` takes what they say.

    Raises `RuntimeError` with the end of the log when the service does not answer within a minute.
    """
    environment = os.environ | {"SECATEUR_DATA_DIR": str(data_dir), "SECATEUR_PORT": "0"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.serve"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
        )
    try:
        yield _address(process, log)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    giving_up = threading.Timer(START_SECONDS, process.kill)
    giving_up.start()
    try:
        for line in process.stdout:
            if READY in (words := line.decode()):
                return words.partition(READY)[2].strip()
    finally:
        giving_up.cancel()
    raise RuntimeError(f"the service did not start; it said:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
