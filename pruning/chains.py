"""What follows a layer and treats each channel alone: where a constant is added, and which sum the channels enter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.graph import Graph, Op
from pruning.products import Product

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
_BOUNDS = {"relu": (0.0, inf), "relu6": (0.0, 6.0)}
_PASSING = {
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
}


@dataclass(frozen=True)
class Chain:
    """The ops behind a call that alone read what it makes, up to the first that is more than a factor a channel.

    `norms`: its BatchNormalizations, in order; `last`: the tensor that leaves the chain; `sum`: the index of the
    addition that reads it, None where something else does. `bounds`: between which values the activation behind chain
    and sum lets pass what it reads, as ReLU does; None where it is of another kind.
    """

    norms: tuple[Op, ...]
    last: int
    sum: int | None
    bounds: tuple[float, float] | None


class Chains:
    """The chains of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._readers: dict[int, list[int]] = {}
        for index, op in enumerate(graph.ops):
            for tensor in op.inputs:
                self._readers.setdefault(tensor, []).append(index)
        self._calls: dict[tuple[str | int, ...], int] = {}
        for op in graph.ops:
            self._calls[op.location] = self._calls.get(op.location, 0) + 1

    def behind(self, op: Op, channels: int, rank: int) -> Chain:
        """The chain behind a call whose outputs, of this rank, have their channels on this axis."""
        norms: list[Op] = []
        tensor = op.outputs[0]
        if (activation := op.config.get("activation")) not in (None, "linear"):
            return Chain((), tensor, None, _BOUNDS.get(str(activation)))
        while (reader := self._reader(tensor)) is not None:
            following = self._graph.ops[reader]
            if following.class_name == "Add":
                return Chain(tuple(norms), tensor, reader, self._bounds(following.outputs[0]))
            if is_norm(following) and following.config["axis"] % rank == channels % rank:
                norms.append(following)
            elif following.class_name not in _PASSING or len(following.outputs) != 1:
                break
            tensor = following.outputs[0]
        return Chain(tuple(norms), tensor, None, self._bounds(tensor))

    def _bounds(self, tensor: int) -> tuple[float, float] | None:
        reader = self._reader(tensor)
        if reader is None:
            return None
        op = self._graph.ops[reader]
        if op.class_name == "Activation":
            return _BOUNDS.get(str(op.config["activation"]))
        if op.class_name == "ReLU" and not op.config.get("negative_slope") and not op.config.get("threshold"):
            most = op.config.get("max_value")
            return 0.0, inf if most is None else float(most)
        return None

    def constants(self, op: Op, product: Product, rank: int) -> tuple[str, int] | None:
        """Where a constant for each output of a product is added, as (array, sign); None where there is no place.

        Its bias, or without one the moving mean of a BatchNormalization that alone reads the outputs.
        """
        if product.bias is not None:
            return product.bias, 1
        if product.channels is None or not self.alone(op):
            return None
        norms = self.behind(op, product.channels, rank).norms
        return (statistics(norms[0])[0], -1) if norms and self.alone(norms[0]) else None

    def alone(self, op: Op) -> bool:
        """Whether the layer is called just once."""
        return self._calls[op.location] == 1

    def _reader(self, tensor: int) -> int | None:
        """The one op that reads a tensor, None for several or an output of the model."""
        readers = self._readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self._graph.outputs else None


def is_norm(op: Op) -> bool:
    """Whether the op normalises each channel by stored statistics."""
    return op.class_name == "BatchNormalization" and op.module == "keras.layers" and not op.config.get("renorm")


def statistics(op: Op) -> tuple[str, str]:
    """The paths of a BatchNormalization's moving mean and variance."""
    first = int(op.config["scale"]) + int(op.config["center"])
    return f"{op.path}/vars/{first}", f"{op.path}/vars/{first + 1}"


def offset(op: Op, arrays: Arrays) -> NDArray[np.float64]:
    """What a BatchNormalization adds to each channel then: beta - mean * factor."""
    beta = arrays[f"{op.path}/vars/{int(op.config['scale'])}"].astype(np.float64) if op.config["center"] else 0.0
    return np.asarray(beta - arrays[statistics(op)[0]].astype(np.float64) * factor(op, arrays))


def factor(op: Op, arrays: Arrays) -> NDArray[np.float64]:
    """What a BatchNormalization multiplies each channel by, in inference: gamma / sqrt(variance + epsilon)."""
    variance = arrays[statistics(op)[1]].astype(np.float64)
    gamma = arrays[f"{op.path}/vars/0"].astype(np.float64) if op.config["scale"] else np.float64(1)
    return np.asarray(gamma / np.sqrt(variance + op.config["epsilon"]))
