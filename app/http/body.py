"""JSON bodies: read up to a limit, refused with a code for everything that JSON allows and we cannot store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from app.settings import get_settings
from pruning.contract.errors import (
    FieldError,
    FileTooLarge,
    InvalidSpec,
    MalformedRequest,
    TargetOutOfRange,
    UnsupportedFormat,
)
from pruning.contract.errors_from_validation import from_validation

Checked = TypeVar("Checked", bound=BaseModel)
_MAX_DIGITS = 300
_KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


def media_type(request: Request) -> str:
    """The type of the body without its parameters, in lower case; empty if none was given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_encoded(request: Request) -> None:
    """Raises `UnsupportedFormat` for a body that comes compressed; formats that are so by themselves are none."""
    found = request.headers.get("content-encoding", "").strip().lower()
    if found not in ("", "identity"):
        raise UnsupportedFormat(f"the body is encoded as {found!r}: send it as it is, without Content-Encoding")


async def raw(request: Request) -> bytes:
    """The bytes of a JSON body. Raises `UnsupportedFormat`, `FileTooLarge`."""
    found = media_type(request)
    if found and found != "application/json" and not found.endswith("+json"):
        raise UnsupportedFormat(f"the body is of type {found!r}: send application/json")
    refuse_encoded(request)
    limit = get_settings().max_body_bytes
    body = bytearray()
    too_large = FileTooLarge(f"the body is larger than {limit} bytes")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _document(read: Annotated[bytes, Depends(raw)]) -> Any:
    """The parsed body. FastAPI runs this in the threadpool: 8 MiB of JSON take 100 ms."""
    return parse(read)


def _optional_document(read: Annotated[bytes, Depends(raw)]) -> Any:
    """The parsed body; an empty one is `{}`."""
    return parse(read) if read.strip() else {}


Body = Annotated[Any, Depends(_document)]
OptionalBody = Annotated[Any, Depends(_optional_document)]


def parse(raw: bytes, what: str = "the body") -> Any:
    """JSON as Python values. NaN and infinity come through, for the spec's models to refuse with their path.

    Raises `MalformedRequest`, `TargetOutOfRange` for a number of hundreds of digits, `InvalidSpec` for text that no
    database takes.
    """
    try:
        value = json.loads(raw.decode("utf-8"), parse_int=_integer)
    except RecursionError as error:
        raise MalformedRequest(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise MalformedRequest(f"{what} is not JSON: {str(error)[:200]}") from error
    if b"\\u" in raw or b"\x00" in raw:
        for path, text in _texts(value):
            check_text(text, path)
    return value


def validated(kind: type[Checked], document: Any) -> Checked:
    """The document as a checked record. Raises the contract's error for what is wrong, with the path of each place."""
    if not isinstance(document, dict):
        raise InvalidSpec(f"the body is {_KINDS[type(document)]}: a JSON object is needed")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise from_validation(error) from error


def check_text(text: str, path: str) -> None:
    """Raises `InvalidSpec` for NUL and for lone surrogates."""
    if "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        detail = "text holds a NUL or half a surrogate pair"
        raise InvalidSpec(f"{path}: {detail}", errors=[FieldError(path=path, code="invalid_text", detail=detail)])


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise TargetOutOfRange(f"a number of {len(digits)} digits came: no field takes that")
    return int(digits)


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    stack = [("", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, dict):
            yield from ((path, key) for key in item)
            stack.extend((f"{path}.{key}".lstrip("."), child) for key, child in item.items())
        elif isinstance(item, list):
            stack.extend((f"{path}.{index}".lstrip("."), child) for index, child in enumerate(item))
