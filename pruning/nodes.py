"""What a config says of calls and ports: `inbound_nodes`, `input_layers` and `output_layers` as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from pruning.contract.errors import UnreadableFile

Shape: TypeAlias = tuple[int | None, ...]
Config: TypeAlias = Mapping[str, Any]
Mention: TypeAlias = tuple[tuple[str, int, int], tuple[str | int, ...], Any]
MODELS = ("Functional", "Sequential", "Model")


@dataclass(frozen=True)
class Ref:
    """A tensor where it is used: an index into `Graph.shapes`."""

    tensor: int


def is_model(config: Any) -> bool:
    """Whether a layer's entry is a model that can be taken apart."""
    return (
        isinstance(config, Mapping)
        and config.get("class_name") in MODELS
        and str(config.get("module", "")).split(".")[0] == "keras"
        and isinstance(config.get("config"), Mapping)
        and isinstance(config["config"].get("layers"), list)
    )


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


def name_of(entry: Config) -> str:
    """A layer's name; operations that cannot be given one, such as ExtractPatches, have it beside their config."""
    return str(entry["config"]["name"] if "name" in entry["config"] else entry["name"])


def is_operation(layer: Config) -> bool:
    return str(layer.get("module") or "").startswith("keras.src.ops")


def is_shape(value: Any) -> TypeGuard[list[int | None]]:
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def _history(value: Any) -> tuple[str, int, int] | None:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        name, node, position = value["config"]["keras_history"]
        return name, node, position
    return None


def histories(value: Any) -> list[Mention]:
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
        for found, way, shape in histories(item)
    ]


def resolve(value: Any, done: Mapping[tuple[str, int], list[int]]) -> Any:
    if (history := _history(value)) is not None:
        name, node, position = history
        return Ref(done[name, node][position])
    if isinstance(value, dict):
        return {key: resolve(item, done) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, done) for item in value]
    return value


def arity(
    entry: Config, calls: list[list[list[Mention]]]
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int, int], Shape]]:
    """How many outputs each call has as far as someone uses them, and what shapes the users saw."""
    arity: dict[tuple[str, int], int] = {}
    mentioned: dict[tuple[str, int, int], Shape] = {}
    for history, _, shape in (mention for layer in calls for call in layer for mention in call):
        arity[history[:2]] = max(arity.get(history[:2], 1), history[2] + 1)
        if is_shape(shape):
            mentioned[history] = tuple(shape)
    layers = {name_of(layer): layer for layer in entry["config"]["layers"]}
    for name, node, position in leaves(entry["config"]["output_layers"]):
        call = name, node - first_node(layers[name])
        arity[call] = max(arity.get(call, 1), position + 1)
    return arity, mentioned


def first_node(layer: Config) -> int:
    """A nested Functional's own node stands before its calls in `output_layers`, though not in `inbound_nodes`."""
    return 1 if layer["class_name"] != "Sequential" and is_model(layer) else 0


def leaves(value: Any) -> list[tuple[str, int, int]]:
    """[layer, node, tensor] triples of `input_layers` or `output_layers`, flattened as Keras does."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in leaves(value[key])]
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str):
            return [(value[0], value[1], value[2])]
        return [leaf for item in value for leaf in leaves(item)]
    raise UnreadableFile(f"inputs and outputs of a model must be [layer, node, tensor], not {value!r}")


def model_inputs(layer: Config, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
    """The tensors that a nested model is called with, in the order of its inputs."""
    given = args[0] if args else kwargs["inputs"]
    declared = layer["config"].get("input_layers")
    if isinstance(given, Mapping) and declared is not None and not isinstance(declared, Mapping):
        given = [given[name] for name, _, _ in leaves(declared)]
    return [ref.tensor for ref in refs(given)]
