"""Extents of tensors and what can be asked of them.

A tensor is a tuple of extents, one an axis. An axis without units has its size (None: unknown) and costs nothing to
carry; an axis with units has an int64 array of unit ids, -1 for a place that belongs to no unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]
Extent: TypeAlias = int | Ids | None
Value: TypeAlias = tuple[Extent, ...]
FIXED = -1


def size(extent: Extent) -> int | None:
    """How long an axis is."""
    return len(extent) if isinstance(extent, np.ndarray) else extent


def shape_of(value: Value) -> tuple[int | None, ...]:
    """The sizes of all axes."""
    return tuple([len(extent) if isinstance(extent, np.ndarray) else extent for extent in value])


def left(extent: Extent, gone: npt.NDArray[np.bool_]) -> int | None:
    """How long an axis is without the units whose flag in `gone` (see `Units.gone`) is set."""
    return int(np.count_nonzero(~gone[extent])) if isinstance(extent, np.ndarray) else extent


def places(value: Value, channels: int) -> Value:
    """All axes of a tensor but the batch and the channels."""
    return tuple(extent for axis, extent in enumerate(value) if axis not in (0, channels % len(value)))


def channel_axis(config: Mapping[str, Any], rank: int) -> int:
    """Where `data_format` puts the channels of a tensor with `rank` axes."""
    return 1 if config.get("data_format") == "channels_first" else rank - 1


def axes_of(given: Any, rank: int) -> tuple[int, ...]:
    """`axis` in a config (a number, a list, None for all axes) as axes of a tensor, each once and counted from 0."""
    axes = range(rank) if given is None else given if isinstance(given, list | tuple) else (given,)
    return tuple(dict.fromkeys(axis % rank for axis in axes))


def replaced(value: Value, axis: int, extent: Extent) -> Value:
    """The tensor with another extent at `axis`."""
    axis %= len(value)
    return (*value[:axis], extent, *value[axis + 1 :])
