"""Every wrong job: the status and the code that the contract names, and the path of the wrong place."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.app.files import labelled
from tests.app.resources import TARGET, inspected, new_dataset, new_model, ready_model
from tests.app.serving import problem

SPEC, RANGE, CONTRADICTION = (422, "invalid_spec"), (422, "target_out_of_range"), (422, "contradictory_spec")
MISSING, LAYER = (404, "not_found"), (422, "layer_not_found")
NEEDS, MISMATCH = (422, "dataset_required"), (422, "dataset_mismatch")
NOBODY = "0" * 32


def target(**fields: Any) -> dict[str, Any]:
    return {"pruning": {"target": fields}}


def rules(**rules: Any) -> dict[str, Any]:
    return {"pruning": {"target": TARGET, "layers": rules}}


def pruning(**fields: Any) -> dict[str, Any]:
    return {"pruning": {"target": TARGET, **fields}}


def stages(*recovery: dict[str, Any]) -> dict[str, Any]:
    return {"pruning": {"target": TARGET}, "recovery": list(recovery)}


def whole(**fields: Any) -> dict[str, Any]:
    return pruning(structure="layer", **fields)


CHANNELS: dict[str, Any] = {"structure": "channel", "groups": [{"id": "dense_1", "width": 8, "keep": [0, 1]}]}


def planned(**fields: Any) -> dict[str, Any]:
    return target(type="plan", plan={**CHANNELS, "groups": [{**CHANNELS["groups"][0], **fields}]})


BAD: dict[str, tuple[dict[str, Any], tuple[int, str], str]] = {
    # name: (what the body has beside model_id, status and code, path of the wrong place)
    "no pruning": ({"pruning": None}, SPEC, "pruning"),
    "no target": ({"pruning": {}}, SPEC, "pruning.target"),
    "unknown field": (pruning() | {"colour": "red"}, SPEC, "colour"),
    "unknown field inside": (pruning(colour="red"), SPEC, "pruning.colour"),
    "unknown target": (target(type="magic"), SPEC, "pruning.target"),
    "unknown criterion": (pruning(criterion={"name": "magic"}), SPEC, "pruning.criterion"),
    "unknown parameter": (pruning(criterion={"name": "l2", "power": 3}), SPEC, "pruning.criterion.power"),
    "criterion of channels": (pruning(structure="weight", criterion={"name": "bn_scale"}), SPEC, "pruning"),
    "distances of weights": (pruning(structure="weight", criterion={"name": "fpgm"}), SPEC, "pruning"),
    "unknown power": (pruning(criterion={"name": "taylor", "power": 3}), SPEC, "pruning.criterion.power"),
    "unknown rank": (pruning(criterion={"name": "hrank", "measure": "trace"}), SPEC, "pruning.criterion.measure"),
    "LAMP by itself": (
        pruning(criterion={"name": "lamp", "normalization": "auto"}),
        SPEC,
        "pruning.criterion.normalization",
    ),
    "no damping": (pruning(criterion={"name": "obs", "damping": 0}), RANGE, "pruning.criterion.damping"),
    "batches of none": (pruning(criterion={"name": "obd", "batch_size": 0}), RANGE, "pruning.criterion.batch_size"),
    "half a sample": (pruning(criterion={"name": "wanda", "samples": 0.5}), SPEC, "pruning.criterion.samples"),
    "samples of weights": (pruning(criterion={"name": "l2", "samples": 5}), SPEC, "pruning.criterion.samples"),
    "unknown aggregation": (
        pruning(criterion={"name": "snip", "aggregation": "sum"}),
        SPEC,
        "pruning.criterion.aggregation",
    ),
    "unknown scope": (pruning(scope="galactic"), SPEC, "pruning.scope"),
    "scope a list": (pruning(scope=["isomorphic"]), SPEC, "pruning.scope"),
    "unknown scope among kinds": (pruning(scope="isomorph"), SPEC, "pruning.scope"),
    "unknown structure": (pruning(structure="filter"), SPEC, "pruning.structure"),
    "unbuilt structure": (pruning(structure="n_m"), SPEC, "pruning.structure"),
    "structure a list": (pruning(structure=["channel"]), SPEC, "pruning.structure"),
    "unknown schedule": (pruning(schedule={"name": "magic"}), SPEC, "pruning.schedule"),
    "unknown stage": (pruning() | {"recovery": [{"stage": "magic"}]}, SPEC, "recovery.0"),
    "unknown export": (pruning() | {"exports": ["exe"]}, SPEC, "exports.0"),
    "no exports": (pruning() | {"exports": []}, SPEC, "exports"),
    "unknown loss": (pruning() | {"evaluation": {"loss": "mine"}}, SPEC, "evaluation.loss"),
    "unknown metric": (pruning() | {"evaluation": {"metrics": ["mine"]}}, SPEC, "evaluation.metrics.0"),
    "ratio a text": (target(type="ratio", value="half"), SPEC, "pruning.target.value"),
    "ratio 1": (target(type="ratio", value=1.0), RANGE, "pruning.target.value"),
    "ratio 0": (target(type="ratio", value=0), RANGE, "pruning.target.value"),
    "ratio -1": (target(type="ratio", value=-1), RANGE, "pruning.target.value"),
    "ratio NaN": (target(type="ratio", value=float("nan")), RANGE, "pruning.target.value"),
    "ratio infinite": (target(type="ratio", value=float("inf")), RANGE, "pruning.target.value"),
    "ratio enormous": (target(type="ratio", value=10**299), RANGE, "pruning.target.value"),
    "budget without bound": (target(type="budget", measure="macs"), SPEC, "pruning.target"),
    "both budgets": (
        target(type="budget", measure="macs", at_most=5, at_most_ratio=0.5),
        CONTRADICTION,
        "pruning.target",
    ),
    "budget 0": (target(type="budget", measure="macs", at_most=0), RANGE, "pruning.target.at_most"),
    "budget ratio 2": (target(type="budget", measure="macs", at_most_ratio=2), RANGE, "pruning.target.at_most_ratio"),
    "unknown measure": (target(type="budget", measure="joy", at_most=1), SPEC, "pruning.target.measure"),
    "quantile 2": (target(type="threshold", value={"quantile": 2}), RANGE, "pruning.target.value.quantile"),
    "threshold a word": (target(type="threshold", value="mean"), SPEC, "pruning.target.value"),
    "units of a block": (whole(layers={"dense_1": {"remove": [0]}}), SPEC, "pruning"),
    "share of a block": (whole(layers={"dense_1": {"ratio": 0.5}}), SPEC, "pruning"),
    "kept units of a block": (whole(layers={"dense_1": {"keep": [0]}}), SPEC, "pruning"),
    "a whole block by channel": (rules(dense_1={"remove": True}), SPEC, "pruning"),
    "remove false": (whole(layers={"dense_1": {"remove": False}}), SPEC, "pruning.layers.dense_1"),
    "blocks under scope layer": (whole(scope="layer"), SPEC, "pruning"),
    "blocks among kinds": (whole(scope="isomorphic"), SPEC, "pruning"),
    "blocks in multiples": (whole(constraints={"round_to": 4}), SPEC, "pruning"),
    "distances of blocks": (whole(criterion={"name": "fpgm"}), SPEC, "pruning"),
    "blocks for channels": (pruning(criterion={"name": "block_influence"}), SPEC, "pruning"),
    "block criterion without data": (whole(criterion={"name": "block_influence"}), NEEDS, "dataset_id"),
    "fold of blocks": (whole() | {"recovery": [{"stage": "fold"}]}, SPEC, ""),
    "plan of channels for blocks": (
        {"pruning": {"structure": "layer", "target": {"type": "plan", "plan": CHANNELS}}},
        CONTRADICTION,
        "pruning",
    ),
    "plan of numbered blocks": (
        {"pruning": {"structure": "layer", "target": {"type": "plan", "plan": {"structure": "layer", "layers": [3]}}}},
        SPEC,
        "pruning.target.plan.layers.0",
    ),
    "no plan": (target(type="plan"), SPEC, "pruning.target"),
    "plan a text": (target(type="plan", plan="all"), SPEC, "pruning.target.plan"),
    "plan without structure": (target(type="plan", plan={}), SPEC, "pruning.target.plan.structure"),
    "plan of weights": (target(type="plan", plan={"structure": "weight"}), CONTRADICTION, "pruning"),
    "plan twice": (target(type="plan", plan=CHANNELS, artifact_id=f"art_{NOBODY}"), CONTRADICTION, "pruning.target"),
    "plan with a digest": (target(type="plan", plan=CHANNELS, sha256="0" * 64), CONTRADICTION, "pruning.target"),
    "plan with layers": (
        {"pruning": {"target": {"type": "plan", "plan": CHANNELS}, "layers": {"dense_1": {"skip": True}}}},
        CONTRADICTION,
        "pruning",
    ),
    "plan keeps -1": (planned(keep=[-1]), RANGE, "pruning.target.plan.groups.0.keep.0"),
    "plan keeps index 8 of 8": (planned(keep=[0, 8]), RANGE, "pruning.target.plan.groups.0"),
    "plan names a group twice": (
        target(type="plan", plan={**CHANNELS, "groups": CHANNELS["groups"] * 2}),
        CONTRADICTION,
        "pruning.target.plan",
    ),
    "plan of channels with blocks": (
        target(type="plan", plan={**CHANNELS, "layers": ["dense_1"]}),
        CONTRADICTION,
        "pruning.target.plan",
    ),
    "plan of blocks with groups": (
        whole(target={"type": "plan", "plan": {**CHANNELS, "structure": "layer"}}),
        CONTRADICTION,
        "pruning.target.plan",
    ),
    "plan keeps a word": (planned(keep=["a"]), SPEC, "pruning.target.plan.groups.0.keep.0"),
    "plan keeps beyond any": (planned(keep=[2**70]), RANGE, "pruning.target.plan.groups.0.keep.0"),
    "plan without width": (planned(width=None), SPEC, "pruning.target.plan.groups.0.width"),
    "plan unknown field": (planned(colour="red"), SPEC, "pruning.target.plan.groups.0.colour"),
    "no such plan": (target(type="plan", artifact_id=f"art_{NOBODY}"), MISSING, "pruning.target.artifact_id"),
    "plan id of another type": (
        target(type="plan", artifact_id=f"job_{NOBODY}"),
        MISSING,
        "pruning.target.artifact_id",
    ),
    "plan id a number": (target(type="plan", artifact_id=7), SPEC, "pruning.target.artifact_id"),
    "manual says nothing": (target(type="manual"), SPEC, "pruning"),
    "round_to 0": (pruning(constraints={"round_to": 0}), RANGE, "pruning.constraints.round_to"),
    "min_units a text": (pruning(constraints={"min_units": "all"}), SPEC, "pruning.constraints.min_units"),
    "axes of no kind": (pruning(constraints={"normalized_axes": "some"}), SPEC, "pruning.constraints.normalized_axes"),
    "max_ratio 2": (pruning(constraints={"max_ratio": 2}), RANGE, "pruning.constraints.max_ratio"),
    "layer not there": (rules(nowhere={"skip": True}), LAYER, "pruning.layers.nowhere"),
    "pattern without match": (rules(**{"conv*": {"skip": True}}), LAYER, "pruning.layers.conv*"),
    "layer ratio 1": (rules(dense_1={"ratio": 1.0}), RANGE, "pruning.layers.dense_1.ratio"),
    "layer unknown field": (rules(dense_1={"drop": 1}), SPEC, "pruning.layers.dense_1.drop"),
    "layer name empty": (rules(**{"": {"skip": True}}), SPEC, ""),
    "index beyond": (rules(dense_1={"remove": [0, 8]}), RANGE, "pruning.layers.dense_1"),
    "index beyond by pattern": (rules(**{"dense_*": {"keep": [99]}}), RANGE, "pruning.layers.dense_*"),
    "index negative": (rules(dense_1={"remove": [-1]}), RANGE, "pruning.layers.dense_1.remove.0"),
    "index a text": (rules(dense_1={"remove": ["a"]}), SPEC, "pruning.layers.dense_1.remove.0"),
    "indices of weights": (pruning(structure="weight", layers={"dense_1": {"remove": [0]}}), SPEC, "pruning"),
    "weights to keep": (pruning(structure="weight", layers={"dense_1": {"keep": [0]}}), SPEC, "pruning"),
    "everything removed": (rules(dense_1={"remove": list(range(8))}), CONTRADICTION, "pruning.layers.dense_1"),
    "index beyond any": (rules(dense_1={"remove": [2**70]}), RANGE, "pruning.layers.dense_1.remove.0"),
    "keep nothing": (rules(dense_1={"keep": []}), CONTRADICTION, "pruning.layers.dense_1"),
    "keep and remove meet": (rules(dense_1={"keep": [1], "remove": [1]}), CONTRADICTION, "pruning.layers.dense_1"),
    "skip and ratio": (rules(dense_1={"skip": True, "ratio": 0.5}), CONTRADICTION, "pruning.layers.dense_1"),
    "seed negative": (pruning() | {"seed": -1}, RANGE, "seed"),
    "seed too large": (pruning() | {"seed": 2**32}, RANGE, "seed"),
    "seed half": (pruning() | {"seed": 0.5}, SPEC, "seed"),
    "epochs 0": (pruning() | {"recovery": [{"stage": "fine_tune", "epochs": 0}]}, RANGE, "recovery.0.epochs"),
    "repair after training": (
        pruning() | {"recovery": [{"stage": "fine_tune"}, {"stage": "fold"}]},
        CONTRADICTION,
        "",
    ),
    "repair after statistics": (stages({"stage": "batch_norm"}, {"stage": "least_squares"}), CONTRADICTION, ""),
    "fold of weights": (pruning(structure="weight") | {"recovery": [{"stage": "fold"}]}, SPEC, ""),
    "fold on 0 samples": (stages({"stage": "fold", "samples": 0}), RANGE, "recovery.0.samples"),
    "fold with a ridge": (stages({"stage": "fold", "ridge": 1.0}), SPEC, "recovery.0.ridge"),
    "least squares on half a sample": (stages({"stage": "least_squares", "samples": 0.5}), SPEC, "recovery.0.samples"),
    "least squares without data": (stages({"stage": "fold"}, {"stage": "least_squares"}), NEEDS, "dataset_id"),
    "distil all and more": (stages({"stage": "fine_tune", "distill": 1.5}), RANGE, "recovery.0.distill"),
    "temperature 0": (stages({"stage": "fine_tune", "temperature": 0}), RANGE, "recovery.0.temperature"),
    "a stage of no list": (pruning() | {"recovery": {"stage": "fold"}}, SPEC, "recovery"),
    "a stage without name": (stages({"samples": 5}), SPEC, "recovery.0"),
    "ridge 0": (pruning() | {"recovery": [{"stage": "least_squares", "ridge": 0}]}, RANGE, "recovery.0.ridge"),
    "learning rate -1": (
        pruning() | {"recovery": [{"stage": "fine_tune", "learning_rate": -1}]},
        RANGE,
        "recovery.0.learning_rate",
    ),
    "batch size 0": (pruning() | {"evaluation": {"batch_size": 0}}, RANGE, "evaluation.batch_size"),
    "repeats 1": (pruning() | {"measures": {"latency": {"repeats": 1}}}, RANGE, "measures.latency.repeats"),
    "run_seconds 0": (pruning() | {"limits": {"run_seconds": 0}}, RANGE, "limits.run_seconds"),
    "memory of a byte": (pruning() | {"limits": {"memory_bytes": 1}}, RANGE, "limits.memory_bytes"),
    "memory beyond the database": (pruning() | {"limits": {"memory_bytes": 2**70}}, RANGE, "limits.memory_bytes"),
    "run_seconds beyond time": (pruning() | {"limits": {"queue_seconds": 1e300}}, RANGE, "limits.queue_seconds"),
    "labels a list": (pruning() | {"labels": ["a"]}, SPEC, "labels"),
    "label a number": (pruning() | {"labels": {"a": 1}}, SPEC, "labels.a"),
    "label with a colon": (pruning() | {"labels": {"a:b": "c"}}, SPEC, ""),
    "label too long": (pruning() | {"labels": {"a": "b" * 300}}, SPEC, "labels.a"),
    "name too long": (pruning() | {"name": "a" * 300}, SPEC, "name"),
    "name with NUL": (pruning() | {"name": "a\x00"}, SPEC, "name"),
    "name with half a pair": (pruning() | {"name": "\ud800"}, SPEC, "name"),
    "a key with NUL": (pruning() | {"a\x00": 1}, SPEC, ""),
    "dry_run a number": (pruning() | {"dry_run": 3}, SPEC, "dry_run"),
    "no such model": (pruning() | {"model_id": f"mdl_{NOBODY}"}, MISSING, "model_id"),
    "model id of another type": (pruning() | {"model_id": f"job_{NOBODY}"}, MISSING, "model_id"),
    "model id nonsense": (pruning() | {"model_id": "../../etc/passwd"}, MISSING, "model_id"),
    "model id a number": (pruning() | {"model_id": 5}, SPEC, "model_id"),
    "model id null": (pruning() | {"model_id": None}, SPEC, "model_id"),
    "no such data": (pruning() | {"dataset_id": f"dst_{NOBODY}"}, MISSING, "dataset_id"),
    "data id nonsense": (pruning() | {"dataset_id": ""}, MISSING, "dataset_id"),
    "criterion without data": (pruning(criterion={"name": "apoz"}), NEEDS, "dataset_id"),
    "no samples": (pruning(criterion={"name": "taylor", "samples": 0}), RANGE, "pruning.criterion.samples"),
    "stage without data": (pruning() | {"recovery": [{"stage": "batch_norm"}]}, NEEDS, "dataset_id"),
}


@pytest.fixture(scope="module")
def model_id(shared: httpx.Client) -> str:
    return ready_model(shared)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_refused(shared: httpx.Client, model_id: str, name: str, dry_run: bool) -> None:
    fields, expected, path = BAD[name]
    body = {"model_id": model_id, **({"dry_run": True} if dry_run else {}), **fields}
    response = shared.post("/v1/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert problem(response) == expected, response.text
    if path:
        assert path in [place["path"] for place in response.json()["errors"]], response.text
    assert shared.get("/v1/jobs").json()["items"] == []


@pytest.fixture(scope="module")
def datasets(shared: httpx.Client) -> dict[str, str]:
    made = labelled()
    names = {
        "labelled": list(made),
        "unlabelled": [name for name in made if name.startswith("x")],
        "test only": ["x_test", "y_test"],
        "no validation": ["x_train", "y_train", "x_test", "y_test"],
    }
    return {key: new_dataset(shared, **{name: made[name] for name in use})["id"] for key, use in names.items()}


@pytest.mark.parametrize(
    ("data", "stages"),
    [
        ("unlabelled", ["fine_tune"]),
        ("unlabelled", ["batch_norm", "fine_tune"]),
        ("test only", ["batch_norm"]),
        ("no validation", ["fine_tune"]),
    ],
)
def test_data_that_lack_what_a_stage_needs(
    shared: httpx.Client, model_id: str, datasets: dict[str, str], data: str, stages: list[str]
) -> None:
    body = {"model_id": model_id, "dataset_id": datasets[data], **pruning(), "recovery": [{"stage": s} for s in stages]}
    response = shared.post("/v1/jobs", json=body)
    assert problem(response) == MISMATCH
    assert response.json()["errors"][0]["path"] == f"recovery.{len(stages) - 1}"


def test_layers_of_a_model_that_is_still_inspected_are_not_judged(client: httpx.Client) -> None:
    model = new_model(client)["id"]
    body = {"model_id": model, **rules(nowhere={"skip": True})}
    assert client.post("/v1/jobs", json=body).status_code == 202
    inspected(model)
    assert problem(client.post("/v1/jobs", json=body)) == LAYER


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("data", "name"), [("unlabelled", "taylor"), ("test only", "taylor"), ("test only", "wanda")])
def test_data_that_lack_what_a_criterion_needs(
    shared: httpx.Client, model_id: str, datasets: dict[str, str], data: str, name: str, dry_run: bool
) -> None:
    body = {"model_id": model_id, "dataset_id": datasets[data], **pruning(criterion={"name": name}), "recovery": []}
    response = shared.post("/v1/jobs", json=body | {"dry_run": dry_run})
    assert problem(response) == MISMATCH
    assert [place["path"] for place in response.json()["errors"]] == ["pruning.criterion"]


RAW: dict[str, tuple[bytes, str | None, tuple[int, str]]] = {
    "no JSON": (b"{", "application/json", (400, "malformed_request")),
    "text": (b"hello", "application/json", (400, "malformed_request")),
    "no UTF-8": (b'{"a": "\xff"}', "application/json", (400, "malformed_request")),
    "a list": (b"[]", "application/json", SPEC),
    "a number": (b"1", "application/json", SPEC),
    "null": (b"null", "application/json", SPEC),
    "empty": (b"", "application/json", (400, "malformed_request")),
    "nested": (b"[" * 100_000 + b"]" * 100_000, "application/json", (400, "malformed_request")),
    "long number": (b'{"seed": ' + b"9" * 10_000 + b"}", "application/json", RANGE),
    "form": (b"a=b", "application/x-www-form-urlencoded", (415, "unsupported_format")),
    "multipart": (b"--b--", "multipart/form-data; boundary=b", (415, "unsupported_format")),
    "too large": (b'{"name": "' + b"a" * 2_000_000 + b'"}', "application/json", (413, "file_too_large")),
    "NUL outside": (b'{"a": 1}\x00', "application/json", (400, "malformed_request")),
}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/{job}/clone"])
@pytest.mark.parametrize("name", RAW)
def test_bodies_that_are_no_job(shared: httpx.Client, path: str, name: str) -> None:
    content, kind, expected = RAW[name]
    if "{job}" in path:
        path = path.format(job=f"job_{NOBODY}")
        # The body is read before the job: what is no JSON is refused all the same. A clone needs no body.
        unread = name in ("a list", "a number", "null", "empty")
        expected = MISSING if unread else expected
    assert problem(shared.post(path, content=content, headers={"Content-Type": kind})) == expected


@pytest.mark.parametrize(
    ("content", "kind"), [(b"[]", "an array"), (b"1", "a number"), (b"null", "null"), (b'"x"', "a string")]
)
def test_a_body_is_called_by_its_name_in_json(shared: httpx.Client, content: bytes, kind: str) -> None:
    response = shared.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert response.json()["detail"] == f"the body is {kind}: a JSON object is needed"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/{}",
        "/v1/models/{}",
        "/v1/datasets/{}",
    ],
)
@pytest.mark.parametrize(
    "id", ["x", f"job_{NOBODY}", f"mdl_{NOBODY}", f"dst_{NOBODY}", "%00", "a%2Fb", "%F0%28", "a" * 3000]
)
def test_ids_that_nothing_has(shared: httpx.Client, method: str, path: str, id: str) -> None:
    assert problem(shared.request(method, path.format(id))) == MISSING


@pytest.mark.parametrize("path", ["cancel", "clone"])
def test_posts_to_no_job(shared: httpx.Client, path: str) -> None:
    assert problem(shared.post(f"/v1/jobs/job_{NOBODY}/{path}")) == MISSING
    assert problem(shared.post(f"/v1/jobs/{'a' * 3000}/{path}", headers={"Idempotency-Key": "k"})) == MISSING


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/jobs/", "/v1/job", "/", "/v2/jobs", f"/v1/artifacts/art_{NOBODY}/content"]
)
def test_unknown_paths(shared: httpx.Client, path: str) -> None:
    assert problem(shared.get(path)) == MISSING


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/jobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/models", "GET, HEAD, POST, PUT"),
        ("PUT", f"/v1/jobs/job_{NOBODY}", "DELETE, GET, HEAD"),
        ("GET", f"/v1/jobs/job_{NOBODY}/cancel", "POST"),
        ("HEAD", f"/v1/jobs/job_{NOBODY}/cancel", "POST"),
        ("POST", "/health/live", "GET, HEAD"),
    ],
)
def test_methods_that_are_not_offered(shared: httpx.Client, method: str, path: str, allowed: str) -> None:
    response = shared.request(method, path)
    if method == "HEAD":
        assert response.status_code == 405
    else:
        assert problem(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == allowed
