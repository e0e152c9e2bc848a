"""What every list takes and gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, StringConstraints
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response

from app.paging import MAX_LIMIT, Filter, Page, Row

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items on one page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")]
LabelFilter = Annotated[str, StringConstraints(pattern=r"^[^:\x00]+:[^\x00]*$", max_length=400)]
LabelFilters = Annotated[
    list[LabelFilter] | None, Query(alias="label", max_length=16, description="`key:value`; several must all hold")
]


def _dated(value: Any) -> Any:
    """Pydantic takes a number for seconds since 1970; RFC 3339 begins with a date."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        raise PydanticCustomError("datetime_from_date_parsing", "Input should be a date and time as in RFC 3339")
    return value


CreatedAfter = Annotated[
    AwareDatetime | None, BeforeValidator(_dated), Query(description="RFC 3339 with a zone, e.g. 2026-01-31T12:00:00Z")
]


class ListOf(BaseModel, Generic[Item]):
    """A page, newest first (events: oldest first). `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None


def wanted(
    limit: Limit = 50,
    cursor: Cursor = None,
    label: LabelFilters = None,
    created_after: CreatedAfter = None,
) -> Filter:
    """The query parameters of a list."""
    pairs = (text.partition(":") for text in label or ())
    labels = tuple((key, value) for key, _, value in pairs)
    return Filter(limit=limit, cursor=cursor, labels=labels, created_after=created_after)


def in_state(wanted: Filter, state: str | None) -> Filter:
    """The same, of one state."""
    return replace(wanted, state=state)


def response(page: Page[Row], view: Callable[[Row], dict[str, Any]]) -> Response:
    """A page as its body."""
    return JSONResponse({"items": [view(row) for row in page.items], "next_cursor": page.next_cursor})
