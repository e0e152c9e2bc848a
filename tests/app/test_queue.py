"""Announcements reach real workers over a folder and over Valkey, and a broker that is away harms nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection

from app import folder_broker, queue
from app.settings import Settings, get_settings
from tests.services import Valkey, configured


@contextmanager
def workers(tmp_path: Path, count: int = 1) -> Iterator[Callable[[int], list[str]]]:
    """Real Celery workers; what is yielded waits for so many lines of what they did, and returns them."""
    notes = tmp_path / "notes"
    notes.touch()
    command = [sys.executable, "-m", "celery", "-A", "tests.app.echo", "worker", "--loglevel=WARNING"]
    environment = {**os.environ, "ECHO_FILE": str(notes)}

    def wait(lines: int) -> list[str]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(notes.read_text().splitlines()) < lines:
            time.sleep(0.05)
        return notes.read_text().splitlines()

    with (tmp_path / "output").open("wb") as output:
        running = [
            subprocess.Popen(
                [*command, *queue.WORKER_ARGUMENTS, f"--hostname=w{number}@test"],
                env=environment,
                stdout=output,
                stderr=output,
            )
            for number in range(count)
        ]
        try:
            yield wait
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)


def test_every_announcement_reaches_one_of_two_workers_over_a_folder(embedded: Settings, tmp_path: Path) -> None:
    with workers(tmp_path, count=2) as wait:
        assert all(queue.enqueue_job(f"job_{number}", "cpu") for number in range(40))
        assert queue.enqueue_model("mdl_1")
        done = wait(41)
    assert Counter(done) == Counter([f"job job_{number}" for number in range(40)] + ["model mdl_1"])
    assert queue.depth("cpu") == 0
    assert list(embedded.broker_dir.iterdir()) == []


def test_announcements_reach_a_worker_over_valkey_that_comes_back(
    valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured(monkeypatch, DATA_DIR=str(tmp_path), BROKER_URL=valkey_server.url), workers(tmp_path) as wait:
        assert all(queue.enqueue_job(f"job_{number}", "cpu") for number in range(20))
        assert queue.enqueue_model("mdl_1", "cpu")
        assert Counter(wait(21)) == Counter([f"job job_{number}" for number in range(20)] + ["model mdl_1"])
        valkey_server.kill()
        assert queue.enqueue_job("job_lost", "cpu") is False
        assert queue.depth("cpu") is None
        valkey_server.start()
        assert queue.enqueue_job("job_after", "cpu") is True
        assert wait(22)[-1] == "job job_after"


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1/0", "redis://user:secret@127.0.0.1:1/0"])
def test_a_broker_that_is_away_is_said_and_harmless(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with configured(monkeypatch, DATA_DIR=str(tmp_path), BROKER_URL=address):
        assert queue.enqueue_job("job_1", "cpu") is False
        assert queue.depth("cpu") is None
    logged = "".join(capsys.readouterr())  # an API that started in this process has moved it to stderr
    assert "publish_failed" in logged
    assert "job_1" in logged
    assert "secret" not in logged


def test_a_folder_that_cannot_be_written_is_said_and_harmless(embedded: Settings) -> None:
    embedded.broker_dir.write_text("in the way")
    assert queue.enqueue_job("job_1", "cpu") is False
    assert queue.depth("cpu") is None


def test_queues_are_apart_and_counted(embedded: Settings) -> None:
    for name in ("cpu", "cpu", "gpu"):
        queue.enqueue_job("job_1", name)
    assert (queue.depth("cpu"), queue.depth("gpu"), queue.depth("u")) == (2, 1, 0)


def test_a_message_is_not_seen_before_it_is_whole(embedded: Settings) -> None:
    queue.enqueue_job("job_1", "cpu")
    (message,) = embedded.broker_dir.iterdir()
    message.rename(message.with_name(f".{message.name}"))
    with channel() as folder, pytest.raises(Empty):
        folder._get("cpu")
    assert queue.depth("cpu") == 0


def test_each_message_is_taken_once(embedded: Settings) -> None:
    for number in range(60):
        queue.enqueue_job(f"job_{number}", "cpu")
    taken: list[str] = []

    def take() -> None:
        with channel() as folder:
            while True:
                try:
                    taken.append(folder._get("cpu")["properties"]["delivery_tag"])
                except Empty:
                    return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 60


def test_what_a_killed_process_left_in_the_folder_is_swept(embedded: Settings) -> None:
    queue.enqueue_job("job_1", "cpu")
    (message,) = embedded.broker_dir.iterdir()
    left, young = embedded.broker_dir / ".1_a.cpu.msg", embedded.broker_dir / ".2_b.cpu.msg"
    for path in (left, young):
        path.touch()
    os.utime(left, (0, 0))
    os.utime(message, (0, 0))
    assert folder_broker.sweep(embedded.broker_dir) == 1
    assert sorted(embedded.broker_dir.iterdir()) == sorted([young, message])


def test_the_app_is_set_up_as_the_protocol_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with configured(monkeypatch, DATA_DIR=str(tmp_path), BROKER_URL="redis://r/0", QUEUES="cpu,gpu"):
        conf = queue.celery_app().conf
        wanted = {
            "task_acks_late": False,
            "task_ignore_result": True,
            "task_publish_retry": False,
            "accept_content": ["json"],
            "task_serializer": "json",
            "worker_pool": "threads",
            "worker_prefetch_multiplier": 1,
            "worker_enable_remote_control": False,
            "worker_cancel_long_running_tasks_on_connection_loss": False,
            "broker_transport_options": {
                "socket_timeout": 10,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
                "health_check_interval": 10,
            },
        }
        assert {name: conf[name] for name in wanted} == wanted
        assert [q.name for q in conf.task_queues] == ["cpu", "gpu"]
        assert queue.celery_app() is queue.celery_app()


def test_the_folders_options(embedded: Settings) -> None:
    folder = str(embedded.broker_dir)
    options = queue.transport_options(embedded)
    assert options == {"data_folder_in": folder, "data_folder_out": folder, "polling_interval": 0.02}


def test_importing_the_queue_brings_neither_worker_nor_engine() -> None:
    code = (
        "import sys, app.queue\n"
        "heavy = {'worker', 'tensorflow', 'keras', 'numpy', 'fastapi', 'pruning.keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@contextmanager
def channel() -> Iterator[folder_broker.Channel]:
    options = queue.transport_options(get_settings())
    with Connection("filesystem://", transport_options=options) as connection:
        yield connection.channel()
