"""Lists: newest first, by id, from a cursor; every filter reads an index, so a long table is as fast as a short one."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, func, select
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


def decode(cursor: str, prefix: ids.Prefix) -> str:
    """The position that `encode` hid, in a list of this prefix. Raises `MalformedRequest`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest("cursor is not one that this service gave: start again without it") from error
    match content:
        case [1, str(position)] if re.fullmatch(f"{prefix}_[0-9a-f]{{1,32}}", position):
            return position
    raise MalformedRequest("cursor is not one that this service gave: start again without it")


def page_of(session: Session, table: type[Row], prefix: ids.Prefix, wanted: Filter) -> Page[Row]:
    """One page of a table. Raises `MalformedRequest` for a bad cursor or limit."""
    if not 1 <= wanted.limit <= MAX_LIMIT:
        raise MalformedRequest(f"limit is {wanted.limit}: it must be 1 to {MAX_LIMIT}")
    # One bound on each side: of two on one side, the databases use only one to enter the index.
    lower = f"{prefix}_" if wanted.created_after is None else ids.first_after(prefix, wanted.created_after)
    upper = f"{prefix}`" if wanted.cursor is None else decode(wanted.cursor, prefix)
    query = select(table)
    position: ColumnElement[str] = table.__table__.c.id
    for index, (key, value) in enumerate(_rarest_first(session, wanted.labels)):
        label = Label.__table__.alias()
        query = query.join(label, (label.c.resource_id == table.id) & (label.c.key == key) & (label.c.value == value))
        if index == 0:
            # Ordered by the label's index: the rows of one label are read, not the table.
            position = label.c.resource_id
    if wanted.state is not None:
        query = query.where(table.__table__.c.state == wanted.state)
    # On both columns of a join: PostgreSQL does not carry a bound from one to the other.
    for column in dict.fromkeys((position, table.__table__.c.id)):
        query = query.where(column >= lower, column < upper)
    rows = session.scalars(query.order_by(position.desc()).limit(wanted.limit + 1)).all()
    items = rows[: wanted.limit]
    return Page(items, encode(items[-1].id) if len(rows) > wanted.limit else None)


def _rarest_first(session: Session, labels: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """The labels by how often they occur, counted up to a bound: the first decides how much is read."""
    if len(labels) < 2:
        return list(labels)

    def count(label: tuple[str, str]) -> int:
        some = select(Label.key).where(Label.key == label[0], Label.value == label[1]).limit(1000).subquery()
        return session.execute(select(func.count()).select_from(some)).scalar_one()

    return sorted(set(labels), key=lambda label: (count(label), label))
