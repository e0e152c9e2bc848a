from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks import coverage
from benchmarks.coverage import builders, model, page
from benchmarks.coverage.page import Row
from pruning.contract.result import LayerReport

ROW = Row(
    "LeNet",
    family="by hand",
    input_shape=(28, 28, 1),
    parameters=(60_000, 15_000),
    macs=(420_000, 120_000),
    structure=2e-16,
    structure_power=True,
    values=3e-7,
    bare=1e-7,
    fit=True,
    seconds=2.4,
)
EXPECTED = {"LeNet": "by hand", "AlexNet": "by hand"}
SAMPLE = ("MobileNet", "MobileNetV3Small", "EfficientNetB0", "DenseNet121")


def test_there_are_forty_builders() -> None:
    assert len(builders.applications()) == 40
    assert set(SAMPLE) < set(builders.names_of_all())


def test_a_row_is_rendered() -> None:
    line = page.render({"LeNet": ROW}, {"LeNet": "by hand"}).splitlines()[-1]
    assert line == (
        "| LeNet | 28x28x1 | 0.06 → 0.015 | 0.00042 → 0.00012 | 0.29 | 2e-16 | 3e-07 (no power) | 1e-07 | yes | – | 2 |"
    )


def test_what_went_wrong_and_what_stays_are_told_below_the_table() -> None:
    found = page.render({"LeNet": replace(ROW, problem="ValueError: no", note="the stem stays")}, EXPECTED)
    assert "by hand: 0 of 2" in found
    assert found.endswith("- LeNet: ValueError: no\n- LeNet: the stem stays\n- Not measured yet: AlexNet\n")


def test_the_page_is_that_of_its_rows_and_tells_of_every_builder() -> None:
    expected = builders.names_of_all()
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.render(page.rows(), expected)
    words = set(re.findall(r"\w+", text))
    assert words >= set(builders.applications())
    assert set(page.rows()) <= set(expected)


def test_what_stays_is_counted_by_reason() -> None:
    def layer(macs: int, why: str | None) -> LayerReport:
        counts = dict.fromkeys(("width_before", "width_after", "parameters_before", "parameters_after"), 4)
        return LayerReport(
            name="x", class_name="Dense", macs_before=99, macs_after=macs, sparsity=0, kept_because=why, **counts
        )

    found = model.what_stays([layer(30, "a: it is an output"), layer(30, "b: it is an output"), layer(40, None)])
    assert found == "60% of the MACs that are left are in 2 layers that keep their width: it is an output (2)"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SAMPLE)
def test_a_builder_at_real_size_passes(name: str) -> None:
    row = coverage.measure(name)
    assert row.problem == ""
    assert row.structure is not None
    assert row.structure <= 1e-9
    assert row.structure_power
    assert row.values is not None
    assert row.values <= 1e-4
    assert row.bare is not None
    assert row.bare <= 1e-4
    assert row.litert is not None
    assert row.litert <= 1e-3
    assert row.fit
    assert page.as_expected(row.ratio)
