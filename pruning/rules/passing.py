"""Calls that pass on the numbers that enter, among them indices into a table, and make none of their own."""

from __future__ import annotations

from pruning.graph import Op

# fmt: off
_CLASSES = frozenset([
    "Cast", "Concatenate", "Copy", "Dropout", "ExpandDims", "Flatten", "Flip", "GetItem", "Identity", "InputLayer",
    "Moveaxis", "Permute", "Repeat", "RepeatVector", "Reshape", "Roll", "Split", "Squeeze", "Stack", "Swapaxes", "Take",
    "Tile", "TimeDistributed.enter", "TimeDistributed.leave", "Transpose",
])
# fmt: on


def passes_on(op: Op) -> bool:
    """Whether each number of the outputs is one of the inputs, as it is."""
    return op.class_name in _CLASSES
