"""Groups and kernels of one kind, and what the scope `isomorphic` makes of them."""

from __future__ import annotations

import numpy as np

from pruning import criteria, isomorphism, masks
from pruning.contract.spec import Pruning
from pruning.selection import select
from tests import equivalence
from tests.pruning.hand import Network, removed_of


def kinds(name: str) -> dict[str, object]:
    units = equivalence.zoo(name).units
    groups = [group for group in units.groups if group.barrier is None]
    return dict(zip([group.id for group in groups], isomorphism.of_groups(units, groups), strict=True))


def test_blocks_that_differ_in_widths_alone_are_of_one_kind() -> None:
    found = kinds("mobile_net")
    assert list(found) == ["conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4"]
    # Both expansions feed a depthwise convolution; the second projection is the last and feeds the head.
    assert found["conv2d_1"] == found["conv2d_3"]
    assert len(set(found.values())) == 4


def test_windows_roles_and_couplings_tell_kinds_apart() -> None:
    assert len(set(kinds("inception").values())) > 4
    found = kinds("residual")
    assert found["conv2d_1"] != found["conv2d"]


def test_kernels_are_of_one_kind_by_class_and_window() -> None:
    units = equivalence.zoo("lenet").units
    paths = masks.prunable(units)
    found = dict(zip(paths, isomorphism.of_kernels(units, paths), strict=True))
    assert found["layers/dense/vars/0"] == found["layers/dense_1/vars/0"]
    assert found["layers/conv2d/vars/0"] != found["layers/conv2d_1/vars/0"]


def test_each_class_loses_the_same_share_where_its_scores_are_lowest() -> None:
    """Four groups of four kinds: c scores far higher, d far lower than the others, and all lose half."""
    network = Network()
    ids = network.conv("a", 3, 4)
    ids = network.conv("b", ids, 4)
    ids = network.conv("c", ids, 6, window=3)
    units = network.head(network.conv("d", ids, 2)).units()
    scores = {
        "a": np.array([1.0, 2, 3, 4]),
        "b": np.array([9.0, 3.5, 8, 7]),
        "c": np.array([60.0, 50, 40, 30, 20, 10]),
        "d": np.array([0.1, 0.2]),
    }
    groups = {group.id: group for group in units.groups}
    assert len(set(isomorphism.of_groups(units, [groups[name] for name in "abcd"]))) == 4
    pruning = Pruning.model_validate({"scope": "isomorphic", "target": {"type": "ratio", "value": 0.5}})
    gone = removed_of(units, select(units, scores, pruning))
    lost = {name: np.flatnonzero(np.isin(groups[name].units, gone)).tolist() for name in "abcd"}
    assert lost == {"a": [0, 1], "b": [1, 3], "c": [3, 4, 5], "d": [0]}


def test_layers_of_one_kind_compete_with_each_other() -> None:
    """Six of the twelve units of conv1 to conv3 go, the lowest wherever they lie; half of conv0's go by themselves."""
    network = Network()
    ids = network.conv("conv0", 3, 6, window=3)
    for name in ("conv1", "conv2", "conv3"):
        ids = network.conv(name, ids, 4)
    units = network.head(ids).units()
    scores = {
        "conv0": np.arange(100.0, 106.0),
        "conv1": np.array([1.0, 2, 3, 9]),
        "conv2": np.array([5.0, 6, 7, 4]),
        "conv3": np.array([8.0, 8, 8, 0]),
    }
    prunable = [group for group in units.groups if group.barrier is None]
    found = isomorphism.of_groups(units, prunable)
    assert found[1] == found[2] == found[3] != found[0]
    pruning = Pruning.model_validate({"scope": "isomorphic", "target": {"type": "ratio", "value": 0.5}})
    gone = removed_of(units, select(units, scores, pruning))
    lost = {group.id: np.flatnonzero(np.isin(group.units, gone)).tolist() for group in prunable}
    assert lost == {"conv0": [0, 1, 2], "conv1": [0, 1, 2], "conv2": [0, 3], "conv3": [3]}


def test_a_quantile_is_that_of_the_class() -> None:
    network = Network()
    units = network.head(network.conv("b", network.conv("a", 3, 4, window=3), 4)).units()
    scores = {"a": np.arange(4.0), "b": np.arange(100.0, 104.0)}
    target = {"type": "threshold", "value": {"quantile": 0.5}}
    gone = removed_of(units, select(units, scores, Pruning.model_validate({"scope": "isomorphic", "target": target})))
    assert np.isin(units.widths["a"], gone).tolist() == [True, True, False, False]
    assert np.isin(units.widths["b"], gone).tolist() == [True, True, False, False]


def test_weights_of_kernels_of_one_kind_compete() -> None:
    network = Network()
    ids = network.conv("b", network.conv("a", 3, 4), 4)
    units = network.head(network.conv("c", ids, 4, window=3)).units()
    arrays = network.arrays
    arrays["b/0"] *= 1e-3
    arrays["c/0"] *= 1e-6
    paths = masks.prunable(units)
    pruning = Pruning.model_validate(
        {"structure": "weight", "scope": "isomorphic", "target": {"type": "ratio", "value": 0.5}}
    )
    scores = criteria.score_weights(pruning.criterion, paths, criteria.Evidence(arrays))
    left = masks.decode(masks.select(units, arrays, scores, pruning))
    # b and the head are of one kind, 16 + 12 weights of which 14 go; a and c are alone with 12 and 48.
    gone = {path: int((~mask).sum()) for path, mask in left.items()}
    assert gone == {"a/0": 6, "b/0": 14, "c/0": 24}
