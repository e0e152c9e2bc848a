"""`/docs`: the OpenAPI document as one page that needs nothing beside itself; it works without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.pages import templates

Schema = Mapping[str, Any]


def render(document: Schema) -> str:
    """The page of an OpenAPI document."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    return templates.render(
        "reference.html",
        title=document["info"]["title"],
        version=document["info"]["version"],
        description=document["info"]["description"],
        groups=list(groups.items()),
        schemas=[(name, _json(schema)) for name, schema in sorted(document["components"]["schemas"].items())],
    )


def _operation(method: str, path: str, operation: Schema) -> dict[str, Any]:
    return {
        "method": method,
        "path": path,
        "id": operation["operationId"],
        "description": operation["description"],
        "parameters": [_parameter(parameter) for parameter in operation.get("parameters", ())],
        "bodies": list(_contents(operation.get("requestBody", {}))),
        "answers": [_answer(status, answer) for status, answer in sorted(operation["responses"].items())],
    }


def _parameter(parameter: Schema) -> dict[str, str]:
    schema = {key: value for key, value in parameter["schema"].items() if key not in ("title", "description")}
    return {
        "name": parameter["name"],
        "place": parameter["in"],
        "schema": json.dumps(schema, ensure_ascii=False),
        "meaning": parameter.get("description", "required" if parameter.get("required") else ""),
    }


def _answer(status: str, answer: Schema) -> tuple[str, str, str]:
    return status, answer["description"], next((schema for _, schema in _contents(answer) if schema), "")


def _contents(body: Schema) -> Iterator[tuple[str, str]]:
    """(media type, name of its schema or nothing) of a body."""
    for kind, content in body.get("content", {}).items():
        yield kind, content.get("schema", {}).get("$ref", "").rpartition("/")[2]


def _json(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False)
