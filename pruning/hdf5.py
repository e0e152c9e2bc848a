"""The weights file inside a `.keras` file, read and written: groups and arrays by path.

Written with HDF5's own calls: h5py's comfortable ones take three times as long for the hundreds of small objects that a
model is made of, and that is most of the time of a what-if. Space is set aside when an array is declared, so that the
size of a file is known without writing one value.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from math import prod
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5a, h5d, h5g, h5o, h5p, h5s, h5t

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
# What an HDF5 file costs besides its values depends on: (path, dtype, rank) of each array, names, those in bfloat16.
Frame: TypeAlias = tuple[tuple[tuple[str, np.dtype[Any], int], ...], tuple[tuple[str, str], ...], frozenset[str]]
_overheads: dict[Frame, int] = {}
_FRAMES = 8
_PAGE = 2**14


def read(view: memoryview) -> tuple[Arrays, dict[str, str], frozenset[str]]:
    """Arrays by path, {path of a layer: its name}, and the paths of arrays held in bfloat16, which become float32.

    Arrays are views of `view` wherever they lie in one piece. Raises what h5py raises for a broken file.
    """
    arrays: Arrays = {}
    names: dict[str, str] = {}
    bfloat16: set[str] = set()
    paths: list[bytes] = []
    # h5py is closed before the map: the views that leave here keep the map itself alive.
    with h5py.File(_View(view), "r") as file:
        h5o.visit(file.id, paths.append)
        for key in paths:
            node, path = h5o.open(file.id, key), key.decode()
            if isinstance(node, h5d.DatasetID):
                arrays[path] = _array(view, node)
                if _text(node, b"dtype") == "bfloat16":
                    bits = np.frombuffer(arrays[path].tobytes(), np.uint16).reshape(node.shape)
                    arrays[path] = (bits.astype(np.uint32) << 16).view(np.float32)
                    bfloat16.add(path)
            elif path.rsplit("/", 1)[-1] == "vars":
                names[path[: -len("vars")].rstrip("/")] = _text(node, b"name")
    return arrays, names, frozenset(bfloat16)


def written(
    arrays: Mapping[str, npt.NDArray[Any]], names: Mapping[str, str], bfloat16: Collection[str] = ()
) -> memoryview:
    """The file as Keras writes it: a `vars` group with the layer's name for each layer, then its arrays."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, dataset in _declared(file, arrays, names, bfloat16).items():
            array = np.ascontiguousarray(arrays[path])
            dataset.write(h5s.ALL, h5s.ALL, _in_bfloat16(array) if path in bfloat16 else array)
    return buffer.getbuffer()


def size(arrays: Mapping[str, npt.NDArray[Any]], names: Mapping[str, str], bfloat16: Collection[str] = ()) -> int:
    """The bytes of what `written` would return; no value is read."""
    frame = _frame(arrays, names, bfloat16)
    if frame not in _overheads:
        _keep(frame, _overhead(*frame))
    return _overheads[frame] + _bytes(arrays, bfloat16)


def learn(
    size: int, arrays: Mapping[str, npt.NDArray[Any]], names: Mapping[str, str], bfloat16: Collection[str] = ()
) -> None:
    """Remember that `written` made so many bytes of this: then `size` lays nothing out for arrays of other widths."""
    _keep(_frame(arrays, names, bfloat16), size - _bytes(arrays, bfloat16))


def _frame(arrays: Mapping[str, npt.NDArray[Any]], names: Mapping[str, str], bfloat16: Collection[str]) -> Frame:
    kinds = tuple((path, array.dtype, array.ndim) for path, array in arrays.items())
    return kinds, tuple(names.items()), frozenset(bfloat16)


def _bytes(arrays: Mapping[str, npt.NDArray[Any]], bfloat16: Collection[str]) -> int:
    return sum(array.size * (2 if path in bfloat16 else array.itemsize) for path, array in arrays.items())


def _keep(frame: Frame, overhead: int) -> None:
    if len(_overheads) >= _FRAMES:
        _overheads.clear()
    _overheads[frame] = overhead


def _overhead(
    kinds: tuple[tuple[str, np.dtype[Any], int], ...], names: tuple[tuple[str, str], ...], bfloat16: frozenset[str]
) -> int:
    """All bytes but those of values: HDF5 through a Python file sets space aside without gaps, whatever the widths."""
    sparse = _Sparse()
    with h5py.File(sparse, "w") as file:
        _declared(file, {path: np.empty((0,) * rank, dtype) for path, dtype, rank in kinds}, dict(names), bfloat16)
    scalars = sum(2 if path in bfloat16 else dtype.itemsize for path, dtype, rank in kinds if not rank)
    return sparse.length - scalars


