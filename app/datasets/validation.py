"""What of an uploaded data set is checked before it is stored: the headers of its arrays, and every byte by its CRC-32.

The values are the engine's to read: a NaN or a label out of range fails the job that uses them.
"""

from __future__ import annotations

import ast
import math
import re
import struct
from pathlib import Path
from typing import Any

from app import zips
from pruning.contract.dataset import TEXT, Array, DatasetDescription, describe
from pruning.contract.errors import DatasetMismatch, UnreadableFile, UnsafeFile, UnsupportedFormat

MAX_HEADER_BYTES = 10_000
_NPY = b"\x93NUMPY"
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}
_TEXTS = {"U": 4, "S": 1}  # bytes of one sign
_DESCRIPTION = re.compile(r"[<>|=]?(?P<kind>[a-zA-Z])(?P<size>\d{0,6})(?:(?<=[mM]8)\[\w{1,20}\])?")
_SIZE_OF_LENGTH = {1: "<H", 2: "<I", 3: "<I"}


def check(path: Path) -> DatasetDescription:
    """The arrays of the `.npz` file at `path` and the splits they make.

    Raises `UnsupportedFormat`, `UnreadableFile`, `UnsafeFile` (object arrays, bombs), `DatasetMismatch`.
    """
    _sniff(path)
    with zips.opened(path) as archive:
        names = [name for name in archive.members if not name.endswith("/")]
        if foreign := [name for name in names if not name.endswith(".npy")]:
            hint = "it looks like a model: send it to /v1/models" if "config.json" in foreign else "use numpy.savez"
            raise UnsupportedFormat(f"{foreign[0]!r} is no .npy array, so the zip archive is no .npz file: {hint}")
        description = describe([_array(archive, name) for name in names])
        archive.check_bytes()
    return description


def _sniff(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(len(_NPY))
    if head.startswith(zips.SIGNATURE):
        return
    if zips.SIGNATURE.startswith(head):
        raise UnreadableFile("the file is empty" if not head else f"the file ends after {len(head)} bytes")
    if head == _NPY:
        raise UnsupportedFormat("the file is a single .npy array: save x_train, y_train, ... with numpy.savez")
    raise UnsupportedFormat("the file is no .npz archive: save the arrays with numpy.savez or numpy.savez_compressed")


def _array(archive: zips.Archive, member: str) -> Array:
    """Name, shape and dtype from a member's header; its size must be that of header and values."""
    name = member.removesuffix(".npy")
    header, header_bytes = _header(name, archive.head(member, MAX_HEADER_BYTES + 12))
    shape, (dtype, item_bytes) = header["shape"], _dtype(name, header["descr"])
    declared, expected = archive.members[member].file_size, header_bytes + math.prod(shape) * item_bytes
    if declared != expected:
        raise UnreadableFile(f"array {name!r} of shape {shape} and dtype {dtype} has {declared} bytes, not {expected}")
    return Array(name=name, shape=list(shape), dtype=dtype)


def _header(name: str, start: bytes) -> tuple[dict[str, Any], int]:
    """The header of a .npy member (NEP 1), and where its values begin."""
    if not start.startswith(_NPY) or len(start) < 12 or start[6] not in _SIZE_OF_LENGTH:
        raise UnreadableFile(f"array {name!r} has no .npy header of version 1, 2 or 3")
    form = _SIZE_OF_LENGTH[start[6]]
    (length,) = struct.unpack_from(form, start, 8)
    begin = 8 + struct.calcsize(form)
    if length > MAX_HEADER_BYTES:
        raise UnsafeFile(f"array {name!r} has a header of {length} bytes: at most {MAX_HEADER_BYTES} are read")
    text = start[begin : begin + length].decode("utf-8" if start[6] == 3 else "latin-1", errors="replace")
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise UnreadableFile(f"array {name!r} has a header that cannot be read") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise UnreadableFile(f"array {name!r} has a header without descr, fortran_order and shape")
    shape = header["shape"]
    if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise UnreadableFile(f"array {name!r} has the shape {str(shape)[:80]}")
    return header, begin + length


def _dtype(name: str, description: Any) -> tuple[str, int]:
    """NumPy's name of a dtype and the bytes of one value."""
    if not isinstance(description, str):
        raise DatasetMismatch(f"array {name!r} has fields: give each of them as an array of its own")
    if (found := _DESCRIPTION.fullmatch(description)) is None:
        raise UnreadableFile(f"array {name!r} has the dtype {description[:80]!r}")
    if found["kind"] == "O":
        raise UnsafeFile(f"array {name!r} holds Python objects: only arrays of numbers and texts are read")
    size = int(found["size"] or 0)
    if found["kind"] in _TEXTS:
        return TEXT, size * _TEXTS[found["kind"]]
    kind = _KINDS.get(found["kind"])
    if kind is None:
        # Dates and raw bytes are described by name, and refused for it.
        return description, size
    return (kind if kind == "bool" else f"{kind}{8 * size}"), size
