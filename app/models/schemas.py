"""What the API says of a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel

from app.http.idempotency import plain
from app.http.uploads import Labels, Name
from app.tables import Model
from pruning.contract.base import Record
from pruning.contract.inspection import Inspection

State = Literal["inspecting", "ready", "rejected"]


class ModelView(BaseModel):
    """An uploaded network; `inspection` is there once it is `ready`, `problem` when it was `rejected`."""

    id: str
    state: State
    format: Literal["keras", "h5"]
    sha256: str
    size_bytes: int
    filename: str | None
    name: str | None
    labels: dict[str, str]
    created_at: AwareDatetime
    problem: dict[str, Any] | None
    inspection: Inspection | None


class FromArtifact(Record):
    """A job's result as a model of its own, to be pruned again."""

    artifact_id: str
    name: Name | None = None
    labels: Labels = {}


def view(model: Model) -> dict[str, Any]:
    """The body of a model."""
    return plain({name: getattr(model, name) for name in ModelView.model_fields})
