"""Rows of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import ids, rows
from app.jobs import repository as jobs
from app.paging import Filter, Page, page_of
from app.tables import Dataset
from pruning.contract.errors import Conflict


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
    return rows.add_once(session, dataset, lambda: by_sha256(session, sha256))


def get(session: Session, id: str, *, lock: bool = False, field: str | None = None) -> Dataset:
    """The data set. `lock`: it cannot be deleted until the transaction ends. Raises `NotFound`."""
    return rows.get(session, Dataset, id, "shared" if lock else None, field)


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
    dataset = rows.get(session, Dataset, id, "exclusive")
    if jobs.unfinished(session, dataset_id=id):
        raise Conflict(f"data set {id} is needed by a job that is not finished: cancel it or wait for it")
    rows.remove(session, dataset)
    return [dataset.sha256]
