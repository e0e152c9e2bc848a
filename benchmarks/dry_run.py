"""A what-if of ResNet-50 through the whole service, from POST to `succeeded`, over half a second."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

from benchmarks.figure import Figure
from benchmarks.surgery import SAVE
from examples import service

REQUESTS = 20
WARM_UP = 2
GOAL_SECONDS = 0.5
TARGETS: tuple[dict[str, Any], ...] = (
    {"type": "ratio", "value": 0.5},
    {"type": "budget", "measure": "macs", "at_most_ratio": 0.5},
    {"type": "budget", "measure": "parameters", "at_most_ratio": 0.3},
    {"type": "budget", "measure": "size_bytes", "at_most": 40_000_000},
)


def measure() -> list[Figure]:
    """20 requests, the targets in turn, each with another seed so that none is the same as one before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "resnet50.keras"
        subprocess.run([sys.executable, "-c", SAVE, str(path)], check=True, stderr=subprocess.DEVNULL)
        with service.running(folder / "data", folder / "log") as address, httpx.Client(base_url=address) as http:
            what_if = client(http, path)
            for number in range(WARM_UP):
                what_if(TARGETS[number])
            seconds = tuple(what_if(TARGETS[number % len(TARGETS)]) for number in range(REQUESTS))
    late = quantiles(seconds, n=20)[-1]
    note = f"median {median(seconds):.3f} s, 95 % within {late:.3f} s, slowest {max(seconds):.3f} s"
    return [Figure("dry run of ResNet-50 over REST", "half a second", seconds, (GOAL_SECONDS,), 1.0, note=note)]


def client(http: httpx.Client, path: Path) -> Callable[[dict[str, Any]], float]:
    """Upload the model; then a function that asks what a target would do and returns the seconds that took."""
    model = (
        http.put(f"/v1/models?filename={path.name}", content=path.read_bytes(), timeout=300).raise_for_status().json()
    )
    while (found := http.get(f"/v1/models/{model['id']}").json())["state"] == "inspecting":
        time.sleep(0.1)
    if found["state"] != "ready":
        raise RuntimeError(f"the model is {found['state']}: {found['problem']}")

    def what_if(target: dict[str, Any]) -> float:
        body = {"model_id": model["id"], "dry_run": True, "pruning": {"target": target}}
        began = time.perf_counter()
        job = http.post("/v1/jobs", json=body).raise_for_status().json()
        while job["state"] in ("queued", "running"):
            job = http.get(f"{job['urls']['self']}?wait=30", timeout=60).raise_for_status().json()
        seconds = time.perf_counter() - began
        if job["state"] != "succeeded":
            raise RuntimeError(f"the dry run {job['state']}: {job['error']}")
        return seconds

    return what_if
