"""One file and a few short fields out of a `multipart/form-data` body, pushed in piece by piece (RFC 7578)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from pruning.contract.errors import FileTooLarge, MalformedRequest

_MAX_PARTS = 32


class Form:
    """What has arrived so far. `write_file` gets the bytes of the part `file`; the others are kept, up to their limits.

    `limits`: bytes by name of the parts that are taken. Every method raises `MalformedRequest`, `FileTooLarge`.
    """

    def __init__(self, content_type: str, write_file: Callable[[memoryview], None], limits: Mapping[str, int]) -> None:
        self.fields: dict[str, bytearray] = {}
        self.filename: str | None = None
        self.has_file = False
        self._write_file, self._limits = write_file, limits
        self._ended = False
        self._parts = 0
        self._header = (bytearray(), bytearray())
        self._disposition = ""
        self._part = ""
        _, options = parse_options_header(content_type)
        if not (boundary := options.get(b"boundary")):
            raise MalformedRequest("the content type multipart/form-data comes without its boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._name_part,
                    "on_part_data": self._on_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedRequest(str(error)) from error

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequest(f"the body is not multipart/form-data: {error}") from error

    def finish(self) -> None:
        """The body is over."""
        if not self._ended:
            raise MalformedRequest("the body ends in the middle of its multipart/form-data")
        if not self.has_file:
            raise MalformedRequest("the form has no part named file")

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise MalformedRequest(f"the form has more than {_MAX_PARTS} parts")
        self._disposition = ""

    def _end_header(self) -> None:
        name, value = self._header
        if name.strip().lower() == b"content-disposition":
            self._disposition = value.decode("latin-1")
        self._header = (bytearray(), bytearray())

    def _name_part(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", errors="replace")
        if kind != b"form-data" or (name != "file" and name not in self._limits):
            raise MalformedRequest(f"the form has a part {name[:80]!r}: there are file, {', '.join(self._limits)}")
        if name in self.fields or (name == "file" and self.has_file):
            raise MalformedRequest(f"the form has two parts named {name!r}")
        self._part = name
        if name == "file":
            self.has_file = True
            self.filename = options.get(b"filename", b"").decode("utf-8", errors="replace") or None
        else:
            self.fields[name] = bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._write_file(memoryview(data)[start:end])
            return
        field = self.fields[self._part]
        field += memoryview(data)[start:end]
        if len(field) > self._limits[self._part]:
            raise FileTooLarge(f"the part {self._part!r} is larger than {self._limits[self._part]} bytes")

    def _end(self) -> None:
        self._ended = True
