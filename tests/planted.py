"""Index bugs to plant in the rules: each must be caught by verification, or the proof is worth nothing.

`PLANTED[name]` is a context manager; inside it the engine has the bug. `name` begins with the layer class whose rule is
bent, so that a test can look for it in the models that have such a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from pruning import rules
from pruning.rules import (
    arithmetic,
    attention,
    convolution,
    embedding,
    merge,
    recurrent,
    reshaping,
)
from pruning.rules import trace as trace_notes
from pruning.rules.extents import Value
from pruning.rules.trace import Trace

Plant = Callable[[], AbstractContextManager[None]]
PLANTED: dict[str, Plant] = {}


def _off_by_one(extent: Any) -> Any:
    return np.roll(extent, 1) if isinstance(extent, np.ndarray) else extent


@contextmanager
def _bent_rule(key: tuple[str, str], bend: Callable[[Any], Any]) -> Iterator[None]:
    """A rule whose outputs are bent."""
    rule = rules.RULES[key]

    def bent(op: Any, inputs: list[Value], trace: Trace) -> Any:
        result = rule(op, inputs, trace)
        return [bend(value) for value in result] if isinstance(result, list) else bend(result)

    with patch.dict(rules.RULES, {key: bent}):
        yield


@contextmanager
def _bent_bind(class_name: str, axis: int, change: str) -> Iterator[None]:
    """A rule that binds the axis -1 or -2 of an array one off, or not at all."""
    bind = Trace.bind

    def bent(self: Trace, weight: str, at: int, extent: Any, role: Any) -> None:
        here = self.op.class_name == class_name and (at % len(self.shape(weight))) - len(self.shape(weight)) == axis
        if here and change == "lost" and role != "producer":
            return
        bind(self, weight, at, _off_by_one(extent) if here and change == "rolled" else extent, role)

    with patch.object(Trace, "bind", bent):
        yield


@contextmanager
def _replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    with patch.object(target, name, value):
        yield


def _plant(name: str, plant: Plant) -> None:
    PLANTED[name] = plant


def _rolled_output(value: Value) -> Value:
    return tuple(_off_by_one(extent) for extent in value)


# Rules that pass a tensor through are one function; it is enough to bend it for one of its classes in each family.
_PASSED = [
    "ReLU",
    "BatchNormalization",
    "MaxPooling2D",
    "GlobalAveragePooling2D",
    "ZeroPadding2D",
    "UpSampling2D",
    "Cropping2D",
    "PReLU",
    "Flatten",
    "Reshape",
    "Permute",
    "RepeatVector",
    "Add",
    "Multiply",
    "Concatenate",
    "Dense",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv2DTranspose",
    "DepthwiseConv2D",
    "SeparableConv2D",
]
for _name in _PASSED:
    _plant(f"{_name}: output ids one off", lambda n=_name: _bent_rule(("layers", n), _rolled_output))
for _name in ("Dense", "Conv2D", "Conv1D", "Conv3D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"):
    for _axis in (-1, -2):
        _plant(f"{_name}: array axis {_axis} one off", lambda n=_name, a=_axis: _bent_bind(n, a, "rolled"))
for _name in ("BatchNormalization", "PReLU", "Dense", "Conv2D", "DepthwiseConv2D"):
    _plant(f"{_name}: a vector is forgotten", lambda n=_name: _bent_bind(n, -1, "lost"))
for _name in ("Dense", "Conv2D", "Conv2DTranspose", "SeparableConv2D"):
    _axis = -1 if _name == "Conv2DTranspose" else -2
    _plant(f"{_name}: the input axis is forgotten", lambda n=_name, a=_axis: _bent_bind(n, a, "lost"))


def _tiled(extent: Any, times: int) -> Any:
    return np.tile(extent, times) if isinstance(extent, np.ndarray) else extent and extent * times


_plant("DepthwiseConv2D: multiplier before channel", lambda: _replaced(convolution, "repeated", _tiled))
_plant("SeparableConv2D: multiplier before channel", lambda: _replaced(convolution, "repeated", _tiled))


def _swapped(op: Any, inputs: list[Value], trace: Trace) -> Value:
    return merge.strung(inputs[::-1], op.config["axis"], trace)


_plant("Concatenate: the other way round", lambda: patch.dict(rules.RULES, {("layers", "Concatenate"): _swapped}))


def _fortran(op: Any, inputs: list[Value], trace: Trace) -> Value:
    (value,) = inputs
    order = (value[0], *value[:0:-1])
    return (value[0], *reshaping.reshape(order[1:], [reshaping.product(order[1:])], trace))


_plant("Flatten: Fortran order", lambda: patch.dict(rules.RULES, {("layers", "Flatten"): _fortran}))


def _no_transpose(op: Any, inputs: list[Value], trace: Trace) -> Value:
    (value,) = inputs
    return (value[0], *reshaping.reshape(value[1:], [reshaping.product(value[1:])], trace))


_plant("Flatten: channels_first is not turned", lambda: patch.dict(rules.RULES, {("layers", "Flatten"): _no_transpose}))


def _untied(op: Any, inputs: list[Value], trace: Trace) -> Value:
    return max(inputs, key=len)


for _name in ("Add", "Multiply", "Maximum", "Subtract"):
    _plant(f"{_name}: not tied", lambda n=_name: patch.dict(rules.RULES, {("layers", n): _untied}))


def _kept_dims(op: Any, inputs: list[Value], trace: Trace) -> Value:
    return (inputs[0][0], *(inputs[0][axis] for axis in reversed(op.config["dims"])))


_plant("Permute: axes reversed", lambda: patch.dict(rules.RULES, {("layers", "Permute"): _kept_dims}))


_TIED_GROUPS = convolution.tied_groups


def _groups_one_off(entering: Any, kernel: str, groups: int, trace: Trace) -> Any:
    entering, filters = _TIED_GROUPS(entering, kernel, groups, trace)
    return _off_by_one(entering), filters


_plant("Conv2D: groups one off", lambda: _replaced(convolution, "tied_groups", _groups_one_off))


@contextmanager
def _no_resize(class_name: str) -> Iterator[None]:
    resize = Trace.resize

    def bent(self: Trace, key: str, value: Any) -> None:
        if self.op.class_name != class_name:
            resize(self, key, value)

    with patch.object(Trace, "resize", bent):
        yield


for _name in ("Conv2D", "Dense", "Reshape", "InputLayer", "SeparableConv2D", "Conv2DTranspose"):
    _plant(f"{_name}: config is not resized", lambda n=_name: _no_resize(n))


@contextmanager
def _no_pin(code: str) -> Iterator[None]:
    pin = Trace.pin

    def bent(self: Trace, value: Any, reason: str, detail: str) -> None:
        if reason != code:
            pin(self, value, reason, detail)

    with patch.object(Trace, "pin", bent):
        yield


_plant("Dense: a softmax inside lets units pass", lambda: _no_pin("mixes_channels"))
_plant("TopK: lets units pass", lambda: _no_pin("takes_one"))
_plant("Triu: an unknown operation lets units pass", lambda: _no_pin("unknown_layer"))
_plant("Conv2D: a model's output may shrink", lambda: _no_pin("model_output"))
_plant("Add: what meets an input may shrink", lambda: _no_pin("fixed_axis"))


for _name in ("LSTM", "GRU", "SimpleRNN", "ConvLSTM2D", "Bidirectional", "Embedding", "EinsumDense"):
    _plant(f"{_name}: output ids one off", lambda n=_name: _bent_rule(("layers", n), _rolled_output))
for _name in ("MultiHeadAttention", "GroupQueryAttention", "Attention", "Dot", "SpectralNormalization", "LayerScale"):
    _family = "src.applications.convnext" if _name == "LayerScale" else "layers"
    _plant(f"{_name}: output ids one off", lambda n=_name, f=_family: _bent_rule((f, n), _rolled_output))
for _name in (
    "Einsum",
    "Flip",
    "GetItem",
    "Matmul",
    "Repeat",
    "Reshape",
    "Split",
    "Swapaxes",
    "Tile",
    "Transpose",
    "Where",
):
    _plant(f"{_name}: output ids of the operation one off", lambda n=_name: _bent_rule(("ops", n), _rolled_output))
for _name in ("LSTM", "GRU", "ConvLSTM2D", "MultiHeadAttention", "GroupQueryAttention", "EinsumDense"):
    for _axis in (-1, -2):
        _plant(f"{_name}: array axis {_axis} one off", lambda n=_name, a=_axis: _bent_bind(n, a, "rolled"))
for _name in ("LSTM", "GRU", "ConvLSTM2D"):
    _plant(f"{_name}: gates side by side", lambda: _replaced(recurrent, "columns", np.repeat))


@contextmanager
def _no_resize_at() -> Iterator[None]:
    resize = Trace.resize_at

    def bent(self: Trace, location: Any, value: Any) -> None:
        if self.op.class_name != "GetItem":
            resize(self, location, value)

    with patch.object(Trace, "resize_at", bent):
        yield


def _no_rescale(self: Trace, weight: str, ids: Any) -> None:
    """Scores stay divided by the old key dimension's root."""


