"""The process that jobs are forked from: it has imported TensorFlow and has run no operation.

`python -m worker.zygote PARENT FD` listens on the inherited SEQPACKET socket FD. An order is one JSON message with four
descriptors: the request to read, a pipe for lines, a pipe for stdout and stderr, and a socket on which the zygote tells
of this one child: first `{"pid"}` with a pidfd, at its end `{"status"}`, as `subprocess` counts it (-9: killed by
signal 9).
That socket closing without a status means that the zygote is gone, and by PDEATHSIG the child with it.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from worker import parent
from worker.pipe import Order

MAX_ORDER_BYTES = 65536


Main = Callable[[Order, int, int], int]
"""What a child does: (order, descriptor of the request, descriptor for lines) -> exit code."""


def serve(control: socket.socket, main: Main) -> None:
    """Fork a child for every order until the other end of `control` closes.

    Raises `RuntimeError` if this process has more than one thread: a fork would copy their locks and not them.
    """
    if (threads := count_threads()) != 1:
        raise RuntimeError(f"the zygote has {threads} threads; it may have one: is OPENBLAS_NUM_THREADS=1 set?")
    gc.freeze()
    control.send(json.dumps({"ready": os.getpid()}).encode())
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    _report_end(selector, key)
                elif not _take_order(selector, control, main):
                    return


def count_threads() -> int:
    """Threads of this process, as the kernel counts them: libraries start some that Python does not know."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("Threads:")).split()[1])


def _take_order(selector: selectors.BaseSelector, control: socket.socket, main: Main) -> bool:
    message, fds, _, _ = socket.recv_fds(control, MAX_ORDER_BYTES, 4)
    if not message:
        return False
    if len(fds) < 4:  # no descriptor left for the rest: whoever asked sees the end of its socket
        for fd in fds:
            os.close(fd)
        return True
    request, lines, output, status_fd = fds
    status = socket.socket(fileno=status_fd)
    me, pid = os.getpid(), 0
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(me, main, message, request, lines, output)
        pidfd = os.pidfd_open(pid)
        _tell(status, {"pid": pid}, pidfd)
        selector.register(pidfd, selectors.EVENT_READ, (pid, status))
    except OSError as error:  # no process or descriptor left: this order fails, the next may not
        if pid:  # nobody could follow it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        _tell(status, {"error": str(error)})
        status.close()
    finally:
        for fd in (request, lines, output):
            os.close(fd)
    return True


def _report_end(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pid, status = key.data
    _, wait_status = os.waitpid(pid, 0)
    _tell(status, {"status": os.waitstatus_to_exitcode(wait_status)})
    status.close()
    selector.unregister(key.fd)
    os.close(key.fd)


def _tell(status: socket.socket, message: dict[str, Any], *fds: int) -> None:
    try:
        socket.send_fds(status, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)
    except OSError:  # the supervisor has given up on this child: nobody is left to be told
        return


def _be_child(zygote: int, main: Main, message: bytes, request: int, lines: int, output: int) -> NoReturn:
    code = 1
    try:
        parent.die_with(zygote)
        os.dup2(output, 1)
        os.dup2(output, 2)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        _close_all_but({0, 1, 2, request, lines})
        code = main(Order.model_validate_json(message), request, lines)
    except BaseException:  # nothing may unwind into the zygote's loop
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _close_all_but(keep: set[int]) -> None:
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the listing's own descriptor
                continue


def start(load: Callable[[], Main]) -> None:
    """Serve on the descriptor and for the parent that the command line names; `load` may take its time to import."""
    _, parent_pid, fd = sys.argv
    parent.die_with(int(parent_pid))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    serve(socket.socket(fileno=int(fd)), load())


@contextmanager
def _quiet() -> Iterator[None]:
    """Stderr put aside: TensorFlow greets there, whatever its log level is. An exception is still told afterwards."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _load() -> Main:
    with _quiet():
        from worker import child

        return child.main


if __name__ == "__main__":
    start(_load)
