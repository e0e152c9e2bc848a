"""`/metrics` for Prometheus, and the middleware that counts requests by route template, never by id."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import db
from app.http.routing import Router
from app.tables import Job, Model

registry = CollectorRegistry()
_REQUESTS = Counter("secateur_http_requests", "Requests answered", ["method", "route", "status"], registry=registry)
_SECONDS = Histogram(
    "secateur_http_request_seconds",
    "Time until a request was answered, uploads and streams included",
    ["method", "route"],
    registry=registry,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
router = Router(tags=["operation"])


class _States(Collector):
    """How many jobs and models are in which state, counted when somebody asks."""

    def collect(self) -> Iterable[Metric]:
        with db.read() as session:
            for table, name in ((Job, "jobs"), (Model, "models")):
                metric = GaugeMetricFamily(f"secateur_{name}", f"{name.capitalize()} by state", labels=["state"])
                for state, count in session.execute(select(table.state, func.count()).group_by(table.state)):
                    metric.add_metric([state], count)
                yield metric


registry.register(_States())


class Measured:
    """Middleware: counts each request under the template of its route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")
            _REQUESTS.labels(method, route, status).inc()
            _SECONDS.labels(method, route).observe(seconds)


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
def metrics() -> Response:
    """Counters and gauges in Prometheus' text format."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
