"""What models cost and what was removed, against hand-computed values and the source document's cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import measures
from pruning.contract.result import LatencyFigure, MeasureSet
from pruning.units import Cost
from tests.pruning.hand import Network, chain, counted
from tests.pruning.test_selection import networks

# chain(4, 6), window 1 and 10 positions: kernels 3*4, 4*6, 6*3, biases 4, 6, 3; the head runs at one position.


def pruned_chain():
    network = chain(4, 6, positions=10)
    units = network.units()
    gone = np.array([*units.widths["conv0"][:1], *units.widths["conv1"][[1, 5]]])
    return network, units, gone


def test_macs_and_parameters_by_hand():
    _, units, gone = pruned_chain()
    assert measures.macs(units) == {"conv0": 120, "conv1": 240, "head": 18}
    assert measures.macs(units, gone) == {"conv0": 90, "conv1": 120, "head": 12}
    assert measures.parameters(units) == 12 + 4 + 24 + 6 + 18 + 3
    assert measures.elements(units, gone) == {
        "conv0/0": 9,
        "conv0/1": 3,
        "conv1/0": 12,
        "conv1/1": 4,
        "head/0": 12,
        "head/1": 3,
    }


def test_calls_of_a_shared_layer_add_up():
    network, _, _ = pruned_chain()
    network.costs.append(Cost("conv1", 5, network.costs[1].axes, "conv1/0", 5))
    units = network.units()
    assert measures.macs(units)["conv1"] == 240 + 120
    assert measures.macs_through(units) == {"conv0/0": 10, "conv1/0": 15, "head/0": 1}


@settings(max_examples=60, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_the_tally_counts_as_the_slow_way(network, random):
    units = network.units()
    groups = [group for group in units.groups if group.barrier is None]
    order = [np.array(random.sample(group.units.tolist(), len(group.units))) for group in groups]
    counts = np.array([random.randrange(len(ids)) for ids in order], dtype=np.int64)
    gone = np.concatenate([np.empty(0, np.int64), *(ids[:n] for ids, n in zip(order, counts, strict=True))])
    macs, parameters = counted(units, gone)
    assert sum(measures.macs(units, gone).values()) == macs
    assert measures.parameters(units, gone) == parameters
    tally = units.tally
    both = np.stack([np.zeros_like(counts), counts])
    kept = tally.lengths - tally.ranked(order).lost(both)
    assert np.array_equal(kept[1], tally.kept(gone))
    assert tally.macs(kept).sum(axis=-1).tolist() == [counted(units, [])[0], macs]
    assert tally.bytes(kept).sum(axis=-1).tolist() == [4 * counted(units, [])[1], 4 * parameters]


@pytest.mark.parametrize(
    ("removed", "weights", "cost", "lost", "mean", "share"),
    [
        ([50 * 100], [100 * 100], [1], 5000, 0.5, 0.5),  # 100 neurons of 100 weights, 50 kept: 10000 -> 5000
        ([500 * 50], [1000 * 50], [1], 25000, 0.5, 0.5),  # 1000 kernels of 50 weights, 500 kept: 50000 -> 25000
        ([2, 3], [4, 6], [10, 1], 23, 2.3, 0.5),
        ([0], [0], [1], 0, 0, 0),
    ],
)
def test_s_pruned(removed, weights, cost, lost, mean, share):
    assert measures.s_pruned(removed, weights, cost) == (pytest.approx(mean), pytest.approx(share))
    assert mean * sum(weights) == pytest.approx(lost)


def test_the_documents_cases_on_a_network():
    network = chain(1000, positions=1)
    network.conv("kernels", 50, 1000)
    units = network.units()
    before = measures.elements(units)["kernels/0"]
    gone = units.widths["kernels"][:500]
    assert (before, measures.elements(units, gone)["kernels/0"]) == (50000, 25000)
    masks = {"kernels/0": np.arange(50000).reshape(1, 50, 1000) % 2 == 0}
    removed = measures.removed_by(units, masks)
    assert removed.s_pruned["size"] * measures.parameters(units) == pytest.approx(25000)


def test_removed_channels_by_size_compute_and_storage():
    _network, units, gone = pruned_chain()
    units.dtypes["conv0/0"] = np.dtype(np.float16)
    removed = measures.removed(units, gone)
    assert removed.size == pytest.approx(24 / 67)
    assert removed.compute == pytest.approx((30 + 120 + 6) / 378)
    assert removed.storage == pytest.approx((3 * 2 + 21 * 4) / (12 * 2 + 55 * 4))
    assert removed.s_pruned == pytest.approx({"size": 24 / 67, "compute": 156 / 67, "storage": 90 / 67})


def test_removed_weights_by_size_compute_and_storage():
    _, units, _ = pruned_chain()
    mask = np.ones((1, 4, 6), bool)
    mask[0, :2] = False
    removed = measures.removed_by(units, {"conv1/0": mask})
    assert (removed.size, removed.compute) == (pytest.approx(12 / 67), pytest.approx(120 / 378))
    assert removed.storage == removed.size


def test_sparse_bytes_take_the_smaller_storage():
    assert measures.sparse_bytes([64, 64, 9], [0, 63, 4], [4, 4, 1]).tolist() == [8, 256, 6]


def test_figures_count_zeros():
    network, units, _ = pruned_chain()
    arrays = {path: np.ones_like(array) for path, array in network.arrays.items()}
    arrays["conv1/0"][0, 0] = 0
    arrays["conv0/1"][:] = 0
    assert measures.figures(units, arrays) == {
        "parameters": 67,
        "nonzero_parameters": 57,
        "sparsity": 10 / 67,
        "prunable_sparsity": 6 / 54,
        "macs": 378,
        "nonzero_macs": 378 - 60,
        "sparse_bytes": 48 + 1 + (3 + 18 * 4) + 24 + 72 + 12,
    }


def test_products_of_activations_are_not_saved_by_zeros():
    network, _, _ = pruned_chain()
    network.costs.append(Cost("dot", 7, (), None, 1))
    units = network.units()
    assert measures.macs_without_weight(units) == 7
    zeros = {path: np.zeros_like(array) for path, array in network.arrays.items()}
    assert measures.figures(units, zeros)["nonzero_macs"] == 7


def test_rows_of_layers():
    network, units, gone = pruned_chain()
    arrays = dict(network.arrays)
    arrays["conv1/0"] = np.array([[[0, 1], [1, 1]]], np.float32)
    arrays["conv1/1"] = np.zeros(1, np.float32)
    rows = {row.name: row for row in measures.layers(units, arrays, gone)}
    assert rows["conv1"].model_dump() == {
        "name": "conv1",
        "class_name": "Conv1D",
        "width_before": 6,
        "width_after": 4,
        "parameters_before": 30,
        "parameters_after": 16,
        "macs_before": 240,
        "macs_after": 120,
        "sparsity": 0.4,
        "kept_because": None,
        "removed": False,
    }
    assert rows["head"].kept_because == "head: an output of the model"
    assert rows["conv0"].kept_because is None
    rows = {row.name: row for row in measures.layers(units, arrays, kept_because={"conv0": "skipped by `layers`"})}
    assert [rows[name].kept_because for name in ("conv0", "conv1", "head")] == ["skipped by `layers`", None, None]


def test_a_group_of_one_unit_stays_and_says_how_many_channels_it_is():
    network = Network()
    alone = network.conv("alone", 3, 1)
    tied = network.conv("tied", alone, np.repeat(network.new(1), 4))
    units = network.head(network.conv("free", tied, 2)).units()
    assert measures.barriers(units).keys() == {"head"}
    assert measures.staying(units) == {
        "alone": "alone: has one unit, which has to stay",
        "tied": "tied: its 4 channels stand and fall together, as one unit that has to stay",
        "head": "head: an output of the model",
    }


def measured(**figures) -> MeasureSet:
    base = {"parameters": 100, "nonzero_parameters": 100, "sparsity": 0, "prunable_sparsity": 0, "macs": 1000}
    return MeasureSet(**{**base, "nonzero_macs": 1000, "size_bytes": 400, **figures})


def test_ratio_is_after_over_before():
    latency = [[LatencyFigure(batch_size=1, median=value, p95=9, samples=[value])] for value in (4.0, 1.0)]
    before = measured(latency_ms=latency[0], gzip_bytes=300)
    after = measured(parameters=50, macs=0, latency_ms=latency[1], sparse_bytes=3)
    assert measures.ratio(before, after) == {
        "parameters": 0.5,
        "nonzero_parameters": 1.0,
        "macs": 0.0,
        "nonzero_macs": 1.0,
        "size_bytes": 1.0,
        "latency_ms": 0.25,
    }
    assert measures.ratio(after, before)["macs"] is None


@pytest.mark.parametrize(
    ("parameters", "macs", "told"),
    [
        (50, 960, {"macs_hardly_moved": "parameters fell by 50%, macs by 4.0%: what went computes little"}),
        (79, 951, {"macs_hardly_moved": "parameters fell by 21%, macs by 4.9%: what went computes little"}),
        (79, 940, {}),
        (81, 1000, {}),
        (99, 500, {"parameters_hardly_moved": "macs fell by 50%, parameters by 1.0%: what went holds few weights"}),
        (50, 500, {}),
        (50, 800, {}),
        (90, 1000, {}),
        (100, 1000, {}),
        (120, 500, {"parameters_hardly_moved": "macs fell by 50%, parameters by -20.0%: what went holds few weights"}),
    ],
)
def test_a_measure_that_hardly_moved_is_told(parameters, macs, told):
    found = measures.hardly_moved(measured(), measured(parameters=parameters, macs=macs))
    assert [warning.code for warning in found] == list(told)
    for warning in found:
        assert warning.detail.startswith(told[warning.code])
        assert warning.detail.endswith(f"set a budget on {warning.code.partition('_')[0]} instead")
