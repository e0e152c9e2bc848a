"""Sequential least squares: layer by layer the pruned network learns to give what the original gives; no labels needed.

From the pruned network's inputs of a layer, with all repairs before it, to the original's outputs of that layer on the
same samples, before its activation, with a ridge around the old weights (He et al. 2017, arXiv:1707.06168, equation 6,
for the kept weights and in the order of the graph). Where the layer's outputs enter a sum, what its other terms lack
by now is asked of this layer too (there, section 3.3).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning import graph as graphs
from pruning import products, ridge, surgery
from pruning.archive import replace_arrays
from pruning.chains import Chain, Chains, factor
from pruning.contract.spec import LeastSquaresStage
from pruning.keras import live, private
from pruning.keras.recover.context import Arrays, History, Whole
from pruning.keras.walk import Walk, sample, steps
from pruning.products import Product

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
_PLACES = 2**15
_BATCH_BYTES = 64 * 2**20
# A channel that the chain all but switches off has no say in the sum: to reach it, weights would have to be huge.
_LEAST_FACTOR = 1e-3


def run(stage: LeastSquaresStage, whole: Whole) -> tuple[Arrays, History]:
    """The full-width arrays with the kept weights of each layer solved anew, on up to `samples` training inputs.

    The pruned network is followed as it will be, sliced. A layer that `products` does not know is left alone, as is one
    that surgery scales or whose solution is not finite. The calls of a shared layer are solved together. Deterministic
    by the seed.
    """
    case = whole.case
    assert whole.train is not None
    inputs = sample(case.graph, case.archive.config, whole.original, whole.train, stage.samples, 2, whole.seed)
    pair = _pair(whole, inputs)
    solved, left_alone = set[str](), set[str]()
    plan = steps(case.graph)
    for number, step in enumerate(plan):
        for index in step:
            pair.first.run(index)
        for calls in _calls(pair, step):
            done = _solve(pair, calls, stage.ridge)
            (solved if done else left_alone).add(calls[0].first.kernel)
        for index in step:
            pair.second.run(index)
        for index in step:
            pair.first.forget(index)
            pair.second.forget(index)
        whole.report(number + 1, len(plan), "ops", {"layers": len(solved)})
    left_alone |= {axis.weight for axis in case.units.axes if axis.role in ("consumer", "factor")} - solved
    counts = {"layers": len(solved), "left_alone": len(left_alone), "samples": len(inputs[0])}
    return pair.edited(), [{name: float(count) for name, count in counts.items()}]


@dataclass(frozen=True)
class _Pair:
    """Original and pruned network side by side, op by op; `arrays`: the sliced arrays as solved so far."""

    whole: Whole
    first: Walk
    second: Walk
    arrays: Arrays
    variables: dict[str, Any]
    chains: Chains
    gone: NDArray[np.bool_]
    solved: set[str] = field(default_factory=set)

    def assign(self, path: str, array: Array) -> None:
        self.solved.add(path)
        self.arrays[path] = array.reshape(self.arrays[path].shape).astype(self.arrays[path].dtype)
        self.variables[path].assign(self.arrays[path])

    def edited(self) -> Arrays:
        """The arrays at full width: what was solved stands in the places that stay, the rest is as it was."""
        found = dict(self.whole.arrays)
        axes = self.whole.case.units.axes
        for path in self.solved:
            found[path] = found[path].copy()
            places = [np.arange(size) for size in found[path].shape]
            for axis in axes:
                if axis.weight == path:
                    places[axis.axis] = np.flatnonzero(~self.gone[axis.ids])
            found[path][np.ix_(*places)] = self.arrays[path]
        return found


def _pair(whole: Whole, inputs: list[Array]) -> _Pair:
    case = whole.case
    cut = surgery.apply(replace_arrays(case.archive, whole.arrays), case.graph, case.units, whole.removed)
    model = live.build(cut.config, cut.arrays)
    return _Pair(
        whole=whole,
        first=Walk(case.graph, case.archive.config, whole.original, inputs),
        second=Walk(graphs.build(cut.config), cut.config, model, inputs),
        arrays=dict(cut.arrays),
        variables=private.variables(model),
        chains=Chains(case.graph),
        gone=case.units.gone(whole.removed),
    )


@dataclass(frozen=True)
class _Call:
    """One call of a product: as the original has it, `first`, and as the pruned network has it, `second`."""

    pair: _Pair
    index: int
    first: Product
    second: Product
    chain: Chain | None

    @cached_property
    def x(self) -> Array:
        return np.asarray(self.pair.first.values[self.first.tensor])

    @cached_property
    def x_now(self) -> Array:
        return np.asarray(self.pair.second.values[self.second.tensor])

    @cached_property
    def y(self) -> Array:
        return np.asarray(self.pair.first.values[self.pair.first.graph.ops[self.index].outputs[0]])


def _calls(pair: _Pair, step: Sequence[int]) -> Iterator[list[_Call]]:
    """The products of a step's layer, each with its calls."""
    first, second = pair.first, pair.second
    made = []
    for index in step:
        op, cut = first.graph.ops[index], second.graph.ops[index]
        rank = len(first.values[op.inputs[0]].shape) if op.inputs else 0
        out = len(first.values[op.outputs[0]].shape)
        made.append(
            [
                _Call(pair, index, one, other, pair.chains.behind(op, one.channels, out) if one.channels else None)
                for one, other in zip(products.of(op, rank), products.of(cut, rank), strict=True)
            ]
        )
    scaled = {rescale.weight for rescale in pair.whole.case.units.rescales if pair.gone[rescale.ids].any()}
    yield from (list(calls) for calls in zip(*made, strict=True) if calls[0].first.kernel not in scaled)


