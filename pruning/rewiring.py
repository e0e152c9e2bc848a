"""(config, arrays, blocks) -> (config, arrays) without the blocks: calls are rewired, layers dropped, arrays renamed.

Keras names arrays by counting classes in the order that it gives the layers of a model when it loads it, which depends
on who reads whom. So what stays is put in that order and its arrays are renamed by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from pruning import graph as graphs
from pruning import nodes, surgery
from pruning.archive import Archive, without_optimizer
from pruning.blocks import Block, Blocks
from pruning.contract.errors import ContradictorySpec, VerificationFailed
from pruning.contract.plan import KeepMap, KeptArray
from pruning.graph import Graph
from pruning.nodes import Config
from pruning.steps import Level, Location, Step, through
from pruning.surgery import without_build_config
from pruning.units import Units

Call = tuple[str, int]
Entry = dict[str, Any]


def apply(archive: Archive, blocks: Blocks, chosen: Iterable[Block]) -> Archive:
    """The model without these blocks. No build config, no optimizer state is left.

    Raises `ContradictorySpec` where an input of the model would have no reader. What comes out is not read again: see
    `check`.
    """
    gone = tuple(chosen)
    if not blocks.feasible(gone):
        raise ContradictorySpec("without these blocks an input of the model would have no reader: keep one of them")
    kept = without_optimizer(archive)
    config = _Rewiring(archive.config, blocks, gone).model(archive.config)
    moves = renamed(archive.config, config)
    return replace(
        kept,
        config=config,
        arrays=moved(kept.arrays, moves),
        names=moved(kept.names, moves),
        assets={f"assets/{path}": content for path, content in moved(_below(kept.assets), moves).items()},
        bfloat16=frozenset(moved(dict.fromkeys(kept.bfloat16), moves)),
    )


def check(result: Archive, units: Units, blocks: Blocks, chosen: Iterable[Block]) -> tuple[Graph, Units]:
    """Read a rewired model like an upload: names and arrays must fit its layers, and it must cost what is left.

    The graph and the units that were read. Raises `VerificationFailed` where what is left does not fit together.
    """
    graph, found = surgery.reread(result, units)
    now = sum(cost.multiplier * prod(len(ids) for ids in cost.axes) for cost in found.costs)
    predicted = sum(blocks.macs(units, chosen).values())
    if predicted != now:
        raise VerificationFailed(f"the model without its blocks should cost {predicted} MACs, it costs {now}")
    return graph, found


def keep_map(before: Archive, after: Archive) -> KeepMap:
    """Where each array of the model without its blocks lay in the original; nothing of it is cut."""
    places = moved({path: path for path in before.arrays}, renamed(before.config, after.config))
    return KeepMap(
        arrays=[
            KeptArray(path=place, source=path, shape=list(before.arrays[path].shape), axes={})
            for place, path in places.items()
        ]
    )


def at_first_paths(before: Archive, after: Archive) -> dict[str, Any]:
    """The arrays that are left, by the paths that they had at first."""
    places = moved({path: path for path in before.arrays}, renamed(before.config, after.config))
    return {path: after.arrays[place] for place, path in places.items()}


def renamed(before: Config, after: Config) -> dict[str, str | None]:
    """{place in the weights file: the one after, None for what went} of every layer and every model inside."""
    moves: dict[str, str | None] = {}

    def walk(old: Config, new: Config, was: str, now: str) -> None:
        places = {
            nodes.name_of(entry): (entry, path)
            for entry, path in zip(new["config"]["layers"], graphs.paths(new), strict=True)
        }
        for entry, path in zip(old["config"]["layers"], graphs.paths(old), strict=True):
            if not path:
                continue
            here = f"{was}layers/{path}"
            if nodes.name_of(entry) not in places:
                moves[here] = None
                continue
            other, there = places[nodes.name_of(entry)]
            moves[here] = f"{now}layers/{there}"
            if nodes.is_model(entry):
                walk(entry, other, f"{here}/", f"{moves[here]}/")

    walk(before, after, "", "")
    return moves


def ordered(entry: Config) -> list[int]:
    """The order in which Keras lists a Functional model's layers when it loads it: indices into its `layers`.

    Layers go by their depth, the longest way to an output, deepest first; of one depth by when a search from the
    outputs meets them; inputs that nothing reads come last, before the others of depth 0 (`map_graph` in Keras).
    """
    layers = entry["config"]["layers"]
    index_of = {nodes.name_of(layer): index for index, layer in enumerate(layers)}
    offset = [nodes.first_node(layer) for layer in layers]

    def parents(call: tuple[int, int]) -> list[tuple[int, int]]:
        inbound = layers[call[0]].get("inbound_nodes", ())
        found = _histories(inbound[call[1]]) if call[1] < len(inbound) else []
        return [(index_of[name], node) for name, node, _ in found]

    ends = [(index_of[name], node - offset[index_of[name]]) for name, node, _ in _outputs(entry)]
    order, met = _searched(ends, parents)
    deep: dict[tuple[int, int], int] = {}
    depth: dict[int, int] = {}
    for call in reversed(order):
        depth[call[0]] = deep[call] = max(deep.get(call, 0), depth.get(call[0], 0))
        for parent in parents(call):
            deep[parent] = max(deep[call] + 1, deep.get(parent, 0))
    for name, _, _ in nodes.leaves(entry["config"]["input_layers"]):
        if index_of[name] not in depth:
            depth[index_of[name]], met[index_of[name]] = 0, -1
    return sorted(depth, key=lambda index: (-depth[index], met[index]))


def _outputs(entry: Config) -> list[tuple[str, int, int]]:
    return nodes.leaves(entry["config"]["output_layers"])


def _searched(
    ends: Sequence[tuple[int, int]], parents: Callable[[tuple[int, int]], list[tuple[int, int]]]
) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """Calls in the order in which a depth-first search from the ends leaves them, and when it first met each layer."""
    order: list[tuple[int, int]] = []
    met: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    for end in ends:
        if end in seen:
            continue
        seen.add(end)
        met.setdefault(end[0], len(met))
        way = [(end, iter(parents(end)))]
        while way:
            call, rest = way[-1]
            parent = next((one for one in rest if one not in seen), None)
            if parent is None:
                order.append(call)
                way.pop()
                continue
            seen.add(parent)
            met.setdefault(parent[0], len(met))
            way.append((parent, iter(parents(parent))))
    return order, met


def _histories(call: Any) -> list[tuple[str, int, int]]:
    """The tensors of a call as Keras flattens them: dictionaries by sorted key."""
    if isinstance(call, Mapping):
        if call.get("class_name") == "__keras_tensor__":
            name, node, position = call["config"]["keras_history"]
            return [(name, node, position)]
        if set(call) == {"args", "kwargs"}:
            return [*_histories(call["args"]), *_histories(call["kwargs"])]
        return [found for key in sorted(call, key=str) for found in _histories(call[key])]
    return [found for item in call for found in _histories(item)] if isinstance(call, list | tuple) else []


class _Rewiring:
    """The config without some blocks. Entries that do not change are shared with the old one."""

    def __init__(self, root: Config, blocks: Blocks, gone: Sequence[Block]) -> None:
        self.root = root
        self.mentions = blocks.graph.mentions
        self.levels = {level.model.location: level for level in blocks.levels}
        self.alive = blocks.left(gone).ops
        self.stand_ins: dict[Location, dict[int, int]] = {}
        for block in gone:
            self.stand_ins.setdefault(block.location, {})[block.leaves] = block.enters

    def model(self, entry: Config, location: Location = ()) -> Entry:
        """A model's entry without what went in it, and without shapes that it was built with."""
        kept = [
            self.model(layer, (*location, "config", "layers", index))
            if nodes.is_model(layer)
            else without_build_config(layer)
            for index, layer in enumerate(entry["config"]["layers"])
        ]
        config = {**entry["config"], "layers": kept}
        level = self.levels.get(location)
        gone = [step for step in level.steps if self.alive.isdisjoint(step.ops)] if level is not None else []
        # A model that goes as a whole is dropped by the one around it.
        if level is not None and 0 < len(gone) < len(level.steps):
            dead = {(step.entry, step.node) for step in gone if not _is_input(step)}
            config = (
                config | {"layers": [one for index, one in enumerate(kept) if (index, 0) not in dead]}
                if entry["class_name"] == "Sequential"
                else self.functional(config, level, dead)
            )
        return {key: value for key, value in entry.items() if key != "build_config"} | {"config": config}

    def functional(self, config: Entry, level: Level, dead: set[tuple[int, int]]) -> Entry:
        """A Functional model's config with its calls rewired, without the dead ones, in Keras' order."""
        mentioned = self.mentioned(level.model.location)
        stand_ins = self.stand_ins.get(level.model.location, {})
        of_tensor = {tensor: value for value, tensor in mentioned}
        replaced = {
            tuple(value["config"]["keras_history"]): of_tensor[through(tensor, stand_ins)]
            for value, tensor in mentioned
            if tensor in stand_ins
        }
        whole = {step.entry for step in level.steps if step.several}
        numbers: dict[Call, int] = {}
        layers: list[Entry] = []
        for index, layer in enumerate(config["layers"]):
            calls = list(layer.get("inbound_nodes", ()))
            entry_dead = {node for entry, node in dead if entry == index}
            stays = [n for n in range(len(calls)) if n not in entry_dead and not (index in whole and entry_dead)]
            if not stays and entry_dead:
                continue
            numbers |= {(nodes.name_of(layer), old): new for new, old in enumerate(stays)}
            layers.append({**layer, "inbound_nodes": [_edited(calls[n], replaced) for n in stays]})
        layers = [{**layer, "inbound_nodes": _renumbered(layer["inbound_nodes"], numbers)} for layer in layers]
        first = {nodes.name_of(layer): nodes.first_node(layer) for layer in config["layers"]}
        outputs = dict(zip(nodes.leaves(config["output_layers"]), level.model.outputs, strict=True))

        def output(leaf: tuple[str, int, int]) -> list[Any]:
            name, node, position = leaf[0], leaf[1] - first[leaf[0]], leaf[2]
            if outputs[leaf] in stand_ins:
                name, node, position = of_tensor[through(outputs[leaf], stand_ins)]["config"]["keras_history"]
            return [name, numbers.get((name, node), node) + first[name], position]

        left = {**config, "layers": layers, "output_layers": _mapped(config["output_layers"], output)}
        return {**left, "layers": [layers[index] for index in ordered({"class_name": "Functional", "config": left})]}

    def mentioned(self, location: Location) -> list[tuple[Any, int]]:
        """What calls in this model say of a tensor, and the tensor."""
        depth = len(location)
        found = []
        for place, tensor in self.mentions:
            if place[:depth] == location and place[depth + 3 : depth + 4] == ("inbound_nodes",):
                value: Any = self.root
                for key in place[:-2]:
                    value = value[key]
                found.append((value, tensor))
        return found


