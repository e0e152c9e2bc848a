"""An upload, from the socket straight into the storage's temporary file: never whole in memory, never written twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from anyio import CancelScope
from fastapi import Query, Request
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from app.http import body
from app.http.form import Form
from app.settings import get_settings
from app.storage import Staged, get_storage
from pruning.contract.base import Record
from pruning.contract.errors import DigestMismatch, FileTooLarge, MalformedRequest, OutOfStorage

Name = Annotated[str, Field(max_length=256)]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^:\x00-\x1f]+$")]
Labels = Annotated[dict[LabelKey, Annotated[str, Field(max_length=256)]], Field(max_length=64)]

_WRITE_BYTES = 2**20
_MAX_ARCHITECTURE = 16 * 2**20
_FIELDS = {"name": 2048, "labels": 2**16, "sha256": 256, "architecture": _MAX_ARCHITECTURE}
_FORM = "multipart/form-data"


class Told(Record):
    """What a client says of its file."""

    name: Name | None = None
    labels: Labels = {}
    sha256: Annotated[str, StringConstraints(to_lower=True)] | None = None


@dataclass
class Asked:
    """The query parameters of an upload of bare bytes; a form's own fields come before them."""

    filename: Annotated[str | None, Query(max_length=1024, description="the file's name")] = None
    name: Annotated[str | None, Query(max_length=256, description="a name for people")] = None
    sha256: Annotated[str | None, Query(max_length=256, description="the digest that the bytes must have, in hex")] = (
        None
    )


@dataclass
class Upload:
    """A file that has arrived whole: its bytes on the disk, hashed, and what was told of it."""

    staged: Staged
    told: Told
    filename: str | None
    architecture: bytes | None = None


class _Writer:
    """Bytes on their way to the disk, in pieces worth a thread's while: one is hashed and written as the next comes."""

    def __init__(self, staged: Staged, limit: int) -> None:
        self._staged, self._limit = staged, limit
        self._pieces: list[bytes | memoryview] = []
        self._waiting = 0
        self._total = 0
        self._writing: asyncio.Future[None] | None = None

    def add(self, piece: bytes | memoryview) -> None:
        """Raises `FileTooLarge`."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._total += len(piece)
        if self._total > self._limit:
            raise FileTooLarge(f"the file is larger than {self._limit} bytes")

    async def write(self, at_least: int) -> None:
        """Begin to write what waits, if it is enough and once the piece before is written."""
        if self._waiting >= at_least:
            await self.settle()
            pieces, self._pieces, self._waiting = self._pieces, [], 0
            self._writing = asyncio.ensure_future(run_in_threadpool(self._write, pieces))

    async def settle(self) -> None:
        """Wait until no thread uses the file. Raises what the last write raised, `OutOfStorage` for one."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        self._staged.write(b"".join(pieces))


@asynccontextmanager
async def received(request: Request, asked: Asked) -> AsyncIterator[Upload]:
    """The upload that a request brings, as a form or as bare bytes; its file is gone afterwards unless committed.

    Raises `UnsupportedFormat` for a compressed body and `FileTooLarge` where the length was announced before the first
    byte, `MalformedRequest`, and `DigestMismatch` before anything else is looked at.
    """
    body.refuse_encoded(request)
    limit = get_settings().max_upload_bytes
    form_body = body.media_type(request) == _FORM
    around = sum(_FIELDS.values()) if form_body else 0
    if int(request.headers.get("content-length", 0)) > limit + around:
        raise FileTooLarge(f"the file is larger than {limit} bytes")
    staged = await run_in_threadpool(get_storage().create)
    writer = _Writer(staged, limit)
    try:
        form = Form(request.headers["content-type"], writer.add, _FIELDS) if form_body else None
        async for chunk in request.stream():
            if form is None:
                writer.add(chunk)
            else:
                form.feed(chunk)
            await writer.write(_WRITE_BYTES)
        await writer.write(1)
        await writer.settle()
        if form is not None:
            form.finish()
        upload = _told(staged, asked, form)
        if upload.told.sha256 not in (None, staged.sha256):
            raise DigestMismatch(f"{upload.told.sha256!r} was announced, the bytes that arrived have {staged.sha256}")
        yield upload
    finally:
        with CancelScope(shield=True):
            with suppress(OutOfStorage):
                await writer.settle()
            await run_in_threadpool(staged.close)


def _told(staged: Staged, asked: Asked, form: Form | None) -> Upload:
    document = {key: value for key, value in (("name", asked.name), ("sha256", asked.sha256)) if value is not None}
    filename, architecture = asked.filename, None
    if form is not None:
        fields = {key: bytes(value) for key, value in form.fields.items()}
        architecture = fields.pop("architecture", None)
        filename = form.filename or filename
        document |= {key: _text(value, key) for key, value in fields.items() if key != "labels"}
        if "labels" in fields:
            document["labels"] = body.parse(fields["labels"], "the part 'labels'")
    for key, value in document.items():
        if isinstance(value, str):
            body.check_text(value, key)
    return Upload(staged, body.validated(Told, document), _plain(filename), architecture)


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the part {name!r} is not UTF-8") from error


def _plain(filename: str | None) -> str | None:
    """The last part of a file's name without what no file name holds."""
    last = (filename or "").replace("\\", "/").rpartition("/")[2]
    return "".join(sign for sign in last if sign.isprintable())[:255] or None
