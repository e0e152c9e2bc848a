"""Attention: the value dimension of a multi-head attention starts units; heads and the key dimension stay.

Scores are scaled by the key dimension and heads are a structure of their own, so neither is a channel.
"""

from __future__ import annotations

from math import prod

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules import layer
from pruning.rules.trace import Extent, Trace, Value, replaced, size


@layer("MultiHeadAttention")
def multi_head(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """query, key (features, heads, key_dim), value (features, heads, value_dim), output (heads, value_dim, out)."""
    query, key, value = _roles(op, inputs, trace)
    given = op.config.get("output_shape")
    if op.config.get("use_gate") or len(query) != 3 or (given and len(given) > 1):
        return _refused(op, inputs, trace)
    heads, key_dim = op.config["num_heads"], op.config["key_dim"]
    units = trace.produce(trace.weight(0, "value_dense"), 2)
    for name, tensor, last in (("query", query, key_dim), ("key", key, key_dim), ("value", value, units)):
        _project(f"{name}_dense", tensor, heads, last, op, trace)
    trace.resize("value_dim", units)
    trace.width(units)
    leaving = _leave("output_dense", query[-1] if not given else None, heads, units, query[1], op, trace)
    if given:
        trace.resize("output_shape", (leaving,))
    return _with_scores(op, query, key, heads, key_dim, units, leaving, trace)


@layer("GroupQueryAttention")
def grouped_query(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """As multi-head; query, key and value share `head_dim`, which stays."""
    query, key, value = _roles(op, inputs, trace)
    if op.config.get("use_gate"):
        return _refused(op, inputs, trace)
    heads, few, dim = op.config["num_query_heads"], op.config["num_key_value_heads"], op.config["head_dim"]
    for name, tensor, count in (("query", query, heads), ("key", key, few), ("value", value, few)):
        _project(f"_{name}_dense", tensor, count, dim, op, trace)
    leaving = _leave("_output_dense", query[-1], heads, dim, query[1], op, trace)
    return _with_scores(op, query, key, heads, dim, dim, leaving, trace)


def _roles(op: Op, inputs: list[Value], trace: Trace) -> tuple[Value, Value, Value]:
    """Query, key and value of a call; the key is the value where it is not given."""
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


def _project(name: str, tensor: Value, heads: int, last: Extent, op: Op, trace: Trace) -> None:
    kernel = trace.weight(0, name)
    trace.expect(kernel, [size(tensor[-1]), heads, size(last)])
    trace.bind(kernel, 0, tensor[-1], "consumer")
    trace.bind(kernel, 2, last, "follower")
    if op.config["use_bias"]:
        bias = trace.weight(1, name)
        trace.expect(bias, [heads, size(last)])
        trace.bind(bias, 1, last, "follower")
    trace.cost((tensor[1],), (tensor[-1], last), kernel, heads)


def _leave(name: str, tied: Extent, heads: int, last: Extent, steps: Extent, op: Op, trace: Trace) -> Extent:
    """The output projection; without `output_shape` it is as wide as the query, and is tied to it."""
    kernel = trace.weight(0, name)
    trace.expect(kernel, [heads, size(last), None])
    trace.bind(kernel, 1, last, "consumer")
    leaving: Extent = trace.produce(kernel, 2)
    if op.config["use_bias"]:
        trace.follow(trace.weight(1, name), leaving)
    trace.cost((steps,), (last, leaving), kernel, heads)
    return leaving if tied is None else trace.meet(leaving, tied)


def _with_scores(
    op: Op, query: Value, key: Value, heads: int, key_dim: Extent, value_dim: Extent, leaving: Extent, trace: Trace
) -> Value | list[Value]:
    places = (heads, query[1], key[1])
    trace.cost(places, (key_dim,), None)
    trace.cost(places, (value_dim,), None)
    output = replaced(query, -1, leaving)
    if op.kwargs.get("return_attention_scores"):
        return [output, (query[0], heads, query[1], key[1])]
    return output


def _refused(op: Op, inputs: list[Value], trace: Trace) -> Value:
    for value in inputs:
        trace.pin(value, "unsupported_option", f"{op.class_name} with a gate, on images or with several output axes")
    output: Value = tuple(size(extent) for extent in inputs[0])
    given = op.config.get("output_shape")
    return (*output[:-1], *given) if given else output


@layer("Attention", "AdditiveAttention")
def attention(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """[query, value, key]: query and key meet in a product and stay, the value's last axis passes."""
    query, value = inputs[:2]
    _pin_steps(inputs, trace)
    key = inputs[2] if len(inputs) > 2 and isinstance(op.args[0], list) and len(op.args[0]) > 2 else value
    trace.pin((query[-1], key[-1]), "mixes_channels", "a product of query and key sums over their last axis")
    width = prod(size(extent) or 1 for extent in (query[1], key[1]))
    trace.cost((), (width, query[-1]), None)
    trace.cost((), (width, value[-1]), None)
    output = (query[0], query[1], value[-1])
    return [output, (query[0], query[1], key[1])] if op.kwargs.get("return_attention_scores") else output


@layer("Dot")
def dot(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Sums over one axis of each input, which stay; the others pass."""
    first, second = inputs
    given = op.config["axes"]
    one, other = (given, given) if isinstance(given, int) else given
    one, other = one % len(first), other % len(second)
    trace.pin((first[one], second[other]), "mixes_channels", "a product sums over an axis that has units")
    if op.config.get("normalize"):
        trace.pin((first[one], second[other]), "mixes_channels", "is normalised along the axis")
    left = tuple(extent for axis, extent in enumerate(first) if axis not in (0, one))
    right = tuple(extent for axis, extent in enumerate(second) if axis not in (0, other))
    trace.cost((*left, *right), (first[one],), None)
    return (first[0], *left, *right) if left or right else (first[0], 1)
