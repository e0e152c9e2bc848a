"""The Celery tasks. Each takes a thread of the pool and only supervises a child: nothing here computes."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from app import queue
from app.settings import Settings, get_settings
from worker.maintenance import Maintenance
from worker.supervise import Supervisor

celery = queue.celery_app()


class _Worker:
    """What one worker process has: made when Celery's worker is, before it takes the first message."""

    supervisor: Supervisor
    maintenance: Maintenance


@celery.task(name=queue.RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(id: str) -> None:
    """Run a queued job."""
    _Worker.supervisor.run(id)


@celery.task(name=queue.INSPECT_MODEL)  # type: ignore[untyped-decorator]
def inspect_model(id: str) -> None:
    """Inspect an uploaded model."""
    _Worker.supervisor.inspect(id)


def arguments(settings: Settings) -> list[str]:
    """The command line of Celery's worker."""
    return [
        "--quiet",
        "worker",
        *queue.WORKER_ARGUMENTS,
        f"--concurrency={settings.max_concurrent_jobs}",
        f"--queues={','.join(settings.queues)}",
        f"--loglevel={settings.log_level}",
    ]


@worker_init.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    settings = get_settings()
    _Worker.supervisor = Supervisor(settings)
    _Worker.supervisor.start()
    _Worker.maintenance = Maintenance(settings, _Worker.supervisor)
    _Worker.maintenance.start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    # Called in a signal handler: the threads that watch this event do the work.
    _Worker.supervisor.stopping.set()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _close(**_: Any) -> None:
    _Worker.supervisor.stopping.set()
    _Worker.maintenance.join()
    _Worker.supervisor.close()
