"""What a model costs and what of it was removed: parameters, MACs, bytes, S_pruned, and sentences on them.

MACs are multiply-accumulates for one sample. Bytes of arrays are those of their dtypes; the file's are measured on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruning.bindings import groups_on
from pruning.contract.result import LayerReport, MeasureSet, Removed, Warning
from pruning.rules.extents import left
from pruning.rules.trace import Barrier

if TYPE_CHECKING:
    from pruning.units import Group, LayerEntry, Units

Ids: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = NDArray[np.int64]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
NONE = np.empty(0, dtype=np.int64)


def kernels(units: Units) -> list[str]:
    """Paths of the arrays of rank 2 and more that multiply-accumulates run through, in the model's order."""
    found = dict.fromkeys(cost.weight for cost in units.costs)
    return [path for path in found if path is not None and len(units.sizes[path]) >= 2]


def macs(units: Units, removed: Ids = NONE) -> dict[str, int]:
    """MACs per layer without these unit ids, calls of a shared layer added up; the total is the sum of the values."""
    tally = units.tally
    found: dict[str, int] = {}
    for cost, value in zip(units.costs, tally.macs(tally.kept(removed)).tolist(), strict=True):
        found[cost.layer] = found.get(cost.layer, 0) + value
    return found


def elements(units: Units, removed: Ids = NONE) -> dict[str, int]:
    """Elements of every array without these unit ids, by path."""
    tally = units.tally
    return dict(zip(units.sizes, tally.elements(tally.kept(removed)).tolist(), strict=True))


def parameters(units: Units, removed: Ids = NONE) -> int:
    """All weights, trainable or not, without these unit ids."""
    return sum(elements(units, removed).values())


def macs_through(units: Units) -> dict[str, int]:
    """MACs through one element of each array, over all calls; arrays without any are left out. Removal changes none."""
    found: dict[str, int] = {}
    for cost in units.costs:
        if cost.weight is not None:
            found[cost.weight] = found.get(cost.weight, 0) + cost.per_element
    return found


def macs_without_weight(units: Units) -> int:
    """MACs of products of two activations: no zero weight saves them."""
    tally = units.tally
    values = tally.macs(tally.lengths).tolist()
    return sum(value for cost, value in zip(units.costs, values, strict=True) if cost.weight is None)


