"""A POST that comes twice with one Idempotency-Key is done once: the second gets the first one's answer.

The key's row is written first, in the transaction that does the work: a rival with the same key waits for that
transaction (PostgreSQL at the unique row, SQLite at its one writer), and a crash leaves neither key nor work behind.
What was refused is not remembered: it did nothing, and may be corrected under the same key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic_core import to_jsonable_python
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse, Response

from app import db
from app.settings import get_settings
from app.tables import IdempotencyKey
from pruning.contract.errors import IdempotencyKeyReused


@dataclass(frozen=True)
class Key:
    """A client's key and the operation that it came to."""

    value: str
    method: str
    path: str


@dataclass(frozen=True)
class Answer:
    """What an operation that writes has to say. `replayed`: it was done before."""

    status: int
    body: dict[str, Any]
    location: str | None = None
    replayed: bool = False

    def response(self) -> Response:
        """The answer over HTTP."""
        headers = {"Location": self.location} if self.location else {}
        if self.replayed:
            headers["Idempotent-Replayed"] = "true"
        return JSONResponse(self.body, self.status, headers)


def _key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern="^[!-~]{1,255}$", description="with one key a request is done once; the answer is kept for a day"
        ),
    ] = None,
) -> Key | None:
    return None if idempotency_key is None else Key(idempotency_key, request.method, request.url.path)


OptionalKey = Annotated[Key | None, Depends(_key)]


def digest(*parts: Any) -> str:
    """One digest for all that makes a request what it is: plain data, compared as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def once(key: Key | None, content: str, work: Callable[[Session], Answer]) -> Answer:
    """What `work` answers, in a writing transaction; with a key that came before, what it answered then.

    Raises `IdempotencyKeyReused` if the key came before with another request (`content` is its digest).
    """
    if key is None:
        with db.write() as session:
            return work(session)
    try:
        return _once(key, content, work)
    except IntegrityError:
        # A rival with this key was first; its answer is there now. Anything else fails again.
        return _once(key, content, work)


def _once(key: Key, content: str, work: Callable[[Session], Answer]) -> Answer:
    with db.write() as session:
        if (before := _before(session, key, content)) is not None:
            return before
        row = IdempotencyKey(
            key=key.value, method=key.method, path=key.path, request_sha256=content, created_at=db.now()
        )
        session.add(row)
        session.flush()
        answer = work(session)
        row.status, row.response, row.headers = answer.status, answer.body, {"location": answer.location}
        return answer


def _before(session: Session, key: Key, content: str) -> Answer | None:
    expired = IdempotencyKey.created_at < db.now(-get_settings().idempotency_seconds)
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.key == key.value, expired))
    row = session.scalars(select(IdempotencyKey).where(IdempotencyKey.key == key.value).limit(1)).one_or_none()
    if row is None:
        return None
    if (row.method, row.path, row.request_sha256) != (key.method, key.path, content):
        raise IdempotencyKeyReused(f"this Idempotency-Key came before with another request to {row.method} {row.path}")
    assert row.status is not None, "a key's row is committed with its answer"
    return Answer(row.status, row.response or {}, (row.headers or {}).get("location"), replayed=True)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """Plain data that can be stored and sent: times as RFC 3339 in UTC."""
    made: dict[str, Any] = to_jsonable_python(body)
    return made
