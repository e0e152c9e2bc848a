"""Jobs to draw reports of: every figure differs from every other, so that a test knows which one it found."""

from __future__ import annotations

from typing import Any

from pruning.contract.plan import GroupPlan, MaskPlan, Plan
from pruning.contract.result import (
    Check,
    LatencyFigure,
    LayerReport,
    LossRecovery,
    MeasureReport,
    MeasureSet,
    MetricRecovery,
    RecoveryReport,
    Removed,
    Result,
    SplitRecovery,
    StageReport,
    Verification,
    Warning,
)


def latency(median: float, p95: float) -> list[LatencyFigure]:
    return [LatencyFigure(batch_size=1, median=median, p95=p95, samples=[median, p95, median])]


BEFORE = MeasureSet(
    parameters=78666,
    nonzero_parameters=78660,
    sparsity=0.0001,
    prunable_sparsity=0.0002,
    macs=12501632,
    nonzero_macs=12501000,
    size_bytes=371004,
    gzip_bytes=340006,
    sparse_bytes=500012,
    latency_ms=latency(1.9012, 2.3034),
    peak_memory_bytes=9000001,
)
AFTER = BEFORE.model_copy(
    update={
        "parameters": 39001,
        "nonzero_parameters": 38999,
        "macs": 6126000,
        "nonzero_macs": 6125000,
        "size_bytes": 190007,
        "gzip_bytes": 170009,
        "sparse_bytes": 250013,
        "latency_ms": latency(1.4056, 1.6078),
        "peak_memory_bytes": 8000003,
    }
)
NAMES = ("parameters", "nonzero_parameters", "macs", "nonzero_macs", "size_bytes", "gzip_bytes", "sparse_bytes")


def ratio(after: MeasureSet) -> dict[str, float | None]:
    shares: dict[str, float | None] = {name: getattr(after, name) / getattr(BEFORE, name) for name in NAMES}
    return shares | {"latency_ms": 1.4056 / 1.9012, "peak_memory_bytes": None}


def split(samples: int, accuracy: float) -> SplitRecovery:
    return SplitRecovery(
        samples=samples,
        loss=LossRecovery(original=0.41, pruned=2.2, recovered=0.47, r_pruned=0.1864, r_recovered=0.8723),
        metrics={
            "accuracy": MetricRecovery(
                original=0.8713, pruned=0.3012, recovered=accuracy, ratio=0.9842, interval=(0.9713, 0.9974)
            )
        },
    )


def layer(name: str, class_name: str, before: int, after: int, **more: Any) -> LayerReport:
    fields = {
        "parameters_before": 9 * before,
        "parameters_after": 9 * after,
        "macs_before": 1000 * before,
        "macs_after": 1000 * after,
        "sparsity": 0.0,
    }
    return LayerReport(name=name, class_name=class_name, width_before=before, width_after=after, **(fields | more))


CHANNEL = Result(
    measures=MeasureReport(before=BEFORE, after=AFTER, ratio=ratio(AFTER), upload_bytes=1116712),
    removed=Removed(
        size=0.5042, compute=0.5101, storage=0.4879, s_pruned={"size": 661.5, "compute": 7, "storage": 2646}
    ),
    layers=[
        layer("conv2d", "Conv2D", 16, 9),
        layer("conv2d_1", "Conv2D", 32, 13),
        layer("dense", "Dense", 10, 10, kept_because="the model's output"),
    ],
    recovery=RecoveryReport(
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        source="compile_config",
        validation=split(2500, 0.8601),
        test=split(5000, 0.8575),
    ),
    stages=[
        StageReport(stage="batch_norm", seconds=1.25, validation={"loss": 1.9}),
        StageReport(
            stage="fine_tune",
            seconds=41.5,
            validation={"loss": 0.47},
            history=[
                {"epoch": 1, "loss": 0.9, "val_loss": 0.81, "val_accuracy": 0.71},
                {"epoch": 2, "loss": 0.6, "val_loss": 0.62, "val_accuracy": 0.802},
                {"epoch": 3, "loss": 0.5, "val_loss": 0.47, "val_accuracy": 0.8601},
            ],
        ),
    ],
    verification=Verification(
        passed=True,
        structure=Check(relative_difference=3e-15, tolerance=1e-9),
        delivered=Check(relative_difference=4e-7, tolerance=1e-4, has_power=False),
        reloaded=Check(relative_difference=0.0, tolerance=1e-6),
    ),
    warnings=[Warning(code="no_speed_up", detail="The MACs halved and the time did not.")],
    data={
        "arrays": [{"name": "x_train", "shape": [10000, 32, 32, 3], "dtype": "uint8"}],
        "splits": {"train": 10000, "test": 5000},
        "has_labels": True,
        "split_from_all": False,
    },
)
WEIGHT = CHANNEL.model_copy(
    update={
        "layers": [
            layer("conv2d", "Conv2D", 16, 16, sparsity=0.52),
            layer("dense", "Dense", 10, 10, sparsity=0.31),
        ],
        "verification": Verification(passed=True, zeros_held=True),
    }
)
DRY_RUN = Result(
    measures=MeasureReport(
        before=BEFORE.model_copy(update={"latency_ms": None, "peak_memory_bytes": None, "sparse_bytes": None}),
        after=AFTER.model_copy(update={"latency_ms": None, "peak_memory_bytes": None, "sparse_bytes": None}),
        ratio={"macs": 0.49},
    ),
    removed=CHANNEL.removed,
    layers=CHANNEL.layers,
    plan=Plan(
        structure="channel",
        groups=[GroupPlan(id="conv2d", layers=["conv2d"], width=16, keep=list(range(9)))],
    ),
)
_MASK = MaskPlan(weight="layers/dense/vars/0", shape=[64, 10], kept=321, mask="")
DRY_RUN_OF_WEIGHTS = DRY_RUN.model_copy(update={"plan": Plan(structure="weight", masks=[_MASK])})


def job(result: Result | None, state: str = "succeeded", **more: Any) -> dict[str, Any]:
    """A body of `GET /v1/jobs/{id}`."""
    return {
        "id": "job_0192",
        "state": state,
        "phase": "export",
        "progress": {"completed": 1, "total": 1, "unit": "files"},
        "created_at": "2026-11-24T09:00:00Z",
        "started_at": "2026-11-24T09:00:01Z",
        "finished_at": "2026-11-24T09:01:00Z",
        "attempts": 1,
        "model_id": "mdl_1",
        "dataset_id": "dst_2",
        "spec": {"pruning": {"target": {"type": "ratio", "value": 0.5}}},
        "spec_resolved": {"pruning": {"target": {"type": "ratio", "value": 0.5}}, "dry_run": False, "seed": 0},
        "name": "resnet8 at half",
        "labels": {"team": "vision"},
        "error": None,
        "result": result.model_dump(mode="json") if result else None,
        "urls": {},
        "artifacts": [
            {"id": "art_1", "filename": "model.keras", "kind": "model", "size_bytes": 190007, "sha256": "ab" * 32}
        ],
    } | more
