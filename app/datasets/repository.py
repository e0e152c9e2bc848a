"""Rows of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import ids
from app.jobs import repository as jobs
from app.paging import Filter, Page, page_of
from app.tables import Dataset, Label
from pruning.contract.errors import Conflict, NotFound


def add(
    session: Session,
    *,
    sha256: str,
    size_bytes: int,
    description: dict[str, Any],
    filename: str | None = None,
    name: str | None = None,
    labels: dict[str, str] | None = None,
) -> tuple[Dataset, bool]:
    """The data set with these bytes and whether it is new; one that was there keeps its name and labels."""
    if (found := by_sha256(session, sha256)) is not None:
        return found, False
    id = ids.new("dst")
    dataset = Dataset(
        id=id,
        sha256=sha256,
        size_bytes=size_bytes,
        description=description,
        filename=filename,
        name=name,
        labels=labels or {},
        created_at=ids.created_at(id),
    )
    try:
        with session.begin_nested():
            session.add(dataset)
    except IntegrityError:
        # Another upload of the same bytes committed in between (PostgreSQL; SQLite has one writer at a time).
        found = by_sha256(session, sha256)
        if found is None:
            raise
        return found, False
    session.add_all(Label(key=key, value=value, resource_id=id) for key, value in dataset.labels.items())
    session.flush()
    return dataset, True


def get(session: Session, id: str, *, lock: bool = False) -> Dataset:
    """The data set. `lock`: it cannot be deleted until the transaction ends. Raises `NotFound`."""
    query = select(Dataset).where(Dataset.id == id).execution_options(populate_existing=True)
    dataset = session.scalars(query.with_for_update(read=True) if lock else query).one_or_none()
    if dataset is None:
        raise NotFound(f"there is no data set {id}")
    return dataset


def by_sha256(session: Session, sha256: str) -> Dataset | None:
    """The data set with these bytes, or None."""
    return session.scalars(select(Dataset).where(Dataset.sha256 == sha256)).one_or_none()


def page(session: Session, wanted: Filter) -> Page[Dataset]:
    """One page of data sets, newest first."""
    return page_of(session, Dataset, "dst", wanted)


def delete(session: Session, id: str) -> Sequence[str]:
    """Remove a data set; the SHA-256 of blobs to release after the commit.

    Raises `NotFound`, and `Conflict` while a job that is not finished needs it.
    """
    dataset = session.scalars(select(Dataset).where(Dataset.id == id).with_for_update()).one_or_none()
    if dataset is None:
        raise NotFound(f"there is no data set {id}")
    if jobs.unfinished(session, dataset_id=id):
        raise Conflict(f"data set {id} is needed by a job that is not finished: cancel it or wait for it")
    session.execute(delete_rows(Label).where(Label.resource_id == id))
    session.execute(delete_rows(Dataset).where(Dataset.id == id))
    return [dataset.sha256]
