"""Problem details (RFC 9457) for whatever goes wrong, also what FastAPI and Starlette refuse by themselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db import UNREACHABLE
from pruning.contract.errors import (
    BY_CODE,
    FieldError,
    FileTooLarge,
    Forbidden,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    OutOfStorage,
    SecateurError,
    Unauthorized,
    Unavailable,
    UnsupportedFormat,
    origins,
)

MEDIA_TYPE = "application/problem+json"
_NO_ROOM = {"SQLITE_FULL", "53100"}  # as SQLite and PostgreSQL say that their disk is full
_BY_STATUS: dict[int, type[SecateurError]] = {
    kind.status: kind
    for kind in (
        MalformedRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        FileTooLarge,
        UnsupportedFormat,
    )
}
_log = structlog.get_logger(__name__)


class WrongPlace(BaseModel):
    """One wrong place: its path in the request, what kind of error it is, and a sentence."""

    path: str
    code: str
    detail: str


class Problem(BaseModel):
    """A problem (RFC 9457). `code` is stable and meant for programs, `detail` for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[WrongPlace] = []


def response(error: SecateurError, headers: dict[str, str] | None = None) -> Response:
    """The problem that an error is."""
    body = {
        "type": f"urn:secateur:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "errors": [],
        **error.body(),
    }
    return JSONResponse(body, error.status, headers, media_type=MEDIA_TYPE)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of an operation as OpenAPI shows them."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _codes_of(status), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 400, 503})
    }


def _codes_of(status: int) -> str:
    codes = sorted(code for code, kind in BY_CODE.items() if kind.status == status)
    return f"{HTTPStatus(status).phrase}: {', '.join(codes)}"


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem."""
    app.add_exception_handler(SecateurError, _on_secateur_error)
    app.add_exception_handler(RequestValidationError, _on_bad_parameter)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    for kind in UNREACHABLE:
        app.add_exception_handler(kind, _on_database_error)
    app.add_middleware(LastResort)


class LastResort:
    """Middleware: what nobody expected is logged here, and the client learns nothing of our insides.

    Starlette's own handler answers too, but raises the error again, and the server then breaks the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            _log.exception("request_failed", method=scope["method"], path=scope["path"])
            error = SecateurError("something went wrong on our side; the service's log says what")
            await response(error)(scope, receive, send)


def _on_secateur_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SecateurError)
    if error.status >= 500:
        _log.error("request_failed", method=request.method, path=request.url.path, code=error.code, error=error.detail)
    return response(error)


def _on_bad_parameter(_: Request, error: Exception) -> Response:
    """Parameters of path, query and headers; bodies are checked by the contract's own models."""
    assert isinstance(error, RequestValidationError)
    places = [
        FieldError(path=".".join(map(str, found["loc"][1:])), code=found["type"], detail=found["msg"])
        for found in error.errors()
    ]
    detail = "; ".join(f"{place['path']}: {place['detail']}" for place in places)
    return response(MalformedRequest(detail, errors=places))


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_offered(request))
    kind = _BY_STATUS.get(error.status_code, MalformedRequest if error.status_code < 500 else SecateurError)
    what = f"{request.method} {request.url.path}"
    detail = {404: f"there is nothing at {what}", 405: f"{what} is not offered; only {headers.get('Allow')}"}
    return response(kind(detail.get(error.status_code, error.detail)), headers)


def _offered(request: Request) -> list[str]:
    """Every method that the path takes; Starlette names those of the first route alone."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    found = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return sorted(found | {"HEAD"} if "GET" in found else found)


def _on_disconnect(_: Request, __: Exception) -> Response:
    """Nobody reads this answer: the client left while it was sending."""
    return response(MalformedRequest("the connection ended before the request did"))


def _on_database_error(request: Request, error: Exception) -> Response:
    _log.error("database_failed", method=request.method, path=request.url.path, error=type(error).__name__)
    # SQLite drops its savepoints where its disk is full, and their loss is the error that arrives.
    if any(_says_no_room(origin) for origin in origins(error)):
        return response(OutOfStorage())
    return response(Unavailable("the database does not answer: try again"), {"Retry-After": "1"})


def _says_no_room(error: BaseException) -> bool:
    return not _NO_ROOM.isdisjoint((getattr(error, "sqlite_errorname", None), getattr(error, "sqlstate", None)))
