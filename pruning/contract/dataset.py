"""What a data set's arrays are called and what splits they make. Names and shapes only; no values are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from pruning.contract.base import Record
from pruning.contract.errors import DatasetMismatch

Split = Literal["train", "validation", "test"]
# The dtype of texts, whatever their length: Keras' word for it.
TEXT = "string"
SPLITS: tuple[Split, ...] = get_args(Split)
_NAME = re.compile(r"^(?P<role>[xy])(?:_(?P<split>train|validation|test))?(?:__(?P<port>[^\x00-\x1f\\]+))?$")


class Array(Record):
    """One array of the file; `shape[0]` counts samples."""

    name: str
    shape: list[int]
    dtype: str


class DatasetDescription(Record):
    """Arrays and the sizes of the splits they make. `split_from_all`: only `x`, `y` came; they are split 80/10/10."""

    arrays: list[Array]
    splits: dict[Split, int]
    has_labels: bool
    split_from_all: bool


def parse(name: str) -> tuple[str, Split | None, str | None] | None:
    """(`x` or `y`, split or None, input or output name or None) of an array's name; None if it is not one of ours."""
    if (match := _NAME.match(name)) is None:
        return None
    split = match["split"]
    return match["role"], split, match["port"]  # type: ignore[return-value]


def _rank(array: Array) -> int:
    """How many axes a sample has; labels of shape (n,) and (n, 1) are the same."""
    return len(array.shape) - (len(array.shape) > 1 and array.shape[-1] == 1)


def describe(arrays: list[Array]) -> DatasetDescription:
    """The splits that these arrays make.

    Raises `DatasetMismatch`, naming the array, for unknown names, no inputs, lengths that differ within a split, labels
    in one split and not in another, different inputs in different splits, samples of another rank in another split,
    dtypes that are neither numbers nor, of inputs, texts.
    """
    alike: dict[tuple[str, str | None], Array] = {}
    counts: dict[Split | None, dict[str, int]] = {}
    ports: dict[Split | None, set[str]] = {}
    for array in arrays:
        role, split, port = _checked(array)
        _refuse_unlike(alike.setdefault((role, port), array), array)
        counts.setdefault(split, {})[array.name] = array.shape[0]
        ports.setdefault(split, set()).add(role if port is None else f"{role}__{port}")
    _refuse_uneven(counts, ports)
    return DatasetDescription(
        arrays=arrays,
        splits=_sizes({split: next(iter(lengths.values())) for split, lengths in counts.items()}),
        has_labels=any(port.startswith("y") for port in next(iter(ports.values()))),
        split_from_all=None in counts,
    )


def _checked(array: Array) -> tuple[str, Split | None, str | None]:
    """What `parse` says of an array's name; its dtype and its number of samples are sound."""
    if (parsed := parse(array.name)) is None:
        raise DatasetMismatch(
            f"array {array.name!r} is not x, y, x_train, y_train, x_validation, y_validation, x_test or y_test "
            "(several inputs or outputs: x_train__NAME, y_train__NAME)"
        )
    if array.dtype == TEXT and parsed[0] == "y":
        raise DatasetMismatch(f"array {array.name!r} holds texts: labels are numbers")
    if array.dtype != TEXT and not re.match(r"^(bool|u?int\d+|b?float\d+)", array.dtype):
        raise DatasetMismatch(f"array {array.name!r} has dtype {array.dtype}: numbers or texts are needed")
    if not array.shape or array.shape[0] == 0:
        raise DatasetMismatch(f"array {array.name!r} has shape {tuple(array.shape)}: the first axis counts samples")
    return parsed


def _refuse_unlike(other: Array, array: Array) -> None:
    """`other`: the same input or output in another split."""
    if len(other.shape) != len(array.shape) and _rank(other) != _rank(array):
        raise DatasetMismatch(
            f"array {array.name!r} has samples of shape {tuple(array.shape[1:])}, {other.name!r} of shape "
            f"{tuple(other.shape[1:])}: the splits of one data set are alike"
        )


def _refuse_uneven(counts: Mapping[Split | None, Mapping[str, int]], ports: Mapping[Split | None, set[str]]) -> None:
    """Splits named in two ways, of unlike lengths, without inputs, or with other arrays than the first."""
    if not counts:
        raise DatasetMismatch("the file holds no arrays")
    if None in counts and len(counts) > 1:
        raise DatasetMismatch("x or y came beside arrays with a split in their name: use one way of naming")
    for split, lengths in counts.items():
        if len(set(lengths.values())) > 1:
            raise DatasetMismatch(f"arrays of one split differ in length: {dict(lengths)}")
        if not any(port.startswith("x") for port in ports[split]):
            raise DatasetMismatch(f"no inputs (x) beside {sorted(lengths)}")
    first = next(iter(ports.values()))
    for split, found in ports.items():
        if found != first:
            raise DatasetMismatch(f"split {split} has {sorted(found)}, another has {sorted(first)}")


def _sizes(counts: Mapping[Split | None, int]) -> dict[Split, int]:
    """How many samples each split has; those that came without one are split 80/10/10."""
    if None not in counts:
        return {split: counts[split] for split in SPLITS if split in counts}
    held_out = counts[None] // 10
    return {"train": counts[None] - 2 * held_out, "validation": held_out, "test": held_out}
