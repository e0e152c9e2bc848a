"""The API as it is served: uvicorn on a socket, in a thread of the test's process, so that tests can move rows too."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn


@contextmanager
def serving() -> Iterator[str]:
    """The address of an API with the settings of this process."""
    from app.http.protocol import Protocol
    from app.main import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(), http=Protocol, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@contextmanager
def client_of(address: str) -> Iterator[httpx.Client]:
    """A client of an API, closed at the end."""
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        yield client


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem; everything else about it is as RFC 9457 wants it."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"]
    assert body["title"]
    assert body["type"] == f"urn:secateur:problem:{body['code']}"
    assert all(place.keys() == {"path", "code", "detail"} for place in body["errors"])
    return response.status_code, body["code"]
