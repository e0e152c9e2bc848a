"""A job through the whole service, from POST to its end, over the same engine called in a process that is warm."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx

from benchmarks.figure import Figure
from examples import service

PRUNING = {"target": {"type": "ratio", "value": 0.5}}
SPECS: dict[str, tuple[int, dict[str, Any]]] = {
    "job without training": (5, {"pruning": PRUNING, "recovery": [], "measures": {"latency": None}}),
    "job with 3 epochs": (3, {"pruning": PRUNING, "recovery": [{"stage": "fine_tune", "epochs": 3, "patience": 3}]}),
}
GOALS = {"job with 3 epochs": 1.5}


class Prune(Protocol):
    """Runs a spec and returns the seconds it took."""

    def __call__(self, spec: dict[str, Any]) -> float: ...


def measure() -> list[Figure]:
    """Each spec several times, service and engine in turn on the same files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with engine(folder) as bare, service.running(folder / "data", folder / "log") as address:
            served = client(address, folder)
            return [_compare(name, rounds, spec, served, bare) for name, (rounds, spec) in SPECS.items()]


def _compare(name: str, rounds: int, spec: dict[str, Any], served: Prune, bare: Prune) -> Figure:
    served(spec)
    bare(spec)
    times = [(served(spec | {"seed": seed}), bare(spec | {"seed": seed})) for seed in range(rounds)]
    ours, reference = zip(*times, strict=True)
    return Figure(name, "engine, warm process", ours, reference, GOALS.get(name))


def client(address: str, folder: Path) -> Prune:
    """Jobs over REST on the two uploaded files."""
    http = httpx.Client(base_url=address, timeout=90)

    def call(method: str, path: str, **content: Any) -> dict[str, Any]:
        answer: dict[str, Any] = http.request(method, path, **content).raise_for_status().json()
        return answer

    def finished(path: str) -> dict[str, Any]:
        while (found := call("GET", f"{path}?wait=30"))["state"] in ("inspecting", "queued", "running"):
            pass
        return found

    ids = {
        kind: call("PUT", f"/v1/{kind}s?filename={file}", content=(folder / file).read_bytes())["id"]
        for kind, file in (("model", "digits.keras"), ("dataset", "digits.npz"))
    }
    while call("GET", f"/v1/models/{ids['model']}")["state"] == "inspecting":
        time.sleep(0.1)

    def prune(spec: dict[str, Any]) -> float:
        began = time.perf_counter()
        job = finished(
            call("POST", "/v1/jobs", json=spec | {"model_id": ids["model"], "dataset_id": ids["dataset"]})["urls"][
                "self"
            ]
        )
        if job["state"] != "succeeded":
            raise RuntimeError(f"the job {job['state']}: {job['error']}")
        return time.perf_counter() - began

    return prune


@contextmanager
def engine(folder: Path) -> Iterator[Prune]:
    """The engine in a process of its own that stays warm; it makes the two files first."""
    command = [sys.executable, "-m", "benchmarks.job", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:

        def prune(spec: dict[str, Any]) -> float:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(spec) + "\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        try:
            assert process.stdout
            process.stdout.readline()
            yield prune
        finally:
            process.kill()


def _ignore(line: object) -> None:
    del line


def _engine(folder: Path) -> None:
    """Make an untrained residual network and its data, then run one spec per line of stdin and print its seconds."""
    import numpy as np

    from examples import train
    from pruning.contract.request import InspectRequest, PruneRequest
    from pruning.contract.spec import Spec
    from pruning.keras import pipeline

    model, data = folder / "digits.keras", folder / "digits.npz"
    train.build().save(model)
    arrays: dict[str, Any] = dict(train.load())
    np.savez(data, **arrays)
    pipeline.inspect(InspectRequest(upload=str(model), format="keras", out=str(folder)), _ignore)
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        out = folder / f"out{number}"
        out.mkdir()
        spec = Spec.model_validate_json(line)
        request = PruneRequest(model=str(folder / "normalized.keras"), data=str(data), out=str(out), spec=spec)
        began = time.perf_counter()
        pipeline.prune(request, _ignore)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    _engine(Path(sys.argv[1]))
