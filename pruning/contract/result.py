"""The figures that a job brings back. Names and units are API.md's."""

from __future__ import annotations

from typing import Any, Literal

from pruning.contract.base import Record
from pruning.contract.plan import Plan


class LatencyFigure(Record):
    """Milliseconds of one call on one batch."""

    batch_size: int
    median: float
    p95: float
    samples: list[float]


class MeasureSet(Record):
    """What one model costs. Bytes are the file's; `sparsity` counts all weights, `prunable_sparsity` the kernels."""

    parameters: int
    nonzero_parameters: int
    sparsity: float
    prunable_sparsity: float
    macs: int
    nonzero_macs: int
    size_bytes: int
    gzip_bytes: int | None = None
    sparse_bytes: int | None = None
    latency_ms: list[LatencyFigure] | None = None
    peak_memory_bytes: int | None = None


class MeasureReport(Record):
    """Before, after and after / before; `upload_bytes` is the file as it came."""

    before: MeasureSet
    after: MeasureSet
    ratio: dict[str, float | None]
    upload_bytes: int | None = None


class Removed(Record):
    """Share removed, sum(P*S) / sum(S), per measure; `s_pruned` is (1/m) * sum(P*S)."""

    size: float
    compute: float
    storage: float
    s_pruned: dict[str, float]


class LossRecovery(Record):
    """Loss of the original, the pruned and the delivered model; r_* = L_orig / L_pruned."""

    original: float | None
    pruned: float | None
    recovered: float | None
    r_pruned: float | None
    r_recovered: float | None


class MetricRecovery(Record):
    """A metric of the three models; `ratio` = recovered / original with its 95 % bootstrap `interval`."""

    original: float | None
    pruned: float | None
    recovered: float | None
    ratio: float | None
    interval: tuple[float, float] | None


class SplitRecovery(Record):
    """Recovery on one split of `samples` samples."""

    samples: int
    loss: LossRecovery
    metrics: dict[str, MetricRecovery]


class RecoveryReport(Record):
    """Recovery on the split that chose (validation) and on the one that chose nothing (test)."""

    loss: str
    metrics: list[str]
    source: Literal["request", "compile_config", "inferred"]
    validation: SplitRecovery | None = None
    test: SplitRecovery | None = None


class StageReport(Record):
    """One recovery stage: how long it took and where it led on validation."""

    stage: str
    seconds: float
    validation: dict[str, Any]
    history: list[dict[str, float]] = []


class LayerReport(Record):
    """One layer before and after; `kept_because` says why nothing of it could be removed.

    `removed`: the whole layer went, with a block; its width is 0 then, if it has one.
    """

    name: str
    class_name: str
    width_before: int | None
    width_after: int | None
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    sparsity: float
    kept_because: str | None = None
    removed: bool = False


class Check(Record):
    """One comparison: the largest relative difference found and the most that is tolerated."""

    relative_difference: float
    tolerance: float
    has_power: bool = True


class Verification(Record):
    """The proof: structure on redrawn weights in float64, values on the real ones, and the file loaded again."""

    passed: bool
    structure: Check | None = None
    delivered: Check | None = None
    reloaded: Check | None = None
    zeros_held: bool | None = None


class Warning(Record):
    """A plain sentence about something the user should not have to find out alone."""

    code: str
    detail: str


class Result(Record):
    """All that a job found. `plan` only in a dry run; else it is an artifact."""

    measures: MeasureReport
    removed: Removed
    layers: list[LayerReport]
    recovery: RecoveryReport | None = None
    stages: list[StageReport] = []
    verification: Verification | None = None
    warnings: list[Warning] = []
    plan: Plan | None = None
    data: dict[str, Any] | None = None
