"""The proof that a pruned model computes what the original computes without the removed units.

Three comparisons, each relative to the largest output: structure (redrawn weights, float64), values (the real weights,
before any training), and the written file against the model in memory. None may fail, or nothing is delivered.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning import graph as graphs
from pruning import rewiring, surgery
from pruning.archive import Archive, replace_arrays
from pruning.blocks import Block
from pruning.case import Case
from pruning.contract.errors import SecateurError, VerificationFailed
from pruning.contract.result import Check
from pruning.keras import bypass, heads, live, masked
from pruning.keras.probe import Probe, batch_of, shapes
from pruning.units import Units

Array: TypeAlias = NDArray[Any]
Outputs: TypeAlias = Callable[[Probe], list[Array]]
STRUCTURE, SINGLE, VALUES, HALF, RELOADED = 1e-9, 1e-6, 1e-4, 1e-2, 1e-5
_STRENGTHS = (1.0, 0.25, 0.05)
_POWER = 100
_FEW = 2
_STEPS = 8
_FADING = 0.1  # of a state that gates let through as a whole and rectify: it grows little in the 64 steps of a probe
_SHORT = {"float16", "bfloat16"}


def structure(
    case: Case, removed: Array, probes: Sequence[Probe], seed: int = 0, blocks: Sequence[Block] = ()
) -> Check:
    """Masked original against sliced model, both with the same redrawn weights, in float64, on the first probes.

    The surgery itself runs again, on the redrawn arrays: a wrong index in it cannot hide behind small, equal or dead
    weights. Probes are tried until one has power; one on which redrawn weights overflow proves nothing and is passed
    over, and if all are (exponentials in a row), smaller weights are drawn. Raises `VerificationFailed`. `blocks`: what
    went as a whole instead of units.
    """
    for strength in _STRENGTHS:
        drawn = replace_arrays(case.archive, redraw(case.archive.arrays, case.units, seed, strength))
        if (found := _structure(replace(case, archive=drawn), removed, probes, blocks)) is not None:
            return found
    raise VerificationFailed("structure: the outputs are not finite on any probe inputs, so nothing can be proven")


def _structure(case: Case, removed: Array, probes: Sequence[Probe], blocks: Sequence[Block]) -> Check | None:
    """The same for a case with redrawn weights; None where the outputs are finite on no probe."""
    drawn = case.archive
    if blocks:
        cut = rewiring.apply(drawn, case.blocks, blocks)
    else:
        cut = surgery.apply(drawn, case.graph, case.units, removed)
    tolerance = SINGLE if live.holds_single(drawn.config) else STRUCTURE
    config = live.computing_in(heads.linear(drawn.config, case.graph), "float64")
    whole = live.build(config, drawn.arrays)
    sliced = live.build(live.computing_in(_linear(case, cut), "float64"), cut.arrays)
    original, expecting = _references(case, removed, blocks, whole, config, tolerance)
    few = batch_of(whole) or _FEW
    last = None
    for probe in probes:
        inputs = [_double(array[:few]) for array in probe]
        before = original(inputs)
        if not _finite(expected := expecting(inputs)):
            continue
        last = _checked("structure", expected, outputs(sliced, inputs), tolerance, before)
        _check_one_sample([array[:1] for array in inputs], whole, expecting, sliced, tolerance)
        if last.has_power:
            break
    return last


def _check_one_sample(
    one: Probe, whole: keras.Model, expecting: Outputs, sliced: keras.Model, tolerance: float
) -> None:
    """The same on a batch of one, a case of its own where axes of 1 are spread; if `whole` takes such a batch.

    Only what the model itself cannot compute is passed over: where the bypass differs from it, that is a failure.
    """
    try:
        before = outputs(whole, one)
    except VerificationFailed:
        return
    if _finite(before) and _finite(expected := expecting(one)):
        _checked("structure, one sample", expected, outputs(sliced, one), tolerance, None)


def delivered(case: Case, cut: Archive, removed: Array, probes: Sequence[Probe], blocks: Sequence[Block] = ()) -> Check:
    """Masked original against sliced model with the real weights, on outputs before their last softmax or sigmoid.

    Where rounding alone moves the original's outputs on the probes (a state that grows for 64 steps, a normalisation of
    what differs little), they are compared in double precision, on the first steps. `cut`: what was sliced, before any
    training. Raises `VerificationFailed`.
    """
    configs = heads.linear(case.archive.config, case.graph), _linear(case, cut)
    try:
        return _values(case, cut, configs, removed, probes, blocks)
    except VerificationFailed:
        if live.holds_single(case.archive.config) or not _rounds(configs[0], case, probes):
            raise
    double = live.computing_in(configs[0], "float64"), live.computing_in(configs[1], "float64")
    return _values(case, cut, double, removed, _short(case, probes), blocks)


def _rounds(config: dict[str, Any], case: Case, probes: Sequence[Probe]) -> bool:
    """Whether double precision moves the original's outputs by half of what is tolerated, or by more."""
    single, double = (live.build(made, case.archive.arrays) for made in (config, live.computing_in(config, "float64")))
    exact = (outputs(double, [_double(array) for array in probe]) for probe in probes)
    return any(
        _finite(expected) and relative(expected, outputs(single, probe)) > VALUES / 2
        for expected, probe in zip(exact, probes, strict=True)
    )


