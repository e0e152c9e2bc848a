"""Every move from every stage, with the right token and a wrong one, on both databases, for jobs and models."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from app import db
from app.jobs import events, states
from app.jobs import repository as jobs
from app.jobs.states import FINISHED, JOBS, MODELS, TRANSITIONS, Claim, Kind
from app.models import repository as models
from app.settings import Settings
from app.tables import Job
from tests.app import rows

MAX_ATTEMPTS = 3
ERROR = {"code": "unreadable_file", "detail": "broken"}
STAGES = {"jobs": ("waiting", "running", *FINISHED), "models": ("waiting", "running", "succeeded", "failed")}
KINDS: dict[str, Kind[Any]] = {"jobs": JOBS, "models": MODELS}


def waiting(session: Session, kind: Kind[Any]) -> str:
    made = rows.model(session, ready=kind is JOBS)
    return rows.job(session, made).id if kind is JOBS else made.id


def claimed(session: Session, kind: Kind[Any], id: str, lease_seconds: float = 30) -> Claim[Any]:
    claim = states.claim(session, kind, id, "worker", lease_seconds)
    assert claim is not None
    return claim


def row_at(session: Session, kind: Kind[Any], stage: str) -> tuple[str, str]:
    """A row at a stage, and the token of whoever held it last."""
    id = waiting(session, kind)
    if stage == "waiting":
        return id, "nobody"
    token = claimed(session, kind, id).token
    if stage in FINISHED:
        assert states.finish(session, kind, id, token, kind.names[stage], error=ERROR if stage == "failed" else None)
    return id, token


def snapshot(session: Session, kind: Kind[Any], id: str) -> dict[str, Any]:
    row = session.get_one(kind.table, id, populate_existing=True)
    return {column.key: getattr(row, column.key) for column in kind.table.__table__.columns}


def expired(session: Session, kind: Kind[Any], id: str, lease: bool) -> bool:
    """Let the row's time pass (or not) and sweep."""
    past = db.now(-1) if lease else db.now(60)
    session.execute(update(kind.table).values(lease_until=past))
    return bool(states.expire(session, kind, MAX_ATTEMPTS))


def too_late(session: Session, kind: Kind[Any], id: str, over: bool) -> bool:
    session.execute(update(kind.table).values(queue_deadline=db.now(-1 if over else 60)))
    return bool(states.overdue(session, kind))


def act(name: str, session: Session, kind: Kind[Any], id: str, token: str, over: bool) -> bool:
    """Try one move; whether it matched. `over`: the row's time (lease, deadline) is over."""
    match name:
        case "claim":
            return states.claim(session, kind, id, "other", 30) is not None
        case "renew":
            return states.renew(session, kind, id, token, 30) is not None
        case "progress":
            return states.progress(session, id, token, "load", None)
        case "finish":
            return states.finish(session, kind, id, token, kind.names["failed"], error=ERROR)
        case "give_back":
            return states.give_back(session, kind, id, token)
        case "lose":
            return states.lose(session, kind, id, token, ERROR, MAX_ATTEMPTS) is not None
        case "expire":
            return expired(session, kind, id, over)
        case "overdue":
            return too_late(session, kind, id, over)
        case "cancel":
            return states.request_cancel(session, id) == "cancelled"
        case "request_cancel":
            return states.request_cancel(session, id) == "running"
    raise AssertionError(name)


# A job is refused when its model is rejected; that has a test of its own.
MOVES = [name for name in TRANSITIONS if name != "refuse"]
JOBS_ONLY = {"progress", "cancel", "request_cancel"}


@pytest.mark.parametrize("name", MOVES)
def test_a_move_matches_from_its_own_stage_with_the_right_token_alone(database: Settings, name: str) -> None:
    rule = TRANSITIONS[name]
    for noun, kind in KINDS.items():
        if noun == "models" and name in JOBS_ONLY:
            continue
        for stage in STAGES[noun]:
            for right in (True, False):
                with db.write() as session:
                    id, token = row_at(session, kind, stage)
                    before = snapshot(session, kind, id)
                    if rule.by == "holder":
                        matched = act(name, session, kind, id, token if right else "wrong", True)
                    else:
                        matched = act(name, session, kind, id, token, right)
                    after = snapshot(session, kind, id)
                    expected = stage == rule.source and (right or rule.by == "anyone")
                    if (name, stage) == ("request_cancel", "waiting"):
                        expected = False  # such a job is cancelled at once
                    assert matched is expected, (noun, stage, right)
                    if name not in ("cancel", "request_cancel") and not matched:
                        volatile = {"lease_until", "queue_deadline"}
                        assert {k: v for k, v in before.items() if k not in volatile} == {
                            k: v for k, v in after.items() if k not in volatile
                        }
                    if matched and name != "renew":
                        assert after["version"] > before["version"]
                        assert after["state"] in {kind.names.get(target) for target in rule.targets}
                    session.rollback()


