"""Attention: heads are a structure of their own; key, value and head dimensions are channels.

Query and key meet in a product that has no weights: there the masked original sets the query's slices to zero. Keras
divides the scores by the root of the key dimension, so surgery scales the query by the root of the share that is left.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules import bias_add, layer, operation
from pruning.rules.arithmetic import constant, counts
from pruning.rules.convolution import repeated
from pruning.rules.extents import Extent, Ids, Value, size
from pruning.rules.trace import Role, Trace


@layer("MultiHeadAttention")
def multi_head(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """query, key (features, heads, key_dim), value, gate (features, heads, value_dim), output (heads, value_dim, ...).

    A head is one unit across all of them, a key dimension one across query and key in every head.
    """
    values, keys = (trace.produce(trace.weight(0, f"{name}_dense"), 2) for name in ("value", "key"))
    heads = trace.produce(trace.weight(0, "value_dense"), 1, structure="head")
    count, key_dim = op.config["num_heads"], op.config["key_dim"]
    _expect("key_dense", (count, key_dim), trace)
    _expect("value_dense", (count, op.config.get("value_dim") or key_dim), trace)
    for field, ids in (("num_heads", heads), ("key_dim", keys), ("value_dim", values)):
        trace.resize(field, ids)
    roles = _roles(op, inputs, trace)
    _meet_masks(inputs, roles[0], heads, op, trace)
    return _attend(op, roles, "", (heads, heads), (keys, values), trace)


@layer("GroupQueryAttention")
def grouped_query(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """As multi-head; one head dimension for all, and several query heads to one of key and value.

    Query head h reads key head h // (query heads / key heads), equally many each. A unit is a key head with all that
    read it: it is what can go without a trace in the others. A single key head stays; then each query head is a unit.
    """
    roles = _roles(op, inputs, trace)
    count, few, dim = op.config["num_query_heads"], op.config["num_key_value_heads"], op.config["head_dim"]
    # Keras takes no query and value of different widths.
    trace.meet(roles[0][-1], roles[2][-1])
    dims = trace.produce(trace.weight(0, "_value_dense"), 2)
    shared: Extent = few
    if few > 1:
        shared = trace.produce(trace.weight(0, "_value_dense"), 1, structure="head")
        heads = repeated(shared, count // few)
    else:
        heads = trace.produce(trace.weight(0, "_query_dense"), 1, structure="head")
    _expect("_query_dense", (count, dim), trace)
    _expect("_value_dense", (few, dim), trace)
    for field, ids in (("num_query_heads", heads), ("num_key_value_heads", shared), ("head_dim", dims)):
        trace.resize(field, ids)
    _meet_masks(inputs, roles[0], heads, op, trace)
    return _attend(op, roles, "_", (heads, shared), (dims, dims), trace)


def _expect(name: str, sizes: tuple[int, int], trace: Trace) -> None:
    """Heads and dimension of a projection as the config has them."""
    trace.expect(trace.weight(0, name), [None, *sizes])


def _attend(
    op: Op,
    roles: tuple[Value, Value, Value],
    prefix: str,
    heads: tuple[Extent, Extent],
    dims: tuple[Ids, Ids],
    trace: Trace,
) -> Value | list[Value]:
    """What both have in common; `heads` of the query and of key and value, `dims` of query and key and of the value."""
    query, key, value = roles
    (own, shared), (keys, values) = heads, dims
    _project(f"{prefix}query_dense", query, (own, keys), "factor", op, trace)
    _project(f"{prefix}key_dense", key, (shared, keys), "producer", op, trace)
    _project(f"{prefix}value_dense", value, (shared, values), "producer", op, trace)
    if op.config.get("use_gate"):
        _project("_gate_dense", query, (own, values), "follower", op, trace)
    _compensate(f"{prefix}query_dense", keys, op, trace)
    trace.width(values)
    trace.head(own)
    leaving = _leave(f"{prefix}output_dense", query, own, values, op, trace)
    return _with_scores(op, query, key, own, dims, leaving, trace)


def _roles(op: Op, inputs: list[Value], trace: Trace) -> tuple[Value, Value, Value]:
    """Query, key and value of a call; the key is the value where it is not given. What else comes is a mask."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    names = ("query", "value", "key")
    given = dict(zip(names, op.args, strict=False)) | {name: op.kwargs[name] for name in names if name in op.kwargs}
    found = {name: tensors[ref.tensor] for name, ref in given.items() if isinstance(ref, Ref)}
    _pin_steps(inputs, trace)
    return found["query"], found.get("key", found["value"]), found["value"]


