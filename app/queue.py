"""The Celery app, the names of its tasks, and how an id is announced to the workers.

A message is a nudge that carries an id; losing one costs time, never work (`app.jobs.states.stale`). Hence it is
acknowledged early, has no result, is not retried in a request, and a failed publish is only logged.

Celery and Kombu are imported by the first call that needs them: they are a seventh of what the API loads at its start.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog

from app.settings import Settings, get_settings

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection, Queue

RUN_JOB = "secateur.run_job"
INSPECT_MODEL = "secateur.inspect_model"
# What `celery worker` must be told on its command line, since no setting exists for it.
WORKER_ARGUMENTS = ("--pool=threads", "--without-gossip", "--without-mingle", "--without-heartbeat")
PUBLISH_SECONDS = 2

_log = structlog.get_logger(__name__)


def celery_app() -> Celery:
    """The Celery app of this process, made from the settings."""
    return _celery_app(get_settings())


def enqueue_job(id: str, queue: str) -> bool:
    """Announce a waiting job; False if the broker did not take it (the sweep will announce it again)."""
    return _enqueue(RUN_JOB, id, queue)


def enqueue_model(id: str, queue: str | None = None) -> bool:
    """Announce a model that waits for its inspection; False if the broker did not take it."""
    return _enqueue(INSPECT_MODEL, id, queue or get_settings().default_queue)


def depth(queue: str) -> int | None:
    """How many messages wait in a queue; None if the broker cannot say."""
    try:
        with _publisher(get_settings()).clone() as connection:
            return int(_queue(queue)(connection.default_channel).queue_declare(passive=False).message_count)
    except Exception as error:
        _log.warning("broker_unreachable", queue=queue, error=repr(error))
        return None


def disconnect() -> None:
    """Close the connections that announcements of this process used."""
    from kombu import pools

    pools.reset()
    _publisher.cache_clear()
    _celery_app.cache_clear()


def transport_options(settings: Settings, connect_seconds: float = 5) -> dict[str, Any]:
    """The broker's options; those of Redis recover from a half-open connection, which its defaults never do."""
    if settings.broker_url.get_secret_value().startswith("filesystem:"):
        folder = settings.broker_dir
        folder.mkdir(parents=True, exist_ok=True)
        # What a job waits for at most before it starts; looking so often costs an idle worker 2 % of a core.
        return {"data_folder_in": str(folder), "data_folder_out": str(folder), "polling_interval": 0.02}
    return {
        "socket_timeout": 2 * connect_seconds,
        "socket_connect_timeout": connect_seconds,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


@lru_cache(maxsize=4)
def _celery_app(settings: Settings) -> Celery:
    from celery import Celery

    _use_folder_broker()
    app = Celery("secateur", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value(),
        broker_transport_options=transport_options(settings),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=0,
        task_queues=[_queue(name) for name in dict.fromkeys((*settings.queues, settings.default_queue))],
        task_default_queue=settings.default_queue,
        task_default_exchange="",
        task_default_routing_key=settings.default_queue,
        task_create_missing_queues=False,
        task_acks_late=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        worker_pool="threads",
        worker_concurrency=settings.max_concurrent_jobs,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_detect_quorum_queues=False,
        timezone="UTC",
        enable_utc=True,
    )
    return app


@lru_cache(maxsize=4)
def _publisher(settings: Settings) -> Connection:
    """A connection that gives up soon: a request waits for it."""
    from kombu import Connection

    _use_folder_broker()
    seconds = PUBLISH_SECONDS / 2
    options = transport_options(settings, seconds) | {"socket_timeout": seconds, "max_retries": 0}
    return Connection(settings.broker_url.get_secret_value(), transport_options=options)


def _use_folder_broker() -> None:
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES["filesystem"] = "app.folder_broker:Transport"


def _queue(name: str) -> Queue:
    from kombu import Exchange, Queue

    # The unnamed exchange needs no table of bindings, which on a folder would be one more file to race for.
    return Queue(name, exchange=Exchange(""), routing_key=name)


def _enqueue(task: str, id: str, queue: str) -> bool:
    from kombu import pools

    settings = get_settings()
    try:
        with pools.producers[_publisher(settings)].acquire(block=True, timeout=PUBLISH_SECONDS) as producer:
            _celery_app(settings).send_task(
                task, args=[id], queue=_queue(queue), exchange="", routing_key=queue, producer=producer, retry=False
            )
    except Exception as error:
        _log.warning("publish_failed", task=task, id=id, queue=queue, error=repr(error))
        return False
    return True
