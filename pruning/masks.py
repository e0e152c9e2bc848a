"""Masks: single weights that become zero. Scores and a target -> a `Plan` of masks, masks as text and back.

Weight structures work on kernels, arrays of rank 2 and more that multiply-accumulates run through; biases and
normalisation stay. A weight that is zero already goes first: it costs nothing.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.bindings import Match, matches
from pruning.competition import Competition, Floats, Scores
from pruning.contract.errors import ContradictorySpec, NothingToPrune
from pruning.contract.plan import MaskPlan, Plan
from pruning.contract.spec import Measure, Pruning
from pruning.isomorphism import of_kernels
from pruning.limits import Limits
from pruning.measures import kernels as prunable
from pruning.measures import macs_through, macs_without_weight, nonzeros, sparse_bytes
from pruning.scopes import Counts, share, shares
from pruning.targets import meet

if TYPE_CHECKING:
    from pruning.units import Units

__all__ = ["apply", "decode", "encode", "kept_because", "of_plan", "prunable", "select", "without_lowest"]

# Barriers of layers whose kernels are not known.
_UNREAD = ("quantized", "unknown_layer")

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Mask: TypeAlias = NDArray[np.bool_]


def select(units: Units, arrays: Arrays, scores: Scores, pruning: Pruning) -> Plan:
    """The masks that meet a target. `arrays`: all of the model's; `scores`: of `prunable(units)`, array-shaped;
    a kernel without scores keeps its weights.

    Ratios are the sparsity of the kernels that compete, exact to one weight; scope `layer`: of each kernel. Budgets
    count non-zeros: `parameters` all non-zero weights of the model, `macs` those that run through non-zero weights,
    `size_bytes` the arrays in sparse storage (`measures.sparse_bytes`; the plain file does not shrink). Constraints
    hold per kernel: `min_units`, `max_ratio` and `round_to` count its weights. `layers`: `skip` and `ratio`.

    Raises `Infeasible`, `NothingToPrune`, `LayerNotFound`, `ContradictorySpec`.
    """
    if not prunable(units):
        why = [f"; {b.layer!r}: {b.detail}" for b in units.barriers if b.code in _UNREAD]
        detail = "no layer of this model has a kernel, a floating array of rank 2 or more that it multiplies with"
        raise NothingToPrune(detail + "".join(why[:5]))
    paths = [path for path in prunable(units) if path in scores]
    rules = _rules(units, paths, matches([entry.name for entry in units.layers], pruning.layers))
    decided = {path: _decided(arrays[path], scores[path], match, pruning) for path, match in rules.items()}
    competing = [path for path in paths if path not in decided]
    return meet(pruning.target, Kernels(units, arrays, scores, pruning, competing, decided))


def kept_because(units: Units, scores: Scores, pruning: Pruning) -> dict[str, str]:
    """Why none of a layer's weights may go, by its name: it has no kernel, `skip`, or no evidence for scores."""
    by_plan = pruning.target.type == "plan"
    rules = {} if by_plan else matches([entry.name for entry in units.layers], pruning.layers)
    unread = {barrier.layer: barrier.detail for barrier in units.barriers if barrier.code in _UNREAD}
    kernels, reasons = set(prunable(units)), {}
    for entry in units.layers:
        own = kernels.intersection(entry.weights)
        if entry.weights and not own:
            reasons[entry.name] = unread.get(entry.name, "it has no kernel: tables, normalisation and biases stay")
        elif own and entry.name in rules and rules[entry.name].rule.skip:
            reasons[entry.name] = "skipped by `layers`"
        elif own and not by_plan and own.isdisjoint(scores):
            reasons[entry.name] = f"criterion {pruning.criterion.name} finds nothing to score it by"
    return reasons


def _rules(units: Units, paths: Sequence[str], found: Mapping[str, Match]) -> dict[str, Match]:
    """The rule of each kernel that has one; refuses ratios that meet no kernel."""
    rules: dict[str, Match] = {}
    for entry in units.layers:
        if entry.name in found:
            rules |= {path: found[entry.name] for path in entry.weights if path in paths}
    for key in {match.key for match in found.values() if match.rule.ratio} - {match.key for match in rules.values()}:
        raise NothingToPrune(f"layers: {key!r} asks for a ratio, but it matches no layer with a kernel that has scores")
    return rules


def _decided(array: Array, scores: Floats, match: Match, pruning: Pruning) -> Mask:
    """The mask that a rule gives a kernel, whatever the target says."""
    if not match.rule.ratio:
        return np.ones(array.shape, dtype=bool)
    limits = Limits.of(np.array([array.size]), pruning.constraints)
    if (asked := share(match.rule.ratio, array.size, "floor")) > limits.removable[0]:
        raise ContradictorySpec(
            f"layers: {match.key!r} takes {asked} of the {array.size} weights of {match.layer!r}, but min_units and "
            f"max_ratio keep {limits.least[0]}"
        )
    return without_lowest(array, scores, int(limits.allowed(shares(match.rule.ratio, limits.sizes))[0]))


def without_lowest(array: Array, scores: Floats, count: int) -> Mask:
    """The mask without the `count` lowest scores; of equal ones zeros go first, then the first in C order."""
    flat = scores.ravel()
    if count == 0:
        return np.ones(array.shape, dtype=bool)
    last = np.partition(flat, count - 1)[count - 1]
    mask = flat >= last
    tied = np.flatnonzero(flat == last)
    tied = tied[np.argsort(array.ravel()[tied] != 0, kind="stable")]
    mask[tied[: count - int(np.count_nonzero(~mask))]] = False
    return np.asarray(mask.reshape(array.shape))


