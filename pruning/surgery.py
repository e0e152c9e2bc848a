"""(config, arrays, removed units) -> (config, arrays): a pure function that slices, and scales where Keras divides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from pruning import graph as graphs
from pruning import threads
from pruning import units as unit_finder
from pruning.archive import Archive, without_optimizer
from pruning.contract.errors import ContradictorySpec, SecateurError, VerificationFailed
from pruning.contract.plan import GroupPlan, KeepMap, KeptArray, Plan
from pruning.graph import Graph
from pruning.hdf5 import Arrays
from pruning.nodes import Shape
from pruning.rules.extents import Ids, left
from pruning.rules.trace import Structure
from pruning.units import Units

_NESTED = (dict, list)


def apply(archive: Archive, graph: Graph, units: Units, removed: npt.ArrayLike) -> Archive:
    """The model without the units `removed`, an array of unit ids. No build config, no optimizer state is left.

    Where a key dimension shrinks the query is scaled (see `Rescale`), so that the scores stay what they were.

    Raises `ContradictorySpec` where a layer would lose all its units or a unit that must stay. What comes out is not
    read again: see `check`.
    """
    gone = _gone(units, removed)
    kept = without_optimizer(archive)
    arrays = _sliced(kept.arrays, units, gone)
    return replace(kept, config=_resized(archive.config, graph, units, gone), arrays=arrays)


def sketch(archive: Archive, graph: Graph, units: Units, removed: npt.ArrayLike) -> Archive:
    """What `apply` would return, with all shapes and no values: enough to tell the size of the file."""
    gone = _gone(units, removed)
    kept = without_optimizer(archive)
    shapes = {path: list(array.shape) for path, array in kept.arrays.items()}
    for weight, cuts in _cuts(units, gone).items():
        for along, stays in cuts:
            shapes[weight][along] = len(stays)
    arrays = {path: np.broadcast_to(np.zeros((), kept.arrays[path].dtype), shape) for path, shape in shapes.items()}
    return replace(kept, config=_resized(archive.config, graph, units, gone), arrays=arrays)


def check(result: Archive, units: Units, removed: npt.ArrayLike) -> tuple[Graph, Units]:
    """Read a sliced model like an upload: every array must fit its layer, every layer cost what was predicted.

    The graph and the units that were read. Raises `VerificationFailed` where what is left does not fit together.
    """
    gone = _gone(units, removed)
    bound = {axis.weight for axis in units.axes}
    resized = {resize.layer for resize in units.resizes}
    for entry in units.layers:
        if entry.name in resized and (loose := set(entry.weights) - bound):
            raise VerificationFailed(f"layer {entry.name!r} is resized but no rule binds its arrays {sorted(loose)}")
    shapes = [tuple(left(extent, gone) for extent in value) or None for value in units.tensors]
    graph, found = reread(result, units, shapes)
    for cost, now in zip(units.costs, found.costs, strict=True):
        predicted = cost.multiplier * prod(left(ids, gone) or 0 for ids in cost.axes)
        if predicted != now.multiplier * prod(len(ids) for ids in now.axes):
            raise VerificationFailed(f"layer {cost.layer!r} should cost {predicted} MACs, its arrays cost other")
    return graph, found


def reread(result: Archive, units: Units, shapes: Sequence[Shape | None] = ()) -> tuple[Graph, Units]:
    """The graph and the units of what surgery left. `shapes`: those of its tensors, where the config records none.

    Only what a layer was built with tells the shapes in a Sequential model, and that is gone. Raises
    `VerificationFailed` where a layer does not fit.
    """
    try:
        graph = graphs.build(result.config)
        if shapes:
            pairs = zip(graph.shapes, shapes, strict=True)
            graph = replace(graph, shapes=tuple(other if own is None else own for own, other in pairs))
        graphs.check_names(graph, result.names)
        found = unit_finder.find(graph, result.arrays, bfloat16=result.bfloat16)
    except SecateurError as error:
        raise VerificationFailed(f"what is left of the model does not fit together: {error.detail}") from error
    known = {barrier.layer for barrier in units.barriers if barrier.code == "misread"}
    for barrier in found.barriers:
        if barrier.code == "misread" and barrier.layer not in known:
            raise VerificationFailed(f"what is left of layer {barrier.layer!r} does not fit together: {barrier.detail}")
    return graph, found


def mask(arrays: Mapping[str, npt.NDArray[Any]], units: Units, removed: npt.ArrayLike) -> Arrays:
    """The masked original: the weights that read a removed unit are zero. Arrays that do not change are not copied."""
    gone = _gone(units, removed)
    masked = dict(arrays)
    for axis in units.axes:
        if axis.role in ("consumer", "factor") and (dead := gone[axis.ids]).any():
            array = masked[axis.weight]
            array = array.copy() if array is arrays[axis.weight] else array
            np.moveaxis(array, axis.axis, 0)[dead] = 0
            masked[axis.weight] = array
    return masked


def removed_of(plan: Plan, units: Units) -> Ids:
    """The unit ids that a plan removes. Raises `ContradictorySpec` where the plan is one of another model."""
    groups = {group.id: group for group in units.groups}
    removed: list[Ids] = []
    for part in plan.groups:
        group = groups.get(part.id)
        if group is None or len(group.units) != part.width:
            raise ContradictorySpec(f"the plan's group {part.id!r} of width {part.width} is not in this model")
        stays = np.zeros(part.width, bool)
        stays[part.keep] = True
        removed.append(group.units[~stays])
    return np.sort(np.concatenate(removed)) if removed else np.empty(0, np.int64)


def plan_of(removed: npt.ArrayLike, units: Units, structure: Structure = "channel") -> Plan:
    """The plan that removes these unit ids; it lists the groups that may be pruned, also those that lose nothing."""
    gone = _gone(units, removed)
    return Plan(
        structure=structure,
        groups=[
            GroupPlan(
                id=group.id,
                layers=list(group.layers),
                width=len(group.units),
                keep=np.flatnonzero(~gone[group.units]).tolist(),
            )
            for group in units.groups
            if group.barrier is None
        ],
    )


def keep_map(archive: Archive, units: Units, removed: npt.ArrayLike) -> KeepMap:
    """For each array of the model without these units, the indices that it keeps of the original's."""
    gone = _gone(units, removed)
    axes: dict[str, dict[str, list[int]]] = {}
    factors = _factors(units, gone)
    for axis in units.axes:
        if (dead := gone[axis.ids]).any():
            axes.setdefault(axis.weight, {})[str(axis.axis)] = np.flatnonzero(~dead).tolist()
    return KeepMap(
        arrays=[
            KeptArray(
                path=path,
                source=path,
                shape=list(array.shape),
                axes=axes.get(path, {}),
                factor=factors.get(path, 1.0),
            )
            for path, array in archive.arrays.items()
        ]
    )