def _short(case: Case, probes: Sequence[Probe]) -> list[Probe]:
    """The probes in double precision, of their free axes the first places, as few as the model takes."""
    model = live.build(case.archive.config, case.archive.arrays)
    given = shapes(model, case.vocabularies, _STEPS)
    return [
        [_double(array[(slice(None), *map(slice, shape))]) for array, shape in zip(probe, given, strict=True)]
        for probe in probes
    ]


def _values(
    case: Case,
    cut: Archive,
    configs: tuple[dict[str, Any], dict[str, Any]],
    removed: Array,
    probes: Sequence[Probe],
    blocks: Sequence[Block],
) -> Check:
    """`configs`: those of the original and of what was sliced, to be built with their own weights."""
    whole = live.build(configs[0], case.archive.arrays)
    tolerance = HALF if live.computes_in(whole, _SHORT) else VALUES
    sliced = live.build(configs[1], cut.arrays)
    original, expecting = _references(case, removed, blocks, whole, configs[0], tolerance)
    unmasked = [original(probe) for probe in probes]
    checks = [
        _checked("values", expecting(probe), outputs(sliced, probe), tolerance, before)
        for probe, before in zip(probes, unmasked, strict=True)
        if _finite(before)
    ]
    if not checks:
        raise VerificationFailed("values: the original's own outputs are not finite on the probe inputs")
    return Check(
        relative_difference=max(check.relative_difference for check in checks),
        tolerance=tolerance,
        has_power=any(check.has_power for check in checks),
    )


def _linear(case: Case, cut: Archive) -> dict[str, Any]:
    return heads.linear(cut.config, graphs.build(cut.config), case.graph)


def _references(
    case: Case, removed: Array, blocks: Sequence[Block], whole: keras.Model, config: dict[str, Any], tolerance: float
) -> tuple[Outputs, Outputs]:
    """The outputs of the original, and of the original with units masked or blocks bypassed.

    `whole`: it, alive, of this config. The bypass runs it call by call. Without a block to bypass it has to say what
    the model itself says.
    """
    if not blocks:
        without = surgery.mask(case.archive.arrays, case.units, removed)

        def with_units(probe: Probe) -> list[Array]:
            live.assign(whole, case.archive.arrays)
            return outputs(whole, probe)

        def without_units(probe: Probe) -> list[Array]:
            live.assign(whole, without)
            with masked.without(whole, case.units, removed):
                return outputs(whole, probe)

        return with_units, without_units

    # Its calls, not those of the file: constants among their arguments are in the config's precision, and what passes
    # values on in the place of a softmax takes no mask.
    graph = graphs.build(config)

    def bypassed(gone: Sequence[Block]) -> Outputs:
        run = bypass.runner(whole, config, graph, gone)

        def compute(probe: Probe) -> list[Any]:
            live.forget(whole)
            tensors = run(probe)
            return [tensors[tensor] for tensor in graph.outputs]

        return lambda probe: _numbers(partial(compute, probe))

    def original(probe: Probe) -> list[Array]:
        before = outputs(whole, probe)
        if _finite(before):
            _checked("the original run call by call", before, bypassed(())(probe), tolerance, None)
        return before

    return original, bypassed(blocks)


