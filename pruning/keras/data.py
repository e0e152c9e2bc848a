"""A data set's arrays as splits that fit a model. Arrays keep their dtype; batches are cast, never the whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from pruning.contract.dataset import SPLITS, TEXT, Array, DatasetDescription, Split, describe
from pruning.contract.errors import DatasetMismatch, SecateurError, UnreadableFile

Arrays = Mapping[str, NDArray[Any]]
Kind = Literal["sparse", "dense"]
_CHUNK_BYTES = 64 * 2**20
_TEXTS = "US"
_LAST_SIGN = 0x10FFFF


@dataclass(frozen=True)
class Port:
    """What one input or output of the model takes: None in `shape` (without the batch axis) is any size."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Labels:
    """Labels of one output: `sparse` are class indices of shape (n, ...), `dense` have the output's own shape."""

    values: NDArray[Any]
    kind: Kind
    array: str


@dataclass(frozen=True)
class Samples:
    """One split: inputs in the order of the model's inputs, labels in that of its outputs."""

    name: Split
    inputs: tuple[NDArray[Any], ...]
    labels: tuple[Labels, ...]
    dtypes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs[0])

    def few(self, count: int, seed: int) -> Samples:
        """Up to `count` of them, drawn by the seed, in their order."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        labels = tuple(replace(label, values=label.values[rows]) for label in self.labels)
        return replace(self, inputs=tuple(array[rows] for array in self.inputs), labels=labels)

    def batch(self, indices: slice | NDArray[np.int64]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Inputs, cast to what the model takes, and labels of some samples."""
        inputs = [cast(array[indices], dtype) for array, dtype in zip(self.inputs, self.dtypes, strict=True)]
        return inputs, [labels.values[indices] for labels in self.labels]

    def batches(self, size: int) -> Iterator[tuple[list[NDArray[Any]], list[NDArray[Any]]]]:
        """All samples in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))


class Dataset:
    """Arrays by the names of API.md, read and checked against a model when they are asked for."""

    def __init__(self, arrays: Arrays, description: DatasetDescription, model: keras.Model) -> None:
        self._arrays = arrays
        self.description = description
        self._inputs, self._outputs = ports(model)[0], scored(model)

    def splits(self) -> dict[Split, Samples]:
        """Every split that is there, checked. Raises `DatasetMismatch` naming what does not fit."""
        names = [name for name in SPLITS if self.description.splits.get(name, 0)]
        if not self.description.split_from_all:
            return {name: self._samples(name, *self._checked(f"_{name}")) for name in names}
        inputs, labels = self._checked("")
        rows = split_rows(self._strata(labels, len(inputs[0])))
        return {
            name: self._samples(
                name,
                [array[rows[name]] for array in inputs],
                [Labels(label.values[rows[name]], label.kind, label.array) for label in labels],
            )
            for name in names
        }

    def split(self, split: Split) -> Samples:
        """One split, checked. Raises `DatasetMismatch` naming what is missing or does not fit."""
        require(self.description, split)
        if self.description.split_from_all:
            return self.splits()[split]
        return self._samples(split, *self._checked(f"_{split}"))

    def _samples(self, split: Split, inputs: Sequence[NDArray[Any]], labels: Sequence[Labels]) -> Samples:
        return Samples(split, tuple(inputs), tuple(labels), tuple(port.dtype for port in self._inputs))

    def _checked(self, ending: str) -> tuple[list[NDArray[Any]], list[Labels]]:
        """Inputs and labels whose arrays' names end so (`_train`, or nothing for data to be split here)."""
        inputs = [self._read(f"x{ending}", "input", port, len(self._inputs)) for port in self._inputs]
        for (name, array), port in zip(inputs, self._inputs, strict=True):
            check_input(name, array, port)
        labels: list[Labels] = []
        if self.description.has_labels:
            found = [self._read(f"y{ending}", "output", port, len(self._outputs)) for port in self._outputs]
            labels = [check_labels(name, a, port) for (name, a), port in zip(found, self._outputs, strict=True)]
        return [array for _, array in inputs], labels

    def _read(self, base: str, kind: str, port: Port, ports: int) -> tuple[str, NDArray[Any]]:
        wanted = [f"{base}__{port.name}", *([base] if ports == 1 else [])]
        name = next((name for name in wanted if name in self._arrays), None)
        if name is None:
            there = [array.name for array in self.description.arrays if array.name.startswith(base)]
            raise DatasetMismatch(
                f"the model has {ports} {kind}s and {wanted[0]!r} is missing: the data have {there or 'nothing for it'}"
            )
        with _readable():
            return name, _native(self._arrays[name])

    def _strata(self, labels: Sequence[Labels], count: int) -> NDArray[Any]:
        for label in labels:
            values = label.values
            if values.ndim == 2 and values.shape[1] > 1 and _one_hot(values):
                return np.asarray(np.argmax(values, axis=1))
            if values.size == count and (label.kind == "sparse" or np.issubdtype(values.dtype, np.integer)):
                return values.reshape(-1)
        return np.zeros(count, np.int64)


