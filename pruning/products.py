"""Products with weights, taken out of their layers: outputs = rows(input) @ matrix(kernel) + bias, groups apart.

A dense layer, a convolution of any kind and a projection of an attention differ in how they lay out a kernel and what
they read for one output place. Here both are plain data, so that what edits weights needs no case per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules.einsum import letters
from pruning.rules.extents import channel_axis
from pruning.rules.trace import Axis
from pruning.rules.windows import numbers

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class Window:
    """What a convolution reads for one output place. `before`: a depthwise kernel that is applied first (separable)."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    transposed: bool = False
    before: str | None = None


@dataclass(frozen=True)
class Product:
    """One product of a call.

    `tensor`: what it reads. The kernel, its axes in `order`, is (inputs of a group, groups x outputs of a group), the
    last `free` axes being the outputs; `groups` None: one for each place of the first of these. `entering`: the input's
    axes, those it sums over last, `summed` of them; with a `window` that is the channel axis. `channels`: the axis of
    the call's output that it makes, None where that is more than one or inside the layer.
    """

    kernel: str
    bias: str | None
    tensor: int
    order: tuple[int, ...]
    entering: tuple[int, ...]
    free: int = 1
    summed: int = 1
    groups: int | None = 1
    window: Window | None = None
    channels: int | None = None

    def matrix(self, kernel: Array) -> Array:
        """The kernel as (groups, inputs, outputs)."""
        turned = kernel.transpose(self.order)
        groups = self.groups or turned.shape[-self.free]
        return turned.reshape(-1, groups, prod(turned.shape[-self.free :]) // groups).transpose(1, 0, 2)

    def array(self, matrix: Array, like: Array) -> Array:
        """The kernel that this matrix is, in the shape and dtype of `like`."""
        shape = [like.shape[axis] for axis in self.order]
        turned = matrix.transpose(1, 0, 2).reshape(shape)
        return turned.transpose(np.argsort(self.order)).astype(like.dtype)

    def stays(self, shape: tuple[int, ...], axes: Iterable[Axis], gone: Array) -> tuple[Array, Array]:
        """Which (groups, inputs) and (groups, outputs) are left of a kernel of this shape. `gone`: `Units.gone`."""
        kept = np.ones(shape, bool)
        for axis in axes:
            if axis.weight == self.kernel:
                np.moveaxis(kept, axis.axis, 0)[gone[axis.ids]] = False
        matrix = self.matrix(kept)
        return np.asarray(matrix.any(2)), np.asarray(matrix.any(1))

    def spread(self, channels: Array, arrays: Arrays) -> Array:
        """What is read where each channel of the input is the same all over, in place of `rows`: (groups, inputs)."""
        groups, inputs, _ = self.matrix(arrays[self.kernel]).shape
        if self.window is None:
            return np.broadcast_to(channels, inputs).reshape(1, -1)
        if self.window.before is not None:
            depthwise = arrays[self.window.before]
            return np.asarray(depthwise.sum(tuple(range(depthwise.ndim - 2))) * channels[:, None]).reshape(1, -1)
        taps = prod(self.window.size)
        wide = np.broadcast_to(channels, (taps, groups * inputs // taps)).reshape(taps, groups, -1)
        # A place of a transposed convolution meets one tap in each stride.
        share = prod(self.window.strides) if self.window.transposed else 1
        return wide.transpose(1, 0, 2).reshape(groups, -1) / share

    def places(self, x: Array, y: Array) -> tuple[int, ...]:
        """How many output places there are along each axis, the batch first; `x`, `y`: input and output of the call."""
        if self.window is None:
            return tuple(x.shape[axis] for axis in self.entering[: -self.summed])
        assert self.channels is not None
        return tuple(size for axis, size in enumerate(y.shape) if axis != self.channels % y.ndim)

    def rows(self, x: Array, at: NDArray[np.int64], places: tuple[int, ...], arrays: Arrays) -> Array:
        """What the product reads at these places (flat indices), in float64: (places, groups, inputs of a group)."""
        turned = x.transpose(self.entering)
        if self.window is None:
            flat = turned.reshape(prod(places), -1)
            return flat[at].astype(np.float64).reshape(len(at), 1, -1)
        taps = _gather(turned, self.window, at, places)
        if self.window.before is not None:
            depthwise = arrays[self.window.before]
            flat = depthwise.reshape(-1, *depthwise.shape[-2:]).astype(np.float64)
            return np.asarray(np.einsum("ntc,tcm->ncm", taps, flat)).reshape(len(at), 1, -1)
        groups = self.groups or taps.shape[-1]
        apart = taps.reshape(*taps.shape[:2], groups, -1)
        return apart.transpose(0, 2, 1, 3).reshape(len(at), groups, -1)


def _gather(x: Array, window: Window, at: NDArray[np.int64], places: tuple[int, ...]) -> Array:
    """x (samples, *sizes, channels) under each tap of the window: (places, taps, channels), zero beyond the border."""
    first, *positions = np.unravel_index(at, places)
    rank = len(positions)
    index: list[Array] = [first.reshape(-1, *(1,) * rank)]
    valid = np.ones((1,) * (rank + 1), bool)
    for axis, (place, n, out) in enumerate(zip(positions, x.shape[1:-1], places[1:], strict=True)):
        found, inside = _taps(window, axis, place, n, out)
        shape = [len(at), *(window.size[axis] if other == axis else 1 for other in range(rank))]
        index.append(found.reshape(shape))
        valid = valid & inside.reshape(shape)
    taps = x[tuple(index)].astype(np.float64) * valid[..., None]
    return taps.reshape(len(at), -1, x.shape[-1])


def _taps(window: Window, axis: int, place: Array, n: int, out: int) -> tuple[Array, Array]:
    """Along one axis: the index that each tap reads for each output place, and whether there is such a place."""
    k, s, d = window.size[axis], window.strides[axis], window.dilation[axis]
    reach = (k - 1) * d
    small, large = (n, out) if window.transposed else (out, n)
    before = reach if window.padding == "causal" else 0
    if window.padding == "same":
        before = max((small - 1) * s + reach + 1 - large, 0) // 2
    taps = np.arange(k) * d
    if not window.transposed:
        found = place[:, None] * s + taps - before
        inside = (found >= 0) & (found < n)
    else:
        found, rest = np.divmod(place[:, None] + before - taps, s)
        inside = (found >= 0) & (found < n) & (rest == 0)
    return np.clip(found, 0, n - 1), inside


# --- by layer class ----------------------------------------------------------------------------------------------


def of(op: Op, rank: int) -> tuple[Product, ...]:
    """The products of a call that reads a tensor of this rank; none where its layer is not known here."""
    maker = _MAKERS.get(op.class_name)
    return maker(op, rank) if maker is not None and op.module in ("keras.layers", "") else ()


def _path(op: Op, index: int, inner: str = "") -> str:
    return "/".join(part for part in (op.path, inner, "vars", str(index)) if part)


def _dense(op: Op, rank: int) -> tuple[Product, ...]:
    bias = _path(op, 1) if op.config["use_bias"] else None
    return (Product(_path(op, 0), bias, op.inputs[0], (0, 1), tuple(range(rank)), channels=-1),)


def _windowed(op: Op, rank: int, **options: Any) -> dict[str, Any]:
    count = rank - 2
    channels = channel_axis(op.config, rank)
    return {
        "tensor": op.inputs[0],
        "entering": (*(axis for axis in range(rank) if axis != channels), channels),
        "channels": channels,
        "window": Window(
            size=numbers(op.config["kernel_size"], count),
            strides=numbers(op.config["strides"], count),
            dilation=numbers(op.config.get("dilation_rate", 1), count),
            padding=op.config["padding"],
            **options,
        ),
    }


def _conv(op: Op, rank: int) -> tuple[Product, ...]:
    bias = _path(op, 1) if op.config["use_bias"] else None
    groups = op.config.get("groups", 1)
    return (Product(_path(op, 0), bias, order=tuple(range(rank)), groups=groups, **_windowed(op, rank)),)


def _depthwise(op: Op, rank: int) -> tuple[Product, ...]:
    bias = _path(op, 1) if op.config["use_bias"] else None
    return (Product(_path(op, 0), bias, order=tuple(range(rank)), free=2, groups=None, **_windowed(op, rank)),)


def _separable(op: Op, rank: int) -> tuple[Product, ...]:
    bias = _path(op, 2) if op.config["use_bias"] else None
    return (Product(_path(op, 1), bias, order=tuple(range(rank)), **_windowed(op, rank, before=_path(op, 0))),)


def _transposed(op: Op, rank: int) -> tuple[Product, ...]:
    bias = _path(op, 1) if op.config["use_bias"] else None
    order = (*range(rank - 2), rank - 1, rank - 2)
    return (Product(_path(op, 0), bias, order=order, **_windowed(op, rank, transposed=True)),)


def _einsum(op: Op, rank: int) -> tuple[Product, ...]:
    """Letters of the kernel are summed over or new; with a letter in all three the product is another one a place."""
    entering, kernel, leaving = letters(op.config["equation"], rank)
    summed = [letter for letter in kernel if letter in entering]
    new = [letter for letter in kernel if letter not in entering]
    if set(summed) & set(leaving) or not summed or not new or set(entering) - set(summed) - set(leaving):
        return ()
    stay = [letter for letter in entering if letter not in summed]
    if leaving != "".join(stay + new):
        return ()
    bias = op.config.get("bias_axes")
    return (
        Product(
            _path(op, 0),
            _path(op, 1) if bias == "".join(new) else None,
            op.inputs[0],
            tuple(kernel.index(letter) for letter in summed + new),
            tuple(entering.index(letter) for letter in stay + summed),
            free=len(new),
            summed=len(summed),
            channels=-1 if len(new) == 1 else None,
        ),
    )


def _attention(op: Op, rank: int) -> tuple[Product, ...]:
    """The projections of query, key and value; what enters the output projection is no tensor of the graph."""
    if rank != 3 or op.config.get("use_gate"):
        return ()
    names = ("query", "value", "key")
    given = dict(zip(names, op.args, strict=False)) | {name: op.kwargs[name] for name in names if name in op.kwargs}
    found = {name: ref.tensor for name, ref in given.items() if isinstance(ref, Ref)}
    prefix = "_" if op.class_name == "GroupQueryAttention" else ""
    biased = op.config["use_bias"]
    return tuple(
        Product(
            _path(op, 0, f"{prefix}{name}_dense"),
            _path(op, 1, f"{prefix}{name}_dense") if biased else None,
            found[name] if name in found else found["value"],
            (0, 1, 2),
            (0, 1, 2),
            free=2,
        )
        for name in ("query", "key", "value")
    )


_MAKERS: Mapping[str, Callable[[Op, int], tuple[Product, ...]]] = {
    "Dense": _dense,
    "EinsumDense": _einsum,
    "MultiHeadAttention": _attention,
    "GroupQueryAttention": _attention,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _conv),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
}

# Layer classes that `of` may know products of.
KNOWN = frozenset(_MAKERS)