def sparse_bytes(sizes: ArrayLike, nonzero: ArrayLike, itemsize: ArrayLike) -> Counts:
    """Bytes of arrays in sparse storage: a bitmap of ceil(n / 8) bytes and the non-zeros, or dense if that is less."""
    n, nnz, item = (np.asarray(value, dtype=np.int64) for value in (sizes, nonzero, itemsize))
    return np.asarray(np.minimum(n * item, -(-n // 8) + nnz * item), dtype=np.int64)


def nonzeros(array: NDArray[Any]) -> int:
    """How many elements are not zero."""
    return int(np.count_nonzero(array != 0))  # four times as fast as counting the numbers themselves


def figures(units: Units, arrays: Arrays) -> dict[str, Any]:
    """The fields of `MeasureSet` that weights and graph alone tell; sparsity is a share of all weights, 0 ... 1."""
    nonzero = {path: nonzeros(arrays[path]) for path in units.sizes}
    sizes = elements(units)
    through = macs_through(units)
    prunable = kernels(units)
    total, left = sum(sizes.values()), sum(nonzero.values())
    kernel_total, kernel_left = (sum(counts[path] for path in prunable) for counts in (sizes, nonzero))
    return {
        "parameters": total,
        "nonzero_parameters": left,
        "sparsity": (total - left) / total if total else 0.0,
        "prunable_sparsity": (kernel_total - kernel_left) / kernel_total if kernel_total else 0.0,
        "macs": sum(macs(units).values()),
        "nonzero_macs": macs_without_weight(units) + sum(count * nonzero[path] for path, count in through.items()),
        "sparse_bytes": sum(
            int(sparse_bytes(sizes[path], nonzero[path], units.itemsize(path))) for path in units.sizes
        ),
    }


# --- what was removed ------------------------------------------------------------------------------------------------


def s_pruned(removed: ArrayLike, weights: ArrayLike, cost: ArrayLike) -> tuple[float, float]:
    """((1/m) * sum(P * S), sum(P * S) / sum(S)) with P = 1 for a removed weight and S its cost.

    Given per array, whose weights all cost the same: how many are removed, how many there are (m is their sum), and S.
    """
    gone, count, each = (np.asarray(value, dtype=np.float64) for value in (removed, weights, cost))
    lost, whole, m = float((gone * each).sum()), float((count * each).sum()), float(count.sum())
    return (lost / m if m else 0.0, lost / whole if whole else 0.0)


def removed(units: Units, gone: Ids) -> Removed:
    """What goes with these unit ids: size (S = 1), compute (S = MACs through the weight), storage (S = its bytes)."""
    before, after = elements(units), elements(units, gone)
    return _removed(units, {path: before[path] - after[path] for path in before})


def removed_by(units: Units, masks: Mapping[str, NDArray[np.bool_]]) -> Removed:
    """The same for masked weights: those whose mask is False are removed."""
    return _removed(units, {path: int(mask.size - np.count_nonzero(mask)) for path, mask in masks.items()})


def _removed(units: Units, lost: Mapping[str, int]) -> Removed:
    sizes, through = elements(units), macs_through(units)
    gone = [lost.get(path, 0) for path in sizes]
    costs = {
        "size": [1] * len(sizes),
        "compute": [through.get(path, 0) for path in sizes],
        "storage": [units.itemsize(path) for path in sizes],
    }
    both = {name: s_pruned(gone, list(sizes.values()), cost) for name, cost in costs.items()}
    shares = {name: share for name, (_, share) in both.items()}
    return Removed(**shares, s_pruned={name: mean for name, (mean, _) in both.items()})


# --- reports ---------------------------------------------------------------------------------------------------------


def layers(
    units: Units, arrays: Arrays, gone: Ids = NONE, kept_because: Mapping[str, str] | None = None
) -> list[LayerReport]:
    """One row per layer, in the model's order; `arrays` are those delivered, `gone` the removed unit ids.

    `kept_because`: reasons by group id, see `selection.kept_because`; without it the barriers' are given.
    """
    reasons = barriers(units) if kept_because is None else kept_because
    before, after = elements(units), elements(units, gone)
    macs_before, macs_after = macs(units), macs(units, gone)
    flags = units.gone(gone)

    def row(layer: LayerEntry) -> LayerReport:
        width = units.widths.get(layer.name)
        stays = left(width, flags)
        found = [reasons[group.id] for group in groups_on(units, layer.name) if group.id in reasons]
        held = sum(nonzeros(arrays[path]) for path in layer.weights)
        size = sum(arrays[path].size for path in layer.weights)
        return LayerReport(
            name=layer.name,
            class_name=layer.class_name,
            width_before=None if width is None else len(width),
            width_after=stays,
            parameters_before=sum(before[path] for path in layer.weights),
            parameters_after=sum(after[path] for path in layer.weights),
            macs_before=macs_before.get(layer.name, 0),
            macs_after=macs_after.get(layer.name, 0),
            sparsity=(size - held) / size if size else 0.0,
            kept_because=found[0] if found and width is not None and stays == len(width) else None,
        )

    return [row(layer) for layer in units.layers]


def layers_left(
    units: Units, arrays: Arrays, gone: Collection[str], macs_after: Mapping[str, int], kept_because: Mapping[str, str]
) -> list[LayerReport]:
    """One row per layer of the original, those in `gone` as removed; `arrays`: delivered ones by their first paths.

    `kept_because`: reasons by layer name.
    """
    before, macs_before = elements(units), macs(units)

    def row(layer: LayerEntry) -> LayerReport:
        removed, width = layer.name in gone, units.widths.get(layer.name)
        wide = None if width is None else len(width)
        size = sum(before[path] for path in layer.weights)
        held = 0 if removed else sum(nonzeros(arrays[path]) for path in layer.weights)
        return LayerReport(
            name=layer.name,
            class_name=layer.class_name,
            width_before=wide,
            width_after=0 if removed and wide else wide,
            parameters_before=size,
            parameters_after=0 if removed else size,
            macs_before=macs_before.get(layer.name, 0),
            macs_after=macs_after.get(layer.name, 0),
            sparsity=(size - held) / size if size and not removed else 0.0,
            kept_because=None if removed else kept_because.get(layer.name),
            removed=removed,
        )

    return [row(layer) for layer in units.layers]


def removed_with(units: Units, gone: Collection[str]) -> Removed:
    """`removed` for whole layers: all their weights."""
    sizes = elements(units)
    return _removed(
        units, {path: sizes[path] for entry in units.layers if entry.name in gone for path in entry.weights}
    )


def barriers(units: Units) -> dict[str, str]:
    """Why the units of a group stay, by group id: its barrier as `layer: sentence`."""
    return _sentences({group.id: group.barrier for group in units.groups if group.barrier is not None})


def staying(units: Units) -> dict[str, str]:
    """The same, of groups of a single unit too."""
    return barriers(units) | _sentences(single(units))


def _sentences(found: Mapping[str, Barrier]) -> dict[str, str]:
    return {group: f"{barrier.layer}: {barrier.detail}" for group, barrier in found.items()}


def single(units: Units) -> dict[str, Barrier]:
    """Groups without a barrier whose one unit has to stay, by group id, with the reason as a barrier.

    Such a unit may be many channels: a shuffle between grouped convolutions can tie all of a layer.
    """

    def reason(group: Group) -> str:
        channels = int(np.count_nonzero(units.widths.get(group.producers[0], NONE) == group.units[0]))
        many = f"its {channels} channels stand and fall together, as one unit that has to stay"
        return many if channels > 1 else "has one unit, which has to stay"

    return {
        group.id: Barrier(group.producers[0], "one_unit", reason(group))
        for group in units.groups
        if group.barrier is None and len(group.units) == 1
    }


def ratio(before: MeasureSet, after: MeasureSet) -> dict[str, float | None]:
    """after / before of every measure that both have, None where before is 0; latency: medians of the first batch."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in MeasureSet.model_fields}
    if before.latency_ms and after.latency_ms:
        pairs["latency_ms"] = (before.latency_ms[0].median, after.latency_ms[0].median)
    else:
        pairs.pop("latency_ms")
    return {
        name: second / first if first else None
        for name, (first, second) in pairs.items()
        if first is not None and second is not None and not name.endswith("sparsity")
    }


def hardly_moved(before: MeasureSet, after: MeasureSet) -> list[Warning]:
    """`macs_hardly_moved`, `parameters_hardly_moved`: one fell by a fifth at least, the other by no quarter of that."""
    fell = {
        name: 1 - getattr(after, name) / getattr(before, name) if getattr(before, name) else 0.0
        for name in ("parameters", "macs")
    }
    advice = {
        "macs": "what went computes little, such as wide dense layers: set a budget on macs instead",
        "parameters": "what went holds few weights, such as early convolutions: set a budget on parameters instead",
    }
    return [
        Warning(
            code=f"{still}_hardly_moved",
            detail=f"{moved} fell by {fell[moved]:.0%}, {still} by {fell[still]:.1%}: {advice[still]}",
        )
        for moved, still in (("parameters", "macs"), ("macs", "parameters"))
        if fell[moved] >= 0.2 and fell[still] < fell[moved] / 4
    ]
