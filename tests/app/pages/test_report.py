from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from app.pages.report import render
from tests.app.pages import jobs

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Tables by caption, headings, words and tags of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self._cells: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._cells, self._caption = [], ""
        if tag == "tr":
            self._cells.append([])
        if tag in ("td", "th"):
            self._cells[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._cells

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts.append(data.strip())
        if {"td", "th"} & set(self._open):
            self._cells[-1][-1] += data.strip()
        if "caption" in self._open:
            self._caption += data.strip()
        if self.headings and self._open[-1] == self.headings[-1][0]:
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data.strip())

    @property
    def text(self) -> str:
        return " ".join(part for part in self.texts if part)

    def rows(self, caption: str) -> dict[str, list[str]]:
        return {row[0]: row[1:] for row in self.tables[caption][1:]}


def page(job: dict[str, Any]) -> Page:
    return Page(render(job))


ALL = {
    "channel": jobs.job(jobs.CHANNEL),
    "weight": jobs.job(jobs.WEIGHT),
    "dry_run": jobs.job(jobs.DRY_RUN, spec_resolved={"dry_run": True}),
    "dry_run_of_weights": jobs.job(jobs.DRY_RUN_OF_WEIGHTS, spec_resolved={"dry_run": True}),
    "failed": jobs.job(None, "failed", error={"code": "worker_lost", "detail": "It died three times."}),
    "cancelled": jobs.job(None, "cancelled", phase="recover"),
    "running": jobs.job(None, "running", finished_at=None),
    "queued": jobs.job(None, "queued", started_at=None, finished_at=None, name=None),
}


def test_a_channel_jobs_figures_are_in_the_tables() -> None:
    found = page(jobs.job(jobs.CHANNEL))
    measures = found.rows("Measures of the file before and after")
    assert measures["Parameters"] == ["78,666", "39,001", "−50.4 %"]
    assert measures["MACs of one sample"] == ["12,501,632", "6,126,000", "−51.0 %"]
    assert measures["File, bytes"] == ["371,004", "190,007", "−48.8 %"]
    assert measures["File gzipped, bytes"] == ["340,006", "170,009", "−50.0 %"]
    assert measures["Latency, batch 1: median (95th percentile), ms"] == ["1.901 (2.303)", "1.406 (1.608)", "−26.1 %"]
    assert measures["Sparsity, all weights"] == ["0.0 %", "0.0 %", "+0.0 points"]
    assert found.rows("What was removed") == {
        "size": ["50.4 %", "661.5"],
        "compute": ["51.0 %", "7"],
        "storage": ["48.8 %", "2,646"],
    }
    test = found.rows("On test, 5,000 samples")
    assert test["loss"] == ["0.4100", "2.2000", "0.4700", "R = 0.8723 (before recovery 0.1864)"]
    assert test["accuracy"] == ["0.8713", "0.3012", "0.8575", "ratio 0.9842 (95 %: 0.971 to 0.997)"]
    assert found.rows("On validation, 2,500 samples")["accuracy"][2] == "0.8601"
    layers = found.rows("Layers with weights or units")
    assert layers["conv2d"] == ["Conv2D", "16 → 9", "144 → 81", "16,000 → 9,000", "0.0 %", ""]
    assert layers["dense"][-1] == "the model's output"
    assert found.rows("Every epoch of fine_tune")["3"] == ["0.5000", "0.4700", "0.8601"]
    checks = found.rows("Largest relative differences found")
    assert list(checks.values()) == [
        ["3e-15", "1e-09", "✓ within"],
        ["4e-07", "1e-04", "✓ within, without power"],
        ["0", "1e-06", "✓ within"],
    ]
    assert "no_speed_up" in found.text
    assert "The MACs halved and the time did not." in found.text
    assert "1,116,712 bytes" in found.text
    assert "3 calls at batch 1" in found.text
    assert found.rows("Arrays of the data set") == {"x_train": ["10,000 x 32 x 32 x 3", "uint8"]}
    assert found.rows("What the job made") == {"model.keras": ["model", "190,007", "ab" * 32]}
    assert "Samples: train: 10,000, test: 5,000." in found.text


