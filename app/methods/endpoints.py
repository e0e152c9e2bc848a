"""`GET /v1/methods`: the spec's own unions, which are the catalogue, as JSON Schema."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from starlette.responses import JSONResponse, Response

from app.http.problems import declared
from app.http.routing import Router
from app.jobs.schemas import JobCreate
from pruning.contract import criteria, names, plan, spec

router = Router(prefix="/v1/methods", tags=["methods"])


class Methods(BaseModel):
    """Parameters, defaults and ranges by name of the method; `job` is the schema of a whole job."""

    structures: list[str]
    scopes: list[str]
    criteria: dict[str, Any]
    targets: dict[str, Any]
    schedules: dict[str, Any]
    stages: dict[str, Any]
    exports: dict[str, Any]
    losses: list[str]
    metrics: list[str]
    job: dict[str, Any]


@router.get("", responses={200: {"model": Methods}, **declared()})
def methods() -> Response:
    """What can be asked for: each method's parameters, defaults and ranges as JSON Schema."""
    return JSONResponse(catalogue())


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Any]:
    """The body of `GET /v1/methods`."""
    return {
        "structures": list(get_args(plan.Structure)),
        "scopes": list(get_args(spec.Scope)),
        "criteria": _members(criteria.Criterion, "name"),
        "targets": _members(spec.Target, "type"),
        "schedules": _members(spec.Schedule, "name"),
        "stages": _members(spec.Stage, "stage"),
        "exports": {name: {"type": "object", "properties": {}} for name in get_args(spec.ExportName)},
        "losses": list(get_args(names.LossName)),
        "metrics": list(get_args(names.MetricName)),
        "job": JobCreate.model_json_schema(),
    }


def _members(union: Any, tag: str) -> dict[str, Any]:
    """The schema of each member of a discriminated union, by its tag."""
    (members, *_) = get_args(union)
    found = {}
    for member in get_args(members) or (members,):
        schema = TypeAdapter(member).json_schema()
        found[schema["properties"][tag]["const"]] = schema
    return found
