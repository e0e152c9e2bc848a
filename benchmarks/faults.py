"""kill -9 at random while jobs run: `python -m benchmarks.faults --jobs 1000 --kills 50 --broker-kills 10`.

Embedded by default; `SECATEUR_DATABASE_URL` and `SECATEUR_BROKER_URL` in the environment make it production. A broker
kill empties the broker and cuts its connections. Prints what was lost, done twice, stuck, orphaned or left behind:
nothing may be. Exit code 1 if something was.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import redis

from tests.e2e import tiny
from tests.e2e.service import FINISHED, Service, Victim, running
from tests.worker.processes import wait_until

LEASE_SECONDS = 5.0
STUCK_SECONDS = LEASE_SECONDS + 30
MOST_WAITING = 20


class Campaign:
    """Submits jobs, kills at random, counts what went wrong."""

    def __init__(self, service: Service, folder: Path, seed: int) -> None:
        tiny.model(folder / "tiny.keras")
        tiny.data(folder / "tiny.npz")
        self._service = service
        self._random = random.Random(seed)
        model_id = service.upload("models", folder / "tiny.keras")
        service.wait(f"/v1/models/{model_id}")
        self._body = {
            "model_id": model_id,
            "dataset_id": service.upload("datasets", folder / "tiny.npz"),
            "pruning": {"target": {"type": "ratio", "value": 0.5}},
            "measures": {"latency": None},
        }
        self.jobs: list[str] = []
        self.open: set[str] = set()
        self.killed: Counter[str] = Counter()
        self.orphans = 0
        self.longest_silence = 0.0

    def run(self, jobs: int, kills: int, broker_kills: int) -> None:
        """Spread the kills over the jobs; return when all jobs have ended, or nothing ends any more."""
        schedule = ["kill"] * kills + ["broker"] * broker_kills
        self._random.shuffle(schedule)
        every = max(1, jobs // (len(schedule) + 1))
        last_end = time.monotonic()
        while len(self.jobs) < jobs or self.open or schedule:
            while len(self.jobs) < jobs and len(self.open) < MOST_WAITING:
                self._submit()
            ended = {id for id in self.open if self._job(id)["state"] in FINISHED}
            self.open -= ended
            silence = time.monotonic() - last_end
            self.longest_silence = max(self.longest_silence, silence)
            if ended or not self.open:
                last_end = time.monotonic()
            done = len(self.jobs) - len(self.open)
            if schedule and done >= every * (kills + broker_kills - len(schedule) + 1):
                self._hit(schedule.pop())
            if silence > 4 * STUCK_SECONDS:
                return
            time.sleep(0.2)

    def report(self) -> dict[str, Any]:
        """What may not be, counted, and what was done."""
        found = [self._job(id) for id in self.jobs]
        clean = wait_until(lambda: self._service.left_behind() == [], 30, 0.5)
        return {
            "lost": sum(job["state"] != "succeeded" for job in found),
            "doubled": sum(not self._service.ended_once(id) for id in self.jobs),
            "stuck": len(self.open) + (self.longest_silence > STUCK_SECONDS),
            "orphans": self.orphans,
            "temporary files": 0 if clean else len(self._service.left_behind()),
            "jobs": len(self.jobs),
            "attempts": sum(job["attempts"] for job in found),
            "longest silence": f"{self.longest_silence:.1f} s",
            "kills": dict(self.killed),
        }

    def _submit(self) -> None:
        epochs = self._random.choice([0, 0, 0, 20])
        stages = [{"stage": "fine_tune", "epochs": epochs, "batch_size": 16, "patience": 10000}] if epochs else []
        job = self._service.post("/v1/jobs", {**self._body, "recovery": stages, "seed": len(self.jobs)})
        self.jobs.append(job["id"])
        self.open.add(job["id"])

    def _job(self, id: str) -> dict[str, Any]:
        return self._service.get(f"/v1/jobs/{id}")

    def _hit(self, what: str) -> None:
        time.sleep(self._random.uniform(0, 1))
        victim: Victim | str = "broker" if what == "broker" else self._random.choice(get_args(Victim))
        self.killed[victim] += 1
        sys.stderr.write(f"{len(self.jobs)} jobs, {len(self.open)} open: kill {victim}\n")
        try:
            if victim == "broker":
                self._empty_broker()
            else:
                self._service.kill(victim, 120)  # type: ignore[arg-type]
        except AssertionError as error:
            sys.stderr.write(f"{error}\n")
            self.orphans += 1

    def _empty_broker(self) -> None:
        if url := os.environ.get("SECATEUR_BROKER_URL"):
            with redis.Redis.from_url(url) as client:
                client.flushdb()
                client.client_kill_filter(_type="normal", skipme=True)
        for message in (self._service.folder / "broker").glob("*.msg"):
            message.unlink(missing_ok=True)


def main() -> int:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--broker-kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    addresses = {name: os.environ.get(f"SECATEUR_{name}", "") for name in ("DATABASE_URL", "BROKER_URL")}
    variables = {"LEASE_SECONDS": str(LEASE_SECONDS), "MAX_ATTEMPTS": "50", "REPUBLISH_SECONDS": "5", **addresses}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "data", **{name: value for name, value in variables.items() if value}) as service:
            campaign = Campaign(service, folder, chosen.seed)
            campaign.run(chosen.jobs, chosen.kills, chosen.broker_kills)
            found = campaign.report()
    for what, count in found.items():
        print(f"{what:>16}: {count}")
    return int(any(found[what] for what in ("lost", "doubled", "stuck", "orphans", "temporary files")))


if __name__ == "__main__":
    sys.exit(main())