def _kernel_only(self: Trace, weight: str, ids: Any) -> None:
    if weight.endswith("/0"):
        self.rescales.setdefault(weight, trace_notes.Rescale(weight, ids))


for _name in ("MultiHeadAttention", "GroupQueryAttention"):
    _plant(f"{_name}: key axis of every array one off", lambda n=_name: _bent_bind(n, -3, "rolled"))
    _plant(f"{_name}: the query is not scaled", lambda: _replaced(Trace, "rescale", _no_rescale))
    _plant(f"{_name}: the query's bias is not scaled", lambda: _replaced(Trace, "rescale", _kernel_only))
_plant("DotProductAttention: the scale is not held", lambda: _replaced(Trace, "hold", lambda *_: None))
for _name in ("GroupQueryAttention", "DotProductAttention"):
    _plant(f"{_name}: query heads dealt in turn", lambda: _replaced(attention, "repeated", _tiled))

_plant("GetItem: slices keep their numbers", _no_resize_at)
for _name in (
    "EinsumDense",
    "Embedding",
    "GroupNormalization",
    "LSTM",
    "LayerScale",
    "MultiHeadAttention",
    "Split",
    "BroadcastTo",
):
    _plant(f"{_name}: config is not resized", lambda n=_name: _no_resize(n))


