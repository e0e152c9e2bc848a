"""What is known of calls beside units: which pass on the numbers that enter as they are, and of what kind they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from pruning.graph import Op
from pruning.nodes import Ref

Kind: TypeAlias = Literal["string", "bool", "int", "unknown", "float", "complex"]

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


_ORDER: tuple[Kind, ...] = ("string", "bool", "int", "unknown", "float", "complex")
# fmt: off
_MAKES: dict[str, Kind] = {
    **dict.fromkeys([
        "All", "AllClose", "Any", "Equal", "Greater", "GreaterEqual", "InTopK", "IsIn", "Isclose", "Isfinite", "Isinf",
        "Isnan", "Isneginf", "Isposinf", "Isreal", "Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr",
        "LogicalXor", "NotEqual", "Signbit",
    ], "bool"),
    **dict.fromkeys([
        "Argmax", "Argmin", "Argpartition", "Argsort", "Bincount", "CountNonzero", "Digitize", "MatrixRank",
        "Nanargmax", "Nanargmin", "Nonzero", "SearchSorted", "Size",
    ], "int"),
    **dict.fromkeys([
        "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization",
    ], "unknown"),
    **dict.fromkeys(["Polar", "ViewAsComplex"], "complex"),
}
_REAL = ("Abs", "Absolute", "Angle", "Imag", "Real", "ViewAsReal")
# Layers that compute on what they are given; others have weights or options that are floats.
_AS_GIVEN = frozenset([
    "ActivityRegularization", "Add", "AlphaDropout", "GaussianDropout", "GaussianNoise", "Masking", "Maximum",
    "Minimum", "Multiply", "ReLU", "Subtract",
    *(
        f"{name}{rank}D"
        for name in ("Cropping", "GlobalMaxPooling", "MaxPooling", "SpatialDropout", "UpSampling", "ZeroPadding")
        for rank in (1, 2, 3)
    ),
])
# fmt: on


def kinds(ops: Iterable[Op]) -> dict[int, Kind]:
    """What kind of numbers each tensor holds. `ops`: in an order in which they can run.

    "unknown" is one of bool, int and float: what is made of whole numbers depends on the operation and its options.
    """
    found: dict[int, Kind] = {}
    for op in ops:
        kind = _kind(op, [found.get(tensor, "float") for tensor in op.inputs])
        found.update(dict.fromkeys(op.outputs, kind))
        if op.class_name == "TopK":
            found.update(dict.fromkeys(op.outputs[1:], "int"))
    return found


def _kind(op: Op, entering: Sequence[Kind]) -> Kind:
    """Of the outputs of a call on tensors of these kinds: Keras takes the wider kind of two."""
    own = op.module.startswith("keras.src.ops.")
    if (own or op.class_name == "InputLayer") and op.config.get("dtype") is not None:
        return _of(op.config["dtype"])
    if op.class_name in _MAKES:
        return _MAKES[op.class_name]
    if op.class_name.startswith("Take"):
        # What is taken from comes first; where it is a constant, the tensor is that of the places.
        return entering[0] if isinstance((*op.args, None)[0], Ref) else "float"
    widest: Kind = max(entering, key=_ORDER.index) if entering else "float"
    if op.class_name in _REAL:
        return "float" if widest == "complex" else widest
    if passes_on(op):
        return widest
    if not own and op.class_name not in _AS_GIVEN:
        return "float"
    return widest if widest in ("float", "complex") else "unknown"


def _of(dtype: Any) -> Kind:
    """The kind of a dtype by its name."""
    name = str(dtype).removeprefix("u")
    named = [kind for kind in _ORDER if name.startswith(kind)]
    return named[0] if named else "float"
