"""What is known of calls beside units: which pass on the numbers that enter as they are, which change their type."""

from __future__ import annotations

from pruning.graph import Op

# fmt: off
_CLASSES = frozenset([
    "Append", "Array", "ArraySplit", "BroadcastTo", "Cast", "Concatenate", "ConvertToTensor", "Copy", "Dropout",
    "Dsplit", "Dstack", "ExpandDims", "Flatten", "Flip", "Fliplr", "Flipud", "GetItem", "Hsplit", "Hstack", "Identity",
    "InputLayer", "Moveaxis", "Permute", "Repeat", "RepeatVector", "Reshape", "Roll", "Rot90", "Split", "Squeeze",
    "Stack", "Swapaxes", "Take", "TakeAlongAxis", "Tile", "TimeDistributed.enter", "TimeDistributed.leave", "Transpose",
    "Unstack", "Vsplit", "Vstack",
])
# fmt: on


def passes_on(op: Op) -> bool:
    """Whether each number of the outputs is one of the inputs, as it is."""
    return op.class_name in _CLASSES


# fmt: off
_OTHER_TYPES = frozenset([
    "All", "Any", "Argpartition", "Argsort", "Cast", "Digitize", "Equal", "Greater", "GreaterEqual", "IsIn", "Isclose",
    "Isfinite", "Isinf", "Isnan", "Isneginf", "Isposinf", "Isreal", "Less", "LessEqual", "LogicalAnd", "LogicalNot",
    "LogicalOr", "LogicalXor", "NotEqual", "SaturateCast", "Signbit", "ViewAsComplex",
])
# fmt: on


def changes_type(op: Op) -> bool:
    """Whether the outputs may hold numbers of another type (truth values, indices) than the inputs."""
    return op.class_name in _OTHER_TYPES
