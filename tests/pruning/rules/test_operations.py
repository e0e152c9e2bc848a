"""What operations of `keras.ops` cost, beside layers and by hand, and calls of them that no file of Keras' own has."""

from __future__ import annotations

from math import prod
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from pruning.graph import Op
from pruning.rules import rule_of
from pruning.rules.trace import Trace
from tests import equivalence

_NUMBERS = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype("float32")
_POINTWISE = _NUMBERS.reshape(1, 1, 8, 9)[..., :5].copy()
# Of 9 x 9 places a window of 3 x 3 that moves by 2 reads 5 x 5 with padding and 4 x 4 without.
_WINDOWS = [("same", 2, 25), ("valid", 2, 16), ("valid", 1, 49), ("same", 1, 81)]


def _macs(call: Any) -> int:
    """Of one call on an image of 9 x 9 places and 4 channels."""
    inputs = keras.Input((9, 9, 4))
    _, units = equivalence.traced(equivalence.archived(keras.Model(inputs, call(inputs))))
    return sum(cost.multiplier * prod(len(ids) for ids in cost.axes) for cost in units.costs)


@pytest.mark.parametrize(("padding", "strides", "places"), _WINDOWS)
def test_macs_of_kernels_are_those_of_layers(padding: str, strides: int, places: int) -> None:
    how: dict[str, Any] = {"strides": strides, "padding": padding}
    conv = _macs(lambda x: ops.conv(x, _NUMBERS, **how))
    assert conv == _macs(L.Conv2D(2, 3, **how)) == places * 9 * 4 * 2
    depthwise = _macs(lambda x: ops.depthwise_conv(x, _NUMBERS, **how))
    assert depthwise == _macs(L.DepthwiseConv2D(3, depth_multiplier=2, **how)) == places * 9 * 8
    separable = _macs(lambda x: ops.separable_conv(x, _NUMBERS, _POINTWISE, **how))
    layer = _macs(L.SeparableConv2D(5, 3, depth_multiplier=2, **how))
    assert separable == layer == places * 9 * 8 + places * 8 * 5


def test_an_array_cut_at_places_keeps_its_units() -> None:
    config = {"indices_or_sections": [2, 4], "axis": 1}
    op = Op("split", "ArraySplit", "keras.src.ops.numpy", config, "", ("config",), (), {}, (), ())
    rule, trace = rule_of(op), Trace({})
    trace.op = op
    assert rule is not None
    assert rule(op, [(None, trace.new(6, "channel"))], trace) == [(None, 2)] * 3
    assert [barrier.detail for barrier in trace.barriers] == ["is cut at places, where Keras takes a number of parts"]
