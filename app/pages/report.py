"""A job's report as one HTML page that needs nothing beside itself: no script, no font, no request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from app.pages import charts, tables, templates
from pruning.contract.result import Result

_STATES = {
    "queued": ("○", "Waiting for a worker"),
    "running": ("◐", "Running"),
    "succeeded": ("✓", "Succeeded"),
    "failed": ("✗", "Failed"),
    "cancelled": ("⊘", "Cancelled"),
}
# What stands elsewhere on the page; the detail of a lost job tells its attempts.
_KNOWN_IN_ERRORS = {"code", "detail", "errors", "attempts"}


def render(job: Mapping[str, Any]) -> str:
    """The page of `job`, a body of `GET /v1/jobs/{id}` or its report; also without a result. All words are escaped."""
    result = Result.model_validate(job["result"]) if job.get("result") else None
    symbol, words = _STATES[job["state"]]
    return templates.render(
        "report.html",
        job=job,
        symbol=symbol,
        state_words=words,
        dry_run=bool(_spec(job).get("dry_run")),
        facts=_facts(job),
        error=job.get("error"),
        error_more=_more(job.get("error") or {}),
        error_places=tables.places((job.get("error") or {}).get("errors", ())),
        files=tables.files(job.get("artifacts", ())),
        request=json.dumps(_spec(job), indent=2, ensure_ascii=False),
        result=result,
        **(_sections(result) if result else {}),
    )


def _sections(result: Result) -> dict[str, Any]:
    """What the template shows of a result: tables beside their charts."""
    return {
        "headline": tables.headline(result),
        "measures": tables.measures(result.measures),
        "measures_chart": _measures_chart(result),
        "samples": tables.latency_samples(result.measures),
        "removed": tables.removed(result.removed),
        "recovery": tables.recovery(result.recovery) if result.recovery else [],
        "layers": tables.layers(result.layers),
        "layers_chart": _layers_chart(result),
        "stages": [
            {"report": stage, "table": tables.history(stage.history), "charts": _curves(stage.stage, stage.history)}
            for stage in result.stages
        ],
        "checks": tables.checks(result.verification) if result.verification else [],
        "plan": tables.plan(result.plan) if result.plan else [],
        "arrays": tables.arrays(result.data or {}),
        "splits": tables.splits(result.data or {}),
        "number": tables.number,
    }


def _spec(job: Mapping[str, Any]) -> dict[str, Any]:
    return dict(job["spec_resolved"])


def _facts(job: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What identifies the run, in the order of its life."""
    labels = ", ".join(f"{key}: {value}" for key, value in (job.get("labels") or {}).items())
    rows = [
        ("Job", job["id"]),
        ("Model", job.get("model_id")),
        ("Data set", job.get("dataset_id")),
        ("Labels", labels),
        ("Created", job.get("created_at")),
        ("Started", job.get("started_at")),
        ("Finished", job.get("finished_at")),
        ("Attempts", job.get("attempts")),
        ("Last phase", None if job["state"] == "succeeded" else job.get("phase")),
    ]
    return [(label, value) for label, value in rows if value not in (None, "")]


def _more(error: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an error knows beside code and detail, such as the floor of a target out of reach."""
    return [(name.replace("_", " "), str(value)) for name, value in error.items() if name not in _KNOWN_IN_ERRORS]


def _measures_chart(result: Result) -> Markup:
    rows = [
        charts.Bar(tables.LABELS.get(name, name), ratio, f"{100 * ratio:.1f} %")
        for name, ratio in result.measures.ratio.items()
        if ratio is not None and name in tables.CHARTED
    ]
    return charts.bars("After as a share of before, per measure", rows)


def _layers_chart(result: Result) -> Markup | None:
    """Units kept per layer, or where no width changed the share of weights that are not zero; None if neither moved."""
    wide = [layer for layer in result.layers if layer.width_before and layer.width_after is not None]
    if any(layer.width_before != layer.width_after for layer in wide):
        rows = [
            charts.Bar(
                layer.name, layer.width_after / layer.width_before, f"{layer.width_after} of {layer.width_before}"
            )
            for layer in wide
            if layer.width_after is not None and layer.width_before
        ]
        return charts.bars("Units kept per layer", rows)
    sparse = [layer for layer in result.layers if layer.sparsity > 0]
    rows = [charts.Bar(layer.name, 1 - layer.sparsity, f"{100 * layer.sparsity:.1f} % zeros") for layer in sparse]
    return charts.bars("Share of weights that are not zero, per layer", rows) if rows else None


def _curves(stage: str, history: Sequence[Mapping[str, float]]) -> list[tuple[str, Markup]]:
    """Training curves with their captions: each quantity and its validation twin share a chart."""
    if len(history) < 2:
        return []
    families: dict[str, list[str]] = {}
    for name in _quantities(history):
        families.setdefault(name.removeprefix("val_"), []).append(name)
    steps = [f"{row.get('epoch', number + 1):g}" for number, row in enumerate(history)]
    return [
        (
            f"{family}, epoch by epoch",
            charts.lines(
                f"{stage}: {family} per epoch",
                [charts.Series(name, tuple(row.get(name) for row in history)) for name in names],
                steps,
                "epoch",
            ),
        )
        for family, names in families.items()
    ]


def _quantities(history: Iterable[Mapping[str, float]]) -> list[str]:
    skipped = {"epoch", "seconds", "learning_rate"}
    return list(dict.fromkeys(name for row in history for name in row if name not in skipped))
