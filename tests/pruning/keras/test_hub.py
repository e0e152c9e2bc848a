"""Models of keras-hub, built from a config: what is uploaded, normalised, pruned and delivered."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import pytest

from pruning.contract import hub as allowed
from pruning.contract.errors import UnreadableFile, UnsafeFile
from pruning.contract.inspection import Inspection
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import Spec
from pruning.keras import guard, hub, live, load, pipeline, probe
from pruning.planning import read, study

M, L = keras_hub.models, keras.layers
TEXT: dict[str, Any] = {"vocabulary_size": 30, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 12}
BERT = {**TEXT, "num_heads": 2, "max_sequence_length": 16}
LLAMA = {**TEXT, "hidden_dim": 16, "num_query_heads": 4, "num_key_value_heads": 2}


def bert() -> keras.Model:
    return M.BertBackbone(**{**BERT, "num_layers": 2})


def vit() -> keras.Model:
    return M.ViTBackbone((8, 8, 3), patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12)


def nested() -> keras.Model:
    backbone = bert()
    x = L.Dense(9, "relu", name="own")(backbone(backbone.input)["pooled_output"])
    return keras.Model(backbone.input, L.Dense(2)(x))


def two_of_a_kind() -> keras.Model:
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], L.Dense(3)(L.Concatenate()([vit()(a)[:, 0], vit()(b)[:, 0]])))


def in_a_sequential() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3)), vit(), L.Flatten(), L.Dense(3)])


QUICK: dict[str, Callable[[], keras.Model]] = {
    "bert for texts": lambda: M.BertTextClassifier(backbone=bert(), num_classes=3),
}
SLOW: dict[str, Callable[[], keras.Model]] = {
    "vit": vit,
    "bert": bert,
    "bert, masked": lambda: M.BertMaskedLM(backbone=bert()),
    "bert, embedder": lambda: M.BertTextEmbedder(backbone=bert()),
    "gpt2": lambda: M.GPT2Backbone(**BERT),
    "gpt2, next token": lambda: M.GPT2CausalLM(backbone=M.GPT2Backbone(**BERT)),
    "vit for images": lambda: M.ViTImageClassifier(backbone=vit(), num_classes=3),
    "llama": lambda: M.LlamaBackbone(**LLAMA),
    "llama, next token": lambda: M.LlamaCausalLM(backbone=M.LlamaBackbone(**LLAMA)),
    "llama 3": lambda: M.Llama3Backbone(**LLAMA),
    "mistral, next token": lambda: M.MistralCausalLM(backbone=M.MistralBackbone(**LLAMA)),
    "roberta for texts": lambda: M.RobertaTextClassifier(backbone=M.RobertaBackbone(**BERT), num_classes=3),
    "distil bert, masked": lambda: M.DistilBertMaskedLM(backbone=M.DistilBertBackbone(**BERT)),
    "nested": nested,
    "two of a kind": two_of_a_kind,
    "in a sequential": in_a_sequential,
}
CASES = [*QUICK, *[pytest.param(name, marks=pytest.mark.slow) for name in SLOW]]
WIDTHS = {"bert for texts": 2, "bert": 2, "vit": 2, "two of a kind": 4}


def uploaded(model: keras.Model, folder: Path) -> tuple[Path, Inspection]:
    """A model as it is sent and as it is kept."""
    model.save(folder / "upload.keras")
    request = InspectRequest(upload=str(folder / "upload.keras"), format="keras", out=str(folder))
    return folder / "normalized.keras", pipeline.inspect(request, lambda _: None)


def pruned(path: Path, folder: Path) -> Result:
    """Two fifths of the units gone, without data."""
    pruning = {"target": {"type": "ratio", "value": 0.4}}
    spec = Spec.model_validate({"pruning": pruning, "measures": {"latency": None}, "recovery": []})
    return pipeline.prune(PruneRequest(model=str(path), out=str(folder), spec=spec), lambda _: None)


@pytest.mark.parametrize("name", CASES)
def test_from_upload_to_delivery(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = (QUICK | SLOW)[name]()
    path, found = uploaded(model, tmp_path)
    kept, case = load.load_delivered(path), study(read(path))
    for inputs in probe.probes(model, case.vocabularies, None):
        for a, b in zip(live.call(model, inputs), live.call(kept, inputs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    blocks = [group for group in found.groups if group.width == 12]
    assert blocks
    assert all(group.prunable and len(group.layers) == 1 for group in blocks)
    assert len(blocks) == WIDTHS.get(name, len(blocks))
    named = [barrier for barrier in found.barriers if barrier.code == "heads"]
    assert {barrier.layer for barrier in named} >= {group.layers[0] for group in blocks}
    result = pruned(path, tmp_path)
    assert result.verification is not None
    assert result.verification.passed
    assert result.measures.after.macs < result.measures.before.macs
    assert {type(layer) for layer in load.load_delivered(tmp_path / "pruned.keras").layers} == {
        type(layer) for layer in kept.layers
    }


@pytest.mark.slow
def test_what_is_delivered_opens_with_keras_and_keras_hub_alone(tmp_path: Path) -> None:
    pruned(uploaded(bert(), tmp_path)[0], tmp_path)
    code = (
        "import keras, numpy as np; model = keras.saving.load_model('pruned.keras');"
        "model.compile('sgd', 'mse'); x = {t.name: np.ones((4, 8), 'int32') for t in model.inputs};"
        "model.fit(x, {k: np.zeros(v.shape) for k, v in model.predict(x, verbose=0).items()}, verbose=0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_a_preprocessor_is_left_out(tmp_path: Path) -> None:
    tokenizer = M.BertTokenizer(vocabulary=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "a", "b"])
    preprocessor = M.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    task = M.BertTextClassifier(backbone=bert(), num_classes=3, preprocessor=preprocessor)
    path, found = uploaded(task, tmp_path)
    assert [tensor.name for tensor in found.inputs] == ["padding_mask", "segment_ids", "token_ids"]
    (warning,) = found.warnings
    assert warning.code == "preprocessor_left_out"
    assert warning.detail.startswith("BertTextClassifierPreprocessor is left out")
    assert "okenizer" not in json.dumps(read(path).config)
    with zipfile.ZipFile(path) as kept:
        assert not any(name.startswith("assets") for name in kept.namelist())


def test_without_keras_hub_the_answer_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vit().save(tmp_path / "upload.keras")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UnreadableFile, match=r"secateur-server\[hub\]"):
        load.load(tmp_path / "upload.keras")


@pytest.mark.slow
def test_keras_hub_is_loaded_only_where_a_config_names_it() -> None:
    code = (
        "import sys; from pruning.keras import hub, pipeline; hub.require({'layers': []});"
        "assert 'keras_hub' not in sys.modules; hub.require({'module': 'keras_hub.src.layers'});"
        "assert 'keras_hub' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def entry(module: str, name: str, **changes: Any) -> dict[str, Any]:
    return {"module": f"keras_hub.src.{module}", "class_name": name, "config": {}, **changes}


@pytest.mark.parametrize(
    "named",
    [
        entry("models.bert.bert_tokenizer", "BertTokenizer"),
        entry("models.bert.bert_text_classifier_preprocessor", "BertTextClassifierPreprocessor"),
        entry("models.bert.bert_tokenizer", "BertBackbone"),
        entry("samplers.top_k_sampler", "TopKSampler"),
        entry("utils.preset_utils", "PresetLoader"),
        entry("models.bert.bert_backbone", "builtin_presets"),
    ],
)
def test_other_classes_of_keras_hub_are_refused(named: dict[str, Any]) -> None:
    with pytest.raises(UnreadableFile, match="does not load"):
        guard.check({"config": {"layers": [named]}})


def test_a_class_under_another_name_is_refused() -> None:
    named = entry("models.bert.bert_backbone", "BertBackbone", registered_name="keras_hub>BertTokenizer")
    with pytest.raises(UnsafeFile, match="another name"):
        guard.check(named)


@pytest.mark.parametrize(
    "config",
    [
        {"module": "keras.layers", "class_name": "Dense", "registered_name": "keras_hub>BertTokenizer"},
        {"module": None, "class_name": "Dense", "registered_name": "keras_nlp>BertTokenizer"},
        {"class_name": "keras_hub>BertTokenizer", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "builtins", "class_name": "function", "config": "keras_hub>BertTokenizer"},
        {"module": "keras.layers", "class_name": "Dense", "config": {"activation": "keras_hub>BertTokenizer"}},
        {"activations": ["keras_nlp>BertTokenizer"]},
    ],
)
def test_what_keras_hub_registers_is_not_reached_by_name(config: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFile):
        guard.check({"layers": [config]})


def test_a_preprocessor_hides_nothing_that_is_read() -> None:
    evil = {"class_name": "Lambda", "config": {}}
    config = {"class_name": "X", "config": {"backbone": {"preprocessor": evil}, "preprocessor": {"a": evil}}}
    assert hub.preprocessors([config, {"a": config}]) == ["None", "None"]
    left = hub.without_preprocessors(config)
    assert left["config"]["preprocessor"] is None
    with pytest.raises(UnsafeFile):
        guard.check(left)


def test_every_allowed_class_is_there() -> None:
    for module, name in allowed.CLASSES:
        found = getattr(__import__(module, fromlist=[name]), name)
        assert issubclass(found, keras.layers.Layer), name