def _declared(
    file: h5py.File, arrays: Mapping[str, npt.NDArray[Any]], names: Mapping[str, str], bfloat16: Collection[str]
) -> dict[str, Any]:
    """Groups, attributes and datasets, with space for values that are still to be written."""
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    for path, name in names.items():
        group = h5g.create(file.id, f"{path}/vars".lstrip("/").encode(), links)
        if name:
            _put_text(group, b"name", name)
    made = {}
    for path, array in arrays.items():
        kind = np.dtype("V2") if path in bfloat16 else array.dtype
        space = h5s.create_simple(array.shape) if array.ndim else h5s.create(h5s.SCALAR)
        made[path] = h5d.create(file.id, path.encode(), h5t.py_create(kind, logical=1), space, layout, links)
        if path in bfloat16:
            _put_text(made[path], b"dtype", "bfloat16")
    return made


def _array(view: memoryview, dataset: h5d.DatasetID) -> npt.NDArray[Any]:
    kind = dataset.get_type()
    dtype = np.dtype(np.float32) if kind.equal(h5t.IEEE_F32LE) else dataset.dtype
    shape = dataset.shape
    offset = dataset.get_offset()
    if offset is None or prod(shape) == 0 or dtype.hasobject:
        return np.asarray(h5py.Dataset(dataset)[()])
    return np.frombuffer(view, dtype, prod(shape), offset).reshape(shape)


def _in_bfloat16(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    bits = array.astype(np.float32, copy=False).view(np.uint32)
    # Round to nearest, ties to even, as every converter does.
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded.view("V2").reshape(array.shape)


def _text(node: Any, key: bytes) -> str:
    """An attribute that is a text; empty where there is none."""
    if not h5a.exists(node, key):
        return ""
    attribute = h5a.open(node, key)
    found = np.empty(attribute.shape, attribute.dtype)
    attribute.read(found)
    value = found[()]
    return value.decode() if isinstance(value, bytes) else str(value) if isinstance(value, str) else ""


def _put_text(node: Any, key: bytes, text: str) -> None:
    kind = h5py.string_dtype()
    attribute = h5a.create(node, key, h5t.py_create(kind, logical=1), h5s.create(h5s.SCALAR))
    attribute.write(np.array(text, kind))


class Seekable(io.RawIOBase):
    """A file of which a length and a position are known."""

    def __init__(self, length: int = 0) -> None:
        self.length, self.at = length, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.length}[whence]
        self.at = max(0, base + offset)
        return self.at

    def tell(self) -> int:
        return self.at


class _View(Seekable):
    """A file over a part of the memory map: HDF5 reads the headers through it, never the arrays."""

    def __init__(self, view: memoryview) -> None:
        super().__init__(len(view))
        self._view = view

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        count = max(0, min(len(target), self.length - self.at))
        target[:count] = self._view[self.at : self.at + count]
        self.at += count
        return count


class _Sparse(Seekable):
    """A file in memory whose holes take none: headers are kept in pages, the space for arrays stays empty."""

    def __init__(self) -> None:
        super().__init__()
        self._pages: dict[int, bytearray] = {}

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        source = memoryview(content).cast("B")
        for page, inside, done, count in self._pieces(len(source)):
            self._pages.setdefault(page, bytearray(_PAGE))[inside : inside + count] = source[done : done + count]
        self.at += len(source)
        self.length = max(self.length, self.at)
        return len(source)

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        total = max(0, min(len(target), self.length - self.at))
        for page, inside, done, count in self._pieces(total):
            target[done : done + count] = self._pages.get(page, bytes(_PAGE))[inside : inside + count]
        self.at += total
        return total

    def truncate(self, size: int | None = None) -> int:
        self.length = self.at if size is None else size
        return self.length

    def _pieces(self, total: int) -> list[tuple[int, int, int, int]]:
        """(page, place in it, bytes before, bytes here) of the next `total` bytes."""
        pieces, done = [], 0
        while done < total:
            page, inside = divmod(self.at + done, _PAGE)
            count = min(total - done, _PAGE - inside)
            pieces.append((page, inside, done, count))
            done += count
        return pieces