def _gone(units: Units, removed: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """A flag per unit id, and at -1 that of a place without a unit, which stays."""
    ids = np.asarray(removed, np.int64).reshape(-1)
    if ids.size and (ids.min() < 0 or ids.max() >= units.count):
        raise ContradictorySpec(f"unit ids run from 0 to {units.count - 1}, not to {ids.min()} or {ids.max()}")
    gone = units.gone(ids)
    for group in units.groups:
        if group.barrier is not None and gone[group.units].any():
            barrier = group.barrier
            raise ContradictorySpec(f"units of {group.id!r} must stay: {barrier.layer!r}: {barrier.detail}")
    return gone


def _sliced(arrays: Arrays, units: Units, gone: npt.NDArray[np.bool_]) -> Arrays:
    """Array by array, so that what its first axis left is still in the cache when the next one is taken."""
    cuts = _cuts(units, gone)

    def cut(weight: str) -> npt.NDArray[Any]:
        array = arrays[weight]
        for along, stays in cuts[weight]:
            array = np.take(array, stays, along)
        return array

    result = dict(arrays)
    result |= zip(cuts, threads.each(cut, list(cuts), lambda weight: arrays[weight].size), strict=True)
    for weight, factor in _factors(units, gone).items():
        result[weight] = (result[weight] * np.float64(factor)).astype(result[weight].dtype)
    return result


def _cuts(units: Units, gone: npt.NDArray[np.bool_]) -> dict[str, list[tuple[int, npt.NDArray[np.int64]]]]:
    """For each array that changes: (axis, indices that stay), ascending."""
    kept: dict[int, npt.NDArray[np.int64] | None] = {}
    by_weight: dict[str, list[tuple[int, npt.NDArray[np.int64]]]] = {}
    # Ascending axes: the rows that go first are contiguous, which is twice as fast as the other way round.
    for axis in sorted(units.axes, key=lambda axis: axis.axis):
        if id(axis.ids) not in kept:
            dead = gone[axis.ids]
            kept[id(axis.ids)] = np.flatnonzero(~dead) if dead.any() else None
        if (stays := kept[id(axis.ids)]) is None:
            continue
        if not len(stays):
            raise ContradictorySpec(f"nothing of layer {axis.layer!r} would be left: keep at least one unit")
        by_weight.setdefault(axis.weight, []).append((axis.axis, stays))
    return by_weight


def _factors(units: Units, gone: npt.NDArray[np.bool_]) -> dict[str, float]:
    """What the arrays are multiplied by whose `Rescale` counts fewer ids now."""
    shares = {rescale.weight: float(np.mean(~gone[rescale.ids])) for rescale in units.rescales}
    return {weight: share**0.5 for weight, share in shares.items() if share < 1}


def _resized(config: Mapping[str, Any], graph: Graph, units: Units, gone: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The config with new widths and shapes, without the shapes that layers were built with."""
    edits: list[tuple[tuple[str | int, ...], Any]] = []
    for resize in units.resizes:
        if isinstance(resize.value, tuple):
            edits.append((resize.location, [left(extent, gone) for extent in resize.value]))
        else:
            edits.append((resize.location, left(resize.value, gone)))
    for location, tensor in graph.mentions:
        # Inside a model that is called with several sizes only the units' axes are the same in all calls.
        sizes = zip(at(config, location), units.tensors[tensor], strict=True)
        edits.append((location, [left(e, gone) if isinstance(e, np.ndarray) else n for n, e in sizes]))
    edits += [(hold.location, hold.value) for hold in units.holds if gone[hold.ids].any()]
    edits += _cut_constants(config, units, gone)
    edited = _edit(without_build_config(config), edits)
    assert isinstance(edited, dict)
    return edited


def _cut_constants(
    config: Mapping[str, Any], units: Units, gone: npt.NDArray[np.bool_]
) -> list[tuple[tuple[str | int, ...], Any]]:
    """The arrays in the config without the numbers of removed units, by the places where they stand."""
    cut: dict[tuple[str | int, ...], Any] = {}
    for constant in units.constants:
        if (dead := gone[constant.ids]).any():
            value = cut.get(constant.location, at(config, constant.location))
            cut[constant.location] = np.compress(~dead, np.asarray(value), constant.axis).tolist()
    return list(cut.items())


def at(config: Any, location: Iterable[str | int]) -> Any:
    """What stands at a place of the config."""
    for key in location:
        config = config[key]
    return config


def _edit(value: Any, edits: Iterable[tuple[tuple[str | int, ...], Any]]) -> Any:
    """A copy of nested dicts and lists with the values at some locations replaced."""
    below: dict[str | int, list[tuple[tuple[str | int, ...], Any]]] = {}
    copy: Any = dict(value) if isinstance(value, Mapping) else list(value)
    for location, new in edits:
        if len(location) > 1:
            below.setdefault(location[0], []).append((location[1:], new))
        else:
            copy[location[0]] = new
    for key, inner in below.items():
        copy[key] = _edit(copy[key], inner)
    return copy


def without_build_config(value: Any) -> Any:
    """A config without what it says of the shapes that layers, also wrapped ones and cells, were built with."""
    # Told apart by `dict`, as JSON makes them: an abstract class costs as much as all the rest, on thousands of values.
    if isinstance(value, dict):
        return {
            key: without_build_config(item) if isinstance(item, _NESTED) and key != "inbound_nodes" else item
            for key, item in value.items()
            if key != "build_config"
        }
    return [without_build_config(item) for item in value] if isinstance(value, list) else value
