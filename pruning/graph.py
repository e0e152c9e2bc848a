"""A model's config JSON as a flat graph: one `Op` per call of a layer, nested models taken apart.

The config holds everything the engine needs to know: layers, shapes, constants, who feeds whom. No layer is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from pruning.contract.errors import UnreadableFile

Shape = tuple[int | None, ...]
Config = Mapping[str, Any]
_Mention = tuple[tuple[str, int, int], tuple[str | int, ...], Any]
# The one layer that Keras exports under another name than its class has, which is the one in the weights file.
_CLASS_OF = {"GroupQueryAttention": "GroupedQueryAttention"}
MODELS = ("Functional", "Sequential", "Model")


@dataclass(frozen=True)
class Ref:
    """A tensor where it is used: an index into `Graph.shapes`."""

    tensor: int


@dataclass(frozen=True)
class Op:
    """One call of one layer. `path`: where its arrays lie; `location`: where its entry lies in the config JSON;
    `node`: where this call lies there, empty in a Sequential.

    `args` and `kwargs` are those of the call with a `Ref` for each tensor; `inputs` lists these tensors in order.
    Calls of a shared layer differ in `call` and tensors alone.
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
    call: int = 0
    node: tuple[str | int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Layer:
    """One layer of the model, however often it is called; `location` as in `Op`."""

    name: str
    class_name: str
    path: str
    location: tuple[str | int, ...]


@dataclass(frozen=True)
class Graph:
    """Ops in an order in which they can run. `shapes`: what the config records for each tensor, None where nothing.

    `nodes`: for each place in the config that mentions a tensor, (location of its shape, tensor).
    """

    ops: tuple[Op, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[Shape | None, ...]
    mentions: tuple[tuple[tuple[str | int, ...], int], ...] = field(repr=False)
    unknown_dimensions: tuple[str, ...] = ()


def build(config: Config) -> Graph:
    """The graph of a parsed `config.json`.

    Raises `UnreadableFile` where the config is no Sequential or Functional model or points to what is not there.
    """
    if not is_model(config):
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
    )


def is_model(config: Any) -> bool:
    """Whether a layer's entry is a model that can be taken apart."""
    return (
        isinstance(config, Mapping)
        and config.get("class_name") in MODELS
        and str(config.get("module", "")).split(".")[0] == "keras"
        and isinstance(config.get("config"), Mapping)
        and isinstance(config["config"].get("layers"), list)
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
        self.calls: dict[str, int] = {}

    def tensor(self, shape: Shape | None = None) -> int:
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def model(self, entry: Config, place: _Place, given: list[int] | None) -> tuple[list[int], list[int]]:
        """Run through a model's layers; `given`: the tensors of its call, None for the whole model."""
        places = self.places(entry, place)
        if entry["class_name"] == "Sequential":
            return self.sequential(entry, place, places, given)
        return self.functional(entry, places, given)

    def places(self, entry: Config, place: _Place) -> list[_Place]:
        """Where each layer lies. Keras counts classes in `model.layers`, without operations and Sequential's input."""
        used: dict[str, int] = {}
        places = []
        for index, layer in enumerate(entry["config"]["layers"]):
            name = layer["config"]["name"]
            path = ""
            if not _is_operation(layer) and not (
                entry["class_name"] == "Sequential" and layer["class_name"] == "InputLayer"
            ):
                path = snake_case(_CLASS_OF.get(layer["class_name"], layer["class_name"]))
                used[path] = used.get(path, -1) + 1
                path = f"{path}_{used[path]}" if used[path] else path
            found = place.layer(name, path, index)
            found = _Place(found.name, found.path if path else "", found.location)
            places.append(found)
            if not is_model(layer):
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
                current = first = [self.entrance(tuple(shape), entry["config"]["name"])]
            recorded = (layer.get("build_config") or {}).get("input_shape")
            if len(current) == 1 and self.shapes[current[0]] is None and _is_shape(recorded):
                self.shapes[current[0]] = tuple(recorded)
            args = (Ref(current[0]),) if len(current) == 1 else ([Ref(tensor) for tensor in current],)
            current = self.call(layer, where, args, {}, 1)
        if current is None or first is None:
            raise UnreadableFile(f"model {entry['config'].get('name')!r} has no layers")
        if shape is not None and place.location and given and self.shapes[given[0]] is None and _is_shape(shape):
            self.shapes[given[0]] = tuple(shape)
        return first, current

    def functional(self, entry: Config, places: list[_Place], given: list[int] | None) -> tuple[list[int], list[int]]:
        config = entry["config"]
        index_of = {layer["config"]["name"]: i for i, layer in enumerate(config["layers"])}
        calls = [[_histories(call) for call in layer.get("inbound_nodes", ())] for layer in config["layers"]]
        arity, mentioned = _arity(entry, calls)
        done: dict[tuple[str, int], list[int]] = {}
        wanted = _leaves(config["input_layers"])
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
                name = layer["config"]["name"]
                here = (*places[index].location, "inbound_nodes", node)
                self.mentions += [((*here, *way, "config", "shape"), done[key[:2]][key[2]]) for key, way, _ in sources]
                done[name, node] = self.node(layer, places[index], node, done, arity.get((name, node), 1), mentioned)
            if len(left) == len(waiting):
                stuck = config["layers"][left[0][0]]["config"]["name"]
                raise UnreadableFile(f"layer {stuck!r} is fed by a layer that is not there")
            waiting = left
        outputs = []
        for name, node, position in _leaves(config["output_layers"]):
            outputs.append(done[name, node - _first_node(config["layers"][index_of[name]])][position])
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
        args, kwargs = (_resolve(call.get(part, ()), done) for part in ("args", "kwargs"))
        outputs = self.call(layer, where, tuple(args), kwargs, arity, node)
        for position, tensor in enumerate(outputs):
            recorded = mentioned.get((layer["config"]["name"], node, position))
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
        if is_model(layer):
            return self.model(layer, where, _model_inputs(layer, args, kwargs))[1]
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
        self.calls[where.name] = self.calls.get(where.name, -1) + 1
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
                call=self.calls[where.name],
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


def refs(value: Any) -> Iterator[Ref]:
    """The tensors in a call's arguments, in order; dictionaries by sorted key, as Keras flattens them."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from refs(value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from refs(item)


def _is_operation(layer: Config) -> bool:
    return str(layer.get("module") or "").startswith("keras.src.ops")


def _is_shape(value: Any) -> TypeGuard[list[int | None]]:
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def _history(value: Any) -> tuple[str, int, int] | None:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        name, node, position = value["config"]["keras_history"]
        return name, node, position
    return None


def _histories(value: Any) -> list[_Mention]:
    """Every tensor mentioned in a node: its history, the way to it, its shape."""
    if (history := _history(value)) is not None:
        return [(history, (), value["config"].get("shape"))]
    if isinstance(value, dict):
        pairs: Any = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return []
    return [
        (found, (key, *way), shape)
        for key, item in pairs
        if isinstance(item, (dict, list, tuple))
        for found, way, shape in _histories(item)
    ]


def _resolve(value: Any, done: Mapping[tuple[str, int], list[int]]) -> Any:
    if (history := _history(value)) is not None:
        name, node, position = history
        return Ref(done[name, node][position])
    if isinstance(value, dict):
        return {key: _resolve(item, done) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(item, done) for item in value]
    return value


def _arity(
    entry: Config, calls: list[list[list[_Mention]]]
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int, int], Shape]]:
    """How many outputs each call has as far as someone uses them, and what shapes the users saw."""
    arity: dict[tuple[str, int], int] = {}
    mentioned: dict[tuple[str, int, int], Shape] = {}
    for history, _, shape in (mention for layer in calls for call in layer for mention in call):
        arity[history[:2]] = max(arity.get(history[:2], 1), history[2] + 1)
        if _is_shape(shape):
            mentioned[history] = tuple(shape)
    layers = {layer["config"]["name"]: layer for layer in entry["config"]["layers"]}
    for name, node, position in _leaves(entry["config"]["output_layers"]):
        call = name, node - _first_node(layers[name])
        arity[call] = max(arity.get(call, 1), position + 1)
    return arity, mentioned


def _first_node(layer: Config) -> int:
    """A nested Functional's own node stands before its calls in `output_layers`, though not in `inbound_nodes`."""
    return 1 if layer["class_name"] != "Sequential" and is_model(layer) else 0


def _leaves(value: Any) -> list[tuple[str, int, int]]:
    """[layer, node, tensor] triples of `input_layers` or `output_layers`, flattened as Keras does."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in _leaves(value[key])]
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str):
            return [(value[0], value[1], value[2])]
        return [leaf for item in value for leaf in _leaves(item)]
    raise UnreadableFile(f"inputs and outputs of a model must be [layer, node, tensor], not {value!r}")


def _model_inputs(layer: Config, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
    """The tensors that a nested model is called with, in the order of its inputs."""
    given = args[0] if args else kwargs["inputs"]
    declared = layer["config"].get("input_layers")
    if isinstance(given, Mapping) and declared is not None and not isinstance(declared, Mapping):
        given = [given[name] for name, _, _ in _leaves(declared)]
    return [ref.tensor for ref in refs(given)]
