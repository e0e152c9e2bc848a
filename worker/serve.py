"""`python -m worker.serve`: the whole service, an API and a worker under one parent that keeps both alive.

The parent owns the listening socket, so an API that dies is replaced behind the same port and callers wait a moment
instead of being refused. The parts end with the parent, whatever ends it.
"""

from __future__ import annotations

import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app import db, logs
from app.settings import Settings, get_settings, why_refused
from worker import parent, sandbox

GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.1
_SLOWEST_RESTART = 10.0
_UNPREFIXED = ("DATA_DIR", "HOST", "PORT")
_log = structlog.get_logger(__name__)


class Part:
    """One process of the service, started again when it dies: at once, or slower and slower if it dies young."""

    def __init__(self, name: str, arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "worker.serve", name, str(os.getpid()), *arguments]
        self._pass_fds = pass_fds
        self._delay = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def keep_alive(self) -> None:
        """Start it if it does not run and its time has come. Call it from the main thread: PDEATHSIG follows that."""
        now = time.monotonic()
        if self.process is not None and (code := self.process.poll()) is not None:
            self._delay = (
                0.0 if now - self._started > _SLOWEST_RESTART else min(max(2 * self._delay, 0.5), _SLOWEST_RESTART)
            )
            _log.warning("part_ended", part=self.name, code=code, starts_again_in_seconds=self._delay)
            self.process, self._started = None, now
        if self.process is None and now >= self._started + self._delay:
            self._started = now
            # A session of its own: a terminal's Ctrl-C reaches the parent alone, which ends its parts in order.
            self.process = subprocess.Popen(
                self._command,
                pass_fds=self._pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,  # stdout is for the one line that says where the service is
                start_new_session=True,
            )

    def end(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def ended(self) -> bool:
        """Whether it does not run."""
        return self.process is None or self.process.poll() is not None


class Parent:
    """The parts and the order to stop: the first signal ends them gently, the second at once."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._signals = 0

    def run(self) -> None:
        """Keep the parts alive until a signal comes, then end them."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        while self._signals == 0:
            for part in self._parts:
                part.keep_alive()
            time.sleep(_POLL_SECONDS)
        self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1

    def _end(self) -> None:
        for part in self._parts:
            part.end(signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while not all(part.ended() for part in self._parts):
            if time.monotonic() >= end or self._signals > 1:
                for part in self._parts:
                    part.end(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises `OSError` when the address cannot be had."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=2048)


def serve() -> int:
    """Run the service until a signal ends it; the exit code."""
    for name in _UNPREFIXED:
        if name in os.environ:
            os.environ.setdefault(f"SECATEUR_{name}", os.environ[name])
    try:
        settings = get_settings()
    except ValidationError as error:
        sys.stderr.write(f"secateur: {why_refused(error)}\n")
        return 1
    logs.configure(settings.log_level)
    if settings.hardened:
        sys.stderr.write(f"secateur: {sandbox.why_not_hardened()}\n")
        return 1
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        sys.stderr.write(f"secateur: {_why_no_port(error, settings)}\n")
        return 1
    try:
        db.upgrade()
    except SQLAlchemyError as error:
        sys.stderr.write(f"secateur: the database cannot be used: {_last_line(error)}\n")
        return 1
    port = listener.getsockname()[1]
    threading.Thread(target=_announce, args=(settings.host, port), daemon=True).start()
    fd = listener.fileno()
    Parent([Part("api", [str(fd)], [fd]), Part("worker", [])]).run()
    return 0


def _why_no_port(error: OSError, settings: Settings) -> str:
    place = f"{settings.host} port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{place} is taken by another program: stop it, or choose another with PORT=8001"
    return f"cannot listen on {place}: {error.strerror or error}; choose others with HOST=... PORT=..."


def _last_line(error: SQLAlchemyError) -> str:
    # The first line is SQLAlchemy's link to its documents; parameters and addresses are not in the driver's own words.
    return str(getattr(error, "orig", None) or error).strip().splitlines()[-1]


def _announce(host: str, port: int) -> None:
    """Print one line when the API answers."""
    shown = f"[{host}]" if ":" in host else host
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(near, port, timeout=60)
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                sys.stdout.write(f"secateur is ready on http://{shown}:{port}\n")
                sys.stdout.flush()
                return
        time.sleep(0.2)


def run_api(parent_pid: int, fd: int) -> int:
    """The API's process: uvicorn on the parent's socket."""
    parent.die_with(parent_pid)
    import uvicorn

    level = get_settings().log_level.lower()
    config = uvicorn.Config(
        "app.main:app",
        http="app.http.protocol:Protocol",
        ws="none",
        log_level=level,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])
    return 0


def run_worker(parent_pid: int) -> int:
    """The worker's process: Celery with a pool of threads, each of which only supervises a child."""
    parent.die_with(parent_pid)
    from worker.__main__ import main as work

    work()
    return 0


def main(arguments: Sequence[str]) -> int:
    """The parent without arguments; `api PARENT FD` and `worker PARENT` are its parts."""
    match arguments:
        case []:
            return serve()
        case ["api", parent_pid, fd]:
            return run_api(int(parent_pid), int(fd))
        case ["worker", parent_pid]:
            return run_worker(int(parent_pid))
    sys.stderr.write("usage: python -m worker.serve\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
