"""What every list takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AwareDatetime, BaseModel
from starlette.responses import JSONResponse, Response

from app.paging import MAX_LIMIT, Filter, Page, Row
from pruning.contract.errors import MalformedRequest

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items on one page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")]
LabelFilters = Annotated[
    list[str] | None, Query(alias="label", max_length=16, description="`key:value`; several must all hold")
]
CreatedAfter = Annotated[AwareDatetime | None, Query(description="RFC 3339 with a zone, e.g. 2026-01-31T12:00:00Z")]


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
    """The query parameters of a list. Raises `MalformedRequest`."""
    return Filter(
        limit=limit, cursor=cursor, labels=tuple(map(_key_and_value, label or ())), created_after=created_after
    )


def in_state(wanted: Filter, state: str | None) -> Filter:
    """The same, of one state."""
    return replace(wanted, state=state)


def response(page: Page[Row], view: Callable[[Row], dict[str, Any]]) -> Response:
    """A page as its body."""
    return JSONResponse({"items": [view(row) for row in page.items], "next_cursor": page.next_cursor})


def _key_and_value(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon or not key or "\x00" in text:
        raise MalformedRequest(f"label is {text[:80]!r}: it must be key:value")
    return key, value
