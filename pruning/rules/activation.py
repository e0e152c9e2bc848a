"""Activations: element-wise ones let units pass, those that mix an axis keep its units."""

from __future__ import annotations

from typing import Any

from pruning.graph import Op
from pruning.rules import layer, operation
from pruning.rules.extents import Value, axes_of, shape_of
from pruning.rules.merge import broadcast
from pruning.rules.trace import Trace

# fmt: off
ELEMENTWISE = frozenset([
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "keras_hub>gelu_approximate", "keras_nlp>gelu_approximate", "leaky_relu", "linear", "log_sigmoid", "mish", "relu",
    "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid",
    "squareplus", "swish", "tanh", "tanh_shrink", "threshold",
])
# fmt: on
MIXING = ("softmax", "log_softmax", "sparsemax")


def activate(activation: Any, value: Value, trace: Trace) -> Value:
    """Pin what the activation of a config (a name, a serialized object or None) mixes: its last axis."""
    name = _named(activation)
    if name is None or name in ELEMENTWISE:
        return value
    if name in MIXING:
        trace.pin(value[-1], "mixes_channels", f"{name} mixes the last axis")
    else:
        trace.pin(value, "unknown_activation", f"activation {name!r} is not known to be element-wise")
    return value


_LAYERS = ("ReLU", "LeakyReLU", "ELU")


def _named(activation: Any) -> Any:
    """The name of an activation, None for one that works on elements by a layer of Keras."""
    if not isinstance(activation, dict):
        return activation
    if activation.get("class_name") in _LAYERS and str(activation.get("module", "")).startswith("keras"):
        return None
    return activation.get("config") if activation.get("class_name") == "function" else activation.get("class_name")


@layer("Activation")
def activation(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`activation` by name; a softmax goes on over the units that are left under `normalized_axes: prune`."""
    (value,) = inputs
    if _named(op.config["activation"]) in MIXING:
        trace.normalize(value[-1], [(0, len(value) - 1)])
        return value
    return activate(op.config["activation"], value, trace)


@layer("AlphaDropout", "Dropout")
def dropout(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Each element on its own: units pass. The sizes in `noise_shape` shrink with them."""
    if noise := op.config.get("noise_shape"):
        extents = zip(noise, inputs[0], strict=True)
        trace.resize("noise_shape", tuple(n if n in (None, 1) else extent for n, extent in extents))
    return inputs[0]


@layer(
    "ActivityRegularization",
    "ELU",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "LeakyReLU",
    "ReLU",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
@operation(
    "Celu",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSilu",
    "HardShrink",
    "HardTanh",
    "LeakyRelu",
    "LogSigmoid",
    "Relu",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Silu",
    "SoftShrink",
    "Softplus",
    "Softsign",
    "SparsePlus",
    "SparseSigmoid",
    "Squareplus",
    "Tanh",
    "TanhShrink",
    "Threshold",
)
def elementwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Each element on its own: units pass."""
    return inputs[0]


@layer("Softmax")
@operation("LogSoftmax", "Softmax", "Sparsemax")
def softmax(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Shares along axes, of the units that are left under `normalized_axes: prune`; beside a mask they stay.

    A mask is spread over the other axes.
    """
    value = inputs[0]
    for mask in inputs[1:]:
        value = broadcast([value, (*(1,) * (len(value) - len(mask)), *mask)], trace)
    for axis in axes_of(op.config.get("axis", -1), len(value)):
        if len(inputs) > 1:
            trace.pin(value[axis], "mixes_channels", f"{op.class_name} over an axis that has units and a mask")
        else:
            trace.normalize(value[axis], [(0, axis)])
    return value


@layer("PReLU")
def prelu(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """alpha: the input's shape without the batch, 1 along `shared_axes`; follows."""
    alpha = trace.weight(0)
    shared = set(op.config.get("shared_axes") or ())
    trace.expect(alpha, [1 if axis in shared else n for axis, n in enumerate(shape_of(inputs[0])) if axis])
    for axis, extent in enumerate(inputs[0][1:]):
        if axis + 1 not in shared:
            trace.bind(alpha, axis, extent, "follower")
    return inputs[0]
