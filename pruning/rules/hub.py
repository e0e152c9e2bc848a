"""Layers of keras-hub: transformer blocks with the width of their feed-forward part inside, embeddings, positions.

A block derives the size of its heads from the hidden width over their number, so hidden width and heads stay; the
feed-forward width, `intermediate_dim`, starts units that no other layer sees.
"""

from __future__ import annotations

from math import prod
from typing import Any

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules import register
from pruning.rules.activation import activate
from pruning.rules.extents import Extent, Ids, Value, channel_axis, size
from pruning.rules.trace import Barrier, Trace
from pruning.rules.windows import numbers, spatial

_MODELING, _MODELS = "keras_hub.src.layers.modeling", "keras_hub.src.models"
_FEED_FORWARD = ("_feedforward_intermediate_dense", "_feedforward_output_dense")


@register(f"{_MODELING}.transformer_encoder", "TransformerEncoder")
def encoder(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """Attention and two dense layers, each with a sum and a normalisation around."""
    value = _entering(op, inputs, 0, trace)
    _attention("_self_attention_layer", value, value, trace)
    _feed_forward("intermediate_dim", value, _FEED_FORWARD, op.config["activation"], trace)
    if op.kwargs.get("return_attention_scores"):
        return [value, (value[0], op.config["num_heads"], value[1], value[1])]
    return value


@register(f"{_MODELING}.transformer_decoder", "TransformerDecoder")
def decoder(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """As the encoder, causal, with a second attention where it is called with an encoder's sequence."""
    value = _entering(op, inputs, 0, trace)
    _attention("_self_attention_layer", value, value, trace)
    if op.args[1:2] or op.kwargs.get("encoder_sequence") is not None:
        _attention("_cross_attention_layer", value, _entering(op, inputs, 1, trace), trace)
    _feed_forward("intermediate_dim", value, _FEED_FORWARD, op.config["activation"], trace)
    return value


@register(f"{_MODELS}.llama.llama_decoder", "LlamaTransformerDecoder")
@register(f"{_MODELS}.mistral.mistral_transformer_decoder", "MistralTransformerDecoder")
def gated_decoder(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Grouped-query attention; a gate of the same width is multiplied into the feed-forward part."""
    value = _entering(op, inputs, 0, trace)
    _attention("_self_attention_layer", value, value, trace)
    first, last = _FEED_FORWARD
    _feed_forward("intermediate_dim", value, (first, "_feedforward_gate_dense", last), op.config["activation"], trace)
    return value


@register(f"{_MODELS}.vit.vit_layers", "ViTEncoderBlock")
def vit_block(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The encoder of a vision transformer; the feed-forward width is `mlp_dim`."""
    value = _entering(op, inputs, 0, trace)
    _attention("mha", value, value, trace)
    _feed_forward("mlp_dim", value, ("mlp/dense_1", "mlp/dense_2"), "gelu", trace)
    return value


def _entering(op: Op, inputs: list[Value], position: int, trace: Trace) -> Value:
    """The sequence of a call (masks have no units); its steps are mixed and its width makes the heads."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    names = ("decoder_sequence", "encoder_sequence")
    given: Any = op.args[position] if len(op.args) > position else op.kwargs.get(names[position])
    value = tensors[given.tensor] if isinstance(given, Ref) else inputs[position]
    detail = "its head size is the hidden width over its heads: the hidden width and the heads stay"
    if position == 0:
        trace.barriers.append(Barrier(op.name, "heads", detail))
    trace.pin(value[-1], "heads", detail)
    trace.pin(value[1:-1], "mixes_channels", "attends over an axis that has units")
    return value


def _attention(inner: str, value: Value, memory: Value, trace: Trace) -> None:
    """MACs of the projections and the scores; query, key and value are the arrays of three axes, as is the output."""
    below = f"{trace.op.path}/{inner}/"
    kernels = [path for path, shape in trace.weights.items() if path.startswith(below) and len(shape) == 3]
    for kernel in kernels:
        name = kernel[len(below) :].split("/")[0]
        steps = memory[1] if name.lstrip("_") in ("key_dense", "value_dense") else value[1]
        trace.cost((steps,), (), kernel, prod(trace.shape(kernel)))
    widths = [prod(trace.shape(kernel)[1:]) for kernel in kernels if "query" in kernel]
    trace.cost((value[1], memory[1]), (), None, 2 * sum(widths))


def _feed_forward(key: str, value: Value, layers: tuple[str, ...], activation: Any, trace: Trace) -> None:
    """Dense layers in (first, gate, ...) with one width, which starts units, and the last one, which reads them."""
    *first, last = layers
    units: Ids | None = None
    for name in first:
        kernel, bias = trace.weight(0, name), trace.weight(1, name)
        made = trace.produce(kernel, 1)
        trace.bind(kernel, 0, value[-1], "consumer")
        if bias in trace.weights:
            trace.follow(bias, made)
        if units is not None:
            trace.tie(units, made)
        units = made
        trace.cost((value[1],), (value[-1], made), kernel)
    assert units is not None
    kernel = trace.weight(0, last)
    trace.bind(kernel, 0, units, "consumer")
    trace.cost((value[1],), (units, size(value[-1])), kernel)
    trace.resize(key, units)
    trace.width(units)
    activate(activation, (units,), trace)
    _rest_stays(trace)


def _rest_stays(trace: Trace) -> None:
    """All other arrays of the layer keep their shapes."""
    bound = {weight for weight, _ in trace.axes}
    for path, shape in trace.weights.items():
        if path.startswith(f"{trace.op.path}/") and path not in bound and shape:
            trace.bind(path, 0, shape[0], "follower")


@register(f"{_MODELING}.position_embedding", "PositionEmbedding")
def positions(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A table (sequence_length, features), as wide as what it is added to."""
    value = inputs[0]
    steps = spatial(value[-2], trace)
    return (*value[:-2], steps, trace.meet(trace.produce(trace.weight(0), 1), value[-1]))


@register(f"{_MODELING}.token_and_position_embedding", "TokenAndPositionEmbedding")
def tokens_and_positions(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Two tables of one width, `embedding_dim`, summed."""
    table, places = trace.weight(0, "token_embedding"), trace.weight(0, "position_embedding")
    trace.expect(table, [op.config["vocabulary_size"], op.config["embedding_dim"]])
    trace.expect(places, [op.config["sequence_length"], op.config["embedding_dim"]])
    trace.vocabulary(op.inputs[0], op.config["vocabulary_size"])
    features = trace.produce(table, 1)
    trace.tie(features, trace.produce(places, 1))
    if not op.config.get("tie_weights", True):
        trace.bind(trace.weight(1, "token_embedding"), 0, features, "follower")
    trace.resize("embedding_dim", features)
    trace.width(features)
    return (*inputs[0], features)


@register(f"{_MODELING}.rotary_embedding", "RotaryEmbedding")
@register(f"{_MODELING}.sine_position_encoding", "SinePositionEncoding")
def computed_positions(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Waves whose length depends on a feature's place."""
    value = inputs[0]
    trace.pin(value[1:], "position", f"{op.class_name} computes by the place of a feature")
    return value


@register(f"{_MODELS}.llama.llama_layernorm", "LlamaLayerNorm")
@register(f"{_MODELS}.mistral.mistral_layer_norm", "MistralLayerNormalization")
def root_mean_square(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The mean square over the last axis: what lies there is mixed."""
    value = inputs[0]
    trace.pin(value[-1], "normalized_axis", f"{op.class_name} takes its statistics over these units")
    return value


@register(f"{_MODELING}.masked_lm_head", "MaskedLMHead")
def masked_lm_head(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Dense, normalisation and the token embedding in reverse at some places: all as wide as that embedding."""
    value, places = inputs
    trace.pin(value[1:], "shared_embedding", "works on the width of the token embedding, which stays with it")
    embedding = op.config.get("token_embedding")
    if embedding:
        name = embedding["config"]["name"]
        for axis in [axis for axis in trace.axes.values() if axis.layer.rsplit("/", 1)[-1] == name]:
            trace.pin(axis.ids, "shared_embedding", "uses this table")
    trace.vocabulary(op.inputs[1], size(value[1]) or 1)
    kernel = trace.weight(0, "_intermediate_dense")
    features = trace.shape(kernel)[1]
    trace.cost((places[1],), (), kernel, prod(trace.shape(kernel)))
    trace.cost((places[1],), (), None, features * op.config["vocabulary_size"])
    return (*places, op.config["vocabulary_size"])


@register(f"{_MODELS}.vit.vit_layers", "ViTPatchingAndEmbedding")
def patches(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A convolution over patches, a class token (1, 1, hidden) before them, a table (positions, hidden) added."""
    (value,) = inputs
    channels = channel_axis(op.config, len(value))
    kernel, table = trace.weight(0, "patch_embedding"), trace.weight(0, "position_embedding")
    window = numbers(op.config["patch_size"], 2)
    trace.expect(kernel, [*window, size(value[channels]), op.config["hidden_dim"]])
    trace.bind(kernel, -2, value[channels], "consumer")
    hidden: Extent = trace.produce(kernel, -1)
    if op.config.get("use_patch_bias", True):
        trace.follow(trace.weight(1, "patch_embedding"), hidden)
    trace.bind(table, 1, hidden, "producer")
    count = 1
    for axis, patch in zip([axis for axis in (1, 2, 3) if axis != channels], window, strict=True):
        count *= (spatial(value[axis], trace) or 0) // patch
    trace.cost((count,), (value[channels], hidden), kernel, prod(window))
    if op.config.get("use_class_token", True):
        trace.bind(trace.weight(0), 2, hidden, "producer")
        count += 1
    trace.resize("hidden_dim", hidden)
    trace.width(hidden)
    return (value[0], count, hidden)
