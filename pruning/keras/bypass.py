"""The original with blocks left out, run call by call: what surgery on blocks is proven against.

Nothing is rewired here. Every call of the live model runs on what its arguments name; only where a block's last tensor
is read, the one that entered the block is handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from pruning import nodes
from pruning.blocks import Block
from pruning.graph import Graph, Op
from pruning.keras.private import mask_of, with_mask
from pruning.nodes import Ref
from pruning.steps import Location, through

Tensors = dict[int, Any]
Run = Callable[[Sequence[Any]], Tensors]


def runner(model: keras.Model, config: Mapping[str, Any], graph: Graph, gone: Iterable[Block] = ()) -> Run:
    """A function of the model's inputs, in order, that returns every tensor of the graph, in inference mode.

    `model`: of this config, whose graph this is. Tensors that leave a block in `gone` are those that entered it.
    """
    calls = _live(model, config)
    stand_ins = {block.leaves: block.enters for block in gone}

    def run(inputs: Sequence[Any]) -> Tensors:
        found: Tensors = {}

        def forward() -> list[Any]:
            found.update(_run(graph, calls, stand_ins, inputs, model))
            return [found[tensor] for tensor in graph.outputs]

        _Inference(forward)(inputs[0], training=False)
        return found

    return run


class _Inference(keras.layers.Layer):  # type: ignore[misc]
    """Calls made inside learn from this one that nothing is trained."""

    def __init__(self, forward: Callable[[], list[Any]]) -> None:
        super().__init__(autocast=False)
        self.forward = forward

    def call(self, _first: Any, training: bool = False) -> list[Any]:  # noqa: ARG002
        return self.forward()


def _live(model: Any, config: Mapping[str, Any], location: Location = ()) -> dict[Location, Any]:
    """The live layer or operation of each entry of the config, by its place there."""
    operations = {one.name: one for one in (getattr(model, "operations", None) or model.layers)}
    found: dict[Location, Any] = {}
    for index, entry in enumerate(config["config"]["layers"]):
        place = (*location, "config", "layers", index)
        live = operations.get(entry["config"]["name"])
        if nodes.is_model(entry):
            found |= _live(live, entry, place)
        elif live is not None:
            found[place] = live
    return found


def _run(
    graph: Graph, calls: Mapping[Location, Any], stand_ins: Mapping[int, int], inputs: Sequence[Any], model: keras.Model
) -> Tensors:
    given = [keras.ops.convert_to_tensor(array, like.dtype) for array, like in zip(inputs, model.inputs, strict=True)]
    values: Tensors = dict(zip(graph.inputs, given, strict=True))
    entered: dict[Location, Any] = {}
    for op in graph.ops:
        if op.class_name.endswith(".leave"):
            made = [entered[op.location]]
        elif op.class_name.endswith(".enter"):
            # A wrapper runs as a whole; what it wraps has no call of its own here.
            entered[op.location] = _called(calls[op.location], op, values)
            continue
        elif op.class_name == "InputLayer":
            made = [_as_input(values[op.inputs[0]], calls.get(op.location))]
        elif op.location not in calls:
            continue
        else:
            made = keras.tree.flatten(_called(calls[op.location], op, values))
        for tensor, value in zip(op.outputs, made, strict=False):
            values[tensor] = values[through(tensor, stand_ins)] if tensor in stand_ins else value
    return values


def _called(live: Any, op: Op, values: Tensors) -> Any:
    arguments = [_filled(argument, values) for argument in op.args]
    return live(*arguments, **{name: _filled(argument, values) for name, argument in op.kwargs.items()})


def _filled(argument: Any, values: Tensors) -> Any:
    """An argument as the config writes it, with its tensors."""
    if isinstance(argument, Ref):
        return values[argument.tensor]
    if isinstance(argument, list | tuple):
        return [_filled(item, values) for item in argument]
    if not isinstance(argument, Mapping):
        return argument
    if argument.get("class_name") == "__tuple__":
        return tuple(_filled(item, values) for item in argument["items"])
    if argument.get("class_name") == "__slice__":
        return slice(*(_filled(argument["config"][part], values) for part in ("start", "stop", "step")))
    if "class_name" in argument and "config" in argument:
        return keras.saving.deserialize_keras_object(dict(argument))
    return {key: _filled(item, values) for key, item in argument.items()}


def _as_input(value: Any, live: Any) -> Any:
    """What a model inside takes: in the dtype of its input, with its mask."""
    dtype = value.dtype if live is None else live.output.dtype
    return (
        value
        if keras.backend.standardize_dtype(value.dtype) == dtype
        else with_mask(keras.ops.cast(value, dtype), mask_of(value))
    )
