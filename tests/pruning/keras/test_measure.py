from __future__ import annotations

import gzip
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pruning import measures
from pruning.contract.spec import Latency
from pruning.keras import live, measure
from pruning.keras.load import load
from tests.pruning.keras import small


def counted_by_tensorflow(model: keras.Model) -> int:
    """Multiply-accumulates of convolutions and matrix products by TensorFlow's own profiler: half its FLOPs."""
    inputs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    concrete = tf.function(lambda *given: live.call(model, given)).get_concrete_function(*inputs)
    frozen = convert_variables_to_constants_v2(concrete)
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(frozen.graph.as_graph_def(), name="")
        profile = tf.compat.v1.profiler.profile(graph, options=options.build(), cmd="op")
    products = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
    return (
        sum(
            child.total_float_ops - sum(c.total_float_ops for c in child.children)
            for child in nodes(profile)
            if child.name in products
        )
        // 2
    )


def nodes(profile: object) -> list[object]:
    found, waiting = [], [profile]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += node.children  # type: ignore[attr-defined]
    return found


def test_macs_are_those_of_an_independent_counter_and_by_hand(tmp_path: Path) -> None:
    model = small.residual()
    case = small.case(model, tmp_path)
    by_hand = 64 * 9 * 2 * 8 + 64 * 9 * 8 * 8 + 9 * 9 * 8 * 12 + 12 * 3
    assert sum(measures.macs(case.units).values()) == by_hand == counted_by_tensorflow(model)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("resnet8_cifar10.h5", 12_501_632),
        ("lenet5_mnist.keras", 784 * 25 * 6 + 196 * 25 * 6 * 16 + 784 * 120 + 120 * 84 + 84 * 10),
    ],
)
def test_macs_of_real_models(name: str, by_hand: int, tmp_path: Path) -> None:
    if not (small.SHARED / name).exists():
        pytest.skip(f"{small.SHARED / name} is missing")
    model = load(small.SHARED / name)
    case = small.case(model, tmp_path)
    assert sum(measures.macs(case.units).values()) == by_hand == counted_by_tensorflow(model)


def test_gzip_bytes_are_those_of_gzip(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(np.random.default_rng(0).integers(0, 3, 3_000_000, np.uint8).tobytes())
    assert measure.gzip_bytes(path) == len(gzip.compress(path.read_bytes(), 6, mtime=0))


def test_latency_has_every_sample_and_models_take_turns() -> None:
    order: list[str] = []

    class Noted(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return tf.numpy_function(lambda x: (order.append(self.name), x)[1], [inputs], tf.float32)

        def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    models = [keras.Sequential([keras.Input((2,)), Noted(name=name)]) for name in ("first", "second")]
    order.clear()
    found = measure.latency(models, Latency(batch_sizes=[1, 3], repeats=4), [None])
    assert [[figure.batch_size for figure in figures] for figures in found] == [[1, 3], [1, 3]]
    for figures in found:
        for figure in figures:
            assert len(figure.samples) == 4
            assert min(figure.samples) <= figure.median <= figure.p95 <= max(figure.samples)
    assert order[10:18] == ["first", "second"] * 4
