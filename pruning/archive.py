"""A `.keras` file <-> (config, {path: array}): the one place that knows Keras' file layout.

A `.keras` file is a zip of `metadata.json`, `config.json`, `model.weights.h5` and, seldom, `assets/`. In the HDF5 file
(`pruning.hdf5`) each layer is a group `.../<class counter>` with a group `vars` that has the layer's `name` and the
arrays `0`, `1`, ...
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

import numpy.typing as npt

from pruning import hdf5
from pruning.contract.errors import UnreadableFile
from pruning.hdf5 import Arrays

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


def read(path: str | os.PathLike[str], *, ours: bool = False) -> Archive:
    """A `.keras` file that Keras wrote. Arrays are read-only views of a memory map where the file allows it.

    `ours`: `write` made it, so its size tells that of archives with the same arrays in other widths.
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
            arrays, names, bfloat16 = hdf5.read(weights)
            if ours:
                hdf5.learn(len(weights), arrays, names, bfloat16)
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableFile(f"no .keras file that can be read: {error}") from error
    return Archive(config, metadata, arrays, names, assets, bfloat16)


def write(path: str | os.PathLike[str], archive: Archive) -> None:
    """A `.keras` file that `keras.saving.load_model` opens. Equal archives give equal bytes."""
    weights = written_h5(archive)
    with zipfile.ZipFile(path, "w") as target:
        for name, content in _members(archive, weights):
            with target.open(_info(name, len(content)), "w") as member:
                member.write(content)


def size_bytes(archive: Archive) -> int:
    """The size of the file that `write` would make, in bytes; no value is read."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as target:
        for name, content in _members(archive, b""):
            size = len(content) or hdf5.size(archive.arrays, archive.names, archive.bfloat16)
            info = _info(name, size)
            with target.open(info, "w"):
                sink.skip(size)
            info.file_size = info.compress_size = size
    return sink.length


def written_h5(archive: Archive) -> memoryview:
    """The weights file of an archive."""
    return hdf5.written(archive.arrays, archive.names, archive.bfloat16)


def _members(archive: Archive, weights: bytes | memoryview) -> list[tuple[str, bytes | memoryview]]:
    return [
        (_METADATA, json.dumps(archive.metadata).encode()),
        (_CONFIG, json.dumps(archive.config).encode()),
        (_WEIGHTS, weights),
        *sorted(archive.assets.items()),
    ]


def _info(name: str, size: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o600 << 16
    # `force_zip64` would change small files; sizes are known, so the header is right at once.
    info.file_size = size
    return info


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


class _Sink(hdf5.Seekable):
    """A file that only counts what is written."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        count = len(memoryview(content).cast("B"))
        self.skip(count)
        return count

    def skip(self, count: int) -> None:
        """So many bytes more, whatever they are."""
        self.at += count
        self.length = max(self.length, self.at)
