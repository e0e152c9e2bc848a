"""One builder through the engine, step by step as a job goes: `python -m benchmarks.coverage.model NAME FOLDER`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from benchmarks.coverage import bare
from benchmarks.coverage.builders import PROVEN_AT, build, names_of_all, smaller
from benchmarks.coverage.page import Row, as_expected
from pruning import archive as archives
from pruning import measures, planning, structures, surgery
from pruning.archive import Archive
from pruning.contract.result import LayerReport
from pruning.contract.spec import Spec, resolve
from pruning.keras import live, pipeline, private, probe, verify

HALF = {"criterion": {"name": "l2"}, "scope": "layer", "target": {"type": "ratio", "value": 0.5}}
SPEC = resolve(Spec.model_validate({"pruning": HALF, "recovery": []}), (), has_labels=False)
SAMPLES = 2
FREE = 64


def main(name: str, folder: str) -> None:
    """Write `row.json` after each step; an exception becomes the row's `problem`."""
    path = Path(folder, "row.json")
    began = time.monotonic()
    row = Row(name, family=names_of_all()[name], keras=keras.__version__)

    def note(found: Row) -> None:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        path.write_text(json.dumps(asdict(replace(found, peak_bytes=peak))), encoding="utf-8")

    try:
        keras.utils.set_random_seed(0)
        model = build(name)
        whole = live.archive(model) if name in PROVEN_AT else None
        model = smaller(name, model)
        draw(model)
        began = time.monotonic()
        row = prune(row, model, Path(folder))
        if whole is not None:
            row = at_real_size(row, whole)
        row = replace(row, seconds=time.monotonic() - began)
        note(row)
        del model
        keras.backend.clear_session()
        note(in_bare_keras(row, Path(folder)))
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        note(replace(row, problem=problem, seconds=time.monotonic() - began))


def draw(model: keras.Model) -> None:
    """Values with which every unit matters and no signal dies or explodes, as training leaves them.

    Kernels are normal with variance 2 / fan-in, scales uniform in 0.5 ... 1.5, biases normal around 0; moving
    statistics are those of one batch of random images.
    """
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            fan_in = int(np.prod(shape[:-1]))
            if "depthwise" in variable.path:
                fan_in = int(np.prod(shape[:-2]))
            values = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        elif variable.name == "gamma":
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(0, 0.1, shape)
        variable.assign(values)
    normalizations = [layer for layer in private.layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    if normalizations:
        live.call(model, inputs(model, 4), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum


def inputs(model: keras.Model, count: int) -> probe.Probe:
    """Random images in 0 ... 255."""
    anything = [None] * len(model.inputs)
    return probe.random(model, anything, count, probe.shapes(model, anything, FREE), 255.0)


def prune(row: Row, model: keras.Model, folder: Path) -> Row:
    """The steps of a job without data, which leave `pruned.keras` and `reference.npz`; the row with their figures."""
    path = folder / "normalized.keras"
    pipeline.normalize(model, path)
    case = planning.study(planning.read(path), SPEC.pruning)
    chosen = planning.decide(case, planning.score(case, SPEC), SPEC.pruning)
    left = structures.of(SPEC.pruning.structure).cut(case, chosen)
    cut = left.archive
    archives.write(folder / "pruned.keras", cut)
    probes = probe.probes(model, case.vocabularies, None)
    structure = verify.structure(case, chosen.removed, probes)
    values = verify.delivered(case, cut, chosen.removed, probes)
    live.assign(model, surgery.mask(case.archive.arrays, case.units, chosen.removed))
    refer(model, folder)
    row = replace(
        row,
        input_shape=tuple(model.inputs[0].shape[1:]),
        parameters=(measures.parameters(case.units), measures.parameters(left.units)),
        macs=(sum(measures.macs(case.units).values()), sum(measures.macs(left.units).values())),
        structure=structure.relative_difference,
        structure_power=structure.has_power,
        values=values.relative_difference,
        values_power=values.has_power,
    )
    layers = measures.layers(case.units, cut.arrays, chosen.removed, chosen.reasons)
    return row if as_expected(row.ratio) else replace(row, note=what_stays(layers))


def at_real_size(row: Row, archive: Archive) -> Row:
    """The row with MACs of the model's own input size; what ran was smaller."""
    case = planning.study(archive, SPEC.pruning)
    chosen = planning.decide(case, planning.score(case, SPEC), SPEC.pruning)
    macs = (sum(measures.macs(case.units).values()), sum(measures.macs(case.units, chosen.removed).values()))
    shape = tuple(archive.config["config"]["layers"][0]["config"]["batch_shape"][1:])
    return replace(row, input_shape=shape, proven_at=row.input_shape, macs=macs)


def what_stays(layers: list[LayerReport]) -> str:
    """Which barriers keep the MACs that are left, in words."""
    total = sum(layer.macs_after for layer in layers)
    kept = [layer for layer in layers if layer.kept_because is not None and layer.macs_after]
    share = sum(layer.macs_after for layer in kept) / total
    reasons = Counter(str(layer.kept_because).partition(": ")[2] for layer in kept)
    words = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"{share:.0%} of the MACs that are left are in {len(kept)} layers that keep their width: {words}"


def refer(masked: keras.Model, folder: Path) -> None:
    """Inputs and outputs of the masked original as `reference.npz`."""
    given = inputs(masked, SAMPLES)
    found = [np.asarray(output) for output in live.call(masked, given)]
    named = {f"x{i}": array for i, array in enumerate(given)} | {f"y{i}": array for i, array in enumerate(found)}
    np.savez(folder / "reference.npz", **named)  # type: ignore[arg-type]


def in_bare_keras(row: Row, folder: Path) -> Row:
    """The row with what a process without this project makes of the pruned file."""
    out = folder / "bare.json"
    command = [
        sys.executable,
        "-I",
        bare.__file__,
        str(folder / "pruned.keras"),
        str(folder / "reference.npz"),
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    problem = found.pop("litert_problem", "")
    if done.returncode:
        problem = problem or f"in bare Keras: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
    return replace(row, **found, problem=problem)


if __name__ == "__main__":
    main(*sys.argv[1:])
