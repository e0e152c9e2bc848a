"""A zygote whose children speak the contract and do what the model's file says: no Keras is needed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from pruning.contract.inspection import Inspection
from pruning.contract.progress import Failed, Inspected, Line, Produced, Progress, Pruned, Sandboxed
from pruning.contract.request import REQUEST, InspectRequest, PruneRequest
from pruning.contract.result import MeasureReport, MeasureSet, Removed, Result
from worker import pipe, zygote
from worker.pipe import Order

COSTS = MeasureSet(
    parameters=1, nonzero_parameters=1, sparsity=0, prunable_sparsity=0, macs=1, nonzero_macs=1, size_bytes=1
)
RESULT = Result(
    measures=MeasureReport(before=COSTS, after=COSTS, ratio={}),
    removed=Removed(size=0.5, compute=0.5, storage=0.5, s_pruned={}),
    layers=[],
)
INSPECTION = Inspection(
    keras_version="3", inputs=[], outputs=[], parameters=1, macs=1, layers=[], groups=[], barriers=[], compiled=None
)


def main(order: Order, request_fd: int, lines_fd: int) -> int:
    """Follow the script in the model's file."""

    def say(line: Line) -> None:
        pipe.write(lines_fd, line)

    say(Sandboxed(level="limits"))
    with os.fdopen(request_fd, "rb") as file:
        request = REQUEST.validate_json(file.read())
    prunes = isinstance(request, PruneRequest)
    script = json.loads(Path(request.model if prunes else request.upload).read_text())
    out = Path(request.out)
    say(Progress(phase="load"))
    if "started" in script:
        Path(script["started"]).write_text(str(os.getpid()))
    for number in range(script.get("steps", 0)):
        say(Progress(phase="recover", completed=number, total=script["steps"], unit="epochs"))
        time.sleep(0.02)
    time.sleep(script.get("sleep", 0))
    if "signal" in script:
        os.kill(os.getpid(), getattr(signal, script["signal"]))
    if "allocate" in script:
        block = bytearray(script["allocate"])
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(60)
    if "garbage" in script:
        os.write(lines_fd, b"garbage\n")
        time.sleep(60)
    if prunes:
        name = script.get("file", "model.keras")
        if script.get("link"):
            (out / name).symlink_to(script["link"])
        else:
            plan = {"plan": Path(request.plan).read_text()} if request.plan else {}
            (out / name).write_text(json.dumps({"pruned": request.spec.seed, **plan}))
        say(Produced(kind="model", format="keras", filename=name, path=name))
    else:
        (out / "normalized.keras").write_text(json.dumps(script.get("job", {})))
        say(Produced(kind="normalized", format="keras", filename="normalized.keras", path="normalized.keras"))
    if "error" in script:
        say(Failed(error=script["error"]))
        return 1
    told = json.loads(request.architecture or "null") if isinstance(request, InspectRequest) else None
    found = Inspected(inspection=INSPECTION.model_copy(update={"compiled": told}))
    say(Pruned(result=RESULT) if prunes else found)
    return 0


if __name__ == "__main__":
    zygote.start(lambda: main)
