"""The real zygote and child: locked down before they read, errors told by name and without the host's paths."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruning.contract.errors import UnreadableFile
from pruning.contract.progress import Failed, Inspected, Produced, Progress, Sandboxed
from pruning.contract.request import InspectRequest
from tests.e2e import tiny
from worker.pipe import Order
from worker.spawn import Zygote
from worker.watch import Ending, watch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    made.start()
    assert made.wait_ready(120)
    yield made
    made.stop()


def run(zygote: Zygote, scratch: Path, request: bytes) -> tuple[Ending, list[Progress | Sandboxed]]:
    order = Order(scratch=str(scratch), readable=(), memory_bytes=4 * 2**30)
    child = zygote.spawn(order, request)
    news: list[Progress | Sandboxed] = []
    ending = watch(child, run_seconds=100, memory_bytes=4 * 2**30, on_news=news.append, check=lambda: None)
    child.close()
    return ending, news


def test_a_file_is_inspected_in_scratch_after_locking_down(zygote: Zygote, tmp_path: Path) -> None:
    upload = tmp_path / "upload.keras"
    tiny.model(upload)
    (tmp_path / "out").mkdir()
    request = InspectRequest(upload=str(upload), format="keras", out=str(tmp_path / "out"))
    ending, news = run(zygote, tmp_path, request.model_dump_json().encode())
    assert ending.complete, ending.output
    assert isinstance(news[0], Sandboxed)
    assert news[0].level == "limits"
    assert isinstance(ending.final, Inspected)
    assert ending.final.inspection.parameters == 4 * 16 + 16 + 16 * 3 + 3
    assert [it.kind for it in ending.produced] == ["normalized"]
    assert isinstance(ending.produced[0], Produced)
    assert (tmp_path / "out" / ending.produced[0].path).stat().st_size > 1000


def test_an_error_has_the_contract_s_code_and_no_path_of_the_host(zygote: Zygote, tmp_path: Path) -> None:
    upload = tmp_path / "upload.keras"
    upload.write_bytes(b"PK\x03\x04 not a model")
    request = InspectRequest(upload=str(upload), format="keras", out=str(tmp_path))
    ending, _ = run(zygote, tmp_path, request.model_dump_json().encode())
    assert ending.complete
    assert isinstance(ending.final, Failed)
    assert ending.final.error["code"] == "unreadable_file"
    assert str(tmp_path) not in json.dumps(ending.final.error)


def test_what_has_no_name_is_an_internal_error_in_one_line_and_tells_nothing_of_the_host() -> None:
    from worker import child

    planted = ValueError("cannot open '/srv/secret/place/model.keras'\nsecond line")
    body = child._without_paths({**child._named(planted).body(), "places": [{"at": "/srv/secret/place/out"}]})
    assert body == {
        "code": "internal_error",
        "detail": "the engine met ValueError, which it has no name for: cannot open 'model.keras'",
        "places": [{"at": "out"}],
    }
    assert child._named(MemoryError()).code == "memory_limit"


def test_a_full_disk_is_no_unreadable_file() -> None:
    from worker import child

    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        known = UnreadableFile("Keras cannot load the model: [Errno 28] No space left on device")
        known.__cause__ = OSError(number, os.strerror(number))
        assert child._named(known).code == "out_of_storage"
        assert child._named(known.__cause__).code == "out_of_storage"
    known = UnreadableFile("the file is broken")
    known.__cause__ = OSError(errno.EIO, "Input/output error")
    assert child._named(known) is known


def test_an_inspection_that_may_write_no_file_says_that_the_disk_is_full(zygote: Zygote, tmp_path: Path) -> None:
    upload = tmp_path / "upload.keras"
    tiny.model(upload)
    request = InspectRequest(upload=str(upload), format="keras", out=str(tmp_path))
    assert zygote.pid is not None
    before = resource.prlimit(zygote.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))  # its children's too
    try:
        ending, _ = run(zygote, tmp_path, request.model_dump_json().encode())
    finally:
        resource.prlimit(zygote.pid, resource.RLIMIT_FSIZE, before)
    assert isinstance(ending.final, Failed)
    assert ending.final.error["code"] == "out_of_storage"


def test_a_request_outside_the_contract_is_an_invalid_spec(zygote: Zygote, tmp_path: Path) -> None:
    ending, _ = run(zygote, tmp_path, b'{"task": "prune", "model": "m"}')
    assert ending.complete
    assert isinstance(ending.final, Failed)
    assert ending.final.error["code"] == "invalid_spec"


def test_locking_down_leaves_no_way_to_core_dumps_privileges_and_temporary_files_elsewhere(tmp_path: Path) -> None:
    script = """
import json, os, resource, sys, tempfile
from pathlib import Path
tempfile.gettempdir()
from worker import sandbox
report = sandbox.lock_down(scratch=Path(sys.argv[1]), readable=[], memory_bytes=2**30)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "level": report.level, "core": resource.getrlimit(resource.RLIMIT_CORE), "cwd": os.getcwd(),
    "temporary": tempfile.gettempdir(), "home": os.path.expanduser("~"),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "address_space": resource.getrlimit(resource.RLIMIT_AS)[0] < 6 * 2**30,
}))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert said == {
        "level": "limits",
        "core": [0, 0],
        "cwd": str(tmp_path),
        "temporary": str(tmp_path),
        "home": str(tmp_path),
        "no_new_privileges": "1",
        "address_space": True,
    }


def test_no_process_of_celery_loads_tensorflow() -> None:
    script = (
        "import sys, worker.tasks, worker.serve; print(sorted({'tensorflow', 'keras', 'fastapi'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
