"""Models with blocks that can go and blocks that only look so, by name: `build(name)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as L

MODELS: dict[str, Callable[[], keras.Model]] = {}


def _model(make: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    MODELS[make.__name__] = make
    return make


def build(name: str) -> keras.Model:
    """The model, with the same weights every time; names of unnamed layers count from nothing."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    return MODELS[name]()


def _conv(x: Any, filters: int, name: str, size: int = 3, **more: Any) -> Any:
    x = L.Conv2D(filters, size, padding="same", use_bias=False, name=f"{name}_conv", **more)(x)
    return L.BatchNormalization(name=f"{name}_bn")(x)


def _image(*shape: int) -> Any:
    return keras.Input(shape or (6, 6, 3), name="image")


def _classes(x: Any) -> Any:
    return L.Dense(3, activation="softmax", name="classes")(L.GlobalAveragePooling2D(name="pool")(x))


@_model
def bottleneck() -> keras.Model:
    """ResNet v1: one block on a projected shortcut, two on plain ones, activations after the sums."""
    x = inputs = _image()
    x = L.ReLU(name="stem_relu")(_conv(x, 4, "stem"))
    for index in range(3):
        short = _conv(x, 8, f"short{index}", 1) if index == 0 else x
        y = L.ReLU(name=f"a{index}_relu")(_conv(x, 4, f"a{index}", 1))
        y = L.ReLU(name=f"b{index}_relu")(_conv(y, 4, f"b{index}"))
        x = L.ReLU(name=f"out{index}")(L.Add(name=f"add{index}")([short, _conv(y, 8, f"c{index}", 1)]))
    return keras.Model(inputs, _classes(x))


@_model
def chain() -> keras.Model:
    """Convolutions of one width with what follows each, one that pads by itself, a narrowing and widening pair."""
    x = inputs = _image()
    x = L.ReLU(name="stem_relu")(_conv(x, 5, "stem"))
    x = L.Dropout(0.2, name="drop")(L.ReLU(name="one_relu")(_conv(x, 5, "one")))
    x = L.Conv2D(5, 3, name="two_conv")(L.ZeroPadding2D(1, name="two_pad")(x))
    x = L.PReLU(name="two_prelu")(x)
    x = L.Conv2D(5, 1, activation="relu", name="wide")(L.Conv2D(2, 1, name="narrow")(x))
    return keras.Model(inputs, _classes(x))


@_model
def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7,), name="table"),
            L.Dense(6, activation="relu", name="in"),
            L.Dense(6, activation="relu", name="one"),
            L.Dense(6, name="two"),
            L.LayerNormalization(name="two_norm"),
            L.Dense(6, activation="tanh", name="three"),
            L.Dense(6, name="head"),
            L.Softmax(name="softmax"),
        ]
    )


@_model
def nested_sequential() -> keras.Model:
    tower = keras.Sequential(
        [keras.Input((6,)), L.Dense(6, "relu", name="t1"), L.Dense(6, "relu", name="t2"), L.Dense(4, name="t3")],
        name="tower",
    )
    inputs = keras.Input((5,))
    x = tower(L.Dense(6, "relu", name="enter")(inputs))
    return keras.Model(inputs, L.Dense(2, name="head")(L.Dense(4, "relu", name="after")(x)))


def _encoder(x: Any, mask: Any, index: int, post: bool) -> Any:
    for kind in ("attention", "dense"):
        y = x if post else L.LayerNormalization(name=f"{kind}{index}_norm")(x)
        if kind == "attention":
            y = L.MultiHeadAttention(2, 3, name=f"attention{index}")(y, y, attention_mask=mask)
        else:
            y = L.Dense(8, name=f"down{index}")(L.Dense(12, "gelu", name=f"up{index}")(y))
        x = L.Add(name=f"{kind}{index}_add")([x, L.Dropout(0.1, name=f"{kind}{index}_drop")(y)])
        x = L.LayerNormalization(name=f"{kind}{index}_norm")(x) if post else x
    return x


def _transformer(post: bool) -> keras.Model:
    tokens, mask = keras.Input((5,), dtype="int32", name="tokens"), keras.Input((5, 5), dtype="bool", name="mask")
    x = L.LayerNormalization(name="enter_norm")(L.Embedding(9, 8, name="embedding")(tokens))
    for index in range(2):
        x = _encoder(x, mask, index, post)
    x = x if post else L.LayerNormalization(name="last_norm")(x)
    return keras.Model([tokens, mask], L.Dense(2, name="head")(L.GlobalAveragePooling1D(name="pool")(x)))


@_model
def pre_norm() -> keras.Model:
    """Every attention reads the mask, which is an input of the model: one of them has to stay."""
    return _transformer(post=False)


@_model
def post_norm() -> keras.Model:
    return _transformer(post=True)


@_model
def shared_encoder() -> keras.Model:
    """One set of layers called three times, as in ALBERT."""
    x = inputs = keras.Input((5, 8), name="sequence")
    attention, dense = L.MultiHeadAttention(2, 3, name="attention"), L.Dense(8, name="dense")
    norm = L.LayerNormalization(name="norm")
    for index in range(3):
        x = norm(L.Add(name=f"sum{index}")([x, attention(x, x)]))
        x = norm(L.Add(name=f"more{index}")([x, dense(x)]))
    return keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling1D(name="pool")(x)))