def _pin_steps(inputs: list[Value], trace: Trace) -> None:
    """Units along the steps, which the scores mix (masks have nothing but steps)."""
    for value in inputs:
        trace.pin(value[1:-1], "mixes_channels", "attends over an axis that has units")


def _meet_masks(inputs: list[Value], query: Value, heads: Extent, op: Op, trace: Trace) -> None:
    """A mask as large as the scores may tell heads apart: then they stay."""
    attended = _attended(op, query)
    for mask in inputs:
        if len(mask) == len(query) + len(attended) and size(mask[-2 * len(attended) - 1]) != 1:
            trace.meet(heads, mask[-2 * len(attended) - 1])


def _attended(op: Op, query: Value) -> list[int]:
    """The axes that the scores run over: all between batch and features, or `attention_axes`."""
    given = op.config.get("attention_axes")
    return [axis % (len(query) - 1) for axis in given] if given else list(range(1, len(query) - 1))


def _project(name: str, tensor: Value, axes: tuple[Extent, Extent], role: Role, op: Op, trace: Trace) -> None:
    """kernel (features, heads, dimension), bias (heads, dimension); the heads' slices make the unit in each."""
    kernel, (heads, dims) = trace.weight(0, name), axes
    sizes = [size(extent) for extent in axes]
    trace.expect(kernel, [size(tensor[-1]), *sizes])
    trace.bind(kernel, 0, tensor[-1], "consumer")
    trace.bind(kernel, 1, heads, "producer")
    trace.bind(kernel, 2, dims, role)
    if op.config["use_bias"]:
        bias = trace.weight(1, name)
        trace.expect(bias, sizes)
        trace.bind(bias, 0, heads, "follower")
        trace.bind(bias, 1, dims, "consumer" if role == "factor" else "follower")
        bias_add.of_several((*tensor[:-1], heads, dims), (len(tensor) - 1, len(tensor)), "dimensions a head", trace)
    trace.cost(tensor[1:-1], (tensor[-1], heads, dims), kernel)


def _compensate(name: str, dims: Ids, op: Op, trace: Trace) -> None:
    for index in range(1 + op.config["use_bias"]):
        trace.rescale(trace.weight(index, name), dims)


def _leave(name: str, query: Value, heads: Extent, dims: Ids, op: Op, trace: Trace) -> Value:
    """The output projection; where the config gives no shape it is as wide as the query, and is tied to it."""
    kernel, given = trace.weight(0, name), op.config.get("output_shape")
    wide: list[int | None] = list(given) if given else [size(query[-1])]
    trace.expect(kernel, [size(heads), size(dims), *wide])
    trace.bind(kernel, 0, heads, "factor")
    trace.bind(kernel, 1, dims, "consumer")
    leaving: Value = tuple(trace.produce(kernel, axis) for axis in range(2, len(trace.shape(kernel))))
    if op.config["use_bias"]:
        trace.expect(trace.weight(1, name), [size(extent) for extent in leaving])
        for axis, extent in enumerate(leaving):
            trace.bind(trace.weight(1, name), axis, extent, "follower")
        output = (*query[:-1], *leaving)
        bias_add.of_several(output, range(len(query) - 1, len(output)), "units of the last axis", trace)
    trace.cost(query[1:-1], (heads, dims, *leaving), kernel)
    if given:
        trace.resize("output_shape", leaving)
        return leaving
    return (trace.meet(leaving[0], query[-1]),)


def _with_scores(
    op: Op, query: Value, key: Value, heads: Extent, dims: tuple[Ids, Ids], leaving: Value, trace: Trace
) -> Value | list[Value]:
    """Two products a head, over the attended axes; other axes between batch and features pass."""
    attended = _attended(op, query)
    free = tuple(query[axis] for axis in range(1, len(query) - 1) if axis not in attended)
    pairs = (*(query[axis] for axis in attended), *(key[axis] for axis in attended))
    for ids in dims:
        trace.cost((*free, heads, *pairs), (ids,), None)
    output = (*query[:-1], *leaving)
    if not op.kwargs.get("return_attention_scores"):
        return output
    if op.class_name == "MultiHeadAttention" and len(pairs) == 2 and not free:
        # Keras records the scores as square, whatever the key's length is.
        pairs = (query[1], query[1])
    return [output, (query[0], *free, heads, *pairs)]


