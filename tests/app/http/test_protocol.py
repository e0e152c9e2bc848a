"""HTTP below the app: what is refused before there is a request, on a raw socket, and that nothing else suffers."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from app.http.protocol import MAX_HEAD_BYTES

START = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
UPLOAD = b"POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
MANY_BYTES = 64 * 2**20


def connected(client: httpx.Client) -> socket.socket:
    """A socket to the API."""
    address = urlsplit(str(client.base_url))
    return socket.create_connection((address.hostname, address.port), timeout=30)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(2**16):
            found += piece
    return found


def sent_before_the_end(connection: socket.socket, piece: bytes) -> int:
    """How many bytes the other side took before it closed."""
    sent = 0
    with suppress(OSError):
        while sent < MANY_BYTES:
            connection.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (START + b"A: ", b"x" * 2**16),
        (START, b"A: b\r\n" * 10_000),
        (b"GET /", b"x" * 2**14),
        (UPLOAD + b"0\r\nA: ", b"x" * 2**16),
        (UPLOAD + b"2;a=", b"x" * 2**16),
    ],
    ids=["one header", "many headers", "address", "trailer", "chunk extension"],
)
def test_a_head_without_end_is_cut_off(client: httpx.Client, start: bytes, piece: bytes) -> None:
    with connected(client) as connection:
        connection.sendall(start)
        assert sent_before_the_end(connection, piece) < MANY_BYTES
    assert client.get("/health/live").status_code == 200


def test_a_head_of_the_largest_size_is_taken(client: httpx.Client) -> None:
    padding = b"A: %s\r\n\r\n" % (b"x" * (MAX_HEAD_BYTES - len(START) - 7))
    head = START + padding
    assert len(head) == MAX_HEAD_BYTES
    with connected(client) as connection:
        for sign in (head[:1000], head[1000:]):
            connection.sendall(sign)
        assert answer(connection).startswith(b"HTTP/1.1 200 OK")


def test_bytes_of_bodies_are_no_head(client: httpx.Client) -> None:
    body = b"x" * (4 * MAX_HEAD_BYTES)
    for sent in (body, iter([body[:10], body[10:]])):
        assert client.post("/v1/models", content=sent).json()["code"] == "unsupported_format"


def test_what_is_no_http_is_a_problem(client: httpx.Client) -> None:
    with connected(client) as connection:
        connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nno header\r\n\r\n")
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "malformed_request"


def test_garbage_after_a_request_ends_it_without_an_error(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"
    with caplog.at_level(logging.ERROR):
        for count in (1, 3):
            with connected(client) as connection:
                connection.sendall(waiting * count + b"GARBAGE\r\n\r\n")
                answer(connection)
            assert client.get("/v1/jobs").status_code == 200
    assert not caplog.records
