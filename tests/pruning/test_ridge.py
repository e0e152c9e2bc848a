"""Corrections against solutions by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pruning.ridge import correction

RNG = np.random.default_rng(0)


def rows(count: int, inputs: int, groups: int = 1, outputs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(1.0, 1.0, (count, groups, inputs)), RNG.normal(size=(count, groups, outputs))


def test_a_line_by_hand() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0]).reshape(4, 1, 1)
    weights, bias = correction([(x, 2 * x + 5)], 4, 1e-12, intercept=True)
    np.testing.assert_allclose([weights.item(), bias.item()], [2, 5], rtol=1e-9)
    # Without an intercept: sum(x y) / sum(x x) = (7 + 18 + 33) / 14.
    weights, bias = correction([(x, 2 * x + 5)], 4, 1e-12, intercept=False)
    np.testing.assert_allclose([weights.item(), bias.item()], [58 / 14, 0], rtol=1e-9)
    # A ridge of one mean square halves the slope about the means: 10 / (5 + 5).
    weights, bias = correction([(x, 2 * x + 5)], 4, 1.0, intercept=True)
    np.testing.assert_allclose([weights.item(), bias.item()], [1, 6.5], rtol=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
def test_batches_add_up_and_rows_and_inputs_give_the_same(intercept: bool) -> None:
    x, r = rows(40, 40)
    whole = correction([(x, r)], 40, 0.1, intercept)
    parts = correction([(x[:7], r[:7]), (x[7:], r[7:])], 40, 0.1, intercept)
    # One row fewer than inputs is solved among the rows; with all 40 twice the same problem is solved among the inputs.
    few = correction([(x[:39], r[:39])], 39, 0.1, intercept)
    twice = correction([(x[:39], r[:39])] * 2, 78, 0.1, intercept)
    for a, b in zip([*whole, *few], [*parts, *twice], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


def test_groups_are_apart() -> None:
    x, r = rows(50, 4, groups=3)
    found = correction([(x, r)], 50, 0.01, intercept=True)
    for group in range(3):
        alone = correction([(x[:, [group]], r[:, [group]])], 50, 0.01, intercept=True)
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_allclose(a[[group]], b, rtol=1e-9)


def test_limits_of_the_ridge() -> None:
    x, r = rows(50, 4)
    plain = np.linalg.lstsq(np.hstack([x[:, 0], np.ones((50, 1))]), r[:, 0], rcond=None)[0]
    weights, bias = correction([(x, r)], 50, 1e-12, intercept=True)
    np.testing.assert_allclose(np.vstack([weights[0], bias]), plain, rtol=1e-6)
    weights, bias = correction([(x, r)], 50, 1e12, intercept=True)
    np.testing.assert_allclose(weights, 0, atol=1e-9)
    np.testing.assert_allclose(bias[0], r.mean(0)[0], rtol=1e-6)


def test_inputs_that_are_dead_or_alike_break_nothing() -> None:
    x, r = rows(50, 4)
    x[:, :, 2], x[:, :, 3] = 0.0, x[:, :, 1]
    weights, bias = correction([(x, r)], 50, 1e-6, intercept=True)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights[0, 2], 0, atol=1e-9)
    np.testing.assert_allclose(weights[0, 3], weights[0, 1], rtol=1e-6)
    weights, bias = correction([(np.zeros_like(x), r)], 50, 1e-6, intercept=False)
    np.testing.assert_array_equal([weights.any(), bias.any()], [False, False])
