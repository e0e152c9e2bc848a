"""The bytes of a blob: whole or in part, with the digest that names them."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.http import caching, problems
from pruning.contract.errors import NotFound, RangeNotSatisfiable

_READ_BYTES = 2**20
_RANGE = re.compile(r"bytes=(?P<first>\d{0,20})-(?P<last>\d{0,20})", re.IGNORECASE)


def answer(request: Request, path: Path, sha256: str, filename: str) -> Response:
    """The blob at `path`, or the part that `Range` names; 304 for who has it. Raises `NotFound`."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise NotFound("the file of this artifact is gone") from None
    etag = f'"{sha256}"'
    if caching.is_known(request, etag):
        return caching.not_modified(etag)
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "X-Checksum-SHA256": sha256,
        "Content-Disposition": _disposition(filename),
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-range", etag) != etag:
        return FilePart(path, 0, size, 200, headers)
    # Of HEAD a range is to be ignored (RFC 9110, 14.2): its answer says what all of the content is.
    part = _part(request.headers.get("range", ""), size) if request.method == "GET" else None
    if part is None:
        return FilePart(path, 0, size, 200, headers)
    first, last = part
    if first > last or first >= size:
        error = RangeNotSatisfiable(f"the content has {size} bytes")
        return problems.response(error, {"Content-Range": f"bytes */{size}"})
    return FilePart(path, first, last + 1, 206, headers | {"Content-Range": f"bytes {first}-{last}/{size}"})


class FilePart(Response):
    """Bytes `first` up to but without `end` of a file, read in a thread, a piece at a time."""

    def __init__(self, path: Path, first: int, end: int, status: int, headers: dict[str, str]) -> None:
        self._path, self._first, self._end = path, first, end
        super().__init__(None, status, headers | {"Content-Length": str(end - first)}, "application/octet-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it; of a HEAD request the headers alone."""
        fd = await run_in_threadpool(os.open, self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at = self._end if scope["method"] == "HEAD" else self._first
            while at < self._end:
                piece = await run_in_threadpool(os.pread, fd, min(_READ_BYTES, self._end - at), at)
                if not piece:
                    raise OSError(f"{self._path} is shorter than it was")
                at += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(fd)


def _part(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of one range; None for what is to be answered whole (no, several or malformed ranges)."""
    found = _RANGE.fullmatch(header.strip().replace(" ", ""))
    if found is None or not (found["first"] or found["last"]):
        return None
    if not found["first"]:
        return max(0, size - int(found["last"])), size - 1
    return int(found["first"]), min(int(found["last"] or size - 1), size - 1)


def _disposition(filename: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", filename)
    encoded = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{encoded}'