@contextmanager
def _bent_mix(class_name: str, bend: Callable[[Any], Any]) -> Iterator[None]:
    """The masked original of an operation leaves other units out than those that went."""
    mix = Trace.mix

    def bent(self: Trace, place: int, axis: int, extent: Any) -> None:
        mix(self, place, axis, bend(extent) if self.op.class_name == class_name else extent)

    with patch.object(Trace, "mix", bent):
        yield


@contextmanager
def _bent_tie(class_name: str, bend: Callable[[Any], Any] | None) -> Iterator[None]:
    """Two sides that meet are tied otherwise, or not at all."""
    tie = Trace.tie

    def bent(self: Trace, first: Any, second: Any) -> None:
        here = self.op.class_name == class_name and first is not second
        if not here or bend is not None:
            tie(self, first, bend(second) if here and bend is not None else second)

    with patch.object(Trace, "tie", bent):
        yield


for _name in ("Dot", "Attention", "AdditiveAttention", "Matmul", "DotProductAttention"):
    _plant(f"{_name}: the two sides are tied one off", lambda n=_name: _bent_tie(n, _off_by_one))
_MIXING = ("Attention", "AdditiveAttention", "CDist", "Conv", "Cumsum", "Dot", "DotProductAttention", "Einsum", "Inner")
for _name in (*_MIXING, "Matmul", "Nansum", "Norm", "SeparableConv", "Sum", "Tensordot"):
    _plant(f"{_name}: removed units are summed", lambda n=_name: _bent_mix(n, len))
    _plant(f"{_name}: other units are left out", lambda n=_name: _bent_mix(n, _off_by_one))
