"""Rows of models. Inspection moves them through `app.jobs.states` (kind MODELS)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import ids, rows
from app.db import now
from app.jobs import repository as jobs
from app.paging import Filter, Page, page_of
from app.tables import Model
from pruning.contract.errors import Conflict


def add(
    session: Session,
    *,
    sha256: str,
    size_bytes: int,
    format: str,
    queue: str,
    filename: str | None = None,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    architecture_sha256: str | None = None,
) -> tuple[Model, bool]:
    """The model with these bytes and whether it is new; one that was there keeps its name and labels."""
    key = f"{sha256}:{architecture_sha256 or ''}"
    id = ids.new("mdl")
    model = Model(
        id=id,
        state="inspecting",
        content_key=key,
        sha256=sha256,
        size_bytes=size_bytes,
        format=format,
        queue=queue,
        filename=filename,
        name=name,
        labels=labels or {},
        architecture_sha256=architecture_sha256,
        created_at=ids.created_at(id),
        updated_at=now(),
        published_at=now(),
    )
    model, is_new = rows.add_once(session, model, lambda: _by_content(session, key))
    session.refresh(model)
    return model, is_new


def get(session: Session, id: str, *, lock: bool = False, field: str | None = None) -> Model:
    """The model as it is now. `lock`: it cannot be deleted until the transaction ends. Raises `NotFound`."""
    return rows.get(session, Model, id, "shared" if lock else None, field)


def page(session: Session, wanted: Filter) -> Page[Model]:
    """One page of models, newest first."""
    return page_of(session, Model, "mdl", wanted)


def delete(session: Session, id: str) -> Sequence[str]:
    """Remove a model; the SHA-256 of blobs to release after the commit.

    Raises `NotFound`, and `Conflict` while a job that is not finished needs it.
    """
    model = rows.get(session, Model, id, "exclusive")
    if jobs.unfinished(session, model_id=id):
        raise Conflict(f"model {id} is needed by a job that is not finished: cancel it or wait for it")
    rows.remove(session, model)
    blobs = (model.sha256, model.architecture_sha256, model.normalized_sha256)
    return [blob for blob in blobs if blob is not None]


def _by_content(session: Session, key: str) -> Model | None:
    return session.scalars(select(Model).where(Model.content_key == key)).one_or_none()