def test_the_cards_show_the_same_figures() -> None:
    text = page(jobs.job(jobs.CHANNEL)).text
    for figure in ("MACs −51.0 %", "File −48.8 %", "Latency, batch 1 −26.1 %", "accuracy kept, test 98.4 %"):
        assert figure in text
    assert "R, test 0.8723" in text


def bar_widths(found: Page) -> list[float]:
    """Widths of all filled bars, in percent."""
    return [float((attrs["width"] or "").rstrip("%")) for _, attrs in found.tags if attrs.get("class") == "fill"]


def test_bars_are_as_long_as_the_ratios_say() -> None:
    result = jobs.CHANNEL
    expected = [100 * value for value in result.measures.ratio.values() if value is not None]
    expected += [100 * 9 / 16, 100 * 13 / 32, 100.0]
    assert bar_widths(page(jobs.job(result))) == pytest.approx(expected, abs=0.006)


def test_a_slower_model_lengthens_the_scale_for_all() -> None:
    slower = jobs.CHANNEL.measures.model_copy(update={"ratio": {"macs": 0.5, "latency_ms": 1.25}})
    found = page(jobs.job(jobs.CHANNEL.model_copy(update={"measures": slower, "layers": []})))
    assert bar_widths(found) == pytest.approx([40.0, 100.0])
    tracks = [attrs["width"] for _, attrs in found.tags if attrs.get("class") == "track"]
    assert tracks == ["80.00%", "80.00%"]


def test_a_weight_job_charts_what_is_not_zero() -> None:
    found = page(jobs.job(jobs.WEIGHT))
    assert bar_widths(found)[-2:] == pytest.approx([48.0, 69.0])
    assert found.rows("Largest relative differences found")["Masked positions are zero in the file"][-1] == "✓ held"


def test_a_dry_run_says_so_and_shows_its_plan() -> None:
    found = page(ALL["dry_run"])
    assert "dry run" in found.text
    assert found.rows("What would stay") == {"conv2d": ["16", "9"]}
    of_weights = page(ALL["dry_run_of_weights"])
    assert of_weights.rows("What would stay") == {"layers/dense/vars/0": ["64x10", "321"]}
    assert "Latency" not in found.text
    assert found.rows("Measures before, and predicted after")["Parameters"][1] == "39,001"


def test_a_failed_job_says_why_and_where() -> None:
    error = {
        "code": "infeasible_target",
        "detail": "At least 31 % of the MACs stay.",
        "floor": 0.31,
        "nearest": "art_9",
        "errors": [{"path": "pruning.target", "code": "infeasible_target", "detail": "asked for 0.1"}],
    }
    found = page(jobs.job(None, "failed", error=error))
    assert "✗ Failed" in found.text
    for words in ("infeasible_target", "At least 31 % of the MACs stay.", "floor: 0.31", "nearest: art_9"):
        assert words in found.text
    assert found.rows("What was wrong, place by place") == {"pruning.target": ["infeasible_target", "asked for 0.1"]}


def test_the_attempts_of_a_lost_job_are_told_in_words_alone() -> None:
    attempts = [{"code": "worker_lost", "detail": "killed by SIGSEGV", "attempt": 1}]
    error = {
        "code": "worker_lost",
        "detail": "all attempts were lost: attempt 1: killed by SIGSEGV",
        "attempts": attempts,
    }
    html = render(jobs.job(None, "failed", error=error))
    assert error["detail"] in html
    assert "&#39;attempt&#39;" not in html


@pytest.mark.parametrize("kind", ["cancelled", "running", "queued"])
def test_a_job_without_a_result_says_so(kind: str) -> None:
    text = page(ALL[kind]).text
    assert ("before it had a result" if kind == "cancelled" else "no result yet") in text


