"""Routes that answer HEAD wherever they answer GET (RFC 9110 asks for both); the server sends the headers alone."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send


class Route(APIRoute):
    """A route of FastAPI's, which by itself answers GET and refuses HEAD. Its methods stay those of the OpenAPI."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """HEAD is found where GET is."""
        match, inner = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL and self._is_head(scope) else match), inner

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Past the check of methods, which HEAD would fail."""
        if self._is_head(scope):
            await self.app(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    def _is_head(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["method"] == "HEAD" and "GET" in (self.methods or ())


Router = partial(APIRouter, route_class=Route)
"""The router of a part."""
