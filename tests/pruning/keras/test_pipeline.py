"""Whole runs on a small model: what comes back is what the file is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pruning import archive as archives
from pruning import measures, planning, surgery
from pruning.contract.errors import (
    DatasetMismatch,
    DatasetRequired,
    InfeasibleTarget,
    LayerNotFound,
    NothingToPrune,
    SecateurError,
    VerificationFailed,
)
from pruning.contract.plan import Plan
from pruning.contract.progress import Line, Produced, Progress
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import REPAIRS, Spec, Stage
from pruning.keras import data, pipeline, recover
from tests.pruning.keras import small

FINE_TUNE = {"stage": "fine_tune", "epochs": 3, "batch_size": 32, "learning_rate": 0.01}
HALF = {"target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.5}}
WEIGHTS = {"structure": "weight", "target": {"type": "ratio", "value": 0.5}}
QUICK = {"latency": {"batch_sizes": [1], "repeats": 3}}


@dataclass
class Bench:
    """A folder with a normalised model and data; runs collect the lines that were emitted."""

    folder: Path
    lines: list[Line] = field(default_factory=list)

    def prune(self, pruning: Any, *, data: bool = True, **spec: Any) -> Result:
        self.lines.clear()
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        request = PruneRequest(
            model=str(self.folder / "model.keras"),
            data=str(self.folder / "data.npz") if data else None,
            out=str(out),
            spec=Spec.model_validate({"measures": QUICK, "pruning": pruning, **spec}),
            upload_bytes=1234,
        )
        return pipeline.prune(request, self.lines.append)

    def save(self, arrays: dict[str, Any]) -> None:
        np.savez(self.folder / "data.npz", **arrays)

    def produced(self) -> list[tuple[str, str, str]]:
        return [(line.kind, line.format, line.path) for line in self.lines if isinstance(line, Produced)]

    def phases(self) -> list[str]:
        return list(dict.fromkeys(line.phase for line in self.lines if isinstance(line, Progress)))

    def delivered(self) -> keras.Model:
        return keras.saving.load_model(self.folder / "out" / "pruned.keras", compile=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = small.residual()
    x, y = small.images(256, seed=9)
    model.fit(x, y, epochs=2, batch_size=32, verbose=0)
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    pipeline.normalize(model, path)
    return path


@pytest.fixture
def bench(tmp_path: Path, trained: Path) -> Bench:
    shutil.copy(trained, tmp_path / "model.keras")
    found = Bench(tmp_path)
    found.save(small.splits())
    return found


def test_every_stage_of_the_spec_has_one_implementation() -> None:
    members = Stage.__origin__.__args__  # type: ignore[attr-defined]
    assert {*recover.REPAIRS, *recover.STAGES} == set(members)
    assert not set(recover.REPAIRS) & set(recover.STAGES)
    for member in members:
        stage = member(stage=member.model_fields["stage"].annotation.__args__[0])
        assert recover.repairs(stage) == (stage.stage in REPAIRS)


def test_a_channel_job(bench: Bench) -> None:
    result = bench.prune(HALF, recovery=[{"stage": "batch_norm"}, FINE_TUNE], exports=["keras", "h5"])
    assert bench.phases() == [
        "load", "graph", "score", "plan", "surgery", "verify", "recover", "export", "measure", "evaluate"
    ]  # fmt: skip
    assert bench.produced() == [
        ("model", "keras", "pruned.keras"),
        ("model", "h5", "pruned.h5"),
        ("plan", "json", "plan.json"),
        ("keep_map", "json", "keep_map.json"),
    ]
    model, path = bench.delivered(), bench.folder / "out" / "pruned.keras"
    after = result.measures.after
    assert (after.parameters, after.size_bytes) == (model.count_params(), path.stat().st_size)
    assert after.nonzero_parameters == sum(int(np.count_nonzero(value)) for value in model.get_weights())
    assert 0.3 < after.macs / result.measures.before.macs <= 0.5
    assert result.measures.upload_bytes == 1234
    assert result.verification is not None
    assert result.verification.structure is not None
    assert result.verification.structure.relative_difference < 1e-9
    assert [stage.stage for stage in result.stages] == ["batch_norm", "fine_tune"]
    assert result.recovery is not None
    assert (result.recovery.source, result.recovery.loss) == ("compile_config", "sparse_categorical_crossentropy")
    arrays = small.splits()
    for split, found in (("validation", result.recovery.validation), ("test", result.recovery.test)):
        assert found is not None
        said = np.argmax(model.predict(arrays[f"x_{split}"], verbose=0), axis=1)
        assert found.metrics["accuracy"].recovered == (said == arrays[f"y_{split}"]).sum() / len(said)
    assert result.recovery.test is not None
    assert (result.recovery.test.metrics["accuracy"].ratio or 0) > 0.9
    widths = {layer.name: layer.width_after for layer in result.layers}
    assert {name: model.get_layer(name).filters for name in ("stem", "branch", "last")} == {
        name: widths[name] for name in ("stem", "branch", "last")
    }
    reopened = keras.saving.load_model(bench.folder / "out" / "pruned.h5", compile=False)
    np.testing.assert_array_equal(reopened(arrays["x_test"]), model(arrays["x_test"]))


def test_a_job_on_a_model_that_gives_a_number_per_sample_without_an_axis(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    outputs = keras.ops.squeeze(keras.layers.Dense(1, activation="sigmoid")(hidden), -1)
    pipeline.normalize(keras.Model(inputs, outputs), tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    bench = Bench(tmp_path)
    bench.save({"x": x, "y": x.sum(axis=1) > 0})
    ratio = {"criterion": {"name": "taylor"}, "target": {"type": "ratio", "value": 0.25}}
    result = bench.prune(ratio, recovery=[FINE_TUNE])
    assert result.recovery is not None
    assert (result.recovery.loss, result.recovery.metrics) == ("binary_crossentropy", ["accuracy"])
    assert result.recovery.test is not None
    model = bench.delivered()
    assert model.output_shape == (None,)
    with data.opened(tmp_path / "data.npz", model) as dataset:
        test = dataset.split("test")
    hits = (model.predict(test.inputs[0], verbose=0) > 0.5) == test.labels[0].values[:, 0]
    assert result.recovery.test.metrics["accuracy"].recovered == hits.mean()


def test_the_delivered_file_trains_on_with_its_own_compile_config(bench: Bench) -> None:
    bench.prune(HALF, recovery=[])
    with pytest.warns(UserWarning, match="optimizer"):
        model = keras.saving.load_model(bench.folder / "out" / "pruned.keras")
    arrays = small.splits()
    model.fit(arrays["x_train"], arrays["y_train"], epochs=3, verbose=0)
    assert model.evaluate(arrays["x_test"], arrays["y_test"], verbose=0)[1] > 0.8


def test_the_plan_replays_to_the_delivered_model(bench: Bench) -> None:
    bench.prune(HALF, recovery=[])
    plan = Plan.model_validate_json((bench.folder / "out" / "plan.json").read_text())
    case = planning.study(planning.read(bench.folder / "model.keras"))
    again = surgery.apply(case.archive, case.graph, case.units, surgery.removed_of(plan, case.units))
    delivered = archives.read(bench.folder / "out" / "pruned.keras").arrays
    for path, array in again.arrays.items():
        np.testing.assert_array_equal(array, delivered[path])


def test_a_weight_job(bench: Bench) -> None:
    result = bench.prune(WEIGHTS, recovery=[FINE_TUNE])
    after, model = result.measures.after, bench.delivered()
    kernels = [w for w in model.get_weights() if w.ndim >= 2]
    zeros, size = sum(int((w == 0).sum()) for w in kernels), sum(w.size for w in kernels)
    assert after.prunable_sparsity == zeros / size == pytest.approx(0.5, abs=1 / size)
    assert after.size_bytes == result.measures.before.size_bytes
    assert after.gzip_bytes is not None
    assert after.gzip_bytes < (result.measures.before.gzip_bytes or 0)
    assert result.verification is not None
    assert result.verification.zeros_held is True
    assert "no_speed_up" in [warning.code for warning in result.warnings]
    plan = json.loads((bench.folder / "out" / "plan.json").read_text())
    assert sum(mask["kept"] for mask in plan["masks"]) == size - zeros
    why = {layer.name: layer.kept_because for layer in result.layers if layer.kept_because is not None}
    assert why == dict.fromkeys(("stem_bn", "branch_bn"), "it has no kernel: tables, normalisation and biases stay")


def test_a_weight_job_without_stages_changes_nothing_else(bench: Bench) -> None:
    bench.prune(WEIGHTS, data=False)
    before = archives.read(bench.folder / "model.keras").arrays
    for path, array in archives.read(bench.folder / "out" / "pruned.keras").arrays.items():
        assert ((array == before[path]) | (array == 0)).all()


def test_without_data_measures_still_come(bench: Bench) -> None:
    result = bench.prune(HALF, data=False)
    assert (result.recovery, result.stages, result.data) == (None, [], None)
    assert result.measures.after.latency_ms is not None
    assert len(result.measures.after.latency_ms[0].samples) == 3


def test_without_labels_least_squares_is_what_auto_repairs(bench: Bench) -> None:
    bench.save({name: array for name, array in small.splits().items() if name.startswith("x")})
    result = bench.prune(HALF)
    assert [stage.stage for stage in result.stages] == ["least_squares"]
    assert result.recovery is None
    with pytest.raises(DatasetMismatch, match="labels"):
        bench.prune(HALF, recovery=[FINE_TUNE])


@pytest.mark.parametrize("pruning", [HALF, WEIGHTS])
def test_a_dry_run_predicts_the_job_to_the_digit(bench: Bench, pruning: Any) -> None:
    predicted = bench.prune(pruning, dry_run=True)
    assert bench.produced() == []
    real = bench.prune(pruning, recovery=[])
    same = ("parameters", "macs", "size_bytes", "nonzero_parameters", "sparsity", "peak_memory_bytes", "sparse_bytes")
    for side in ("before", "after"):
        first, second = getattr(predicted.measures, side), getattr(real.measures, side)
        assert {name: getattr(first, name) for name in same} == {name: getattr(second, name) for name in same}
        assert first.latency_ms is None
    assert predicted.removed == real.removed
    assert predicted.layers == real.layers
    assert predicted.plan == Plan.model_validate_json((bench.folder / "out" / "plan.json").read_text())


TAYLOR, APOZ = ({**HALF, "criterion": {"name": name, "samples": 64}} for name in ("taylor", "apoz"))


@pytest.mark.parametrize("pruning", [TAYLOR, {**WEIGHTS, "criterion": {"name": "wanda", "samples": 64}}])
def test_a_criterion_that_sees_samples_decides_alike_in_job_and_dry_run(bench: Bench, pruning: Any) -> None:
    predicted = bench.prune(pruning, dry_run=True)
    assert bench.produced() == []
    assert predicted.plan != bench.prune({**pruning, "criterion": {"name": "random"}}, dry_run=True).plan
    real = bench.prune(pruning, recovery=[])
    assert predicted.plan == Plan.model_validate_json((bench.folder / "out" / "plan.json").read_text())
    assert predicted.removed == real.removed
    assert predicted.measures.after.macs == real.measures.after.macs


def test_what_a_criterion_needs_has_to_be_there(bench: Bench) -> None:
    for pruning in (TAYLOR, APOZ):
        with pytest.raises(DatasetRequired, match="criterion"):
            bench.prune(pruning, data=False, recovery=[])
    arrays = small.splits()
    bench.save({name: array for name, array in arrays.items() if name.startswith("x")})
    with pytest.raises(DatasetMismatch, match="criterion taylor needs labels"):
        bench.prune(TAYLOR, recovery=[])
    assert bench.prune(APOZ, recovery=[], dry_run=True).plan is not None
    bench.save({name: array for name, array in arrays.items() if "train" not in name})
    with pytest.raises(DatasetMismatch, match="no train split"):
        bench.prune(APOZ, recovery=[])


def test_the_same_seed_makes_the_same_file(bench: Bench) -> None:
    random = {**HALF, "criterion": {"name": "random"}}
    contents = []
    for seed in (1, 1, 2):
        bench.prune(random, seed=seed, recovery=[])
        contents.append((bench.folder / "out" / "pruned.keras").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_out_of_reach_gives_the_floor_and_the_nearest_model(bench: Bench) -> None:
    target = {"type": "budget", "measure": "macs", "at_most_ratio": 0.001}
    with pytest.raises(InfeasibleTarget) as caught:
        bench.prune({"target": target})
    body = caught.value.body()
    assert (body["code"], body["nearest"]) == ("infeasible_target", "nearest.keras")
    assert bench.produced() == [("model", "keras", "nearest.keras")]
    case = planning.study(archives.read(bench.folder / "out" / "nearest.keras"))
    macs = sum(measures.macs(case.units).values())
    assert body["floor"] == macs


LEAST_SQUARES = {"stage": "least_squares", "samples": 100}


def test_repairs_edit_before_the_cut_and_are_proven(bench: Bench) -> None:
    bare = bench.prune(HALF, recovery=[])
    result = bench.prune(HALF, recovery=[{"stage": "fold"}, LEAST_SQUARES, {"stage": "batch_norm"}])
    assert bench.phases() == [
        "load", "graph", "score", "plan", "surgery", "recover", "verify", "export", "measure", "evaluate"
    ]  # fmt: skip
    told = [str(line.detail["what"]) for line in bench.lines if isinstance(line, Progress) and line.phase == "recover"]
    assert list(dict.fromkeys(told)) == ["1/3 fold", "2/3 least_squares", "3/3 batch_norm"]
    assert bare.recovery is not None
    assert result.recovery is not None
    # What is called pruned knows no repair; what each stage told is the sliced model's.
    for split in ("validation", "test"):
        first, second = getattr(bare.recovery, split), getattr(result.recovery, split)
        assert first.loss.pruned == second.loss.pruned == first.loss.recovered
    losses = [stage.validation["loss"] for stage in result.stages]
    assert len(set(losses)) == 3
    assert result.recovery.validation is not None
    assert result.recovery.validation.loss.recovered == pytest.approx(losses[-1], rel=1e-5)
    assert losses[1] < (bare.recovery.validation.loss.pruned if bare.recovery.validation else 0)
    proof = result.verification
    assert proof is not None
    assert proof.delivered is not None
    assert proof.delivered.has_power
    assert proof.structure is not None
    assert proof.structure.has_power
    assert result.stages[1].history[0] == {"layers": 4.0, "left_alone": 0.0, "samples": 100.0}


def test_folding_needs_no_data(bench: Bench) -> None:
    result = bench.prune(HALF, data=False, recovery=[{"stage": "fold"}])
    assert result.stages[0].history[0]["layers"] > 0
    with pytest.raises(DatasetRequired, match="least_squares"):
        bench.prune(HALF, data=False, recovery=[{"stage": "fold"}, LEAST_SQUARES])


@pytest.mark.parametrize("recovery", [[], [LEAST_SQUARES]])
def test_nothing_is_announced_when_verification_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, recovery: Any
) -> None:
    right = surgery.apply

    def wrong(archive: Any, *rest: Any) -> Any:
        cut = right(archive, *rest)
        path = "layers/conv2d_2/vars/0"
        return archives.replace_arrays(cut, {path: np.roll(cut.arrays[path], 1, 2)})

    monkeypatch.setattr(surgery, "apply", wrong)
    with pytest.raises(VerificationFailed):
        bench.prune(HALF, recovery=recovery)
    assert bench.produced() == []


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda a: a.pop("x_validation") is None or a.pop("y_validation"), DatasetMismatch, "no validation split"),
        (lambda a: a.update(y_train=a["y_train"] + 1), DatasetMismatch, "label 3 at index"),
        (lambda a: a.update(x_train=a["x_train"][..., :1]), DatasetMismatch, r"\(8, 8, 1\)"),
        (lambda a: a["x_test"].__setitem__((0, 0, 0, 0), np.nan), DatasetMismatch, "'x_test' holds nan"),
        (lambda a: a.update(y_test=a["y_test"][:5]), DatasetMismatch, "differ in length"),
    ],
)
def test_bad_data_fails_by_name(bench: Bench, change: Any, error: type[SecateurError], words: str) -> None:
    arrays = small.splits()
    change(arrays)
    bench.save(arrays)
    with pytest.raises(error, match=words):
        bench.prune(HALF, recovery=[FINE_TUNE])
    assert bench.produced() == []


def test_bad_data_fails_also_where_no_stage_reads_it(bench: Bench) -> None:
    arrays = small.splits()
    arrays["y_train"][5] = 9
    bench.save(arrays)
    with pytest.raises(DatasetMismatch, match="label 9 at index 5"):
        bench.prune(HALF, recovery=[])


def test_specs_that_do_not_fit_the_model(bench: Bench) -> None:
    with pytest.raises(DatasetRequired, match="fine_tune"):
        bench.prune(HALF, data=False, recovery=[FINE_TUNE])
    with pytest.raises(LayerNotFound):
        bench.prune({**HALF, "layers": {"no_such_layer": {"skip": True}}}, data=False)
    with pytest.raises(NothingToPrune):
        bench.prune({**HALF, "layers": {"*": {"skip": True}}}, data=False)
    with pytest.raises(SecateurError) as caught:
        bench.prune({"target": {"type": "manual"}, "layers": {"last": {"remove": [12]}}}, data=False)
    assert caught.value.code == "target_out_of_range"
    with pytest.raises(SecateurError) as caught:
        bench.prune({"target": {"type": "manual"}, "layers": {"last": {"remove": list(range(12))}}}, data=False)
    assert caught.value.code == "contradictory_spec"


def test_an_original_at_chance_is_said_so(bench: Bench) -> None:
    arrays = small.splits()
    for split in ("train", "validation", "test"):
        arrays[f"y_{split}"] = np.random.default_rng(0).integers(0, small.CLASSES, len(arrays[f"y_{split}"]))
    bench.save(arrays)
    result = bench.prune(HALF, recovery=[])
    assert "original_at_chance" in [warning.code for warning in result.warnings]


def test_a_test_split_alone_is_judged_without_stages_and_says_what_is_left_out(bench: Bench) -> None:
    model = small.residual()
    model.compile(loss="sparse_categorical_crossentropy", metrics=["AUC", "accuracy"])
    pipeline.normalize(model, bench.folder / "model.keras")
    bench.save({name: array for name, array in small.splits().items() if name.endswith("test")})
    result = bench.prune(HALF)
    assert result.stages == []
    assert result.recovery is not None
    assert result.recovery.metrics == ["accuracy"]
    left_out = [warning.detail for warning in result.warnings if warning.code == "metric_left_out"]
    assert len(left_out) == 1
    assert left_out[0].startswith("metric AUC cannot be computed")


def test_inspection_saves_again_and_describes(tmp_path: Path) -> None:
    small.residual().save(tmp_path / "old.h5")
    lines: list[Line] = []
    request = InspectRequest(upload=str(tmp_path / "old.h5"), format="h5", out=str(tmp_path))
    found = pipeline.inspect(request, lines.append)
    assert [line.path for line in lines if isinstance(line, Produced)] == ["normalized.keras"]
    assert found.compiled == {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    assert found.inputs[0].shape == [None, 8, 8, 2]
    groups = {group.id: (group.width, group.prunable, group.layers) for group in found.groups}
    assert groups["stem"] == (8, True, ["stem", "stem_bn", "branch", "branch_bn", "last"])
    assert groups["head"][1] is False
    assert found.floor["macs"] < found.macs / 4
    archive = archives.read(tmp_path / "normalized.keras")
    assert not any(path.startswith("optimizer") for path in archive.arrays)
    request = request.model_copy(update={"upload": str(tmp_path / "normalized.keras"), "format": "keras"})
    first = (tmp_path / "normalized.keras").read_bytes()
    assert pipeline.inspect(request, lines.append) == found
    assert len(first) == (tmp_path / "normalized.keras").stat().st_size


def test_importing_the_pipeline_runs_no_operation() -> None:
    """A zygote forks after this import: TensorFlow must not have started its threads."""
    program = (
        "import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"
        "import pruning.keras.pipeline, threading\n"
        "from tensorflow.python.eager import context\n"
        "print(context.context()._context_handle is None, len(os.listdir('/proc/self/task')))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "1"], done.stderr
