"""A job of structure layer from upload to file, over REST and through the sandboxed child."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from pruning.keras import live
from pruning.planning import read
from tests.e2e import tiny
from tests.e2e.conftest import Files
from tests.e2e.service import running


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deep") / "deep.keras"
    tiny.model(path, ("one", "two", "three"))
    return path


def test_layers_go_over_rest(tmp_path: Path, deep: Path, files: Files) -> None:
    with running(tmp_path / "data") as service:
        model_id, dataset_id = service.upload("models", deep), service.upload("datasets", files.data)
        inspection = service.wait(f"/v1/models/{model_id}")["inspection"]
        assert [block["id"] for block in inspection["blocks"]] == ["one", "two", "three"]
        assert inspection["layer_floor"]["parameters"] == inspection["parameters"] - 3 * (16 * 16 + 16)
        common = {"model_id": model_id, "measures": {"latency": None}}
        rule = {"structure": "layer", "target": {"type": "manual"}, "layers": {"t[a-z]*": {"remove": True}}}
        foreseen = service.post("/v1/jobs", {**common, "pruning": rule, "dry_run": True})["id"]
        done = service.post("/v1/jobs", {**common, "pruning": rule, "dataset_id": dataset_id, "recovery": []})["id"]
        seen = {**rule, "criterion": {"name": "loss_change"}, "target": {"type": "ratio", "value": 0.34}, "layers": {}}
        scored = service.post("/v1/jobs", {**common, "pruning": seen, "dataset_id": dataset_id, "recovery": []})["id"]
        prediction, result, other = (service.wait(f"/v1/jobs/{id}")["result"] for id in (foreseen, done, scored))
        assert prediction["plan"]["layers"] == ["two", "three"]
        assert prediction["measures"]["after"]["size_bytes"] == result["measures"]["after"]["size_bytes"]
        assert [row["name"] for row in result["layers"] if row["removed"]] == ["two", "three"]
        assert result["verification"]["structure"]["relative_difference"] < 1e-12
        assert len([row for row in other["layers"] if row["removed"]]) == 1
        (artifact,) = [one for one in service.get(f"/v1/jobs/{done}/artifacts")["items"] if one["kind"] == "model"]
        content = service.client.get(f"/v1/artifacts/{artifact['id']}/content").content
    (tmp_path / "pruned.keras").write_bytes(content)
    pruned = keras.saving.load_model(tmp_path / "pruned.keras", compile=False)
    assert [layer.name for layer in pruned.layers] == ["hidden", "one", "classes"]
    archive = read(deep)
    whole = live.build(archive.config, archive.arrays)
    x = np.load(files.data)["x_test"]
    by_hand = whole.get_layer("classes")(whole.get_layer("one")(whole.get_layer("hidden")(x)))
    np.testing.assert_allclose(pruned(x), by_hand, rtol=1e-6)