def test_a_claim_is_recorded_in_full(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        claim = claimed(session, JOBS, id)
        job = jobs.get(session, id)
        now = db.clock(session)
        assert (claim.attempt, claim.fence, claim.row.id) == (1, 1, id)
        assert (job.state, job.token, job.worker, job.attempts) == ("running", claim.token, "worker", 1)
        assert job.lease_until is not None
        assert job.started_at is not None
        assert timedelta(seconds=25) < job.lease_until - now <= timedelta(seconds=30)
        assert abs(job.started_at - now) < timedelta(seconds=5)


def test_an_old_holder_cannot_touch_a_row_that_was_claimed_again(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        old = claimed(session, JOBS, id, lease_seconds=-1)
        states.expire(session, JOBS, MAX_ATTEMPTS)
        new = claimed(session, JOBS, id)
        assert (new.attempt, new.fence) == (2, 2)
        assert new.token != old.token
        assert states.renew(session, JOBS, id, old.token, 30) is None
        assert not states.progress(session, id, old.token, "load", None)
        assert not states.finish(session, JOBS, id, old.token, "succeeded", result={})
        assert not states.give_back(session, JOBS, id, old.token)
        assert states.lose(session, JOBS, id, old.token, ERROR, MAX_ATTEMPTS) is None
        assert states.finish(session, JOBS, id, new.token, "succeeded", result={"ok": True})
        job = jobs.get(session, id)
        assert (job.state, job.result, job.error, job.token) == ("succeeded", {"ok": True}, None, None)


def test_renewing_moves_the_lease_and_tells_of_a_cancel(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        token = claimed(session, JOBS, id, lease_seconds=-5).token
        assert states.renew(session, JOBS, id, token, 30) == states.Renewal(cancel_requested=False)
        assert states.expire(session, JOBS, MAX_ATTEMPTS) == []
        assert states.request_cancel(session, id) == "running"
        assert states.request_cancel(session, id) == "running"
        assert states.renew(session, JOBS, id, token, 30) == states.Renewal(cancel_requested=True)
        assert states.finish(session, JOBS, id, token, "cancelled")
        assert states.request_cancel(session, id) is None
        kinds = [(event.type, event.state) for event in events.page(session, id)]
        assert kinds == [
            ("state", "queued"),
            ("state", "running"),
            ("cancel_requested", "running"),
            ("state", "cancelled"),
        ]


def test_a_poison_job_fails_with_the_reason_of_every_attempt(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        for attempt in (1, 2, 3):
            claim = claimed(session, JOBS, id)
            error = {"code": "worker_lost", "detail": f"killed by signal {attempt}"}
            moved = states.lose(session, JOBS, id, claim.token, error, MAX_ATTEMPTS)
            assert moved == states.Moved(id, "failed" if attempt == 3 else "queued", "cpu")
        job = jobs.get(session, id)
        assert job.state == "failed"
        assert [(lost["attempt"], lost["detail"]) for lost in job.attempt_errors] == [
            (1, "killed by signal 1"),
            (2, "killed by signal 2"),
            (3, "killed by signal 3"),
        ]
        assert job.error is not None
        assert job.error["code"] == "worker_lost"
        assert all(f"killed by signal {attempt}" in job.error["detail"] for attempt in (1, 2, 3))
        assert job.finished_at is not None


def test_a_lease_that_was_never_set_counts_as_over(database: Settings) -> None:
    with db.write() as session:
        for kind in (JOBS, MODELS):
            made = rows.model(session, f"{kind.table.__name__}", ready=kind is JOBS)
            id = rows.job(session, made).id if kind is JOBS else made.id
            claimed(session, kind, id)
            session.execute(update(kind.table).where(kind.table.id == id).values(lease_until=None))
            assert states.expire(session, kind, MAX_ATTEMPTS) == [states.Moved(id, kind.names["waiting"], "cpu")]


def test_an_expired_job_that_was_to_be_cancelled_is_cancelled(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        claimed(session, JOBS, id, lease_seconds=-1)
        states.request_cancel(session, id)
        assert states.expire(session, JOBS, MAX_ATTEMPTS) == [states.Moved(id, "cancelled", "cpu")]


def test_giving_back_counts_no_attempt_and_obeys_a_cancel(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        for fence in (1, 2, 3, 4, 5):
            claim = claimed(session, JOBS, id)
            assert (claim.attempt, claim.fence) == (1, fence)
            assert states.progress(session, id, claim.token, "recover", {"completed": 1, "total": 2, "unit": "epochs"})
            assert states.give_back(session, JOBS, id, claim.token)
            job = jobs.get(session, id)
            assert (job.state, job.attempts, job.phase, job.progress, job.started_at) == ("queued", 0, None, None, None)
        claim = claimed(session, JOBS, id)
        states.request_cancel(session, id)
        assert states.give_back(session, JOBS, id, claim.token)
        assert jobs.get(session, id).state == "cancelled"


def test_a_job_that_waited_too_long_fails_and_is_not_claimed(database: Settings) -> None:
    with db.write() as session:
        id = rows.job(session, rows.model(session), queue_seconds=-1).id
        assert states.claim(session, JOBS, id, "worker", 30) is None
        assert states.overdue(session, JOBS) == [states.Moved(id, "failed", "cpu")]
        job = jobs.get(session, id)
        assert job.error is not None
        assert job.error["code"] == "queue_time_limit"


def test_once_claimed_in_time_a_job_that_comes_back_is_not_overdue(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        states.give_back(session, JOBS, id, claimed(session, JOBS, id).token)
        session.execute(update(Job).where(Job.queue_deadline.is_not(None)).values(queue_deadline=db.now(-1)))
        assert states.overdue(session, JOBS) == []


def test_a_job_waits_for_its_model_and_fails_with_its_code(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session, ready=False)
        id = rows.job(session, model).id
        assert states.claim(session, JOBS, id, "worker", 30) is None
        assert states.stale(session, JOBS, -1) == []
        assert [waiting.id for waiting in jobs.waiting_for(session, model.id)] == [id]
        claim = claimed(session, MODELS, model.id)
        assert states.claim(session, JOBS, id, "worker", 30) is None
        assert states.finish(session, MODELS, model.id, claim.token, "rejected", error=ERROR)
        job = jobs.get(session, id)
        assert (job.state, job.error) == ("failed", ERROR)
        assert models.get(session, model.id).problem == ERROR
        assert events.page(session, id)[-1].detail == ERROR


def test_a_model_whose_inspection_always_dies_is_rejected_with_its_jobs(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session, ready=False)
        id = rows.job(session, model).id
        for _ in range(MAX_ATTEMPTS):
            claimed(session, MODELS, model.id, lease_seconds=-1)
            states.expire(session, MODELS, MAX_ATTEMPTS)
        model = models.get(session, model.id)
        assert model.state == "rejected"
        assert model.problem is not None
        assert model.problem["code"] == "worker_lost"
        assert jobs.get(session, id).error == model.problem


def test_stale_rows_are_announced_again_oldest_first_and_not_twice(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session)
        ids = [rows.job(session, model).id for _ in range(5)]
        claimed(session, JOBS, ids[1])
        assert states.stale(session, JOBS, 30) == []
        session.execute(update(Job).where(Job.state == "queued").values(published_at=db.now(-31)))
        first = states.stale(session, JOBS, 30, limit=2)
        assert [row.id for row in first] == [ids[0], ids[2]]
        assert [row.id for row in states.stale(session, JOBS, 30)] == [ids[3], ids[4]]
        assert states.stale(session, JOBS, 30) == []
        version = jobs.version(session, ids[0])
        assert version == (1, "queued")


def test_two_sweeps_share_the_rows_without_waiting(on_postgres: Settings) -> None:
    with db.write() as session:
        model = rows.model(session)
        ids = [rows.job(session, model).id for _ in range(6)]
        session.execute(update(Job).values(published_at=db.now(-31)))
    with db.write() as one:
        first = [row.id for row in states.stale(one, JOBS, 30, limit=3)]
        found: list[str] = []

        def other() -> None:
            with db.write() as two:
                found.extend(row.id for row in states.stale(two, JOBS, 30))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(first + found) == ids


def test_finishing_takes_more_columns(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session, ready=False)
        token = claimed(session, MODELS, model.id).token
        more = {"normalized_sha256": "c" * 64}
        assert states.finish(session, MODELS, model.id, token, "ready", result={"macs": 3}, **more)
        model = models.get(session, model.id)
        assert (model.state, model.inspection, model.normalized_sha256) == ("ready", {"macs": 3}, "c" * 64)
        assert model.finished_at is not None


def test_a_target_that_the_table_does_not_know_is_our_own_mistake(database: Settings) -> None:
    with db.write() as session:
        id = waiting(session, JOBS)
        token = claimed(session, JOBS, id).token
        with pytest.raises(AssertionError, match="finish does not lead to running"):
            states.finish(session, JOBS, id, token, "running")