def _solve(pair: _Pair, calls: list[_Call], amount: float) -> bool:
    """Solve one product over all its calls; False where there is no finite solution, and then nothing changes."""
    product, op = calls[0].second, pair.first.graph.ops[calls[0].index]
    place = pair.chains.constants(op, calls[0].first, calls[0].y.ndim)
    places = [_places(call, _PLACES // len(calls)) for call in calls]
    batches = (batch for call, at in zip(calls, places, strict=True) for batch in _batches(call, at))
    weights, bias = ridge.correction(batches, sum(map(len, places)), amount, place is not None)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        return False
    kernel = pair.arrays[product.kernel]
    pair.assign(product.kernel, product.array(product.matrix(kernel) + weights, kernel))
    if place is not None:
        path, sign = place
        pair.assign(path, pair.arrays[path] + sign * bias.reshape(pair.arrays[path].shape))
    return True


def _places(call: _Call, most: int) -> NDArray[np.int64]:
    """Output places to look at, as flat indices, drawn by the seed, the kernel and the call."""
    total = prod(call.first.places(call.x, call.y))
    seed = [call.pair.whole.seed, zlib.crc32(call.first.kernel.encode()), call.index]
    return np.sort(np.random.default_rng(seed).choice(total, min(most, total), replace=False))


def _batches(call: _Call, at: NDArray[np.int64]) -> Iterator[tuple[Floats, Floats]]:
    """(what the pruned layer reads, what its outputs lack) at these places."""
    pair, first, second = call.pair, call.first, call.second
    old, now = pair.whole.case.archive.arrays, pair.arrays
    places = first.places(call.x, call.y)
    before, after = first.matrix(old[first.kernel]), second.matrix(now[second.kernel])
    _, outputs = first.stays(old[first.kernel].shape, pair.whole.case.units.axes, pair.gone)
    biases: Floats = np.zeros((1, 1))
    if first.bias is not None and second.bias is not None:
        biases = _kept(old[first.bias].reshape(1, *outputs.shape), outputs) - now[second.bias].reshape(1, -1)
    size = max(1, _BATCH_BYTES // (8 * before.shape[0] * before.shape[1]))
    for start in range(0, len(at), size):
        part = at[start : start + size]
        wanted = _kept(_times(first.rows(call.x, part, places, old), before), outputs) + biases
        x = second.rows(call.x_now, part, places, now)
        lacks = wanted + _lacking(call, part, outputs.reshape(-1))
        yield x, lacks.reshape(len(part), len(after), -1) - _times(x, after)


def _times(rows: Floats, matrix: Array) -> Floats:
    """(places, groups, inputs) times (groups, inputs, outputs), each group on its own."""
    return (rows.transpose(1, 0, 2) @ matrix.astype(np.float64)).transpose(1, 0, 2)


def _kept(values: Floats, outputs: NDArray[np.bool_]) -> Floats:
    return values[:, outputs]


def _lacking(call: _Call, at: NDArray[np.int64], outputs: NDArray[np.bool_]) -> Floats:
    """What the other terms of the sum that the outputs enter lack by now, in the scale of the layer's own outputs."""
    nothing = np.zeros((1, 1))
    if call.chain is None or call.chain.sum is None or call.first.channels is None:
        return nothing
    pair, channels = call.pair, call.first.channels
    terms = zip(*(walk.graph.ops[call.chain.sum].inputs for walk in (pair.first, pair.second)), strict=True)
    others = [
        (pair.first.values.get(term), pair.second.values.get(now)) for term, now in terms if term != call.chain.last
    ]
    if not others or any(a is None or b is None or a.shape != call.y.shape for a, b in others):
        return nothing
    total = sum(_at(a, at, channels)[:, outputs] - _at(b, at, channels) for a, b in others)
    scale = np.ones(len(outputs))
    for norm in call.chain.norms:
        scale = scale * factor(norm, pair.whole.case.archive.arrays)
    large = np.abs(scale) > _LEAST_FACTOR * np.abs(scale).max()
    inverse = np.where(large, 1.0, 0.0) / np.where(large, scale, 1.0)
    return np.asarray(total * inverse[outputs])


def _at(tensor: Any, at: NDArray[np.int64], channels: int) -> Floats:
    values = np.moveaxis(np.asarray(tensor), channels, -1)
    return values.reshape(-1, values.shape[-1])[at].astype(np.float64)
