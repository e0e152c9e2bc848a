"""What of a .keras file is refused, each by its code; and that nothing of Keras' own is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.models import validation
from pruning.contract.errors import SecateurError, UnreadableFile, UnsafeFile, UnsupportedFormat
from tests.app.files import DENSE, HDF5, archive, keras, layer, npz, sequential


def check(content: bytes, folder: Path) -> str:
    path = folder / "upload"
    path.write_bytes(content)
    return validation.check(path)


def function(name: Any, module: Any = "builtins", registered: Any = "function") -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_formats_are_told_by_their_bytes(tmp_path: Path) -> None:
    assert check(keras(), tmp_path) == "keras"
    assert check(HDF5, tmp_path) == "h5"


SOUND = {
    "functional": {**sequential(DENSE), "module": "keras.src.models.functional", "class_name": "Functional"},
    "loss by function": sequential(DENSE, compile_config={"loss": function("sparse_categorical_crossentropy")}),
    "metric by function": sequential(DENSE, compile_config={"metrics": [function("accuracy_top", "keras.metrics")]}),
    "activation by function": sequential(layer("Dense", activation=function("gelu", "builtins", None))),
    "an operation": sequential({**layer("Add", "keras.src.ops.numpy"), "registered_name": "Add"}),
    "tensors": sequential(
        layer("Dense", kernel={"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "f4"}})
    ),
    "vocabulary as a list": sequential(layer("StringLookup", vocabulary=["a", "b"])),
    "keras-hub": sequential(
        {
            **layer("BertBackbone", "keras_hub.src.models.bert.bert_backbone"),
            "registered_name": "keras_hub>BertBackbone",
        }
    ),
    "activation of keras-hub": sequential(layer("Dense", activation=function("keras_hub>gelu_approximate"))),
    "a preprocessor that is left out": sequential(layer("Dense", backbone={}, preprocessor=layer("Lambda"))),
    "convnext": sequential({**layer("LayerScale", "keras.src.applications.convnext"), "registered_name": "LayerScale"}),
}
SOUND["metric by function"]["compile_config"]["metrics"] = [function("top_k_categorical_accuracy", "keras.metrics")]


@pytest.mark.parametrize("name", SOUND)
def test_what_keras_writes_passes(name: str, tmp_path: Path) -> None:
    assert check(keras(SOUND[name]), tmp_path) == "keras"


UNSAFE: dict[str, dict[str, Any]] = {
    "Lambda": sequential(layer("Lambda", function="x")),
    "Lambda in a wrapper": sequential(layer("TimeDistributed", layer=layer("Lambda"))),
    "Lambda in Bidirectional": sequential(layer("Bidirectional", backward_layer=layer("Lambda"))),
    "Lambda in a nested model": sequential(sequential(layer("Lambda"))),
    "__lambda__": sequential(layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "eA=="}})),
    "__typespec__": sequential(layer("Dense", x={"class_name": "__typespec__", "config": [], "spec_name": "x"})),
    "TFSMLayer": sequential(layer("TFSMLayer", filepath="/tmp/x")),
    "TFSMLayer as a function": sequential(layer("Dense", activation=function("TFSMLayer", "keras.layers"))),
    "TorchModuleWrapper": sequential(layer("TorchModuleWrapper", module="eA==")),
    "JaxLayer": sequential(layer("JaxLayer")),
    "FlaxLayer": sequential(layer("FlaxLayer")),
    "no module": sequential(layer("Dense", None)),
    "module null": sequential({**layer("Dense"), "module": None}),
    "module a list": sequential({**layer("Dense"), "module": ["keras.layers"]}),
    "class a number": sequential({**layer("Dense"), "class_name": 1}),
    "os": sequential(layer("system", "os")),
    "builtins": sequential(layer("eval", "builtins")),
    "subprocess": sequential(layer("Dense", activation=function("Popen", "subprocess"))),
    "builtin function": sequential(layer("Dense", activation=function("eval"))),
    "no name of a function": sequential(layer("Dense", activation=function(["relu"]))),
    "get_file": sequential(layer("Dense", activation=function("get_file", "keras.utils"))),
    "enable_unsafe_deserialization": sequential(
        layer("Dense", activation=function("enable_unsafe_deserialization", "keras.config"))
    ),
    "function registered otherwise": sequential(layer("Dense", activation=function("relu", "builtins", "pkg>evil"))),
    "class registered otherwise": sequential({**layer("Dense"), "registered_name": "pkg>Evil"}),
    "tokenizer of keras-hub": sequential(layer("BertTokenizer", "keras_hub.src.models.bert.bert_tokenizer")),
    "class of keras-hub registered otherwise": sequential(
        {
            **layer("BertBackbone", "keras_hub.src.models.bert.bert_backbone"),
            "registered_name": "keras_hub>BertTokenizer",
        }
    ),
    "function of keras-hub": sequential(layer("Dense", activation=function("keras_hub>BertTokenizer"))),
    "custom class": sequential({**layer("Mine", "__main__"), "registered_name": "Custom>Mine"}),
    "private class": sequential(layer("Conv", "keras.src.layers.convolutional.base_conv")),
    "operation with a function": sequential(layer("Map", "keras.src.ops.core")),
    "vocabulary path": sequential(layer("StringLookup", vocabulary="/etc/passwd")),
    "vocabulary path in TextVectorization": sequential(layer("TextVectorization", vocabulary="words.txt")),
    "name with a parent": sequential(layer("Dense", name="../../etc/cron.d/x")),
    "name with a backslash": sequential(layer("Dense", name="a\\b")),
    "name with a control": sequential(layer("Dense", name="a\x1b[2J")),
    "name a list": sequential(layer("Dense", name=["a"])),
    "name too long": sequential(layer("Dense", name="a" * 600)),
    "in compile_config": sequential(DENSE, compile_config={"loss": function("exec")}),
    "in build_config": sequential({**DENSE, "build_config": layer("Lambda")}),
    "too deep": sequential(layer("Dense", a=nested(250))),
    "too many values": sequential(layer("Dense", a=[0] * 500_001)),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile):
        check(keras(UNSAFE[name]), tmp_path)


REFUSED: dict[str, tuple[bytes, type[SecateurError]]] = {
    "empty": (b"", UnreadableFile),
    "cut in the signature": (b"PK", UnreadableFile),
    "cut in HDF5's signature": (HDF5[:5], UnreadableFile),
    "text": (b"hello, world\n", UnsupportedFormat),
    "program": (b"MZ\x90\x00" + bytes(100), UnsupportedFormat),
    "ELF": (b"\x7fELF" + bytes(100), UnsupportedFormat),
    "pickle": (b"\x80\x04\x95" + bytes(20), UnsupportedFormat),
    "truncated": (keras()[:-40], UnreadableFile),
    "arrays": (npz(x=[1.0]), UnsupportedFormat),
    "SavedModel": (archive({"m/saved_model.pb": b"x", "m/variables/variables.index": b""}), UnsupportedFormat),
    "other zip": (archive({"readme": b"x"}), UnsupportedFormat),
    "no weights": (archive({"config.json": b"{}", "metadata.json": b"{}"}), UnsupportedFormat),
    "config is no JSON": (keras(b"{"), UnreadableFile),
    "config is a list": (keras(b"[]"), UnreadableFile),
    "config is no text": (keras(b"\xff\xfe\xfd"), UnreadableFile),
    "config nested beyond the parser": (keras(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), UnsafeFile),
    "config too large": (keras(b'{"a": "' + b"a" * validation.MAX_CONFIG_BYTES + b'"}'), UnsafeFile),
    "weights are no HDF5": (keras(weights=b"text"), UnreadableFile),
    "member outside": (keras(**{"../x": b""}), UnsafeFile),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, error = REFUSED[name]
    with pytest.raises(error):
        check(content, tmp_path)


def test_every_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    sound = keras()
    for at in range(len(sound)):
        content = sound[:at] + bytes([sound[at] ^ 0x20]) + sound[at + 1 :]
        try:
            found = check(content, tmp_path)
        except (UnreadableFile, UnsafeFile, UnsupportedFormat):
            continue
        assert found == "keras"