def _is_input(step: Step) -> bool:
    return step.op is not None and step.op.class_name == "InputLayer"


def _edited(call: Any, replaced: Mapping[tuple[Any, ...], Any]) -> Any:
    """A call with other tensors in the place of some."""
    if isinstance(call, Mapping):
        if call.get("class_name") == "__keras_tensor__":
            return replaced.get(tuple(call["config"]["keras_history"]), call)
        return {key: _edited(value, replaced) for key, value in call.items()}
    return [_edited(item, replaced) for item in call] if isinstance(call, list | tuple) else call


def _renumbered(call: Any, numbers: Mapping[Call, int]) -> Any:
    """A call with the new numbers of the calls that it reads."""
    if isinstance(call, Mapping):
        if call.get("class_name") == "__keras_tensor__":
            name, node, position = call["config"]["keras_history"]
            return {
                **call,
                "config": {**call["config"], "keras_history": [name, numbers.get((name, node), node), position]},
            }
        return {key: _renumbered(value, numbers) for key, value in call.items()}
    return [_renumbered(item, numbers) for item in call] if isinstance(call, list | tuple) else call


def _mapped(value: Any, change: Callable[[tuple[str, int, int]], list[Any]]) -> Any:
    """`output_layers` with each [layer, node, tensor] changed."""
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if len(value) == 3 and isinstance(value[0], str):
        return change((value[0], value[1], value[2]))
    return [_mapped(item, change) for item in value]


def moved(items: Mapping[str, Any], moves: Mapping[str, str | None]) -> dict[str, Any]:
    """What lies in the weights file, each at its new place, without what went."""
    found = {}
    for path, item in items.items():
        parts = path.split("/")
        heads = ("/".join(parts[:n]) for n in range(len(parts), 0, -1))
        head = next((one for one in heads if one in moves), None)
        if head is None:
            found[path] = item
        elif (to := moves[head]) is not None:
            found[to + path[len(head) :]] = item
    return found


def _below(assets: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path.removeprefix("assets/"): content for path, content in assets.items()}
