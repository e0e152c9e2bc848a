"""What resources have in common as rows: found by id, added once, labelled, removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import ids
from app.ids import Prefix
from app.tables import Artifact, Dataset, Job, Label, Model

Resource = TypeVar("Resource", Job, Model, Dataset)
Found = TypeVar("Found", Job, Model, Dataset, Artifact)
_PREFIXES: dict[type[Any], Prefix] = {Job: "job", Model: "mdl", Dataset: "dst", Artifact: "art"}


def get(
    session: Session,
    table: type[Found],
    id: str,
    lock: Literal["shared", "exclusive"] | None = None,
    field: str | None = None,
) -> Found:
    """The row as it is now. Raises `NotFound`, naming the `field` of the body that the id came in.

    Until the transaction ends a `shared` lock keeps the row from being deleted, an `exclusive` one from any change.
    """
    ids.check(_PREFIXES[table], id, field)
    query = select(table).where(table.id == id).execution_options(populate_existing=True)
    if lock is not None:
        query = query.with_for_update(read=lock == "shared")
    row = session.scalars(query).one_or_none()
    if row is None:
        raise ids.not_found(_PREFIXES[table], id, field)
    return row


def add(session: Session, row: Resource) -> None:
    """Insert a row and its labels."""
    session.add(row)
    session.add_all(Label(key=key, value=value, resource_id=row.id) for key, value in row.labels.items())
    session.flush()


def add_once(session: Session, row: Resource, twin: Callable[[], Resource | None]) -> tuple[Resource, bool]:
    """The row and True; or, where `twin` finds one with the same content, that one as it is and False."""
    if (found := twin()) is not None:
        return found, False
    try:
        with session.begin_nested():
            add(session, row)
    except IntegrityError:
        # Another upload of the same bytes committed in between (PostgreSQL; SQLite has one writer at a time).
        if (found := twin()) is None:
            raise
        return found, False
    return row, True


def remove(session: Session, row: Resource) -> None:
    """Delete a row and its labels."""
    session.execute(delete(Label).where(Label.resource_id == row.id))
    session.execute(delete(type(row)).where(type(row).id == row.id))