def reloaded(memory: keras.Model, file: keras.Model, probes: Sequence[Probe]) -> Check:
    """The model in memory against the file that was loaded again. Raises `VerificationFailed`."""
    tolerance = HALF if live.computes_in(memory, _SHORT) else RELOADED
    checks = [
        _checked("the file loaded again", expected, outputs(file, probe), tolerance, None)
        for probe in probes
        if _finite(expected := outputs(memory, probe))
    ]
    if not checks:
        raise VerificationFailed("the file loaded again: the outputs are not finite on the probe inputs")
    return Check(relative_difference=max(check.relative_difference for check in checks), tolerance=tolerance)


def zeros_held(arrays: Mapping[str, Array], masks: Mapping[str, Array]) -> bool:
    """True: every masked weight is exactly zero. Raises `VerificationFailed`, naming the array, where one is not."""
    for path, mask in masks.items():
        if (alive := int(np.count_nonzero(arrays[path][~mask]))) != 0:
            raise VerificationFailed(f"array {path!r} has {alive} weights that are masked and not zero")
    return True


def unchanged(original: Mapping[str, Array], arrays: Mapping[str, Array], masks: Mapping[str, Array]) -> None:
    """Raises `VerificationFailed` where an untrained weight job changed a weight that is not masked."""
    for path, array in arrays.items():
        same = np.equal(array, original[path]) | ~masks.get(path, np.True_)
        if not same.all():
            raise VerificationFailed(f"array {path!r} has {int((~same).sum())} changed weights that no mask covers")


def redraw(arrays: Mapping[str, Array], units: Units, seed: int, strength: float = 1.0) -> dict[str, Array]:
    """Fresh float64 values for every weight, drawn by the array's path.

    Kernels are normal with variance 2 / fan-in, times `strength`; vectors uniform in 0.5 ... 1.5, so that variances are
    positive and most rectifiers are alive. Recurrent kernels are smaller: a rectified state grows with every step else,
    and rounding with it until it looks like a mistake. Arrays that are no floating weights stay.
    """
    drawn, recurrent = dict(arrays), _recurrent(units)
    for path, shape in units.sizes.items():
        if not np.issubdtype(units.dtypes[path], np.floating):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
        if len(shape) < 2:
            drawn[path] = rng.uniform(0.5, 1.5, shape)
        else:
            drawn[path] = strength * rng.standard_normal(shape) * np.sqrt(2.0 / max(1, int(np.prod(shape[:-1]))))
        if path in recurrent:
            drawn[path] *= _FADING
    return drawn


def _recurrent(units: Units) -> set[str]:
    """Arrays that read the units which they make: those of the step before."""
    read = {axis.weight: axis.ids for axis in units.axes if axis.role == "consumer"}
    made = [axis for axis in units.axes if axis.role == "follower" and axis.weight in read]
    return {axis.weight for axis in made if np.isin(axis.ids[axis.ids >= 0], read[axis.weight]).any()}


def outputs(model: keras.Model, inputs: Probe) -> list[Array]:
    """The model's outputs on one batch, in inference mode and without states of earlier calls, as float64.

    Raises `VerificationFailed` where Keras or TensorFlow cannot compute them, with what they say.
    """
    live.forget(model)
    return _numbers(lambda: live.call(model, inputs))


def _numbers(call: Callable[[], list[Any]]) -> list[Array]:
    try:
        found = call()
    except (SecateurError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {live.said(error)}"
        raise VerificationFailed(f"the model cannot be run here: {said}") from error
    return [np.asarray(keras.ops.convert_to_numpy(output)).astype(np.float64) for output in found]


def relative(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Largest difference over all outputs, each relative to the largest value of the expected one; inf for NaN."""
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        scale = float(np.abs(a).max(initial=0.0))
        difference = float(np.abs(a - b).max(initial=0.0))
        worst = max(worst, difference / scale if scale else (0.0 if difference == 0 else float("inf")))
    return worst


def _checked(
    what: str, expected: list[Array], found: list[Array], tolerance: float, unmasked: list[Array] | None
) -> Check:
    if not _finite(expected):
        raise VerificationFailed(f"{what}: the masked original's outputs are not finite on the probe inputs")
    difference = relative(expected, found)
    if not difference <= tolerance:
        raise VerificationFailed(
            f"{what}: the outputs differ by {difference:.3g} relative to the largest, {tolerance:g} is tolerated"
        )
    power = unmasked is None or relative(unmasked, expected) > _POWER * tolerance
    return Check(relative_difference=difference, tolerance=tolerance, has_power=power)


def _finite(found: Sequence[Array]) -> bool:
    return all(np.isfinite(output).all() for output in found)


def _double(array: Array) -> Array:
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array
