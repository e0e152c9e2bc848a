"""`make demo`: a real model goes in over REST, two smaller ones come back with the figures that prove it.

The demo starts the service, trains a small residual network on real digits, uploads model and data, runs a channel job
and a weight job, shows before and after, and checks the delivered files with nothing but Keras.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from examples.service import running
from examples.show import Screen, print_table

OUTPUT = Path("demo-output")
LEAST_ACCURACY = 0.97
FINISHED = ("succeeded", "failed", "cancelled")
# The learning rate that the model was trained at; half of the loss follows the original's outputs.
RECOVERY = [
    {"stage": "batch_norm"},
    {"stage": "fine_tune", "epochs": 3, "batch_size": 64, "learning_rate": 0.003, "distill": 0.5},
]
JOBS: dict[str, dict[str, Any]] = {
    "channels": {
        "name": "channels: half the MACs",
        "pruning": {
            "structure": "channel",
            "target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.5},
        },
        "recovery": RECOVERY,
    },
    "weights": {
        "name": "weights: 80 % zeros",
        "pruning": {"structure": "weight", "target": {"type": "ratio", "value": 0.8}},
        "recovery": RECOVERY,
    },
}


class Failed(Exception):
    """Something in the demo is not as it should be; the message says what."""


def main() -> int:
    """Run the demo; 0 when every step did what it promises."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    screen = Screen()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="secateur-demo-") as scratch,
            running(Path(scratch) / "data", OUTPUT / "service.log") as address,
            httpx.Client(base_url=address, timeout=60) as client,
        ):
            screen.say(f"The service answers on {address}; its API is described at {address}/docs")
            demonstrate(client, screen)
    except (Failed, RuntimeError, httpx.HTTPError) as error:
        screen.say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        screen.say("Stopped.")
        return 130
    screen.say(f"Done in {time.monotonic() - started:.0f} seconds. Everything is in {OUTPUT}/")
    return 0


def demonstrate(client: httpx.Client, screen: Screen) -> None:
    """The demo itself: train, upload, prune twice, download, show, check."""
    train(OUTPUT, screen)
    data = OUTPUT / "digits.npz"
    model_id = upload(client, "models", OUTPUT / "digits.keras", screen)["id"]
    dataset_id = upload(client, "datasets", data, screen)["id"]
    results = {}
    for name, spec in JOBS.items():
        job = run(client, {"model_id": model_id, "dataset_id": dataset_id, **spec}, screen)
        save(client, job, OUTPUT / name)
        results[name] = job["result"]
    print_table(results)
    original = results["channels"]["recovery"]["test"]["metrics"]["accuracy"]["original"]
    if original < LEAST_ACCURACY:
        raise Failed(f"the trained model reaches {original:.1%} on test; at least {LEAST_ACCURACY:.0%} was expected")
    for name, result in results.items():
        check(OUTPUT / name / "model.keras", data, result, screen)


def train(folder: Path, screen: Screen) -> None:
    """Train in a process of its own, so that this one needs no TensorFlow."""
    with screen.progress("Training a residual network on 3,500 digits") as show:
        for line in lines_of("examples.train", str(folder)):
            logs = json.loads(line)
            show(logs["epoch"], logs["epochs"], f"validation accuracy {logs['val_accuracy']:.1%}")


def upload(client: httpx.Client, kind: str, path: Path, screen: Screen) -> dict[str, Any]:
    """Send a file as bare bytes, a piece at a time, and return what it became."""
    size = path.stat().st_size

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file, screen.progress(f"Uploading {path.name}") as show:
            while piece := file.read(2**16):
                yield piece
                show(file.tell(), size, f"{size:,} bytes")

    sent = client.put(
        f"/v1/{kind}", params={"filename": path.name}, content=pieces(), headers={"Content-Length": str(size)}
    )
    return answer(sent)


def run(client: httpx.Client, spec: Mapping[str, Any], screen: Screen) -> dict[str, Any]:
    """Ask for a job and poll it until it has ended, showing how far it is."""
    job = answer(client.post("/v1/jobs", json=spec))
    with screen.progress(f"Pruning {spec['name']}") as show:
        while job["state"] not in FINISHED:
            time.sleep(0.25)
            job = answer(client.get(job["urls"]["self"]))
            progress = job["progress"] or {"completed": 0, "total": 0}
            show(progress["completed"], progress["total"], job["phase"] or job["state"])
    if job["state"] != "succeeded":
        raise Failed(f"the job {job['name']} {job['state']}: {job['error']}")
    return job


def save(client: httpx.Client, job: Mapping[str, Any], folder: Path) -> None:
    """Leave the pruned model, the job as JSON and the report for people in `folder`."""
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(job, indent=2))
    report = client.get(job["urls"]["report"], headers={"Accept": "text/html"}).raise_for_status()
    (folder / "report.html").write_text(report.text)
    for artifact in answer(client.get(job["urls"]["artifacts"]))["items"]:
        if artifact["kind"] == "model":
            content = client.get(f"/v1/artifacts/{artifact['id']}/content").raise_for_status()
            (folder / f"model.{artifact['format']}").write_bytes(content.content)


def check(model: Path, data: Path, result: Mapping[str, Any], screen: Screen) -> None:
    """Open the delivered file with Keras alone: it has to hold what the result says, to the digit."""
    found = json.loads(list(lines_of("examples.evaluate", str(model), str(data)))[-1])
    reported = {
        split: result["recovery"][split]["metrics"]["accuracy"]["recovered"] for split in ("validation", "test")
    }
    if any(abs(found["accuracy"][split] - reported[split]) > 1e-6 for split in reported):
        raise Failed(f"{model}: Keras measures {found['accuracy']}, the job reported {reported}")
    if found["parameters"] != result["measures"]["after"]["parameters"]:
        raise Failed(f"{model} holds {found['parameters']} parameters, not as reported")
    screen.say(f"{model}: opened by Keras alone, accuracy on test {found['accuracy']['test']:.1%}, as reported")


def answer(response: httpx.Response) -> dict[str, Any]:
    """The body of a good answer; a problem becomes an exception with its own words."""
    if response.is_error:
        raise Failed(
            f"{response.request.method} {response.request.url} answered {response.status_code}: {response.text}"
        )
    body: dict[str, Any] = response.json()
    return body


def lines_of(module: str, *arguments: str) -> Iterator[str]:
    """What a module of the demo prints, line by line, while it runs in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as process:
            try:
                yield from process.stdout or ()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            complaints.seek(0)
            raise Failed(f"{module} ended with {process.returncode}: {complaints.read()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
