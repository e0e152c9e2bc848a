"""The whole service as a person starts it, seen from outside: over HTTP, through /proc and in its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

import httpx

from pruning.contract.progress import Phase
from tests.worker.processes import descendants, runs, wait_until

ROOT = Path(__file__).parents[2]
READY = "secateur is ready on "
FINISHED = ("succeeded", "failed", "cancelled")
PHASES: tuple[Phase, ...] = get_args(Phase)
Victim = Literal["serve", "api", "worker", "zygote", "child"]


class Service:
    """A service in `folder`; `variables` are `SECATEUR_` settings. It can be killed and started again."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self._log = folder.parent / f"{folder.name}.log"
        chosen = {"DATA_DIR": str(folder), "PORT": "0", "LEASE_SECONDS": "2", "SWEEP_SECONDS": "0.5"}
        chosen |= {"TEMPORARY_SECONDS": "1", **variables}
        plain = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
        self.environment = {
            **plain,
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_NUM_INTEROP_THREADS": "1",
            **{f"SECATEUR_{name}": value for name, value in chosen.items()},
        }
        self.process: subprocess.Popen[str] | None = None
        self.client = httpx.Client(timeout=60)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.serve"],
                cwd=ROOT,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        too_long = threading.Timer(90, self.process.kill)
        too_long.start()
        line = self.process.stdout.readline()
        too_long.cancel()
        assert READY in line, f"it did not start: {self.log()[-3000:]}"
        self.client.base_url = httpx.URL(line.partition(READY)[2].strip())
        self.process.stdout.close()

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code. Everything it started has to end with it."""
        assert self.process
        below = descendants(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        assert wait_until(lambda: not any(runs(pid) for pid in below), 5), self.log()[-3000:]
        return code

    def kill(self, victim: Victim, seconds: float = 30) -> None:
        """kill -9; what runs below the victim has to end with it. A killed parent is started again."""
        pid = self.pid(victim, seconds)
        below = descendants(pid)
        with suppress(ProcessLookupError):  # a child may just have ended by itself
            os.kill(pid, signal.SIGKILL)
        if victim == "serve":
            assert self.process
            self.process.wait(10)
        assert wait_until(lambda: not any(runs(it) for it in [pid, *below]), 5), f"orphans of {victim}: {below}"
        if victim == "serve":
            self.start()

    def pid(self, part: Victim, seconds: float = 30) -> int:
        """The process id of a part, waited for."""
        assert wait_until(lambda: self._find(part) is not None, seconds), f"there is no {part}: {self.log()[-3000:]}"
        found = self._find(part)
        assert found
        return found

    def _find(self, part: Victim) -> int | None:
        assert self.process
        if part == "serve":
            return self.process.pid
        commands = {pid: _command(pid) for pid in descendants(self.process.pid)}
        zygotes = [pid for pid, command in commands.items() if "worker.zygote" in command]
        children = [pid for pid in zygotes if _parent(pid) in zygotes]
        wanted = {
            "api": [pid for pid, command in commands.items() if "worker.serve api" in command],
            "worker": [pid for pid, command in commands.items() if "worker.serve worker" in command],
            "zygote": [pid for pid in zygotes if pid not in children],
            "child": children,
        }[part]
        return wanted[0] if wanted else None

    def log(self) -> str:
        """All that it printed."""
        return self._log.read_text()

    # --- over HTTP

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST that has to succeed, tried again while the API is being replaced."""
        return self._answer("POST", path, json=body)

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET that has to succeed."""
        return self._answer("GET", path)

    def upload(self, kind: Literal["models", "datasets"], path: Path) -> str:
        """Upload a file; its id."""
        return str(self._answer("PUT", f"/v1/{kind}?filename={path.name}", content=path.read_bytes())["id"])

    def wait(self, path: str, seconds: float = 180) -> dict[str, Any]:
        """The model or job once it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.get(path)
            if found["state"] not in ("inspecting", "queued", "running"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{path} is still {found['state']}, {found.get('phase')}: {self.log()[-5000:]}")

    def wait_for_phase(self, job_id: str, phase: Phase, seconds: float = 180) -> None:
        """Wait until a running job is in this phase, or in a later one: a phase may be shorter than a look at it."""
        reached = PHASES[PHASES.index(phase) :]

        def there() -> bool:
            job = self.get(f"/v1/jobs/{job_id}")
            return job["phase"] in reached or job["state"] in FINISHED

        assert wait_until(there, seconds, 0.02), self.log()[-3000:]

    def _answer(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        for attempt in range(5):
            try:
                response = self.client.request(method, path, headers=headers, **content)
                assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
                body: dict[str, Any] = response.json()
                return body
            except httpx.TransportError:
                if attempt == 4:
                    raise
                time.sleep(0.5)
        raise AssertionError

    # --- in its folder

    def left_behind(self) -> list[Path]:
        """Temporary files: of storage, of the broker, of jobs (the zygote's home stays while it lives)."""
        temporary = [*(self.folder / "files" / "tmp").iterdir()]
        temporary += (self.folder / "broker").glob(".*") if (self.folder / "broker").is_dir() else []
        temporary += [path for path in (self.folder / "scratch").glob("*/*") if path.name != "zygote"]
        workers = sorted((self.folder / "scratch").glob("*.lock"))
        alive = 1 if self.process and runs(self.process.pid) else 0
        return temporary + workers[alive:]

    def ended_once(self, job_id: str) -> bool:
        """Whether exactly one event ended the job, and it has the artifacts of one run."""
        events = self.get(f"/v1/jobs/{job_id}/events?limit=200")["items"]
        ends = [event for event in events if event["type"] == "state" and event["state"] in FINISHED]
        kinds = sorted(item["kind"] for item in self.get(f"/v1/jobs/{job_id}/artifacts")["items"])
        return len(ends) == 1 and kinds in (["keep_map", "model", "plan"], ["model", "plan"], [])


@contextmanager
def running(folder: Path, **variables: str) -> Iterator[Service]:
    """A service for as long as the block lasts."""
    service = Service(folder, **variables)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        service.start()
        yield service
        assert service.stop() == 0
    finally:
        if service.process and service.process.poll() is None:
            service.process.kill()
            service.process.wait()
        service.client.close()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
