"""What FastAPI cannot see of our bodies, said to OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, Response

from app.http.problems import Problem
from app.pages import reference

# No page of ours runs a script or loads anything.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_REF = "#/components/schemas/{model}"
_bodies: dict[str, type[BaseModel]] = {"Problem": Problem}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def json_body(kind: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of an operation that takes this record as JSON."""
    _bodies[kind.__name__] = kind
    schema = {"schema": {"$ref": _REF.format(model=kind.__name__)}}
    return {"requestBody": {"required": required, "content": {"application/json": schema}}}


def _form(**fields: dict[str, Any]) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    shared = {
        "name": {"type": "string", "maxLength": 256},
        "labels": {"type": "string", "description": "JSON: an object of texts"},
        "sha256": {"type": "string", "description": "the digest that the file must have, in hex"},
    }
    return {"schema": {"type": "object", "required": ["file"], "properties": {"file": file, **shared, **fields}}}


def upload_body(kind: type[BaseModel] | None = None, **fields: dict[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of an upload: a form with a file and these fields beside it, bare bytes, or JSON."""
    content = {"multipart/form-data": _form(**fields), "application/octet-stream": _BINARY}
    if kind is not None:
        content |= json_body(kind)["requestBody"]["content"]
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI) -> None:
    """Give the app its OpenAPI document, made on first use, and `/docs`, the same to be read."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, bodies = models_json_schema([(kind, "validation") for kind in _bodies.values()], ref_template=_REF)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in bodies["$defs"].items():
                schemas.setdefault(name, schema)
            _without_fastapis_422(made)
            app.openapi_schema = made
        return app.openapi_schema

    def docs() -> Response:
        return HTMLResponse(reference.render(app.openapi()), headers=PAGE_HEADERS)

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_api_route("/docs", docs, include_in_schema=False)


def _without_fastapis_422(document: dict[str, Any]) -> None:
    """FastAPI promises an answer of its own to bad parameters; ours is a problem with status 400."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
