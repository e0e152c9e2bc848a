"""A data set of 1 GiB over HTTP, checked and stored, over Python's hashlib on the same file."""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figure import Figure
from benchmarks.served import Api, api

SIZE = 2**30
ROUNDS = 3
GOAL = 4.0
MAX_RSS = 150 * 2**20
_PIECE = 2**20


def measure() -> list[Figure]:
    """Upload and hash in turn; beside it the memory of the API and how long others waited meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "data.npz"
        write(path)
        with api(folder / "data") as served:
            idle = psutil.Process(served.pid).memory_info().rss
            beside = Beside(served)
            beside.start()
            times = [(upload(served, path), digest(path)) for _ in range(ROUNDS)]
            beside.stop()
    ours, reference = zip(*times, strict=True)
    peak, waits = max(beside.memory), sorted(beside.waits)
    within = "within" if peak < MAX_RSS else "ABOVE"
    note = (
        f"the API took at most {peak / 2**20:.0f} MiB ({idle / 2**20:.0f} idle), {within} {MAX_RSS // 2**20}; of "
        f"{len(waits)} requests beside it the median took {1000 * waits[len(waits) // 2]:.1f} ms, "
        f"the slowest {1000 * waits[-1]:.0f} ms"
    )
    return [Figure("upload of 1 GiB", "hashlib on it", ours, reference, GOAL, note=note)]


def write(path: Path) -> None:
    """An .npz of one array of random bytes, 1 GiB, in one pass."""
    rng = np.random.default_rng(0)
    rows = SIZE // _PIECE
    with zipfile.ZipFile(path, "w") as archive, archive.open("x_train.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (rows, _PIECE)})
        for _ in range(rows):
            member.write(rng.bytes(_PIECE))


def digest(path: Path) -> float:
    """Seconds to hash the file."""
    began = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return time.perf_counter() - began


def upload(served: Api, path: Path) -> float:
    """Seconds from the first byte to the answer; the data set is removed again."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=300, blocksize=_PIECE)
    began = time.perf_counter()
    with path.open("rb") as file:
        connection.request("PUT", "/v1/datasets", file, {"Content-Length": str(path.stat().st_size)})
        answer = connection.getresponse()
        body = json.loads(answer.read())
    seconds = time.perf_counter() - began
    if answer.status != 201:
        raise RuntimeError(f"the upload was answered {answer.status}: {body}")
    connection.request("DELETE", f"/v1/datasets/{body['id']}")
    connection.getresponse().read()
    connection.close()
    return seconds


class Beside(threading.Thread):
    """Asks the API for a list twenty times a second and looks at its memory."""

    def __init__(self, served: Api) -> None:
        super().__init__(daemon=True)
        self.memory: list[int] = []
        self.waits: list[float] = []
        self._served = served
        self._stopped = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._served.host, self._served.port, timeout=60)
        process = psutil.Process(self._served.pid)
        while not self._stopped.wait(0.05):
            began = time.perf_counter()
            connection.request("GET", "/v1/jobs?limit=1")
            connection.getresponse().read()
            self.waits.append(time.perf_counter() - began)
            self.memory.append(process.memory_info().rss)

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped.set()
        self.join()
