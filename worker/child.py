"""One job or one inspection, in a process of its own, forked by the zygote. Nothing else imports this."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from pruning.contract.errors import FULL, InvalidSpec, MemoryLimit, OutOfStorage, SecateurError, origins
from pruning.contract.progress import Failed, Inspected, Line, Pruned, Sandboxed
from pruning.contract.request import REQUEST, PruneRequest
from pruning.keras import pipeline
from worker import pipe, sandbox
from worker.pipe import Order

_OUT_OF_MEMORY = {"MemoryError", "ResourceExhaustedError"}
_PATH = re.compile(r"(?<![\w/])/[^\s'\":;,)]+")


def main(order: Order, request_fd: int, lines_fd: int) -> int:
    """Lock down, read the request, run the engine, send its lines; 0 after a result, 1 after a `Failed` line."""
    report = sandbox.lock_down(
        scratch=Path(order.scratch),
        readable=[Path(path) for path in order.readable],
        memory_bytes=order.memory_bytes,
    )

    def emit(line: Line) -> None:
        pipe.write(lines_fd, line)

    emit(Sandboxed(level=report.level, detail=report.detail))
    try:
        with os.fdopen(request_fd, "rb") as file:
            request = file.read()
        emit(_run(request, emit))
    except Exception as error:
        known = _named(error)
        if known is not error:
            traceback.print_exc()  # for the operator; the supervisor logs it
        emit(Failed(error=_without_paths(known.body())))
        return 1
    return 0


def _run(request: bytes, emit: Callable[[Line], None]) -> Line:
    try:
        task = REQUEST.validate_json(request)
    except ValidationError as error:
        raise InvalidSpec(f"the request is outside the contract: {error.error_count()} errors") from error
    if isinstance(task, PruneRequest):
        return Pruned(result=pipeline.prune(task, emit))
    return Inspected(inspection=pipeline.inspect(task, emit))


def _named(error: Exception) -> SecateurError:
    """The error as the contract knows it; what has no name there is ours, and one line of it is told."""
    # What could not be written is else told as a file that cannot be read.
    if any(isinstance(origin, OSError) and origin.errno in FULL for origin in origins(error)):
        return OutOfStorage("the worker's disk is full: once there is room, delete this and send it again")
    if isinstance(error, SecateurError):
        return error
    if type(error).__name__ in _OUT_OF_MEMORY:
        return MemoryLimit("the engine asked for more memory than the job may have: raise limits.memory_bytes")
    first_line = str(error).strip().split("\n")[0][:300]
    return SecateurError(f"the engine met {type(error).__name__}, which it has no name for: {first_line}")


def _without_paths(body: dict[str, object]) -> dict[str, object]:
    """The body with the host's paths cut to their last part: where things lie here is nobody's business."""

    def clean(value: object) -> object:
        if isinstance(value, str):
            return _PATH.sub(lambda match: match[0].rstrip("/").rsplit("/", 1)[-1], value)
        if isinstance(value, dict):
            return {key: clean(part) for key, part in value.items()}
        if isinstance(value, list):
            return [clean(part) for part in value]
        return value

    return {key: clean(value) for key, value in body.items()}
