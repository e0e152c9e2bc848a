"""What an inspection foretells over REST holds in jobs over REST: floors, the nearest model, warnings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.e2e.service import Service, running
from tests.pruning.keras.test_heads import transformer

QUIET: dict[str, Any] = {"recovery": [], "measures": {"latency": None}}
FLOORS: dict[str, dict[str, Any]] = {
    "floor": {"structure": "channel"},
    "normalized_floor": {"structure": "channel", "constraints": {"normalized_axes": "prune"}},
    "head_floor": {"structure": "head"},
    "layer_floor": {"structure": "layer"},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("floors") / "data") as service:
        yield service


def uploaded(service: Service, model: keras.Model, path: Path) -> dict[str, Any]:
    model.save(path)
    found = service.wait(f"/v1/models/{service.upload('models', path)}")
    assert found["state"] == "ready", found["problem"]
    return found


def budget(service: Service, model: dict[str, Any], measure: str, at_most: float, **how: Any) -> dict[str, Any]:
    dry_run = how.pop("dry_run", True)
    pruning = {"target": {"type": "budget", "measure": measure, "at_most": at_most}, **how}
    body = {"model_id": model["id"], "pruning": pruning, "dry_run": dry_run, **QUIET}
    return service.wait(f"/v1/jobs/{service.post('/v1/jobs', body)['id']}")


def test_every_floor_is_met_and_none_below_it(service: Service, tmp_path: Path) -> None:
    model = uploaded(service, transformer(), tmp_path / "transformer.keras")
    inspection = model["inspection"]
    for name, how in FLOORS.items():
        assert inspection[name].keys() == {"macs", "parameters", "size_bytes"}
        assert inspection[name]["macs"] < inspection["macs"]
        for measure, floor in inspection[name].items():
            met = budget(service, model, measure, floor, **how)
            assert (met["error"], met["result"]["measures"]["after"][measure]) == (None, floor), (name, measure)
        below = budget(service, model, "parameters", inspection[name]["parameters"] - 1, **how)
        assert (below["state"], below["error"]["code"]) == ("failed", "infeasible_target")
        assert below["error"]["floor"] == inspection[name]["parameters"]


def test_a_target_below_the_floor_brings_the_nearest_model(service: Service, tmp_path: Path) -> None:
    model = uploaded(service, transformer(seed=1), tmp_path / "transformer.keras")
    floor = model["inspection"]["floor"]["size_bytes"]
    job = budget(service, model, "size_bytes", floor - 1, dry_run=False)
    assert (job["error"]["code"], job["error"]["floor"]) == ("infeasible_target", floor)
    (artifact,) = service.get(f"/v1/jobs/{job['id']}/artifacts")["items"]
    assert (artifact["id"], artifact["kind"], artifact["size_bytes"]) == (job["error"]["nearest"], "model", floor)
    content = service.client.get(artifact["url"]).content
    assert (len(content), hashlib.sha256(content).hexdigest()) == (floor, artifact["sha256"])
    (tmp_path / "nearest.keras").write_bytes(content)
    assert keras.saving.load_model(tmp_path / "nearest.keras").output_shape == (None, 3)


def test_a_result_that_hardly_moves_the_macs_says_so(service: Service, tmp_path: Path) -> None:
    image = keras.Input((16, 16, 2))
    x = keras.layers.Conv2D(16, 5, padding="same", name="stem")(image)
    x = keras.layers.Dense(400, name="wide")(keras.layers.Flatten()(keras.layers.MaxPooling2D(8)(x)))
    skewed = keras.Model(image, keras.layers.Dense(2, name="head")(x))
    model = uploaded(service, skewed, tmp_path / "skewed.keras")

    def warned(layer: str) -> list[str]:
        pruning = {"target": {"type": "manual"}, "layers": {layer: {"ratio": 0.75}}}
        job = service.post("/v1/jobs", {"model_id": model["id"], "pruning": pruning, "dry_run": True, **QUIET})
        result = service.wait(f"/v1/jobs/{job['id']}")["result"]
        return [warning["code"] for warning in result["warnings"]]

    assert warned("wide") == ["macs_hardly_moved"]
    image = keras.Input((32, 32, 2))
    x = keras.layers.Conv2D(8, 3, name="stem")(keras.layers.Conv2D(8, 3, name="first")(image))
    x = keras.layers.Dense(400, name="wide")(keras.layers.Flatten()(keras.layers.MaxPooling2D(14)(x)))
    model = uploaded(service, keras.Model(image, keras.layers.Dense(200)(x)), tmp_path / "other.keras")
    assert warned("first") == ["parameters_hardly_moved"]


def test_a_preprocessor_that_stays_outside_is_said(service: Service, tmp_path: Path) -> None:
    hub = pytest.importorskip("keras_hub").models
    backbone = hub.BertBackbone(30, 1, 2, 8, 12, max_sequence_length=16)
    tokenizer = hub.BertTokenizer(vocabulary=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "a", "b"])
    preprocessor = hub.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    task = hub.BertTextClassifier(backbone=backbone, num_classes=3, preprocessor=preprocessor)
    (warning,) = uploaded(service, task, tmp_path / "task.keras")["inspection"]["warnings"]
    assert warning["code"] == "preprocessor_left_out"
    assert "BertTextClassifierPreprocessor is left out" in warning["detail"]
