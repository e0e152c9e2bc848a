"""A zygote whose children do what the request says: quick to start, and nothing of the engine in it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

from worker import zygote
from worker.pipe import Order


def main(order: Order, request_fd: int, lines_fd: int) -> int:
    """Run one command of the tests."""
    with os.fdopen(request_fd, "rb") as file:
        request = json.loads(file.read())
    match request["do"]:
        case "exit":
            return int(request["code"])
        case "signal":
            os.kill(os.getpid(), request["number"])
        case "raise":
            raise RuntimeError("planted")
        case "sleep":
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            os.write(lines_fd, b"sleeping\n")
            time.sleep(600)
        case "look":
            os.write(lines_fd, json.dumps(_look(order, lines_fd)).encode())
        case "say":
            os.write(lines_fd, request["lines"].encode())
            time.sleep(request.get("sleep", 0))
            return int(request.get("code", 0))
        case "allocate":
            block = bytearray(request["bytes"])
            block[::4096] = b"x" * len(block[::4096])
            time.sleep(600)
        case "flood":
            while True:
                os.write(request["fd"], b"x" * 65536)
        case "print":
            print("on stdout")  # noqa: T201
            sys.stderr.write("on stderr\n")
    return 0


def _look(order: Order, lines_fd: int) -> dict[str, object]:
    fds = {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _open(name)}
    del fds[lines_fd]
    return {"env": dict(os.environ), "fds": fds, "order": order.model_dump(), "parent": os.getppid()}


def _open(name: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{name}") or os.path.islink(f"/proc/self/fd/{name}")


def load() -> zygote.Main:
    """The main; or, for a test, a zygote with a thread too many."""
    if os.environ.get("LANG") == "two-threads":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return main


if __name__ == "__main__":
    zygote.start(load)
