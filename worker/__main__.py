"""`python -m worker`: a worker alone, on a machine of its own; API, database and broker are elsewhere."""

from __future__ import annotations

import warnings

from app import logs
from app.settings import get_settings
from worker import sandbox
from worker.tasks import arguments, celery


def main() -> None:
    """Serve the queues until a signal comes; jobs that run then go back to the queue."""
    settings = get_settings()
    logs.configure(settings.log_level)
    if settings.hardened:
        raise SystemExit(f"secateur: {sandbox.why_not_hardened()}")
    # The pool has threads and messages are JSON: nothing here is worse for root than the rest is.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    celery.worker_main(arguments(settings))


if __name__ == "__main__":
    main()