@_model
def two_branches() -> keras.Model:
    """What goes in one branch changes the order in which Keras lists, and so names, the layers of both."""
    inputs = _image()
    x, y = (L.Conv2D(4, 3, padding="same", activation="relu", name=name)(inputs) for name in ("left0", "right0"))
    for index in (1, 2, 3):
        x = L.Conv2D(4, 3, padding="same", activation="relu", name=f"left{index}")(x)
    for index in (1, 2):
        y = L.Conv2D(4, 3, padding="same", activation="tanh", name=f"right{index}")(y)
    return keras.Model(inputs, _classes(L.Concatenate(name="both")([x, y])))


@_model
def gates() -> keras.Model:
    """Squeeze and excite inside a residual branch, and outside of any."""
    x = inputs = _image()
    x = L.ReLU(name="stem_relu")(_conv(x, 6, "stem"))
    y = L.ReLU(name="branch_relu")(_conv(x, 6, "branch"))
    for name in ("inner", "outer"):
        squeezed = L.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(y)
        gate = L.Conv2D(6, 1, activation="sigmoid", name=f"{name}_up")(L.Conv2D(2, 1, name=f"{name}_down")(squeezed))
        y = L.Multiply(name=f"{name}_gate")([y, gate])
        y = L.Add(name="add")([x, y]) if name == "inner" else y
    return keras.Model(inputs, _classes(y))


@_model
def mixers() -> keras.Model:
    """ConvNeXt: each branch is a chain over space and a chain over channels, of which both or either can go."""
    x = inputs = _image()
    x = L.Conv2D(4, 3, padding="same", name="stem")(x)
    for index in range(2):
        y = L.DepthwiseConv2D(3, padding="same", name=f"space{index}")(x)
        y = L.LayerNormalization(name=f"norm{index}")(y)
        y = L.Dense(4, name=f"down{index}")(L.Dense(9, "gelu", name=f"up{index}")(y))
        x = L.Add(name=f"add{index}")([x, y])
    return keras.Model(inputs, _classes(x))


@_model
def operators() -> keras.Model:
    """Sums written with `+`, a layer scale, drop path; the last block's output is an output too."""
    x = inputs = keras.Input((6,), name="table")
    x = L.Dense(5, name="enter")(x)
    for index in range(2):
        x = x + L.Dense(5, name=f"out{index}")(L.Dense(7, "relu", name=f"in{index}")(x)) * 0.5
    return keras.Model(inputs, [L.Dense(2, name="head")(x), L.Dense(1, "sigmoid", name="other")(x)])


@_model
def recurrent() -> keras.Model:
    x = inputs = keras.Input((5, 4), name="steps")
    for name in ("one", "two", "three"):
        x = L.LSTM(5, return_sequences=True, name=name)(x)
    x = L.Bidirectional(L.GRU(5, return_sequences=True), merge_mode="sum", name="both")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.GRU(5, name="last")(x)))


@_model
def variable_length() -> keras.Model:
    """Free lengths: `same` keeps them, a stride that is undone keeps only even ones, `valid` keeps none."""
    x = inputs = keras.Input((None, 3), name="signal")
    x = L.Conv1D(4, 3, padding="same", activation="relu", name="stem")(x)
    x = L.Conv1D(4, 3, padding="same", name="same")(x)
    x = L.UpSampling1D(2, name="up")(L.Conv1D(4, 3, 2, padding="same", name="half")(x))
    x = L.Conv1D(4, 3, name="valid")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling1D(name="pool")(x)))


@_model
def u_net() -> keras.Model:
    """Skips by concatenation: every level changes the shape."""
    inputs = _image(8, 8, 2)
    a = L.Conv2D(3, 3, padding="same", activation="relu", name="a")(inputs)
    b = L.Conv2D(4, 3, padding="same", activation="relu", name="b")(L.MaxPooling2D(name="down")(a))
    x = L.Concatenate(name="skip")([L.UpSampling2D(name="up")(b), a])
    return keras.Model(inputs, L.Conv2D(2, 1, activation="sigmoid", name="map")(x))


@_model
def wide_and_deep() -> keras.Model:
    """Two heads summed: neither may go, though their shapes are alike."""
    x = inputs = keras.Input((6,), name="table")
    deep = L.Dense(3, name="deep_head")(L.Dense(7, "relu", name="deep")(x))
    return keras.Model(inputs, L.Softmax(name="softmax")(L.Add(name="add")([L.Dense(3, name="wide_head")(x), deep])))


@_model
def two_towers() -> keras.Model:
    """A sum of what two inputs make: without one term its input would have no reader."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = L.Add(name="add")([L.Dense(5, name="of_a")(a), L.Dense(5, "relu", name="of_b2")(L.Dense(6, name="of_b1")(b))])
    return keras.Model([a, b], L.Dense(2, name="head")(x))


@_model
def no_blocks() -> keras.Model:
    x = inputs = keras.Input((4,), name="table")
    return keras.Model(inputs, L.Dense(2, name="head")(L.Dense(5, "relu", name="hidden")(x)))
