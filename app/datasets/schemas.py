"""What the API says of a data set."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime

from app.http.idempotency import plain
from app.tables import Dataset
from pruning.contract.dataset import DatasetDescription


class DatasetView(DatasetDescription):
    """Uploaded arrays and the splits they make. `split_from_all`: `x`, `y` came alone and are split 80/10/10."""

    id: str
    sha256: str
    size_bytes: int
    filename: str | None
    name: str | None
    labels: dict[str, str]
    created_at: AwareDatetime


_OWN = [name for name in DatasetView.model_fields if name not in DatasetDescription.model_fields]


def view(dataset: Dataset) -> dict[str, Any]:
    """The body of a data set."""
    own = {name: getattr(dataset, name) for name in _OWN}
    return plain({"id": dataset.id, **own, **dataset.description})
