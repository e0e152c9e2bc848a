"""The catalogue of methods is the spec's unions, as schemas that accept what the service accepts."""

from __future__ import annotations

from typing import get_args

import httpx
import jsonschema
import pytest

from pruning.contract import plan, spec


@pytest.fixture(scope="module")
def methods(shared: httpx.Client) -> dict[str, dict[str, dict[str, object]]]:
    return dict(shared.get("/v1/methods").json())


def test_all_are_there(methods: dict[str, dict[str, dict[str, object]]]) -> None:
    assert methods["structures"] == list(get_args(plan.Structure))
    assert methods["scopes"] == list(get_args(spec.Scope))
    # Names stay; a new criterion needs no line here.
    assert set(methods["criteria"]) >= {
        "activation_mean", "apoz", "block_influence", "bn_scale", "flap", "fpgm", "hrank", "l1", "l2", "lamp",
        "loss_change", "mean_abs", "obd", "obs", "random", "snip", "taylor", "wanda",
    }  # fmt: skip
    assert set(methods["targets"]) == {"ratio", "budget", "threshold", "manual", "plan"}
    assert set(methods["schedules"]) == {"one_shot"}
    assert set(methods["stages"]) == {"fold", "least_squares", "batch_norm", "fine_tune"}
    assert set(methods["exports"]) == set(get_args(spec.ExportName))


def test_schemas_have_defaults_and_ranges(methods: dict[str, dict[str, dict[str, object]]]) -> None:
    epochs = methods["stages"]["fine_tune"]["properties"]["epochs"]  # type: ignore[index]
    assert (epochs["default"], epochs["minimum"], epochs["maximum"]) == (5, 1, 10000)
    damping = methods["criteria"]["obs"]["properties"]["damping"]  # type: ignore[index]
    assert (damping["default"], damping["exclusiveMinimum"], damping["maximum"]) == (0.01, 0, 1)
    share = {"type": "ratio", "value": 0.5}
    jsonschema.validate(share, methods["targets"]["ratio"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**share, "value": 1.0}, methods["targets"]["ratio"])
    job = {"model_id": "mdl_1", "pruning": {"target": share, "criterion": {"name": "l1"}}}
    jsonschema.validate(job, methods["job"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**job, "colour": "red"}, methods["job"])