def cast(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The array in the dtype of a model's input; texts stay as they are."""
    return array if dtype == TEXT else np.asarray(array, dtype)


def require(description: DatasetDescription, split: Split) -> None:
    """Raises `DatasetMismatch` where the data have not this split."""
    if not description.splits.get(split, 0):
        there = sorted(name for name, size in description.splits.items() if size)
        raise DatasetMismatch(f"the data have no {split} split (x_{split}); they have {', '.join(there) or 'none'}")


@contextmanager
def opened(source: Path | str | Arrays, model: keras.Model) -> Iterator[Dataset]:
    """The data set in a `.npz` file or a dictionary of arrays.

    Raises `UnreadableFile` for a broken file, `DatasetMismatch` for names, lengths or dtypes that make no splits.
    """
    if not isinstance(source, str | Path):
        yield Dataset(source, describe([_array(name, value) for name, value in source.items()]), model)
        return
    with _readable():
        described = describe(_headers(Path(source)))
        file = np.load(source, allow_pickle=False)
    with file:
        yield Dataset(file, described, model)


@contextmanager
def _readable() -> Iterator[None]:
    """What zipfile and NumPy say of a broken file, by its name; values are read when they are asked for."""
    try:
        yield
    except (SecateurError, MemoryError):
        raise
    except Exception as error:  # of many classes: a header, for one, is read by Python's own tokenizer
        raise UnreadableFile(f"the data are no .npz file that can be read: {error}") from error


def ports(model: keras.Model) -> tuple[list[Port], list[Port]]:
    """The model's inputs and outputs; outputs bear the names of the layers that make them."""
    inputs = [Port(tensor.name, tuple(tensor.shape[1:]), str(tensor.dtype)) for tensor in model.inputs]
    sequential = isinstance(model, keras.Sequential)
    names = [model.layers[-1].name] if sequential else list(model.output_names)
    outputs = [
        Port(name, tuple(tensor.shape[1:]), str(tensor.dtype))
        for name, tensor in zip(names, model.outputs, strict=True)
    ]
    return inputs, outputs


def scored(model: keras.Model) -> list[Port]:
    """The outputs as losses and metrics see them: a single number has an axis of its own, as labels in Keras' `fit`."""
    return [replace(port, shape=port.shape or (1,)) for port in ports(model)[1]]


def check_input(name: str, array: NDArray[Any], port: Port) -> None:
    """Raises `DatasetMismatch` for a shape, a dtype or values that the model's input does not take."""
    if not _fits(array.shape[1:], port.shape):
        raise DatasetMismatch(
            f"array {name!r} has samples of shape {array.shape[1:]}, the model's input {port.name!r} takes {port.shape}"
        )
    if (array.dtype.kind in _TEXTS) != (port.dtype == TEXT):
        raise DatasetMismatch(
            f"array {name!r} holds {_name(array.dtype)}, the model's input {port.name!r} takes {port.dtype}"
        )
    check_finite(name, array)
    check_texts(name, array)
    if port.dtype.startswith(("int", "uint")) and np.issubdtype(array.dtype, np.floating):
        bad = np.argwhere(array != np.floor(array))
        if len(bad):
            raise DatasetMismatch(
                f"array {name!r} holds {array[tuple(bad[0])]} at index {_at(bad[0])}, "
                f"the model's input {port.name!r} takes whole numbers ({port.dtype})"
            )


def check_labels(name: str, array: NDArray[Any], port: Port) -> Labels:
    """Labels in the form of the output they belong to. Raises `DatasetMismatch`, naming label, index and range."""
    check_finite(name, array)
    shape, classes = array.shape[1:], port.shape[-1] if port.shape else None
    if _fits(shape, port.shape) and not (classes is None and shape and shape[-1] == 1):
        return Labels(array, "dense", name)
    if classes == 1 and _fits(shape, port.shape[:-1]):
        return Labels(array[..., None], "dense", name)
    if classes is not None and classes > 1:
        if shape and shape[-1] == 1 and _fits(shape[:-1], port.shape[:-1]):
            array, shape = array[..., 0], shape[:-1]
        if _fits(shape, port.shape[:-1]):
            return Labels(_class_indices(name, array, classes), "sparse", name)
    raise DatasetMismatch(
        f"array {name!r} has labels of shape {shape}, which fit neither as classes nor as values "
        f"to the model's output {port.name!r} of shape {port.shape}"
    )


def check_range(labels: Labels, low: float, high: float, why: str) -> None:
    """Raises `DatasetMismatch`, naming the first value outside [low, high]."""
    bad = np.argwhere((labels.values < low) | (labels.values > high))
    if len(bad):
        raise DatasetMismatch(
            f"array {labels.array!r} holds label {labels.values[tuple(bad[0])]} at index {_at(bad[0])}: "
            f"{why} takes {low:g} to {high:g}"
        )


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Raises `DatasetMismatch`, naming array and index, for NaN and infinity. Reads the array in pieces."""
    if not np.issubdtype(array.dtype, np.inexact):
        return
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        bad = np.argwhere(~np.isfinite(array[start : start + rows]))
        if len(bad):
            at = (int(bad[0][0]) + start, *map(int, bad[0][1:]))
            raise DatasetMismatch(f"array {name!r} holds {array[at]} at index {_at(at)}: the data must be finite")


def check_texts(name: str, array: NDArray[Any]) -> None:
    """Raises `DatasetMismatch`, naming array and index, for texts that are no Unicode. Reads the array in pieces."""
    if array.dtype.kind != "U" or not array.dtype.itemsize:
        return
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        part = np.ascontiguousarray(array[start : start + rows])
        signs = part.view(np.uint32).reshape(*part.shape, -1)
        bad = np.argwhere((signs > _LAST_SIGN) | ((signs >= 0xD800) & (signs < 0xE000)))
        if len(bad):
            at = (int(bad[0][0]) + start, *map(int, bad[0][1:-1]))
            raise DatasetMismatch(f"array {name!r} holds a text at index {_at(at)} that is no Unicode")


def split_rows(strata: NDArray[Any], seed: int = 0) -> dict[Split, NDArray[np.int64]]:
    """Row numbers of an 80/10/10 split that keeps the share of each stratum, for classes of any size.

    A shuffle, a stable sort by stratum, then evenly spaced picks along it: a tenth (rounded down) for validation, the
    same for test. Each stratum is off its share by less than one row. `strata`: one value per row, shape (n,).
    """
    total = len(strata)
    shuffled = np.random.default_rng(seed).permutation(total)
    ordered = shuffled[np.argsort(strata[shuffled], kind="stable")]
    test = _evenly(total, total // 10)
    left = ordered[~test]
    validation = _evenly(len(left), total // 10)
    return {
        "train": np.sort(left[~validation]),
        "validation": np.sort(left[validation]),
        "test": np.sort(ordered[test]),
    }


def _evenly(total: int, picked: int) -> NDArray[np.bool_]:
    steps = (np.arange(total + 1) * picked * 2 + total) // max(1, 2 * total)
    return np.asarray(np.diff(steps) > 0)


def _class_indices(name: str, array: NDArray[Any], classes: int) -> NDArray[Any]:
    outside = (array < 0) | (array >= classes) | (array != np.floor(array) if array.dtype.kind == "f" else False)
    bad = np.argwhere(outside)
    if len(bad):
        raise DatasetMismatch(
            f"array {name!r} holds label {array[tuple(bad[0])]} at index {_at(bad[0])}: "
            f"the model has {classes} classes, so labels are whole numbers from 0 to {classes - 1}"
        )
    return array.astype(np.int32)


def _one_hot(values: NDArray[Any]) -> bool:
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=-1) == 1).all())


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))


def _at(index: Sequence[int] | NDArray[Any]) -> str:
    found = [int(part) for part in index]
    return str(found[0]) if len(found) == 1 else str(tuple(found))


def _array(name: str, value: NDArray[Any]) -> Array:
    return Array(name=name, shape=list(np.shape(value)), dtype=_name(np.asarray(value).dtype))


def _name(dtype: np.dtype[Any]) -> str:
    """The dtype's name, whatever the order of its bytes or the length of its texts."""
    return TEXT if dtype.kind in _TEXTS else str(dtype.newbyteorder("="))


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """The array with its bytes in this machine's order, which TensorFlow asks for."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _headers(path: Path) -> list[Array]:
    """Names, shapes and dtypes; no values are read."""
    found = []
    with zipfile.ZipFile(path) as bundle:
        for info in bundle.infolist():
            with bundle.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            if dtype.hasobject:
                raise DatasetMismatch(f"array {info.filename!r} holds Python objects: numbers or texts are needed")
            found.append(Array(name=info.filename.removesuffix(".npy"), shape=list(shape), dtype=_name(dtype)))
    return found
