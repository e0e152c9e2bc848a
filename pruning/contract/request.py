"""What the supervisor asks of the engine's process: one JSON object."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from pruning.contract.base import Record
from pruning.contract.spec import Spec


class PruneRequest(Record):
    """Prune `model` (a normalised .keras file) by `spec`, on `data` where given; write into `out`.

    `plan`: the file that the spec's target names by an artifact.
    """

    task: Literal["prune"] = "prune"
    model: str
    data: str | None = None
    plan: str | None = None
    out: str
    spec: Spec
    upload_bytes: int | None = None


class InspectRequest(Record):
    """Validate, load, save again and describe an upload; write into `out`. `architecture`: JSON beside bare weights."""

    task: Literal["inspect"] = "inspect"
    upload: str
    format: Literal["keras", "h5"]
    architecture: str | None = None
    out: str


Request = Annotated[PruneRequest | InspectRequest, Field(discriminator="task")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