# What is planted under normalized_axes prune.
UNDER_PRUNE = {
    "Dot: the two sides are tied one off",
    "GroupNormalization: groups are not tied",
    "LayerNorm: output ids of the operation one off",
    "LayerNorm: a constant's numbers one off",
    "LayerNorm: a constant keeps its numbers",
}
_NORMALIZING = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "UnitNormalization", "Dot", "Mean")
_OPERATIONS = ("LayerNorm", "RMSNorm", "Moments", "Cumprod", "LogSoftmax", "Softmax", "Sparsemax", "Quantile", "Ptp")
for _name in (*_NORMALIZING, *_OPERATIONS):
    for _kind, _bend in (("all units", len), ("other units", _off_by_one)):
        _plant(f"{_name}: statistics over {_kind}", lambda n=_name, b=_bend: _bent_mix(n, b))
        UNDER_PRUNE.add(f"{_name}: statistics over {_kind}")
for _name in ("LayerNormalization", "RMSNormalization", "GroupNormalization"):
    for _change in ("rolled", "lost"):
        _plant(f"{_name}: a vector is {_change}", lambda n=_name, c=_change: _bent_bind(n, -1, c))
        UNDER_PRUNE.add(f"{_name}: a vector is {_change}")
for _what in ("groups are not tied", "a group does not go as a whole"):
    _plant(f"GroupNormalization: {_what}", lambda: _bent_tie("GroupNormalization", None))


_HUB = {
    "PositionEmbedding": "layers.modeling.position_embedding",
    "TokenAndPositionEmbedding": "layers.modeling.token_and_position_embedding",
    "ViTPatchingAndEmbedding": "models.vit.vit_layers",
}
for _name, _module in _HUB.items():
    _key = (f"keras_hub.src.{_module}", _name)
    _plant(f"{_name}: output ids one off", lambda k=_key: _bent_rule(k, _rolled_output))
for _name in ("TransformerEncoder", "TransformerDecoder"):
    for _axis in (-1, -2):
        _plant(f"{_name}: array axis {_axis} one off", lambda n=_name, a=_axis: _bent_bind(n, a, "rolled"))
for _name in ("TransformerEncoder", "TransformerDecoder", "TokenAndPositionEmbedding", "RNN"):
    _plant(f"{_name}: config is not resized", lambda n=_name: _no_resize(n))
_plant("TransformerEncoder: lets the hidden width pass", lambda: _no_pin("heads"))
for _name in ("RNN", "ReversibleEmbedding", "Bidirectional", "AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"):
    _plant(f"{_name}: all output ids one off", lambda n=_name: _bent_rule(("layers", n), _rolled_output))
_NEW = (
    "Append",
    "ArraySplit",
    "BroadcastTo",
    "Conv",
    "CropImages",
    "DepthwiseConv",
    "Dsplit",
    "Dstack",
    "ExtractPatches",
)
_NEWER = ("Fliplr", "Fold", "LayerNorm", "Rot90", "Select", "SegmentSum", "TakeAlongAxis", "Unfold")
for _name in ("DepthToSpace", "Einsum", "Glu", "SpaceToDepth", "Take", *_NEW, *_NEWER):
    _plant(f"{_name}: output ids of the operation one off", lambda n=_name: _bent_rule(("ops", n), _rolled_output))
_plant("RNN: gates side by side", lambda: _replaced(recurrent, "columns", np.repeat))
_plant("ReversibleEmbedding: what it reads is not masked", lambda: _replaced(embedding, "reads", lambda *_: None))


@contextmanager
def _constant(change: Callable[[Any], Any]) -> Iterator[None]:
    counts = arithmetic.counts

    def bent(where: Any, axis: int, ids: Any, trace: Trace) -> None:
        if (changed := change(ids)) is not None:
            counts(where, axis, changed, trace)

    with ExitStack() as stack:
        for module in (arithmetic, attention):
            stack.enter_context(patch.object(module, "counts", bent))
        yield


_WITH_KERNELS = ("DepthwiseConv", "DotProductAttention", "Tensordot")
for _name in ("Rescaling", "Multiply", "Matmul", "BatchNorm", "LayerNorm", *_WITH_KERNELS):
    _plant(f"{_name}: a constant's numbers one off", lambda: _constant(_off_by_one))
    _plant(f"{_name}: a constant keeps its numbers", lambda: _constant(lambda _: None))
