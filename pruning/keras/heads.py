"""The model's outputs: which activation ends them, and the config without it. Pure functions on graph and JSON."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruning.graph import Graph, Op

_PASSING = {"Flatten", "Reshape", "Identity", "Dropout"}
# Softmax is a layer, too; the others are operations.
_LAYERS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid", "Tanh": "tanh"}
_SATURATING = {"softmax", "sigmoid", "log_softmax", "tanh"}


def activations(graph: Graph) -> tuple[str | None, ...]:
    """The activation that each output ends with (`softmax`, `sigmoid`, ...), None for none or an unknown one."""
    return tuple(_activation(_last(graph, tensor)) for tensor in graph.outputs)


def observed(found: Sequence[str | None], outputs: Sequence[NDArray[Any]]) -> tuple[str | None, ...]:
    """The activations, corrected by what the outputs are on some samples, whatever layers made them.

    `softmax` where they lie in [0, 1] and sum to 1 over several classes, `probabilities` where they only lie in [0, 1].
    """
    return tuple(_observed(name, values) for name, values in zip(found, outputs, strict=True))


def _observed(found: str | None, values: NDArray[Any]) -> str | None:
    if found in ("softmax", "sigmoid") or not ((values >= -1e-3) & (values <= 1 + 1e-3)).all():
        return found
    several = values.ndim > 1 and values.shape[-1] > 1
    return "softmax" if several and np.allclose(values.sum(axis=-1), 1, atol=1e-2) else "probabilities"


def linear(config: dict[str, Any], graph: Graph, like: Graph | None = None) -> dict[str, Any]:
    """The config with the saturating activations of the outputs taken off: small differences are not squeezed away.

    A layer that is called more than once keeps its activation. `graph`: of this config; `like`: of the original, where
    calls may be more.
    """
    changed = copy.deepcopy(config)
    for tensor in graph.outputs:
        op = _last(graph, tensor)
        if op is None or _activation(op) not in _SATURATING or _calls(op, graph) > 1 or _calls(op, like or graph) > 1:
            continue
        entry: Any = changed
        for key in op.location:
            entry = entry[key]
        if op.class_name in _LAYERS:
            entry.update(_identity(entry))
        else:
            entry["config"]["activation"] = "linear"
    return changed


def _identity(entry: dict[str, Any]) -> dict[str, Any]:
    """What turns a layer's or an operation's entry into a layer that passes its first input; a mask is left out."""
    kept = {key: entry["config"][key] for key in ("name", "dtype", "trainable") if key in entry["config"]}
    nodes = [
        {"args": node["args"][:1], "kwargs": {key: given for key, given in node["kwargs"].items() if key == "inputs"}}
        for node in entry.get("inbound_nodes", ())
    ]
    return {
        "module": "keras.layers",
        "class_name": "Activation",
        "registered_name": None,
        "config": {**kept, "activation": "linear"},
        **({"inbound_nodes": nodes} if nodes else {}),
    }


def _calls(op: Op, graph: Graph) -> int:
    return sum(other.name == op.name for other in graph.ops)


def _last(graph: Graph, tensor: int) -> Op | None:
    """The op that makes a tensor, seen through what only passes values on."""
    made_by = {output: op for op in graph.ops for output in op.outputs}
    op = made_by.get(tensor)
    while op is not None and _passes(op):
        op = made_by.get(op.inputs[0])
    return op


def _passes(op: Op) -> bool:
    return op.class_name in _PASSING or (op.class_name == "Activation" and op.config.get("activation") == "linear")


def _activation(op: Op | None) -> str | None:
    if op is None:
        return None
    found = _LAYERS.get(op.class_name, op.config.get("activation"))
    return found if isinstance(found, str) and found != "linear" else None
