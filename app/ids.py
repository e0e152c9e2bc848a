"""Identifiers: a type prefix and a UUID of version 7, so that ids sort by the time they were made."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from uuid_utils import uuid7

from pruning.contract.errors import FieldError, NotFound

Prefix = Literal["mdl", "dst", "job", "art", "evt"]
NOUNS: dict[Prefix, str] = {"mdl": "model", "dst": "data set", "job": "job", "art": "artifact", "evt": "event"}


def new(prefix: Prefix) -> str:
    """A new id, e.g. `job_0190b0a4c5d67def8123456789abcdef`; ids of one prefix sort by millisecond of creation."""
    return f"{prefix}_{uuid7().hex}"


def check(prefix: Prefix, identifier: str, field: str | None = None) -> str:
    """The id, if `new` could have made it. Raises `NotFound`, naming the field of the body that it came in."""
    if re.fullmatch(rf"{prefix}_[0-9a-f]{{32}}", identifier) is None:
        raise not_found(prefix, identifier, field)
    return identifier


def not_found(prefix: Prefix, identifier: str, field: str | None = None) -> NotFound:
    """The error for an id that nothing has."""
    detail = f"there is no {NOUNS[prefix]} {identifier[:80]!r}"
    return NotFound(detail, errors=[FieldError(path=field, code="not_found", detail=detail)] if field else ())


def created_at(identifier: str) -> datetime:
    """The time in UTC, to the millisecond, at which `new` made this id."""
    milliseconds = UUID(hex=identifier.rpartition("_")[2]).int >> 80
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def first_after(prefix: Prefix, moment: datetime) -> str:
    """The lower bound (inclusive) of the ids made later than `moment` (aware)."""
    milliseconds = int(moment.timestamp() * 1000) + 1
    return f"{prefix}_{max(milliseconds, 0):012x}{'0' * 20}"
