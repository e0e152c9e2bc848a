"""Lists: newest first, by id, from a cursor; every filter reads an index, so a long table is as fast as a short one."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app import ids
from app.tables import Dataset, Job, Label, Model
from pruning.contract.errors import MalformedRequest

Row = TypeVar("Row", Job, Model, Dataset)
MAX_LIMIT = 200


@dataclass(frozen=True)
class Filter:
    """What every list takes. `labels`: (key, value) pairs that must all be there; `created_after`: aware."""

    limit: int = 50
    cursor: str | None = None
    state: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, and where the next page begins; None if this is the last."""

    items: Sequence[Row]
    next_cursor: str | None


def encode(position: str) -> str:
    """An opaque cursor for a position in a list."""
    return base64.urlsafe_b64encode(json.dumps([1, position]).encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The position that `encode` hid. Raises `MalformedRequest`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest("cursor is not one that this service gave: start again without it") from error
    match content:
        case [1, str(position)] if len(position) <= 64 and "\x00" not in position:
            return position
    raise MalformedRequest("cursor is not one that this service gave: start again without it")


def page_of(
    session: Session, table: type[Row], prefix: ids.Prefix, wanted: Filter, *extra: ColumnElement[bool]
) -> Page[Row]:
    """One page of a table. Raises `MalformedRequest` for a bad cursor or limit."""
    if not 1 <= wanted.limit <= MAX_LIMIT:
        raise MalformedRequest(f"limit is {wanted.limit}: it must be 1 to {MAX_LIMIT}")
    query = select(table).where(*extra)
    position: ColumnElement[str] = table.id  # type: ignore[assignment]
    for index, (key, value) in enumerate(wanted.labels):
        label = Label.__table__.alias(f"label_{index}")
        on = (label.c.resource_id == table.id) & (label.c.key == key) & (label.c.value == value)
        query = query.join(label, on)
        if index == 0:
            # Ordered by the label's index: the rows of one label are read, not the table.
            position = label.c.resource_id
            query = query.where(position >= f"{prefix}_", position < f"{prefix}`")
    if wanted.state is not None:
        query = query.where(table.__table__.c.state == wanted.state)
    if wanted.created_after is not None:
        query = query.where(position >= ids.first_after(prefix, wanted.created_after))
    if wanted.cursor is not None:
        query = query.where(position < decode(wanted.cursor))
    rows = session.scalars(query.order_by(position.desc()).limit(wanted.limit + 1)).all()
    items = rows[: wanted.limit]
    return Page(items, encode(items[-1].id) if len(rows) > wanted.limit else None)
