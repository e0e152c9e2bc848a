"""The HTTP service: `uvicorn app.main:app`. It imports neither TensorFlow nor Keras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from app import db, logs
from app.artifacts import endpoints as artifacts
from app.datasets import endpoints as datasets
from app.http import documented, health, measuring, problems
from app.http.routing import Route
from app.jobs import endpoints as jobs
from app.jobs.watch import Watch
from app.methods import endpoints as methods
from app.models import endpoints as models
from app.settings import get_settings

VERSION = "0.1.0"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A connection for each thread; one reader for all who wait for jobs."""
    settings = get_settings()
    logs.configure(settings.log_level)
    current_default_thread_limiter().total_tokens = settings.database_pool_size
    app.state.watch = Watch()
    yield
    await app.state.watch.close()
    db.dispose()


def create_app() -> FastAPI:
    """The app with every path."""
    made = FastAPI(
        title="Secateur",
        version=VERSION,
        description="Pruning as a service for Keras models.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    made.router.route_class = Route
    problems.install(made)
    for part in (models, datasets, jobs, artifacts, methods, health, measuring):
        # Not `include_router`: it hides the routes of a part behind one, and `Allow` has to name all methods of a path.
        made.router.routes.extend(part.router.routes)
    documented.install(made)
    made.add_middleware(measuring.Measured)
    return made


app = create_app()
