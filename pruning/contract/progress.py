"""What the engine's process says while it works: one JSON object a line, checked on arrival."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from pruning.contract.base import Record
from pruning.contract.inspection import Inspection
from pruning.contract.result import Result

Phase = Literal[
    "load", "graph", "score", "plan", "surgery", "verify", "recover", "measure", "evaluate", "export", "inspect"
]
MAX_LINE_BYTES = 32 * 2**20
# What a step of the engine calls to tell how far it is: completed, total, unit, detail of a `Progress`.
Report: TypeAlias = Callable[[int, int, str, dict[str, float | int | str | None]], None]


class Progress(Record):
    """How far a phase has come: `completed` of `total` `unit`s."""

    type: Literal["progress"] = "progress"
    phase: Phase
    completed: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] = 1
    unit: Annotated[str, Field(max_length=32)] = "steps"
    detail: dict[str, float | int | str | None] = {}


class Produced(Record):
    """A file that was made; `path` is relative to the output folder."""

    type: Literal["artifact"] = "artifact"
    kind: Literal["model", "plan", "keep_map", "normalized"]
    format: Annotated[str, Field(max_length=16)]
    filename: Annotated[str, Field(max_length=255)]
    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$")]


class Sandboxed(Record):
    """The level of isolation that the process reached before it read anything."""

    type: Literal["sandbox"] = "sandbox"
    level: Annotated[str, Field(max_length=64)]
    detail: dict[str, Any] = {}


class Pruned(Record):
    """The end of a pruning run."""

    type: Literal["pruned"] = "pruned"
    result: Result


class Inspected(Record):
    """The end of an inspection."""

    type: Literal["inspected"] = "inspected"
    inspection: Inspection


class Failed(Record):
    """The end of a run that failed: an error's body, see `errors.SecateurError.body`."""

    type: Literal["failed"] = "failed"
    error: dict[str, Any]


Line = Annotated[Progress | Produced | Sandboxed | Pruned | Inspected | Failed, Field(discriminator="type")]
LINE: TypeAdapter[Line] = TypeAdapter(Line)
