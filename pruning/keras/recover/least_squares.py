"""Sequential least squares: layer by layer the pruned network learns to give what the original gives; no labels needed.

From the pruned network's inputs of a layer, with all repairs before it, to the original's outputs of that layer on the
same samples, before its activation, with a ridge around the old weights (as He et al. 2017, arXiv:1707.06168,
reconstruct feature maps, and their residual branches: where the layer's outputs enter a sum, what its other terms lack
by now is asked of this layer too). Where a rectifier follows, it does not matter how far below zero an output is: such
places are asked only to stay there, the nonlinear reconstruction of Zhang et al. 2015, arXiv:1505.06798.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning import graph as graphs
from pruning import products, ridge, surgery
from pruning.archive import replace_arrays
from pruning.chains import Chain, Chains, factor, offset
from pruning.contract.spec import LeastSquaresStage
from pruning.keras import live, private
from pruning.keras.recover.context import Arrays, History, Whole
from pruning.keras.walk import Stuck, Walk, sample, steps
from pruning.products import Product

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
_PLACES = 2**15
_BATCH_BYTES = 64 * 2**20
# Solutions of one layer, each knowing by the one before what its activation will cut off.
_TURNS = 3
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
    with suppress(Stuck):  # What comes after is left alone.
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

    @cached_property
    def kept(self) -> list[NDArray[np.int64]]:
        """Which output places of the original the pruned network has, axis by axis: units may lie there (mixers)."""
        sizes = self.first.places(self.x, self.y)
        if self.first.window is not None:
            return [np.arange(size) for size in sizes]
        extents = self.pair.whole.case.units.tensors[self.first.tensor]
        found = []
        for axis, size in zip(self.first.entering, sizes, strict=False):
            ids = extents[axis]
            found.append(np.flatnonzero(~self.pair.gone[ids]) if isinstance(ids, np.ndarray) else np.arange(size))
        return found

    @property
    def places(self) -> tuple[int, ...]:
        """How many output places the pruned network has along each axis."""
        return tuple(map(len, self.kept))

    def in_first(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these places of the pruned network lie in the original, as flat indices."""
        pairs = zip(self.kept, np.unravel_index(at, self.places), strict=True)
        whole = self.first.places(self.x, self.y)
        return np.ravel_multi_index([kept[index] for kept, index in pairs], whole).astype(np.int64)

    @cached_property
    def terms(self) -> list[tuple[Any, Any]] | None:
        """The other terms of the sum that the outputs enter, in both networks; None without a sum or before one is."""
        if self.chain is None or self.chain.sum is None:
            return None
        first, second = self.pair.first, self.pair.second
        pairs = zip(*(walk.graph.ops[self.chain.sum].inputs for walk in (first, second)), strict=True)
        found = [(first.values.get(one), second.values.get(two)) for one, two in pairs if one != self.chain.last]
        whole = all(one is not None and two is not None and one.shape == self.y.shape for one, two in found)
        return found if whole and found else None

    @property
    def bounded(self) -> bool:
        """Whether all is known of what an activation with bounds will read."""
        known = self.chain is not None and (self.chain.sum is None or self.terms is not None)
        return known and self.chain is not None and self.chain.bounds is not None


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
    at = [_places(call, _PLACES // len(calls)) for call in calls]
    found = None
    for _ in range(_TURNS if all(call.bounded for call in calls) else 1):
        parts = zip(calls, at, strict=True)
        batches = (batch for call, places in parts for batch in _batches(call, places, place, found))
        weights, bias = found = ridge.correction(batches, sum(map(len, at)), amount, place is not None)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            return False
    kernel = pair.arrays[product.kernel]
    pair.assign(product.kernel, product.array(product.matrix(kernel) + weights, kernel))
    if place is not None:
        path, sign = place
        pair.assign(path, pair.arrays[path] + sign * bias.reshape(pair.arrays[path].shape))
    return True


def _places(call: _Call, most: int) -> NDArray[np.int64]:
    """Output places of the pruned network to look at, as flat indices, drawn by the seed, the kernel and the call."""
    total = prod(call.places)
    seed = [call.pair.whole.seed, zlib.crc32(call.first.kernel.encode()), call.index]
    return np.sort(np.random.default_rng(seed).choice(total, min(most, total), replace=False))


def _batches(
    call: _Call, at: NDArray[np.int64], place: tuple[str, int] | None, found: tuple[Floats, Floats] | None
) -> Iterator[tuple[Floats, Floats]]:
    """(what the pruned layer reads, what its outputs lack) at these places.

    `place`: where constants are added. `found`: a first solution, by which it is known what an activation will cut off.
    """
    pair, first, second = call.pair, call.first, call.second
    old, now = pair.whole.case.archive.arrays, pair.arrays
    whole = first.places(call.x, call.y)
    before, after = first.matrix(old[first.kernel]), second.matrix(now[second.kernel])
    _, kept = first.stays(old[first.kernel].shape, pair.whole.case.units.axes, pair.gone)
    outputs = kept.reshape(-1)
    constant = np.zeros(1)
    if place is not None:
        path, sign = place
        constant = sign * (old[path].reshape(-1)[outputs].astype(np.float64) - now[path].reshape(-1))
    scale, shift = _affine(call, outputs)
    # What is added to the products as they stand, with statistics as the original has them.
    added = now[second.bias].reshape(-1).astype(np.float64) if second.bias is not None else -constant
    usable = np.abs(scale) > _LEAST_FACTOR * np.abs(scale).max(initial=0.0)
    inverse = np.where(usable, 1.0, 0.0) / np.where(usable, scale, 1.0)
    size = max(1, _BATCH_BYTES // (8 * before.shape[0] * before.shape[1]))
    for start in range(0, len(at), size):
        part = at[start : start + size]
        in_first = call.in_first(part)
        wanted = _flat(first.rows(call.x, in_first, whole, old), before)[:, outputs] + constant
        x = second.rows(call.x_now, part, call.places, now)
        have = _flat(x, after)
        others, others_now = _others(call, in_first, part, outputs)
        lacks = wanted - have + (others - others_now) * inverse
        if found is not None and call.chain is not None and call.chain.bounds is not None:
            fit = _flat(x, found[0]) + found[1].reshape(-1)
            gives = scale * (have + added + fit) + shift + others_now
            asked = gives + scale * (lacks - fit)
            lacks = fit + np.where(usable, (_cut(asked, gives, *call.chain.bounds) - gives) * inverse, lacks - fit)
        yield x, lacks.reshape(len(part), len(after), -1)


def _flat(rows: Floats, matrix: Array) -> Floats:
    """(places, groups, inputs) times (groups, inputs, outputs), each group on its own: (places, groups x outputs)."""
    return (rows.transpose(1, 0, 2) @ matrix.astype(np.float64)).transpose(1, 0, 2).reshape(len(rows), -1)


def _cut(asked: Floats, gives: Floats, low: float, high: float) -> Floats:
    """What an output has to be: beyond the bounds of its activation anything beyond the same bound will do."""
    beyond = np.where(asked <= low, np.minimum(gives, low), np.maximum(gives, high))
    return np.where((asked > low) & (asked < high), asked, beyond)


def _affine(call: _Call, outputs: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """What the chain multiplies the layer's outputs by, and what it adds to them, for the outputs that stay."""
    scale, shift = np.ones(len(outputs)), np.zeros(len(outputs))
    arrays = call.pair.whole.case.archive.arrays
    for norm in call.chain.norms if call.chain is not None else ():
        scale, shift = scale * factor(norm, arrays), shift * factor(norm, arrays) + offset(norm, arrays)
    return scale[outputs], shift[outputs]


def _others(
    call: _Call, in_first: NDArray[np.int64], at: NDArray[np.int64], outputs: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """The other terms of the sum that the outputs enter, in the original and now; zeros where they are not known."""
    if call.terms is None or call.first.channels is None:
        return np.zeros((1, 1)), np.zeros((1, 1))
    channels = call.first.channels
    before = sum((_at(term, in_first, channels)[:, outputs] for term, _ in call.terms), np.zeros((1, 1)))
    return before, sum((_at(term, at, channels) for _, term in call.terms), np.zeros((1, 1)))


def _at(tensor: Any, at: NDArray[np.int64], channels: int) -> Floats:
    values = np.moveaxis(np.asarray(tensor), channels, -1)
    return values.reshape(-1, values.shape[-1])[at].astype(np.float64)
