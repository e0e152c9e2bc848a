"""Rows of models. Inspection moves them through `app.jobs.states` (kind MODELS)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import ids
from app.db import now
from app.jobs import repository as jobs
from app.paging import Filter, Page, page_of
from app.tables import Label, Model
from pruning.contract.errors import Conflict, NotFound


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
    if (found := _by_content(session, key)) is not None:
        return found, False
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
    try:
        with session.begin_nested():
            session.add(model)
    except IntegrityError:
        # Another upload of the same bytes committed in between (PostgreSQL; SQLite has one writer at a time).
        found = _by_content(session, key)
        if found is None:
            raise
        return found, False
    session.add_all(Label(key=key, value=value, resource_id=id) for key, value in model.labels.items())
    session.flush()
    session.refresh(model)
    return model, True


def get(session: Session, id: str, *, lock: bool = False) -> Model:
    """The model as it is now. `lock`: it cannot be deleted until the transaction ends. Raises `NotFound`."""
    query = select(Model).where(Model.id == id).execution_options(populate_existing=True)
    model = session.scalars(query.with_for_update(read=True) if lock else query).one_or_none()
    if model is None:
        raise NotFound(f"there is no model {id}")
    return model


def page(session: Session, wanted: Filter) -> Page[Model]:
    """One page of models, newest first."""
    return page_of(session, Model, "mdl", wanted)


def delete(session: Session, id: str) -> Sequence[str]:
    """Remove a model; the SHA-256 of blobs to release after the commit.

    Raises `NotFound`, and `Conflict` while a job that is not finished needs it.
    """
    query = select(Model).where(Model.id == id).with_for_update()
    model = session.scalars(query).one_or_none()
    if model is None:
        raise NotFound(f"there is no model {id}")
    if jobs.unfinished(session, model_id=id):
        raise Conflict(f"model {id} is needed by a job that is not finished: cancel it or wait for it")
    session.execute(delete_rows(Label).where(Label.resource_id == id))
    session.execute(delete_rows(Model).where(Model.id == id))
    blobs = (model.sha256, model.architecture_sha256, model.normalized_sha256)
    return [blob for blob in blobs if blob is not None]


def _by_content(session: Session, key: str) -> Model | None:
    return session.scalars(select(Model).where(Model.content_key == key)).one_or_none()
