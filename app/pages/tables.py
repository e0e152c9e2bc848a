"""A result as rows of words: the report's tables, without markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pruning.contract.plan import Plan
from pruning.contract.result import (
    Check,
    LayerReport,
    MeasureReport,
    MeasureSet,
    RecoveryReport,
    Removed,
    Result,
    SplitRecovery,
    Verification,
)

LABELS = {
    "parameters": "Parameters",
    "nonzero_parameters": "Non-zero parameters",
    "sparsity": "Sparsity, all weights",
    "prunable_sparsity": "Sparsity, kernels",
    "macs": "MACs of one sample",
    "nonzero_macs": "MACs on non-zero weights",
    "size_bytes": "File, bytes",
    "gzip_bytes": "File gzipped, bytes",
    "sparse_bytes": "Sparse storage, bytes",
    "latency_ms": "Latency",
    "peak_memory_bytes": "Peak memory, bytes",
}
CHARTED = (
    "parameters",
    "nonzero_parameters",
    "macs",
    "nonzero_macs",
    "size_bytes",
    "gzip_bytes",
    "sparse_bytes",
    "latency_ms",
    "peak_memory_bytes",
)
NONE = "–"


Row = tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Recovery on one split: (quantity, original, pruned, recovered, kept) per row."""

    name: str
    samples: int
    rows: tuple[Row, ...]


def number(value: float | None) -> str:
    """A number for people: whole ones with separators, others with four significant digits or more."""
    if value is None:
        return NONE
    if float(value).is_integer() and (isinstance(value, int) or abs(value) >= 1e4):
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.4f}"
    return f"{value:.3g}"


def share(value: float | None) -> str:
    """A share as percent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def change(before: float | None, after: float | None) -> str:
    """What became of a cost, in percent: `-50.0 %`; nothing where there is nothing to compare."""
    if not before or after is None:
        return NONE
    moved = 100 * (after / before - 1)
    return "unchanged" if before == after else f"{moved:+.1f} %".replace("-", "−")


def headline(result: Result) -> list[Row]:
    """(what, figure, small print): what a reader wants to know first."""
    before, after = result.measures.before, result.measures.after
    cards: list[Row] = [
        ("MACs", change(before.macs, after.macs), f"{number(before.macs)} → {number(after.macs)}"),
        (
            "Non-zero parameters",
            change(before.nonzero_parameters, after.nonzero_parameters),
            f"{number(before.nonzero_parameters)} → {number(after.nonzero_parameters)}",
        ),
        (
            "File",
            change(before.size_bytes, after.size_bytes),
            f"{number(before.size_bytes)} → {number(after.size_bytes)} B",
        ),
    ]
    if before.latency_ms and after.latency_ms:
        old, new = before.latency_ms[0], after.latency_ms[0]
        cards.append(
            (
                f"Latency, batch {new.batch_size}",
                change(old.median, new.median),
                f"{old.median:.3f} → {new.median:.3f} ms",
            )
        )
    split = result.recovery and (result.recovery.test or result.recovery.validation)
    if result.recovery and split:
        where = "test" if result.recovery.test else "validation"
        for name, metric in list(split.metrics.items())[:1]:
            small_print = f"{number(metric.original)} → {number(metric.recovered)}"
            cards.append((f"{name} kept, {where}", share(metric.ratio), small_print))
        small_print = f"loss {number(split.loss.original)} → {number(split.loss.recovered)}"
        cards.append((f"R, {where}", number(split.loss.r_recovered), small_print))
    return cards


def measures(report: MeasureReport) -> list[Row]:
    """(measure, before, after, change); what neither side has is left out."""
    rows = [_measure(name, report.before, report.after) for name in LABELS if name != "latency_ms"]
    return [row for row in rows if row[1:3] != (NONE, NONE)] + _latencies(report)


def _measure(name: str, before: MeasureSet, after: MeasureSet) -> Row:
    old, new = getattr(before, name), getattr(after, name)
    if "sparsity" in name:
        return LABELS[name], share(old), share(new), f"{100 * (new - old):+.1f} points".replace("-", "−")
    return LABELS[name], number(old), number(new), change(old, new)


def _latencies(report: MeasureReport) -> list[Row]:
    pairs = zip(report.before.latency_ms or [], report.after.latency_ms or [], strict=False)
    return [
        (
            f"Latency, batch {old.batch_size}: median (95th percentile), ms",
            f"{old.median:.3f} ({old.p95:.3f})",
            f"{new.median:.3f} ({new.p95:.3f})",
            change(old.median, new.median),
        )
        for old, new in pairs
    ]


def latency_samples(report: MeasureReport) -> str:
    """How many calls each latency comes from."""
    counts = {figure.batch_size: len(figure.samples) for figure in report.after.latency_ms or []}
    return ", ".join(f"{count} calls at batch {size}" for size, count in counts.items())


def removed(report: Removed) -> list[Row]:
    """(cost, share removed, S_pruned)."""
    shares = {"size": report.size, "compute": report.compute, "storage": report.storage}
    return [(name, share(value), _mean_cost(report.s_pruned.get(name))) for name, value in shares.items()]


def _mean_cost(value: float | None) -> str:
    return NONE if value is None else f"{value:,.6g}"


def recovery(report: RecoveryReport) -> list[Split]:
    """Loss, R and every metric, per split that was measured."""
    found = {"validation": report.validation, "test": report.test}
    return [_split(name, split) for name, split in found.items() if split]


def _split(name: str, split: SplitRecovery) -> Split:
    loss = split.loss
    r = f"R = {number(loss.r_recovered)} (before recovery {number(loss.r_pruned)})"
    rows = [("loss", number(loss.original), number(loss.pruned), number(loss.recovered), r)]
    for metric_name, metric in split.metrics.items():
        interval = f" (95 %: {metric.interval[0]:.3f} to {metric.interval[1]:.3f})" if metric.interval else ""
        kept = f"ratio {number(metric.ratio)}{interval}"
        rows.append((metric_name, number(metric.original), number(metric.pruned), number(metric.recovered), kept))
    return Split(name, split.samples, tuple(rows))


def layers(reports: Sequence[LayerReport]) -> list[Row]:
    """(name, class, width, parameters, MACs, sparsity, why kept) of each layer that holds weights or units."""
    return [
        (
            layer.name,
            layer.class_name,
            _moved(layer.width_before, layer.width_after),
            _moved(layer.parameters_before, layer.parameters_after),
            _moved(layer.macs_before, layer.macs_after),
            share(layer.sparsity),
            "removed with its block" if layer.removed else layer.kept_because or "",
        )
        for layer in reports
        if layer.parameters_before or layer.width_before
    ]


def _moved(before: int | None, after: int | None) -> str:
    return number(before) if before == after else f"{number(before)} → {number(after)}"


def history(rows: Sequence[Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """(column names, cells) of a stage's epochs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[_cell(name, row.get(name)) for name in names] for row in rows]