def test_the_curve_passes_through_the_values() -> None:
    found = page(jobs.job(jobs.CHANNEL))
    marks = [
        float(attrs["y"] or 0) for tag, attrs in found.tags if tag == "svg" and "mark s0" in (attrs["class"] or "")
    ]
    # Chart of loss and val_loss: a legend mark, then three points; 0.9 is the top, 0.47 (of val_loss) the bottom.
    legend, first, second, third = marks[:4]
    top, bottom = 40 + 14, 40 + 14 + 150
    assert legend == 8
    assert [first, second, third] == pytest.approx(
        [top, bottom - 150 * (0.6 - 0.47) / 0.43, bottom - 150 * (0.5 - 0.47) / 0.43], abs=0.06
    )


@pytest.mark.parametrize("kind", ALL)
def test_a_page_needs_nothing_from_outside(kind: str) -> None:
    html = render(ALL[kind])
    found = Page(html)
    assert {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "base", "form"} == set()
    for _, attrs in found.tags:
        assert not {"src", "href", "action", "style", "onclick", "onload"} & set(attrs)
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.parametrize("kind", ALL)
def test_a_page_can_be_read_without_seeing_it(kind: str) -> None:
    found = page(ALL[kind])
    assert next(attrs for tag, attrs in found.tags if tag == "html")["lang"] == "en"
    assert [level for level, _ in found.headings].count("h1") == 1
    assert found.headings[0][0] == "h1"
    assert all(words for _, words in found.headings)
    for tag, attrs in found.tags:
        if tag == "th":
            assert attrs["scope"] in ("row", "col")
        if tag == "svg" and attrs.get("role") == "img":
            assert attrs["class"].startswith("chart")  # type: ignore[union-attr]
    charts = sum(1 for tag, attrs in found.tags if tag == "svg" and attrs.get("role") == "img")
    assert charts == sum(1 for tag, _ in found.tags if tag == "title") - 1
    assert "" not in found.tables
    assert sum(1 for tag, _ in found.tags if tag == "caption") == sum(1 for tag, _ in found.tags if tag == "table")
    state = ALL[kind]["state"]
    words = {"queued": "Waiting for a worker"}.get(state, state.capitalize())
    assert words in found.text


HOSTILE = "</title></style><script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;{{ 7*7 }}"


def test_every_word_of_the_users_is_escaped() -> None:
    plain = page(jobs.job(jobs.CHANNEL))
    layers = [layer.model_copy(update={"name": HOSTILE, "kept_because": HOSTILE}) for layer in jobs.CHANNEL.layers]
    history = [{"epoch": 1, HOSTILE: 0.5}, {"epoch": 2, HOSTILE: 0.4}]
    assert jobs.CHANNEL.recovery is not None
    split = jobs.split(5000, 0.8).model_copy(update={"metrics": {HOSTILE: jobs.split(1, 0.5).metrics["accuracy"]}})
    recovery = jobs.CHANNEL.recovery.model_copy(update={"test": split, "loss": HOSTILE, "metrics": [HOSTILE]})
    result = jobs.CHANNEL.model_copy(
        update={
            "layers": layers,
            "recovery": recovery,
            "stages": [jobs.StageReport(stage=HOSTILE, seconds=1, validation={}, history=history)],
            "warnings": [jobs.Warning(code=HOSTILE, detail=HOSTILE)],
            "data": {"arrays": [{"name": HOSTILE, "shape": [1], "dtype": HOSTILE}], "splits": {HOSTILE: 1}},
        }
    )
    error = {"code": HOSTILE, "detail": HOSTILE, HOSTILE: HOSTILE}
    error["errors"] = [{"path": HOSTILE, "code": HOSTILE, "detail": HOSTILE}]  # type: ignore[assignment]
    spec = {"pruning": {"layers": {HOSTILE: {"skip": True}}}}
    hostile = jobs.job(result, name=HOSTILE, labels={HOSTILE: HOSTILE}, error=error, spec_resolved=spec)
    hostile["artifacts"][0] |= {"filename": HOSTILE, "kind": HOSTILE, "sha256": HOSTILE}
    found = page(hostile)
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in plain.tags} | {"div"}
    assert HOSTILE in found.headings[0][1]
    assert HOSTILE in found.text
    assert found.rows("Layers with weights or units")[HOSTILE][-1] == HOSTILE
