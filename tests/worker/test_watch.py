"""Following a child: its last line, its files, the limits that end it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest

from pruning.contract.progress import Failed, Produced, Progress, Sandboxed
from tests.worker.processes import runs
from worker.pipe import Order
from worker.spawn import Zygote
from worker.watch import Ending, Stop, watch

PROGRESS = '{"type":"progress","phase":"load"}\n'
FAILED = '{"type":"failed","error":{"code":"unreadable_file","detail":"broken"}}\n'
FILE = '{"type":"artifact","kind":"model","format":"keras","filename":"m.keras","path":"m.keras"}\n'


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    made = Zygote(tmp_path_factory.mktemp("zygote"), module="tests.worker.entry")
    made.start()
    assert made.wait_ready(30)
    yield made
    made.stop()


@pytest.fixture
def follow(zygote: Zygote) -> Callable[..., tuple[Ending, list[Progress | Sandboxed]]]:
    def run(
        check: Callable[[], Stop | None] = lambda: None, seconds: float = 60, memory: int = 2**30, **request: object
    ) -> tuple[Ending, list[Progress | Sandboxed]]:
        order = Order(scratch="/nowhere", readable=(), memory_bytes=memory)
        child = zygote.spawn(order, json.dumps(request).encode())
        news: list[Progress | Sandboxed] = []
        ending = watch(child, run_seconds=seconds, memory_bytes=memory, on_news=news.append, check=check)
        assert not runs(child.pid)
        child.close()
        return ending, news

    return run


Follow = Callable[..., tuple[Ending, list[Progress | Sandboxed]]]


def test_all_that_was_said_arrives(follow: Follow) -> None:
    ending, news = follow(do="say", lines=PROGRESS * 3 + FILE + FAILED, code=1)
    assert ending.complete
    assert ending.final == Failed(error={"code": "unreadable_file", "detail": "broken"})
    assert ending.produced == [Produced(kind="model", format="keras", filename="m.keras", path="m.keras")]
    assert news == [Progress(phase="load")] * 3


def test_an_end_without_a_last_line_or_with_another_code_is_not_complete(follow: Follow) -> None:
    assert not follow(do="say", lines=PROGRESS)[0].complete
    assert not follow(do="say", lines=FAILED, code=0)[0].complete
    ending, _ = follow(do="signal", number=int(signal.SIGSEGV))
    assert (ending.stop, ending.status, ending.complete) == (None, -signal.SIGSEGV, False)


@pytest.mark.parametrize("lines", ["garbage\n", FAILED + PROGRESS, FILE * 65])
@pytest.mark.parametrize("sleep", [0, 600])
def test_a_child_that_says_what_it_may_not_is_ended(follow: Follow, lines: str, sleep: int) -> None:
    ending, _ = follow(do="say", lines=lines, sleep=sleep)
    assert ending.stop
    assert ending.stop.reason == "bad_line"
    assert not ending.complete


def test_limits_end_a_child(follow: Follow) -> None:
    ending, _ = follow(do="say", lines=PROGRESS, sleep=600, seconds=0.3)
    assert ending.stop == Stop("time_limit", "it ran longer than its limit of 0.3 seconds")
    ending, _ = follow(do="allocate", bytes=400 * 2**20, memory=256 * 2**20)
    assert ending.stop
    assert ending.stop.reason == "memory_limit"


def test_a_check_ends_a_child(follow: Follow) -> None:
    answers = iter([None, None, Stop("cancelled")])
    ending, _ = follow(do="say", lines=PROGRESS, sleep=600, check=lambda: next(answers))
    assert ending.stop == Stop("cancelled")
    assert ending.status == -signal.SIGKILL


def test_printing_without_end_costs_nothing_but_time(follow: Follow) -> None:
    ending, _ = follow(do="flood", fd=1, seconds=1.0)
    assert ending.stop
    assert ending.stop.reason == "time_limit"
    assert ending.output == "x" * 65536
