"""No false refusals: what Keras itself writes of stock layers passes the allowlist."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
from keras import layers

from app.models import validation

x = keras.Input


def functional(inputs: Any, outputs: Any) -> Any:
    return keras.Model(inputs, outputs)


def images(*made: Any) -> Any:
    return keras.Sequential([x((8, 8, 4)), *made])


def texts(*made: Any) -> Any:
    return keras.Sequential([x((6,), dtype="int32"), layers.Embedding(20, 8), *made])


def residual() -> Any:
    start = x((8, 8, 4))
    branch = layers.Conv2D(4, 3, padding="same", kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1))(start)
    return functional(start, layers.ReLU()(layers.Add()([start, layers.BatchNormalization()(branch)])))


def shared() -> Any:
    first, second, dense = x((4,)), x((4,)), layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(2))
    return functional([first, second], layers.Concatenate()([dense(first), dense(second)]))


def operators() -> Any:
    start = x((6, 4))
    return functional(start, keras.ops.softmax(start[:, 1:3] * 2.0 + keras.ops.mean(start, axis=1, keepdims=True)))


def attention() -> Any:
    start = x((6, 8))
    attended = layers.MultiHeadAttention(2, 4)(start, start)
    return functional(start, layers.LayerNormalization()(layers.Add()([start, attended])))


def mixed() -> Any:
    return keras.Sequential([x((4,)), layers.Dense(3, dtype="mixed_float16"), layers.Dense(2, dtype="float32")])


def compiled(**arguments: Any) -> Any:
    made = keras.Sequential([x((4,)), layers.Dense(3, activation="softmax")])
    made.compile(**arguments)
    return made


BUILT: dict[str, Callable[[], Any]] = {
    "dense": lambda: keras.Sequential([x((4,)), layers.Dense(3, activation=keras.activations.gelu)]),
    "convolutions": lambda: images(layers.Conv2D(3, 3), layers.SeparableConv2D(4, 2), layers.DepthwiseConv2D(2)),
    "transposed": lambda: images(layers.Conv2DTranspose(3, 3, strides=2), layers.UpSampling2D()),
    "three dimensions": lambda: keras.Sequential([x((4, 4, 4, 1)), layers.Conv3D(2, 3), layers.MaxPooling3D(2)]),
    "pooling": lambda: images(layers.MaxPooling2D(), layers.AveragePooling2D(2), layers.GlobalMaxPooling2D()),
    "padding": lambda: images(layers.ZeroPadding2D(1), layers.Cropping2D(1), layers.Resizing(4, 4)),
    "augmentation": lambda: images(layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(1 / 255)),
    "normalisation": lambda: images(layers.GroupNormalization(2), layers.UnitNormalization(), layers.Normalization()),
    "spectral": lambda: images(layers.SpectralNormalization(layers.Conv2D(3, 3))),
    "activations": lambda: images(layers.LeakyReLU(), layers.PReLU(), layers.ELU(), layers.Softmax(), layers.ReLU(6)),
    "shapes": lambda: images(layers.Reshape((64, 4)), layers.Permute((2, 1)), layers.Flatten(), layers.RepeatVector(2)),
    "noise": lambda: images(layers.Dropout(0.1), layers.SpatialDropout2D(0.1), layers.GaussianNoise(0.1)),
    "initialisers": lambda: images(layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed=1))),
    "lstm": lambda: texts(layers.LSTM(4, return_sequences=True), layers.GRU(3)),
    "simple rnn": lambda: texts(layers.SimpleRNN(4)),
    "bidirectional": lambda: texts(layers.Bidirectional(layers.LSTM(4), merge_mode="sum")),
    "cells": lambda: texts(layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])),
    "convolutional lstm": lambda: keras.Sequential([x((3, 8, 8, 2)), layers.ConvLSTM2D(2, 3)]),
    "time distributed": lambda: keras.Sequential([x((3, 8)), layers.TimeDistributed(layers.Dense(2))]),
    "masking": lambda: keras.Sequential([x((3, 8)), layers.Masking(), layers.LSTM(2)]),
    "einsum": lambda: keras.Sequential([x((3, 8)), layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")]),
    "nested": lambda: keras.Sequential([x((8, 8, 4)), residual(), layers.GlobalAveragePooling2D()]),
    "residual": residual,
    "shared": shared,
    "operators": operators,
    "attention": attention,
    "mixed precision": mixed,
    "discretization": lambda: keras.Sequential([x((4,)), layers.Discretization([0.0, 1.0]), layers.Dense(2)]),
    "compiled by name": lambda: compiled(loss="sparse_categorical_crossentropy", metrics=["accuracy"]),
    "compiled by function": lambda: compiled(
        loss=keras.losses.sparse_categorical_crossentropy, metrics=[keras.metrics.sparse_categorical_accuracy]
    ),
    "compiled by object": lambda: compiled(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=[keras.metrics.TopKCategoricalAccuracy(2), keras.metrics.AUC()],
        optimizer=keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10)),
    ),
    "compiled sgd": lambda: compiled(loss=["mse"], weighted_metrics=["mae"], optimizer=keras.optimizers.SGD(0.1)),
}


def config_of(model: Any) -> bytes:
    return json.dumps(keras.saving.serialize_keras_object(model)).encode()


@pytest.mark.parametrize("name", BUILT)
def test_hand_built(name: str) -> None:
    validation.check_config(config_of(BUILT[name]()))


def applications() -> Iterator[tuple[str, Any]]:
    for module in vars(keras.applications).values():
        if inspect.ismodule(module):
            found = vars(module).items()
            yield from ((name, make) for name, make in found if inspect.isfunction(make) and name[0].isupper())


@pytest.mark.slow
def test_all_applications() -> None:
    made = dict(applications())
    assert len(made) >= 38
    for make in made.values():
        with keras.StatelessScope(initialize_variables=False):
            validation.check_config(config_of(make(weights=None)))
        keras.backend.clear_session()
