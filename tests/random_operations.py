"""A random element-wise operation of `keras.ops`, out of all that the rules know, for the random graphs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from keras import ops

from pruning.rules import RULES, activation, arithmetic

Draw = Callable[[st.SearchStrategy[Any]], Any]
# What takes whole or makes complex numbers.
_LEFT_OUT = {
    *("BitwiseAnd", "BitwiseInvert", "BitwiseLeftShift", "BitwiseNot", "BitwiseOr", "BitwiseRightShift"),
    *("BitwiseXor", "Gcd", "Lcm", "LeftShift", "RightShift", "Polar"),
}
_OTHERWISE: dict[str, Callable[..., Any]] = {
    "Array": ops.array,
    "Arccosh": lambda x: ops.arccosh(1.2 + x),
    "Cast": lambda x: ops.cast(x, x.dtype),
    "Clip": lambda x: ops.clip(x, 0.3, 0.6),
    "ConvertToTensor": ops.convert_to_tensor,
    "Digitize": lambda x: ops.digitize(x, np.array([0.3, 0.5])),
    "FullLike": lambda x, _: ops.full_like(x, 0.5),
    "IsIn": lambda x: ops.isin(x, [0.3, 0.5]),
    "Ldexp": lambda x, y: ops.ldexp(x, ops.cast(2.0 * y, "int32")),
    "Threshold": lambda x: ops.threshold(x, 0.4, 0.2),
    "SaturateCast": lambda x: ops.saturate_cast(x, x.dtype),
    "Where": lambda x, y: ops.where(x > y, x, y),
}


def _known(rule: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The functions of all operations that a rule is for, by class name."""
    names = sorted(name for (kind, name), found in RULES.items() if kind == "ops" and found is rule)
    return {name: _OTHERWISE.get(name) or getattr(ops, _snake(name)) for name in names if name not in _LEFT_OUT}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


UNARY = {**_known(activation.elementwise), **_known(arithmetic.unary)}
BINARY = _known(arithmetic.elementwise)


def elementwise(draw: Draw, x: Any, like: Any) -> Any:
    """One or two tensors of one shape, their values brought between 0.1 and 0.7, where all these are defined."""
    values = [0.4 + 0.3 * ops.tanh(x), 0.4 + 0.3 * ops.tanh(like)]
    if draw(st.booleans()):
        found = UNARY[draw(st.sampled_from(sorted(UNARY)))](values[0])
    else:
        found = BINARY[draw(st.sampled_from(sorted(BINARY)))](*values)
    return ops.cast(found, x.dtype) + 0.1 * values[0]
