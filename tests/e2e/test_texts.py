"""A model of texts and a data set of texts, over REST and through the child."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.e2e.service import running
from tests.pruning.keras.test_texts import reader, splits  # noqa: F401  (a fixture)


def test_a_model_of_texts_is_pruned_and_recovered(reader: Path, tmp_path: Path) -> None:  # noqa: F811
    np.savez_compressed(tmp_path / "texts.npz", **splits())
    with running(tmp_path / "data") as service:
        model, data = service.upload("models", reader), service.upload("datasets", tmp_path / "texts.npz")
        assert service.get(f"/v1/datasets/{data}")["arrays"][0] == {
            "name": "x_train",
            "shape": [200],
            "dtype": "string",
        }
        stage = {"stage": "fine_tune", "epochs": 4, "learning_rate": 0.01}
        body = {
            "model_id": model,
            "dataset_id": data,
            "pruning": {"target": {"type": "ratio", "value": 0.5}},
            "recovery": [stage],
            "measures": {"latency": {"repeats": 3}},
        }
        job = service.wait(f"/v1/jobs/{service.post('/v1/jobs', body)['id']}")
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert job["result"]["recovery"]["test"]["metrics"]["accuracy"]["recovered"] == 1.0
    assert job["result"]["measures"]["after"]["latency_ms"][0]["median"] > 0
