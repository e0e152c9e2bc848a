"""The zygote and its children: exit codes, isolation of environment and descriptors, nobody outlives anybody."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.worker.processes import runs, wait_until
from worker.pipe import Order
from worker.spawn import Child, Zygote, ZygoteGone, environment


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    made = Zygote(tmp_path, module="tests.worker.entry")
    made.start()
    assert made.wait_ready(30)
    yield made
    made.stop()


def spawn(zygote: Zygote, **request: object) -> Child:
    order = Order(scratch="/nowhere", readable=("/a",), memory_bytes=1)
    return zygote.spawn(order, json.dumps(request).encode())


def end_of(child: Child, seconds: float = 20.0) -> int | None:
    while not child.check():
        assert select.select([child.told], [], [], seconds)[0], "the child did not end"
    return child.status


def run(zygote: Zygote, **request: object) -> int | None:
    child = spawn(zygote, **request)
    status = end_of(child)
    child.close()
    return status


def said(child: Child) -> str:
    end_of(child)
    return os.read(child.lines, 10**6).decode()


def test_every_exit_code_is_right_over_200_quick_children_from_4_threads(zygote: Zygote) -> None:
    codes = [number % 100 for number in range(200)]
    before = set(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda code: run(zygote, do="exit", code=code), codes)) == codes
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_signal_and_an_exception_are_told_apart_from_an_exit(zygote: Zygote) -> None:
    assert run(zygote, do="signal", number=signal.SIGSEGV) == -signal.SIGSEGV
    assert run(zygote, do="raise") == 1


def test_a_child_sees_no_secret_and_only_its_own_descriptors(
    zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = spawn(zygote, do="sleep")
    child = spawn(zygote, do="look")
    seen = json.loads(said(child))
    child.close()
    neighbour.close()
    assert {name: target.split(":")[0] for name, target in seen["fds"].items()} == {
        "0": "/dev/null",
        "1": "pipe",
        "2": "pipe",
    }
    assert set(seen["env"]) <= set(environment(tmp_path)) | {"PWD"}
    assert seen["env"]["HOME"] == str(tmp_path)
    assert seen["order"] == {"scratch": "/nowhere", "readable": ["/a"], "memory_bytes": 1}
    assert seen["parent"] == zygote.pid


def test_the_environment_is_an_allowlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "postgresql://user:password@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    monkeypatch.setenv("PYTHONSTARTUP", "/somewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    made = environment(tmp_path)
    assert not {name for name in made if name.startswith(("SECATEUR_", "AWS_"))}
    assert "PYTHONSTARTUP" not in made
    assert made["CUDA_VISIBLE_DEVICES"] == "1"
    assert made["OPENBLAS_NUM_THREADS"] == "1"


def test_what_a_child_prints_comes_on_its_own_pipe(zygote: Zygote) -> None:
    child = spawn(zygote, do="print")
    end_of(child)
    assert sorted(os.read(child.output, 1000).decode().splitlines()) == ["on stderr", "on stdout"]
    child.close()


def test_kill_ends_a_child_that_blocks_all_signals(zygote: Zygote) -> None:
    child = spawn(zygote, do="sleep")
    assert os.read(child.lines, 100) == b"sleeping\n"
    child.kill()
    assert end_of(child) == -signal.SIGKILL
    assert not runs(child.pid)
    child.kill()  # again: harmless
    child.close()


def test_children_end_with_their_zygote_and_another_one_starts(zygote: Zygote) -> None:
    first = zygote.pid
    assert first
    child = spawn(zygote, do="sleep")
    os.read(child.lines, 100)
    os.kill(first, signal.SIGKILL)
    assert end_of(child) is None
    assert wait_until(lambda: not runs(child.pid), 5)
    child.close()
    assert wait_until(lambda: zygote.pid not in (None, first))
    assert zygote.wait_ready(30)
    assert run(zygote, do="exit", code=7) == 7


def test_a_zygote_that_hangs_is_replaced(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.spawn._ANSWER_SECONDS", 0.3)
    first = zygote.pid
    assert first
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(ZygoteGone, match="no answer"):
        spawn(zygote, do="exit", code=0)
    assert wait_until(lambda: not runs(first))
    monkeypatch.undo()
    assert wait_until(lambda: zygote.pid not in (None, first))
    assert zygote.wait_ready(30)
    assert run(zygote, do="exit", code=0) == 0


def test_a_zygote_with_two_threads_refuses_to_serve(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = Zygote(tmp_path, module="tests.worker.entry", env={**environment(tmp_path), "LANG": "two-threads"})
    made.start()
    try:
        assert wait_until(lambda: "the zygote has 2 threads" in capfd.readouterr().err)
        assert not made.wait_ready(0)
    finally:
        made.stop()


_SUPERVISOR = """
import json, os, sys, time
from pathlib import Path
from worker.pipe import Order
from worker.spawn import Zygote
zygote = Zygote(Path(sys.argv[1]), module="tests.worker.entry")
zygote.start()
zygote.wait_ready(30)
order = Order(scratch="/nowhere", readable=(), memory_bytes=1)
children = [zygote.spawn(order, json.dumps({"do": "sleep"}).encode()) for _ in range(4)]
for child in children:
    os.read(child.lines, 100)
print(zygote.pid, *[child.pid for child in children], flush=True)
time.sleep(600)
"""


def test_nobody_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, text=True
    ) as supervisor:
        assert supervisor.stdout
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 5
        assert all(runs(pid) for pid in pids)
        supervisor.kill()
    assert wait_until(lambda: not any(runs(pid) for pid in pids), 5)


@pytest.mark.parametrize("room", [3, 4])
def test_an_order_without_room_for_its_descriptors_fails_alone(zygote: Zygote, room: int) -> None:
    pid = zygote.pid
    assert pid is not None
    # It waits for orders: until then it opens one more descriptor.
    assert wait_until(lambda: "anon_inode:[eventpoll]" in opened_by(pid).values())
    free = [number for number in range(100) if number not in opened_by(pid)]
    # An order brings four descriptors; the fifth is that of the child.
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[room], before[1]))
    with pytest.raises(ZygoteGone):
        spawn(zygote, do="sleep")
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert run(zygote, do="exit", code=3) == 3
    assert zygote.pid == pid


def opened_by(pid: int) -> dict[int, str]:
    """A process' descriptors and what they are of."""
    return {int(path.name): os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
