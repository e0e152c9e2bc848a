"""One contract for every criterion of whole blocks, and the values of each."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from pruning import criteria, planning
from pruning.case import Case
from pruning.contract.criteria import (
    L1,
    L2,
    BatchNormScale,
    Comparable,
    Criterion,
    LossChange,
    MeanAbs,
    OfBlocks,
    Random,
)
from pruning.keras import collect_blocks
from tests import block_models, equivalence

MEMBERS = [member for member in get_args(get_args(Criterion)[0]) if member.of_blocks]


@pytest.fixture(scope="module")
def case() -> Case:
    found = planning.study(equivalence.archived(block_models.build("bottleneck")))
    rng = np.random.default_rng(0)
    arrays = {path: rng.normal(size=array.shape).astype(array.dtype) for path, array in found.archive.arrays.items()}
    return planning.study(replace(found.archive, arrays=arrays))


def scored(case, criterion, evidence=None, arrays=None, seed=0):
    seen = criteria.Evidence(arrays or case.archive.arrays, blocks=evidence or {})
    return criteria.score_blocks(criterion, case.units, case.blocks, seen, seed)


@pytest.mark.parametrize("member", MEMBERS)
def test_scores_are_finite_numbers_for_every_block(case, member):
    plain = {"normalization": "none"} if issubclass(member, Comparable) else {}
    criterion = member(name=get_args(member.model_fields["name"].annotation)[0], **plain)
    evidence = {block.id: 0.1 * index for index, block in enumerate(case.blocks.found)}
    scores = scored(case, criterion, evidence)
    assert list(scores) == [block.id for block in case.blocks.found]
    assert all(isinstance(score, float) and np.isfinite(score) for score in scores.values())
    assert len(set(scores.values())) == len(scores)
    assert scored(case, criterion, evidence) == scores
    if not isinstance(criterion, OfBlocks | Random):
        grown = {path: array * 3 if "conv" in path else array for path, array in case.archive.arrays.items()}
        grown = {path: array * 3 if path in case.units.scales else array for path, array in grown.items()}
        assert all(score > scores[id] for id, score in scored(case, criterion, arrays=grown).items())


def test_norms_are_those_of_the_kernels_of_each_layer_aggregated(case):
    (block,) = case.blocks.named(["out1"])
    kernels = [
        case.archive.arrays[path].astype(np.float64)
        for entry in case.units.layers
        if entry.name in ("a1_conv", "b1_conv", "c1_conv")
        for path in entry.weights
    ]
    sums, norms = ([f(k) for k in kernels] for f in (lambda k: np.abs(k).sum(), np.linalg.norm))
    plain = {"normalization": "none"}
    assert scored(case, L1(name="l1", **plain))[block.id] == pytest.approx(np.mean(sums))
    assert scored(case, L2(name="l2", **plain))[block.id] == pytest.approx(np.mean(norms))
    assert scored(case, L2(name="l2", aggregation="max", **plain))[block.id] == pytest.approx(np.max(norms))
    means = [np.abs(k).mean() for k in kernels]
    assert scored(case, MeanAbs(name="mean_abs", **plain))[block.id] == pytest.approx(np.mean(means))


def test_normalisation_is_over_all_blocks(case):
    assert np.mean(list(scored(case, L1(name="l1", normalization="mean")).values())) == pytest.approx(1)


def test_scales_read_gamma_alone(case):
    gamma = {"a1_bn": 0.5, "b1_bn": -1.0, "c1_bn": 0.0}
    where = {layer.name: layer.path for layer in case.graph.layers}
    arrays = case.archive.arrays | {
        f"{where[name]}/vars/0": np.full_like(case.archive.arrays[f"{where[name]}/vars/0"], value)
        for name, value in gamma.items()
    }
    criterion = BatchNormScale(name="bn_scale", normalization="none")
    assert scored(case, criterion, arrays=arrays)["out1"] == pytest.approx(0.5)


def test_a_block_without_evidence_is_left_out(case):
    criterion = LossChange(name="loss_change")
    assert set(scored(case, criterion, {"add0": 0.1, "out1": 0.2})) == {"add0", "out1"}


def test_similarity_of_vectors_and_of_zeros():
    first = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    second = np.array([[2.0, 0.0], [-1.0, 1.0], [0.0, 0.0], [0.0, 3.0]])
    assert collect_blocks.similarity(first, second).tolist() == [1 + 0 + 1 + 0, 4]
