"""The supervisor's end of the zygote: one is kept alive, and children are asked of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from worker.pipe import Order

_log = structlog.get_logger(__name__)
_ROOT = Path(__file__).resolve().parent.parent
_ANSWER_SECONDS = 10.0
_START_SECONDS = 300.0
_SLOWEST_RESTART = 10.0
_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_ENABLE_ONEDNN_OPTS",
)


class ZygoteGone(Exception):
    """There is no zygote just now, or it died before it answered."""


def environment(home: Path) -> dict[str, str]:
    """All that a zygote and its children see of this process's environment: no address, no password, no key."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "KERAS_HOME": str(home),
        "KERAS_BACKEND": "tensorflow",
        "OPENBLAS_NUM_THREADS": "1",  # NumPy adds a thread otherwise, and a process with two may not fork
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@dataclass
class Child:
    """A running child: what it says (`lines`), what it prints (`output`), and how it ended (`ended`, `status`).

    `status` counts as `subprocess` does; None after the end means that the zygote died and the child with it.
    """

    pid: int
    lines: int
    output: int
    told: socket.socket
    _pidfd: int
    ended: bool = field(default=False, init=False)
    status: int | None = field(default=None, init=False)

    def kill(self) -> None:
        """End it at once; one that has ended already is left alone, whoever has its number now."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def check(self) -> bool:
        """Whether it has ended; call it when `told` can be read."""
        with suppress(BlockingIOError):
            message = self.told.recv(4096)
            self.ended = True
            self.status = json.loads(message)["status"] if message else None
        return self.ended

    def close(self) -> None:
        """Kill what still runs and give back the descriptors."""
        self.kill()
        self.told.close()
        for fd in (self.lines, self.output, self._pidfd):
            os.close(fd)


class Zygote:
    """One zygote process, started again whenever it dies, and the children forked from it. Threads may share it."""

    def __init__(self, home: Path, module: str = "worker.zygote", env: Mapping[str, str] | None = None) -> None:
        self._command = [sys.executable, "-m", module]
        self._env = dict(environment(home) if env is None else env)
        self._home = home
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        # PDEATHSIG follows the thread that started a process: this one lives as long as this object is in use.
        self._keeper = threading.Thread(target=self._keep, name="zygote-keeper", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process and keep it alive; returns at once, see `wait_ready`."""
        self._home.mkdir(parents=True, exist_ok=True)
        self._keeper.start()

    def stop(self) -> None:
        """End the process and all its children."""
        self._stopping.set()
        self._kill()
        self._keeper.join()

    def wait_ready(self, seconds: float) -> bool:
        """Whether it takes orders, after waiting for at most so long."""
        return self._ready.wait(seconds)

    def spawn(self, order: Order, request: bytes) -> Child:
        """Fork a child that reads `request`. Raises `ZygoteGone` when none can be had."""
        ours, fds = _channels(request)
        lines, output, told = ours
        try:
            self._send(order, fds)
            pid, pidfd = _answer(told)
        except BaseException as error:
            told.close()
            os.close(lines)
            os.close(output)
            if isinstance(error, TimeoutError):
                self._kill()  # stopped or hanging: the keeper starts another
                raise ZygoteGone(f"the zygote gave no answer in {_ANSWER_SECONDS:.0f} s") from error
            raise
        told.setblocking(False)
        return Child(pid, lines, output, told, pidfd)

    def _send(self, order: Order, fds: Sequence[int]) -> None:
        try:
            with self._lock:
                if self._control is None:
                    raise ZygoteGone("the zygote is starting")
                socket.send_fds(self._control, [order.model_dump_json().encode()], fds, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ZygoteGone("the worker's zygote died") from error
        finally:
            for fd in fds:
                os.close(fd)

    def _kill(self) -> None:
        with self._lock:
            if self._process:
                self._process.kill()

    def _keep(self) -> None:
        delay = 0.0
        while not self._stopping.wait(delay):
            try:
                lived = self._live_once()
            except OSError as error:  # no process or descriptor to be had just now
                _log.warning("zygote_not_started", error=str(error))
                lived = False
            delay = 0.0 if lived else min(max(2 * delay, 0.5), _SLOWEST_RESTART)

    def _live_once(self) -> bool:
        """Start a process and wait for its end; whether it ever was ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs, self._lock:
                if self._stopping.is_set():
                    return True
                self._process = subprocess.Popen(
                    [*self._command, str(os.getpid()), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=self._env,
                    cwd=_ROOT,
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # a terminal's Ctrl-C is for the worker alone
                )
            ours.settimeout(_START_SECONDS)
            try:
                was_ready = bool(ours.recv(4096))
            except TimeoutError:
                _log.warning("zygote_hangs", seconds=_START_SECONDS)
                was_ready = False
                self._process.kill()
            if was_ready:
                ours.settimeout(_ANSWER_SECONDS)
                self._control = ours
                self._ready.set()
            self._process.wait()
            self._ready.clear()
            with self._lock:
                self._control = self._process = None
        return was_ready


def _channels(request: bytes) -> tuple[tuple[int, int, socket.socket], tuple[int, int, int, int]]:
    """Our ends (lines, output, told) and the child's (request, lines, output, told)."""
    request_fd = os.memfd_create("request")
    with os.fdopen(os.dup(request_fd), "wb") as file:
        file.write(request)
    os.lseek(request_fd, 0, os.SEEK_SET)
    lines, lines_out = os.pipe()
    output, output_out = os.pipe()
    told, teller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return (lines, output, told), (request_fd, lines_out, output_out, teller.detach())


def _answer(told: socket.socket) -> tuple[int, int]:
    told.settimeout(_ANSWER_SECONDS)
    message, fds, _, _ = socket.recv_fds(told, 4096, 1)
    if not message:
        raise ZygoteGone("the worker's zygote died")
    answer = json.loads(message)
    if "pid" not in answer:
        raise ZygoteGone(f"the zygote could not start a child: {answer.get('error')}")
    return int(answer["pid"]), fds[0]
