"""HTTP below the app: uvicorn's protocol with a bound on the head of a request and a problem where it refuses one."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http import problems
from pruning.contract.errors import MalformedRequest

MAX_HEAD_BYTES = 2**16


class Protocol(HttpToolsProtocol):
    """One connection. `uvicorn --http app.http.protocol:Protocol`.

    Uvicorn gathers a head, or the trailers of a body, of any length in memory, and every piece that comes copies what
    is there: 300 MB of one header took 500 MB and stopped the whole API for minutes.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._answered: RequestResponseCycle | None = None

    def data_received(self, data: bytes) -> None:
        """The next bytes. Those of the read in which a head or a body ended do not count for the next head."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of the request is larger than {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """A head has ended."""
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of a body have come."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended."""
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what has come as a problem, and end the connection."""
        answer = problems.response(MalformedRequest(msg), {"Connection": "close"})
        fields = b"".join(b"%s: %s\r\n" % field for field in (*self.server_state.default_headers, *answer.raw_headers))
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%s\r\n%s" % (fields, bytes(answer.body)))
        self.transport.close()
        self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        self._let_go()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _let_go(self) -> None:
        # Uvicorn tells only the newest request of a pipeline, and writes the answer of another to a closed socket.
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
