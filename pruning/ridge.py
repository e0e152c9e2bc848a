"""Least squares with a ridge, from rows that come batch by batch: the correction to weights that are there already."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
_TINY = 1e-30
_NOTHING: Floats = np.zeros(())


def correction(
    batches: Iterable[tuple[Floats, Floats]], count: int, ridge: float, intercept: bool
) -> tuple[Floats, Floats]:
    """What to add to weights and bias so that the residuals shrink.

    Minimises sum |x W + b - r|^2 + ridge * s * |W|^2 over all rows, for each group on its own, with s the mean over
    the inputs of their sums of squares (about their means, with an intercept); b is not held back, and 0 without an
    intercept. Since W corrects weights that are there, the ridge holds on to those and not to zero.

    `batches`: (x, r), x of shape (rows, groups, inputs), r (rows, groups, outputs), `count` rows in all. Returns
    W (groups, inputs, outputs) and b (groups, outputs). Fewer rows than inputs are solved in the rows' own space:
    (X'X + cI)^-1 X'R = X'(XX' + cI)^-1 R.
    """
    rows = iter(batches)
    first = next(rows)
    if count < first[0].shape[-1]:
        return _in_rows([first, *rows], ridge, intercept)
    return _in_inputs(chain([first], rows), ridge, intercept)


def _in_inputs(batches: Iterable[tuple[Floats, Floats]], ridge: float, intercept: bool) -> tuple[Floats, Floats]:
    count, sums = 0, (_NOTHING,) * 4
    for x, r in batches:
        # (groups, inputs, rows) @ (groups, rows, outputs): one product a group.
        across = x.transpose(1, 2, 0)
        found = x.sum(0), r.sum(0), across @ x.transpose(1, 0, 2), across @ r.transpose(1, 0, 2)
        count, sums = count + len(x), tuple(total + part for total, part in zip(sums, found, strict=True))
    x_mean, r_mean, gram, right = sums[0] / count, sums[1] / count, *sums[2:]
    if intercept:
        gram = gram - count * x_mean[:, :, None] * x_mean[:, None, :]
        right = right - count * x_mean[:, :, None] * r_mean[:, None, :]
    weights = np.asarray(np.linalg.solve(_held(gram, ridge, gram.shape[-1]), right), np.float64)
    return _with_bias(weights, x_mean, r_mean, intercept)


def _in_rows(batches: Iterable[tuple[Floats, Floats]], ridge: float, intercept: bool) -> tuple[Floats, Floats]:
    parts = list(batches)
    x = np.concatenate([part for part, _ in parts]).transpose(1, 0, 2)
    r = np.concatenate([part for _, part in parts]).transpose(1, 0, 2)
    x_mean, r_mean = x.mean(1), r.mean(1)
    if intercept:
        x, r = x - x_mean[:, None], r - r_mean[:, None]
    gram = x @ x.transpose(0, 2, 1)
    found = x.transpose(0, 2, 1) @ np.linalg.solve(_held(gram, ridge, x.shape[-1]), r)
    return _with_bias(found, x_mean, r_mean, intercept)


def _held(gram: Floats, ridge: float, inputs: int) -> Floats:
    """A Gram matrix of a group with the ridge on its diagonal."""
    scale = np.trace(gram, axis1=1, axis2=2) / inputs
    return np.asarray(gram + (ridge * scale + _TINY)[:, None, None] * np.eye(gram.shape[-1]))


def _with_bias(found: Floats, x_mean: Floats, r_mean: Floats, intercept: bool) -> tuple[Floats, Floats]:
    if not intercept:
        return found, np.zeros_like(r_mean)
    return found, r_mean - np.einsum("gd,gdo->go", x_mean, found)
