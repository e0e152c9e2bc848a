"""One builder through the engine, as a user's upload goes: `python -m benchmarks.coverage.model NAME FOLDER`."""

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
from benchmarks.coverage.builders import build, names_of_all
from benchmarks.coverage.page import Row, as_expected
from pruning import planning, surgery
from pruning.contract.plan import Plan
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import Check, LayerReport, Result
from pruning.contract.spec import Spec
from pruning.keras import live, pipeline, private, probe

SPEC = {
    "pruning": {"criterion": {"name": "l2"}, "scope": "layer", "target": {"type": "ratio", "value": 0.5}},
    "measures": {"latency": None},
}
SAMPLES = 2
FREE = 64


def main(name: str, folder: str) -> None:
    """Write `row.json` after each step; an exception becomes the row's `problem`."""
    path = Path(folder, "row.json")
    began = time.monotonic()
    row = Row(name, family=names_of_all()[name], keras=keras.__version__)

    def note(found: Row) -> Row:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        path.write_text(json.dumps(asdict(replace(found, peak_bytes=peak))), encoding="utf-8")
        return found

    try:
        upload = make(name, Path(folder))
        began = time.monotonic()
        result, plan = prune(upload, Path(folder))
        row = note(replace(described(row, result), seconds=time.monotonic() - began))
        row = replace(row, input_shape=reference(Path(folder), plan))
        note(in_bare_keras(row, Path(folder)))
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        note(replace(row, problem=problem, seconds=time.monotonic() - began))


def make(name: str, folder: Path) -> Path:
    """The builder's model with values of its own, saved."""
    keras.utils.set_random_seed(0)
    model = build(name)
    draw(model)
    path = folder / "upload.keras"
    model.save(path)
    keras.backend.clear_session()
    return path


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
    return probe.random(model, [None] * len(model.inputs), count, FREE, 255.0)


def prune(upload: Path, folder: Path) -> tuple[Result, Plan]:
    """Inspection and job."""
    pipeline.inspect(InspectRequest(upload=str(upload), format="keras", out=str(folder)), lambda _: None)
    upload.unlink()
    request = PruneRequest(model=str(folder / "normalized.keras"), out=str(folder), spec=Spec.model_validate(SPEC))
    result = pipeline.prune(request, lambda _: None)
    return result, Plan.model_validate_json((folder / "plan.json").read_bytes())


def described(row: Row, result: Result) -> Row:
    """The row with the job's own figures."""
    before, after, proof = result.measures.before, result.measures.after, result.verification
    assert proof is not None
    structure, values = proof.structure or Check(relative_difference=1, tolerance=0), proof.delivered
    assert values is not None
    row = replace(
        row,
        parameters=(before.parameters, after.parameters),
        macs=(before.macs, after.macs),
        structure=structure.relative_difference,
        structure_power=structure.has_power,
        values=values.relative_difference,
        values_power=values.has_power,
    )
    return row if as_expected(row.ratio) else replace(row, note=what_stays(result.layers))


def what_stays(layers: list[LayerReport]) -> str:
    """Which barriers keep the MACs that are left, in words."""
    total = sum(layer.macs_after for layer in layers)
    kept = [layer for layer in layers if layer.kept_because is not None and layer.macs_after]
    share = sum(layer.macs_after for layer in kept) / total
    reasons = Counter(str(layer.kept_because).partition(": ")[2] for layer in kept)
    words = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"{share:.0%} of the MACs that are left are in {len(kept)} layers that keep their width: {words}"


def reference(folder: Path, plan: Plan) -> tuple[int, ...]:
    """Inputs and outputs of the masked original as `reference.npz`; the shape of the first input."""
    case = planning.study(planning.read(folder / "normalized.keras"))
    removed = surgery.removed_of(plan, case.units)
    masked = live.build(case.archive.config, surgery.mask(case.archive.arrays, case.units, removed))
    given = inputs(masked, SAMPLES)
    found = [np.asarray(output) for output in live.call(masked, given)]
    named = {f"x{i}": array for i, array in enumerate(given)} | {f"y{i}": array for i, array in enumerate(found)}
    np.savez(folder / "reference.npz", **named)  # type: ignore[arg-type]
    return tuple(given[0].shape[1:])


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
