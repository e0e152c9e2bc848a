"""A model's config JSON as a flat graph: one `Op` per call of a layer, nested models taken apart.

The config holds everything the engine needs to know: layers, shapes, constants, who feeds whom. No layer is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pruning import nodes
from pruning.contract.errors import UnreadableFile
from pruning.nodes import Config, Ref, Shape, refs

# The one layer that Keras exports under another name than its class has, which is the one in the weights file.
_CLASS_OF = {"GroupQueryAttention": "GroupedQueryAttention"}


@dataclass(frozen=True)
class Op:
    """One call of one layer. `path`: where its arrays lie; `location`: where its entry lies in the config JSON;
    `node`: where this call lies there, empty in a Sequential.

    `args` and `kwargs` are those of the call with a `Ref` for each tensor; `inputs` lists these tensors in order.
    Calls of a shared layer differ in tensors and `node` alone.
    """

    name: str
    class_name: str
    module: str
    config: Config = field(repr=False)
    path: str
    location: tuple[str | int, ...] = field(repr=False)
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: tuple[str | int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Layer:
    """One layer of the model, however often it is called; `location` as in `Op`."""

    name: str
    class_name: str
    path: str
    location: tuple[str | int, ...]


@dataclass(frozen=True)
class Model:
    """One call of a model: the whole one, or one inside it. `location`: where its entry lies in the config JSON."""

    name: str
    location: tuple[str | int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Ops in an order in which they can run. `shapes`: what the config records for each tensor, None where nothing.

    `mentions`: for each place in the config that mentions a tensor, (location of its shape, tensor).
    """

    ops: tuple[Op, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[Shape | None, ...]
    mentions: tuple[tuple[tuple[str | int, ...], int], ...] = field(repr=False)
    unknown_dimensions: tuple[str, ...] = ()
    models: tuple[Model, ...] = field(default=(), repr=False)


def build(config: Config) -> Graph:
    """The graph of a parsed `config.json`.

    Raises `UnreadableFile` where the config is no Sequential or Functional model or points to what is not there.
    """
    if not nodes.is_model(config):
        raise UnreadableFile(
            f"the model is a {config.get('class_name')!r}: only Sequential and Functional models can be taken apart"
        )
    builder = _Builder()
    try:
        inputs, outputs = builder.model(config, _Place("", "", ()), None)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableFile(f"the model's config is broken: {type(error).__name__}: {error}") from error
    return Graph(
        ops=tuple(builder.ops),
        layers=tuple(builder.layers.values()),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        shapes=tuple(builder.shapes),
        mentions=tuple(builder.mentions),
        unknown_dimensions=tuple(builder.unknown),
        models=tuple(builder.models),
    )


def check_names(graph: Graph, names: Mapping[str, str]) -> None:
    """Compare the layer names in the weights file, {path: name}, with the config's: H5 paths are only counters.

    Raises `UnreadableFile`, naming the path, where they differ.
    """
    for layer in (layer for layer in graph.layers if layer.path):
        found, expected = names.get(layer.path), layer.name.rsplit("/", 1)[-1]
        own = layer.name == expected or layer.name.endswith("/" + expected)
        if found is not None and not (own and (found == expected or layer.name.endswith(found))):
            raise UnreadableFile(f"the weights at {layer.path!r} belong to {found!r}, the config has {layer.name!r}")


def paths(entry: Config) -> list[str]:
    """Where each layer of a model's entry lies in the weights file, below the model's own place; empty for none.

    Keras counts classes in `model.layers`, without operations and without Sequential's input.
    """
    used: dict[str, int] = {}
    found = []
    for layer in entry["config"]["layers"]:
        path = ""
        if not nodes.is_operation(layer) and not (
            entry["class_name"] == "Sequential" and layer["class_name"] == "InputLayer"
        ):
            path = snake_case(_CLASS_OF.get(layer["class_name"], layer["class_name"]))
            used[path] = used.get(path, -1) + 1
            path = f"{path}_{used[path]}" if used[path] else path
        found.append(path)
    return found


@cache
def snake_case(name: str) -> str:
    """`Conv2DTranspose` -> `conv2d_transpose`, as Keras names a layer's place in the weights file."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


@dataclass(frozen=True)
class _Place:
    """Where a model stands: prefix of its layers' names, of their arrays, of their entries in the config."""

    name: str
    path: str
    location: tuple[str | int, ...]

    def layer(self, name: str, path: str, index: int) -> _Place:
        return _Place(
            f"{self.name}/{name}" if self.name else name,
            f"{self.path}/layers/{path}" if self.path else f"layers/{path}",
            (*self.location, "config", "layers", index),
        )


class _Builder:
    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.layers: dict[str, Layer] = {}
        self.shapes: list[Shape | None] = []
        self.mentions: list[tuple[tuple[str | int, ...], int]] = []
        self.unknown: list[str] = []
        self.models: list[Model] = []

    def tensor(self, shape: Shape | None = None) -> int:
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def model(self, entry: Config, place: _Place, given: list[int] | None) -> tuple[list[int], list[int]]:
        """Run through a model's layers; `given`: the tensors of its call, None for the whole model."""
        places = self.places(entry, place)
        if entry["class_name"] == "Sequential":
            inputs, outputs = self.sequential(entry, place, places, given)
        else:
            inputs, outputs = self.functional(entry, places, given)
        self.models.append(Model(place.name, place.location, tuple(inputs), tuple(outputs)))
        return inputs, outputs

    def places(self, entry: Config, place: _Place) -> list[_Place]:
        """Where each layer lies."""
        places = []
        for index, (layer, path) in enumerate(zip(entry["config"]["layers"], paths(entry), strict=True)):
            found = place.layer(nodes.name_of(layer), path, index)
            found = _Place(found.name, found.path if path else "", found.location)
            places.append(found)
            if not nodes.is_model(layer):
                self.layers.setdefault(found.name, Layer(found.name, layer["class_name"], found.path, found.location))
        return places

    def sequential(
        self, entry: Config, place: _Place, places: list[_Place], given: list[int] | None
    ) -> tuple[list[int], list[int]]:
        layers = entry["config"]["layers"]
        shape = entry["config"].get("build_input_shape")
        current: list[int] | None = given
        first: list[int] | None = given
        for layer, where in zip(layers, places, strict=True):
            if layer["class_name"] == "InputLayer":
                current = self.input_layer(layer, where, current)
                first = first or current
                continue
            if current is None:
                if shape is None:
                    raise UnreadableFile(f"model {entry['config'].get('name')!r} is not built: it has no input shape")
                current = first = [self.entrance(tuple(shape), nodes.name_of(entry))]
            recorded = (layer.get("build_config") or {}).get("input_shape")
            if len(current) == 1 and self.shapes[current[0]] is None and nodes.is_shape(recorded):
                self.shapes[current[0]] = tuple(recorded)
            args = (Ref(current[0]),) if len(current) == 1 else ([Ref(tensor) for tensor in current],)
            current = self.call(layer, where, args, {}, 1)
        if current is None or first is None:
            raise UnreadableFile(f"model {entry['config'].get('name')!r} has no layers")
        if shape is not None and place.location and given and self.shapes[given[0]] is None and nodes.is_shape(shape):
            self.shapes[given[0]] = tuple(shape)
        return first, current

    def functional(self, entry: Config, places: list[_Place], given: list[int] | None) -> tuple[list[int], list[int]]:
        config = entry["config"]
        index_of = {nodes.name_of(layer): i for i, layer in enumerate(config["layers"])}
        calls = [[nodes.histories(call) for call in layer.get("inbound_nodes", ())] for layer in config["layers"]]
        arity, mentioned = nodes.arity(entry, calls)
        done: dict[tuple[str, int], list[int]] = {}
        wanted = nodes.leaves(config["input_layers"])
        if given is not None and len(given) != len(wanted):
            raise UnreadableFile(f"model {config['name']!r} has {len(wanted)} inputs and is called with {len(given)}")
        inputs = []
        for position, (name, _, _) in enumerate(wanted):
            index = index_of[name]
            tensors = self.input_layer(config["layers"][index], places[index], given and [given[position]])
            done[name, 0] = tensors
            inputs.append((given or tensors)[position if given else 0])
        waiting = [
            (index, node)
            for index, layer in enumerate(config["layers"])
            for node in range(len(layer.get("inbound_nodes", ())))
        ]
        while waiting:
            left: list[tuple[int, int]] = []
            for index, node in waiting:
                layer, sources = config["layers"][index], calls[index][node]
                # Calls of one layer keep their order: node numbers are counted in it.
                if any(key[:2] not in done for key, _, _ in sources) or any(i == index for i, _ in left):
                    left.append((index, node))
                    continue
                name = nodes.name_of(layer)
                here = (*places[index].location, "inbound_nodes", node)
                self.mentions += [
                    ((*here, *way, "config", "shape"), done[key[:2]][key[2]])
                    for key, way, shape in sources
                    if shape is not None
                ]
                done[name, node] = self.node(layer, places[index], node, done, arity.get((name, node), 1), mentioned)
            if len(left) == len(waiting):
                stuck = nodes.name_of(config["layers"][left[0][0]])
                raise UnreadableFile(f"layer {stuck!r} is fed by a layer that is not there")
            waiting = left
        outputs = []
        for name, node, position in nodes.leaves(config["output_layers"]):
            outputs.append(done[name, node - nodes.first_node(config["layers"][index_of[name]])][position])
        return inputs, outputs

    def node(
        self,
        layer: Config,
        where: _Place,
        node: int,
        done: Mapping[tuple[str, int], list[int]],
        arity: int,
        mentioned: Mapping[tuple[str, int, int], Shape],
    ) -> list[int]:
        """One call as `inbound_nodes` tells it."""
        call = layer["inbound_nodes"][node]
        if not isinstance(call, Mapping):
            raise UnreadableFile("the config is of an old Keras: save the model again with Keras 3")
        args, kwargs = (nodes.resolve(call.get(part, ()), done) for part in ("args", "kwargs"))
        outputs = self.call(layer, where, tuple(args), kwargs, arity, node)
        for position, tensor in enumerate(outputs):
            recorded = mentioned.get((nodes.name_of(layer), node, position))
            if recorded is not None and self.shapes[tensor] is None:
                self.shapes[tensor] = recorded
        return outputs

    def call(
        self,
        layer: Config,
        where: _Place,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        arity: int,
        node: int | None = None,
    ) -> list[int]:
        if nodes.is_model(layer):
            return self.model(layer, where, nodes.model_inputs(layer, args, kwargs))[1]
        if layer["class_name"] == "TimeDistributed" and layer.get("module") == "keras.layers":
            return self.time_distributed(layer, where, args, kwargs)
        return self.op(layer, where, args, kwargs, arity, node=node)

    def op(
        self,
        layer: Config,
        where: _Place,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        arity: int = 1,
        part: str = "",
        node: int | None = None,
    ) -> list[int]:
        outputs = [self.tensor() for _ in range(arity)]
        self.ops.append(
            Op(
                name=where.name,
                class_name=layer["class_name"] + part,
                module=layer.get("module") or "",
                config=layer["config"],
                path=where.path,
                location=where.location,
                args=args,
                kwargs=kwargs,
                inputs=tuple(ref.tensor for ref in refs((args, kwargs))),
                outputs=tuple(outputs),
                node=() if node is None else (*where.location, "inbound_nodes", node),
            )
        )
        return outputs

    def time_distributed(
        self, layer: Config, where: _Place, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[int]:
        """What is wrapped stands between an op that takes the time axis away and one that puts it back."""
        inner = layer["config"]["layer"]
        below = _Place(where.name, f"{where.path}/layer", (*where.location, "config", "layer"))
        entered = self.op(layer, where, args, kwargs, part=".enter")
        left = self.call(inner, below, (Ref(entered[0]),), {}, 1)
        return self.op(layer, where, (Ref(left[0]),), {}, part=".leave")

    def input_layer(self, layer: Config, where: _Place, given: list[int] | None) -> list[int]:
        shape = tuple(layer["config"].get("batch_shape") or layer["config"]["batch_input_shape"])
        if given is None:
            return [self.entrance(shape, where.name)]
        (output,) = self.op(layer, where, (Ref(given[0]),), {})
        self.shapes[output] = shape
        return [output]

    def entrance(self, shape: Shape, name: str) -> int:
        self.unknown += [f"{name}[{axis}]" for axis, size in enumerate(shape) if axis and size is None]
        return self.tensor(shape)
