"""Identifiers: a type prefix and a UUID of version 7, so that ids sort by the time they were made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from uuid_utils import uuid7

Prefix = Literal["mdl", "dst", "job", "art"]


def new(prefix: Prefix) -> str:
    """A new id, e.g. `job_0190b0a4c5d67def8123456789abcdef`; ids of one prefix sort by millisecond of creation."""
    return f"{prefix}_{uuid7().hex}"


def created_at(identifier: str) -> datetime:
    """The time in UTC, to the millisecond, at which `new` made this id."""
    milliseconds = UUID(hex=identifier.rpartition("_")[2]).int >> 80
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def first_after(prefix: Prefix, moment: datetime) -> str:
    """The lower bound (inclusive) of the ids made later than `moment` (aware)."""
    milliseconds = int(moment.timestamp() * 1000) + 1
    return f"{prefix}_{max(milliseconds, 0):012x}{'0' * 20}"