@layer("Attention", "AdditiveAttention")
def attention(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """[query, value, key]: a sum over the last axes of query and key, which are tied; the value's last axis passes.

    AdditiveAttention's scale (features) follows.
    """
    query, value = inputs[:2]
    _pin_steps(inputs, trace)
    place = 2 if len(inputs) > 2 and isinstance(op.args[0], list) and len(op.args[0]) > 2 else 1
    key = inputs[place]
    features = trace.meet(query[-1], key[-1])
    # A product needs a zero on one side, a sum under tanh on both.
    trace.mix(0, len(query) - 1, features)
    trace.mix(place, len(key) - 1, features)
    if op.class_name == "AdditiveAttention" and op.config.get("use_scale", True):
        trace.follow(trace.weight(0), features)
    width = prod(size(extent) or 1 for extent in (query[1], key[1]))
    trace.cost((), (width, features), None)
    trace.cost((), (width, value[-1]), None)
    output = (query[0], query[1], value[-1])
    return [output, (query[0], query[1], key[1])] if op.kwargs.get("return_attention_scores") else output


@operation("DotProductAttention")
def scaled_dot_product(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """query (batch, steps, heads, width), key and value (batch, steps, heads, width); the output is as the query.

    Keras takes the query's width for the output's, so all three widths go together. Without a `scale` it divides by
    the root of the width: then surgery writes the scale down. Bias and mask are spread to (batch, heads, steps, steps).
    """
    tensors = dict(zip(op.inputs, inputs, strict=True))
    query, key, value = (tensors[ref.tensor] for ref in op.args)
    for tensor in (query, key, value):
        trace.pin(tensor[1], "mixes_channels", "attends over an axis that has units")
    width = trace.meet(trace.meet(query[3], key[3]), value[3])
    trace.mix(0, 3, width)
    if op.kwargs.get("scale") is None:
        # In single precision, as Keras does it.
        trace.hold((*op.node, "kwargs", "scale"), float(1 / np.sqrt(np.float32(size(width) or 1))), width)
    shared = trace.meet(key[2], value[2])
    heads = _reading(query[2], shared, trace)
    for name in ("bias", "mask"):
        if op.kwargs.get(name) is not None:
            _meet_scores(op.kwargs[name], (*op.node, "kwargs", name), tensors, heads, trace)
    for _ in range(2):
        trace.cost((heads, query[1], key[1]), (width,), None)
    return (query[0], query[1], heads, width)


def _reading(heads: Extent, shared: Extent, trace: Trace) -> Extent:
    """The query's heads, tied to the heads of key and value that they read: h reads h // (heads / shared)."""
    many, few = size(heads), size(shared)
    if many is None or few is None or many == few or many % few:
        return trace.meet(heads, shared)
    # With a single head of the key Keras cannot run here: of each half one stays.
    for half in (slice(few // 2), slice(few // 2, None)):
        trace.part(shared[half] if isinstance(shared, np.ndarray) else shared)
    return trace.meet(heads, repeated(shared, many // few))


def _meet_scores(
    given: Any, where: tuple[str | int, ...], tensors: dict[int, Value], heads: Extent, trace: Trace
) -> None:
    """A tensor or a constant that is spread to the scores: along the heads its numbers are theirs."""
    if isinstance(given, Ref):
        value = tensors[given.tensor]
        trace.pin((*value[:-3], *value[-2:]), "mixes_channels", "units along the steps of the scores")
        if len(value) > 2 and size(value[-3]) != 1:
            trace.meet(heads, value[-3])
        elif len(value) > 2:
            trace.pin(value[-3], "broadcast", "one unit is spread over an axis")
        return
    value, where = constant(given, where)
    if len(value) > 2 and value[-3] != 1 and isinstance(heads, np.ndarray):
        counts(where, len(value) - 3, heads, trace)


@layer("Dot")
def dot(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A sum over one axis of each input, which are tied; the others pass. `normalize` divides by their norms."""
    first, second = inputs
    given = op.config["axes"]
    one, other = (given, given) if isinstance(given, int) else given
    one, other = one % len(first), other % len(second)
    summed = trace.meet(first[one], second[other])
    if op.config.get("normalize"):
        trace.normalize(summed, [(0, one), (1, other)])
    trace.mix(0, one, summed)
    left = tuple(extent for axis, extent in enumerate(first) if axis not in (0, one))
    right = tuple(extent for axis, extent in enumerate(second) if axis not in (0, other))
    trace.cost((*left, *right), (summed,), None)
    return (first[0], *left, *right) if left or right else (first[0], 1)