class Kernels(Competition):
    """Kernels that lose single weights. What it costs depends on how many of each are left, zeros counted as gone."""

    def __init__(
        self,
        units: Units,
        arrays: Arrays,
        scores: Scores,
        pruning: Pruning,
        paths: Sequence[str],
        decided: Mapping[str, Mask],
    ) -> None:
        super().__init__(
            [np.sort(scores[path], axis=None) for path in paths],
            pruning,
            of_kernels(units, paths),
            decided=any(not mask.all() for mask in decided.values()),
            scored=bool(scores),
        )
        self._arrays, self._paths, self._decided = arrays, paths, decided
        self._raw = scores
        self._nonzero = np.array([nonzeros(arrays[path]) for path in paths], dtype=np.int64)
        self._itemsize = np.array([units.itemsize(path) for path in paths], dtype=np.int64)
        through = macs_through(units)
        self._macs = np.array([through[path] for path in paths], dtype=np.int64)
        self._others = self._rest(units, through, decided)
        self._others_before = self._rest(units, through, {})

    def _rest(self, units: Units, through: Mapping[str, int], decided: Mapping[str, Mask]) -> dict[str, int]:
        """The measures of all that does not compete."""
        competing = set(self._paths)
        rest = {
            path: nonzeros(self._arrays[path] * decided[path] if path in decided else self._arrays[path])
            for path in units.sizes
            if path not in competing
        }
        return {
            "parameters": sum(rest.values()),
            "macs": sum(through.get(path, 0) * count for path, count in rest.items()) + macs_without_weight(units),
            "size_bytes": sum(
                int(sparse_bytes(np.array(self._arrays[path].size), np.array(count), units.itemsize(path)))
                for path, count in rest.items()
            ),
        }

    def cost(self, measure: Measure, counts: Counts) -> Counts:
        """Non-zero parameters, MACs through non-zero weights, or bytes in sparse storage."""
        nonzero = np.minimum(self.sizes - counts, self._nonzero)
        if measure == "size_bytes":
            each = sparse_bytes(self.sizes, nonzero, self._itemsize)
        else:
            each = nonzero * self._macs if measure == "macs" else nonzero
        return np.asarray(each.sum(axis=-1) + self._others[measure], dtype=np.int64)

    def original(self, measure: Measure) -> int:
        """The same for the weights as they came."""
        return int(self.cost(measure, self.none)) - self._others[measure] + self._others_before[measure]

    def plan(self, counts: Counts) -> Plan:
        """The masks of the kernels that lose a weight."""
        chosen = {
            path: without_lowest(self._arrays[path], self._raw[path], count)
            for path, count in zip(self._paths, counts.tolist(), strict=True)
        }
        masks = {**self._decided, **chosen}
        return encode({path: masks[path] for path in self._arrays if path in masks and not masks[path].all()})


def encode(masks: Mapping[str, Mask]) -> Plan:
    """Masks (True stays) as a plan: base64 of zlib of the packed bits in C order."""
    return Plan(
        structure="weight",
        masks=[
            MaskPlan(
                weight=path,
                shape=list(mask.shape),
                kept=int(np.count_nonzero(mask)),
                mask=base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii"),
            )
            for path, mask in masks.items()
        ],
    )


def of_plan(plan: Plan, units: Units) -> dict[str, Mask]:
    """The masks of a plan. Raises `ContradictorySpec` where it is one of another model, or damaged."""
    kernels = {path: units.sizes[path] for path in prunable(units)}
    for one in plan.masks:
        if kernels.get(one.weight) != tuple(one.shape):
            raise ContradictorySpec(
                f"the plan masks {one.weight!r} of shape {tuple(one.shape)}, which is no kernel of this model"
                + (f": it has shape {kernels[one.weight]} here" if one.weight in kernels else "")
            )
    return decode(plan)


def decode(plan: Plan) -> dict[str, Mask]:
    """The masks of a plan by path, True stays. Raises `ContradictorySpec` where bits and shape do not agree."""
    return {one.weight: _decoded(one) for one in plan.masks}


def _decoded(one: MaskPlan) -> Mask:
    size = int(np.prod(one.shape, dtype=np.int64))
    length = (size + 7) // 8
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(one.mask), length + 1)
    except (ValueError, zlib.error):
        packed = b""
    if len(packed) == length:
        mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=size).astype(bool)
        if int(np.count_nonzero(mask)) == one.kept:
            return np.asarray(mask.reshape(one.shape))
    raise ContradictorySpec(f"the mask of {one.weight!r} is damaged: it does not keep {one.kept} of {size} weights")


def apply(arrays: Arrays, masks: Mapping[str, Mask]) -> dict[str, Array]:
    """The arrays with masked weights zero; arrays without a mask are passed on as they are.

    Raises `ContradictorySpec` for a mask of an array that is not there or has another shape.
    """
    for path, mask in masks.items():
        if path not in arrays or arrays[path].shape != mask.shape:
            found = arrays[path].shape if path in arrays else None
            raise ContradictorySpec(f"a mask of shape {mask.shape} came for {path!r}, which has shape {found} here")
    return {
        path: np.where(masks[path], array, array.dtype.type(0)) if path in masks else array
        for path, array in arrays.items()
    }