def _cell(name: str, value: float | None) -> str:
    return f"{value:g}" if name == "epoch" and value is not None else number(value)


def checks(verification: Verification) -> list[Row]:
    """(what was compared, largest difference, tolerance, verdict) of the proof."""
    named = (
        ("Structure: sliced against masked, redrawn weights, float64", verification.structure),
        ("Values: sliced against masked, the model's own weights", verification.delivered),
        ("The delivered file, loaded again", verification.reloaded),
    )
    rows = [_check(label, check) for label, check in named if check]
    if verification.zeros_held is not None:
        verdict = "✓ held" if verification.zeros_held else "✗ broken"
        rows.append(("Masked positions are zero in the file", NONE, NONE, verdict))
    return rows


def _check(label: str, check: Check) -> Row:
    within = check.relative_difference <= check.tolerance
    verdict = ("✓ within" if within else "✗ beyond") + ("" if check.has_power else ", without power")
    return label, f"{check.relative_difference:.2g}", f"{check.tolerance:.0e}", verdict


def files(artifacts: Sequence[Mapping[str, Any]]) -> list[Row]:
    """(file name, kind, bytes, SHA-256) of what a job made."""
    return [(one["filename"], one["kind"], number(one["size_bytes"]), one["sha256"]) for one in artifacts]


def arrays(data: Mapping[str, Any]) -> list[Row]:
    """(name, shape, type) of the data set's arrays, from `DatasetDescription` as data."""
    return [
        (array["name"], " x ".join(f"{size:,}" for size in array["shape"]), array["dtype"])
        for array in data.get("arrays", ())
    ]


def splits(data: Mapping[str, Any]) -> str:
    """How many samples each split has, and where the splits come from."""
    counts = ", ".join(f"{name}: {count:,}" for name, count in data.get("splits", {}).items())
    return f"Samples: {counts}" + ("; split here, 80/10/10." if data.get("split_from_all") else ".")


def places(errors: Sequence[Mapping[str, str]]) -> list[Row]:
    """(where, code, sentence) of each wrong place in a request or in the data."""
    return [(error["path"], error["code"], error["detail"]) for error in errors]


def plan(plan: Plan) -> list[Row]:
    """(what, full width, what stays) of a plan."""
    groups: list[Row] = [(group.id, number(group.width), number(len(group.keep))) for group in plan.groups]
    masks: list[Row] = [(mask.weight, "x".join(map(str, mask.shape)), number(mask.kept)) for mask in plan.masks]
    return [*groups, *masks, *((block, "whole block", "nothing") for block in plan.layers)]
