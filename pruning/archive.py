"""A `.keras` file <-> (config, {path: array}): the one place that knows Keras' file layout.

A `.keras` file is a zip of `metadata.json`, `config.json`, `model.weights.h5` and, seldom, `assets/`. In the HDF5 file
each layer is a group `.../<class counter>` with a group `vars` that has the layer's `name` and the arrays `0`, `1`, ...
"""

from __future__ import annotations

import io
import json
import mmap
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pruning.contract.errors import UnreadableFile

Arrays = dict[str, npt.NDArray[Any]]
_WEIGHTS, _CONFIG, _METADATA = "model.weights.h5", "config.json", "metadata.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_JSON_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Archive:
    """A model as data. `arrays`: by path such as `layers/conv2d/vars/0`; `names`: {path of a layer: its name}.

    `bfloat16`: arrays that the file holds in bfloat16; here they are float32, which loses nothing.
    """

    config: dict[str, Any]
    metadata: dict[str, Any]
    arrays: Arrays
    names: dict[str, str]
    assets: dict[str, bytes] = field(default_factory=dict)
    bfloat16: frozenset[str] = frozenset()


def read(path: str | os.PathLike[str]) -> Archive:
    """A `.keras` file that Keras wrote. Arrays are read-only views of a memory map where the file allows it.

    Raises `UnreadableFile` where the file is no such archive or is broken.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            config, metadata = (_json(archive, name) for name in (_CONFIG, _METADATA))
            assets = {
                info.filename: archive.read(info)
                for info in archive.infolist()
                if info.filename.startswith("assets/") and not info.is_dir()
            }
            weights = _weights(file, archive)
            arrays, names, bfloat16 = _read_h5(weights)
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableFile(f"no .keras file that can be read: {error}") from error
    return Archive(config, metadata, arrays, names, assets, bfloat16)


def write(path: str | os.PathLike[str] | io.RawIOBase, archive: Archive) -> None:
    """A `.keras` file that `keras.saving.load_model` opens. Equal archives give equal bytes."""
    with zipfile.ZipFile(path, "w") as target:
        members: list[tuple[str, bytes | memoryview]] = [
            (_METADATA, json.dumps(archive.metadata).encode()),
            (_CONFIG, json.dumps(archive.config).encode()),
            (_WEIGHTS, written_h5(archive)),
            *sorted(archive.assets.items()),
        ]
        for name, content in members:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o600 << 16
            # `force_zip64` would change small files; sizes are known, so the header is right at once.
            info.file_size = len(content)
            with target.open(info, "w") as member:
                member.write(content)


def size_bytes(archive: Archive) -> int:
    """The size of the file that `write` would make, in bytes."""
    sink = _Sink()
    write(sink, archive)
    return sink.length


def without_optimizer(archive: Archive) -> Archive:
    """The archive without the optimizer's variables: it continues training from a fresh state."""
    return replace(
        archive,
        arrays={path: array for path, array in archive.arrays.items() if not path.startswith("optimizer/")},
        names={path: name for path, name in archive.names.items() if path.split("/")[0] != "optimizer"},
        bfloat16=frozenset(path for path in archive.bfloat16 if not path.startswith("optimizer/")),
    )


def replace_arrays(archive: Archive, arrays: Mapping[str, npt.NDArray[Any]]) -> Archive:
    """The archive with other values for some of its arrays."""
    return replace(archive, arrays=archive.arrays | dict(arrays))


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    if archive.getinfo(name).file_size > _MAX_JSON_BYTES:
        raise ValueError(f"{name} is larger than {_MAX_JSON_BYTES} bytes")
    value = json.loads(archive.read(name))
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value


def _weights(file: io.BufferedReader, archive: zipfile.ZipFile) -> memoryview:
    """The bytes of the weights file: a part of the file's memory map where it is stored without compression."""
    info = archive.getinfo(_WEIGHTS)
    if info.compress_type != zipfile.ZIP_STORED:
        return memoryview(archive.read(info))
    file.seek(info.header_offset + 26)
    lengths = file.read(4)
    start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[start : start + info.file_size]
    if len(view) != info.file_size:
        raise ValueError("the weights end before their announced size")
    return view


class _Seekable(io.RawIOBase):
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


class _View(_Seekable):
    """A file over a part of the memory map, for h5py: it reads the headers through it, never the arrays."""

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


class _Sink(_Seekable):
    """A file that only counts what is written."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.at += (count := len(memoryview(content).cast("B")))
        self.length = max(self.length, self.at)
        return count


def _read_h5(view: memoryview) -> tuple[Arrays, dict[str, str], frozenset[str]]:
    arrays: Arrays = {}
    names: dict[str, str] = {}
    bfloat16: set[str] = set()

    def visit(path: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[path] = _array(view, node)
            if node.attrs.get("dtype") == "bfloat16":
                bits = np.frombuffer(arrays[path].tobytes(), np.uint16).reshape(node.shape)
                arrays[path] = (bits.astype(np.uint32) << 16).view(np.float32)
                bfloat16.add(path)
        elif path.rsplit("/", 1)[-1] == "vars":
            name = node.attrs.get("name")
            names[path[: -len("vars")].rstrip("/")] = name if isinstance(name, str) else ""

    # h5py is closed before the map: the views that leave here keep the map itself alive.
    with h5py.File(_View(view), "r") as file:
        file.visititems(visit)
    return arrays, names, frozenset(bfloat16)


def _array(view: memoryview, dataset: h5py.Dataset) -> npt.NDArray[Any]:
    offset = dataset.id.get_offset()
    if offset is None or dataset.size == 0 or dataset.dtype.hasobject:
        return np.asarray(dataset[()])
    flat = np.frombuffer(view, dataset.dtype, dataset.size, offset)
    return flat.reshape(dataset.shape)


def written_h5(archive: Archive) -> memoryview:
    """The weights file as Keras writes it: a `vars` group with the layer's name for each layer, then its arrays."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, name in archive.names.items():
            group = file.create_group(f"{path}/vars" if path else "vars")
            if name:
                group.attrs["name"] = name
        for path, array in archive.arrays.items():
            _write_array(file, path, array, bfloat16=path in archive.bfloat16)
    return buffer.getbuffer()


def _write_array(file: h5py.File, path: str, array: npt.NDArray[Any], *, bfloat16: bool) -> None:
    if not bfloat16:
        file.create_dataset(path, data=np.ascontiguousarray(array) if array.ndim else array, track_times=False)
        return
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    # Round to nearest, ties to even, as every converter does.
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    dataset = file.create_dataset(path, data=rounded.view("V2").reshape(array.shape), track_times=False)
    dataset.attrs["dtype"] = "bfloat16"
