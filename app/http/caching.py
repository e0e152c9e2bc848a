"""ETag, If-None-Match and Accept, as far as this service needs them (RFC 9110)."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response


def etag(id: str, version: int) -> str:
    """The tag of a row as it is now."""
    return f'"{id}.{version}"'


def is_known(request: Request, etag: str) -> bool:
    """Whether the client says that it has this version (weak comparison)."""
    given = request.headers.get("if-none-match", "")
    known = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in known or etag in known


def not_modified(etag: str) -> Response:
    """304."""
    return Response(status_code=304, headers={"ETag": etag})


def prefers(request: Request, media_type: str, over: str = "application/json") -> bool:
    """Whether the client would rather have `media_type`; only if it names it."""
    accepted = _qualities(request.headers.get("accept", ""))
    family = media_type.partition("/")[0] + "/*"
    quality = accepted.get(media_type, accepted.get(family, 0.0))
    other_family = over.partition("/")[0] + "/*"
    other = accepted.get(over, accepted.get(other_family, 0.0))
    return quality > other


def _qualities(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if kind:
            found[kind] = quality
    return found
