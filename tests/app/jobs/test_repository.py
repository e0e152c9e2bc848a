"""Rows of jobs, models, data sets and artifacts: lists, deletes, blobs, and four processes after the same rows."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import event, select, text

from app import db, ids, paging, workers
from app.artifacts import repository as artifacts
from app.datasets import repository as datasets
from app.jobs import events, states
from app.jobs import repository as jobs
from app.models import repository as models
from app.paging import Filter
from app.settings import Settings
from app.storage import get_storage
from app.tables import Event, Job, Label
from pruning.contract.errors import Conflict, MalformedRequest, NotFound
from tests.app import rows

VISION, SPEECH = ("team", "vision"), ("team", "speech")


def test_four_processes_claim_every_row_once(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session)
        made = [rows.job(session, model).id for _ in range(300)]
    command = [sys.executable, "-W", "error", "-m", "tests.app.jobs.claimer"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*command, f"w{n}"], env=dict(os.environ), **pipes) for n in range(4)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=100) for process in running]
    assert [error for _, error in outputs] == [""] * 4
    claimed = [id for output, _ in outputs for id in output.split()]
    assert sorted(claimed) == made
    with db.read() as session:
        assert {(job.state, job.attempts, job.fence) for job in session.scalars(select(Job))} == {("succeeded", 1, 1)}
        assert session.query(Event).count() == 3 * 300


def test_a_job_comes_back_as_it_was_put_in(database: Settings) -> None:
    spec = {"z": 1, "a": {"block3_*": {"ratio": 0.3}, "fc": {"remove": [0, 7]}}, "text": "é\u2028"}
    with db.write() as session:
        id = rows.job(session, rows.model(session), spec=spec, name="half", labels={"team": "vision"}).id
    with db.read() as session:
        job = jobs.get(session, id)
        assert list(job.spec) == ["z", "a", "text"]
        assert job.spec == spec
        assert (job.name, job.labels, job.state, job.version) == ("half", {"team": "vision"}, "queued", 1)
        assert job.created_at == ids.created_at(id)
        assert job.queue_deadline is not None
        assert timedelta(seconds=55) < job.queue_deadline - db.clock(session) <= timedelta(seconds=60)
        assert [(e.type, e.state) for e in events.page(session, id)] == [("state", "queued")]
        with pytest.raises(NotFound, match="job_missing"):
            jobs.get(session, "job_missing")
        with pytest.raises(NotFound, match="job_missing"):
            jobs.version(session, "job_missing")


def walk(limit: int, **filters: object) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        with db.read() as session:
            page = jobs.page(session, Filter(limit=limit, cursor=cursor, **filters))
        found.extend(job.id for job in page.items)
        if (cursor := page.next_cursor) is None:
            return found


def test_pages_are_newest_first_and_hold_still_under_inserts_and_deletes(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session)
        made = [rows.job(session, model).id for _ in range(7)]
    with db.read() as session:
        first = jobs.page(session, Filter(limit=3))
    assert [job.id for job in first.items] == made[:3:-1]
    with db.write() as session:
        newer = rows.job(session, model).id
        states.request_cancel(session, made[4])
        jobs.delete(session, made[4])
    with db.read() as session:
        second = jobs.page(session, Filter(limit=3, cursor=first.next_cursor))
        third = jobs.page(session, Filter(limit=3, cursor=second.next_cursor))
    assert [job.id for job in second.items] == [made[3], made[2], made[1]]
    assert [job.id for job in third.items] == [made[0]]
    assert third.next_cursor is None
    assert walk(2)[0] == newer
    assert walk(7) == [newer, *[id for id in reversed(made) if id != made[4]]]


def test_filters_join(database: Settings) -> None:
    with db.write() as session:
        model, other = rows.model(session, labels={"team": "vision"}), rows.model(session, "other")
        a = rows.job(session, model, labels={"team": "vision", "stage": "one"}).id
        b = rows.job(session, model, labels={"team": "vision"}).id
        c = rows.job(session, other, labels={"team": "speech"}).id
        states.request_cancel(session, a)
    assert walk(1, labels=(VISION,)) == [b, a]
    assert walk(9, labels=(VISION, ("stage", "one"))) == [a]
    assert walk(9, labels=(VISION, SPEECH)) == []
    assert walk(9, labels=(VISION,), state="cancelled") == [a]
    assert walk(9, state="queued") == [c, b]
    with db.read() as session:
        assert [row.id for row in models.page(session, Filter(labels=(VISION,), state="ready")).items] == [model.id]


def test_created_after_is_exact_to_the_millisecond(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session)
        made = [rows.job(session, model).id for _ in range(2)]
        while ids.created_at(made[-1]) == ids.created_at(made[-2]):
            made.append(rows.job(session, model).id)
    older, newer = ids.created_at(made[-2]), ids.created_at(made[-1])
    assert walk(9, created_after=older) == [made[-1]]
    assert walk(9, created_after=newer) == []
    assert walk(9, created_after=newer - timedelta(microseconds=1)) == [made[-1]]
    assert walk(99, created_after=older - timedelta(hours=1)) == made[::-1]
    with db.read() as session:
        assert models.page(session, Filter(created_after=newer)).items == []


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "!!!!", "bm90anNvbg", "WzEsIngi", "é", "=" * 9, "W10="),
        base64.urlsafe_b64encode(b"[1,2]").decode(),
        paging.encode("mdl_0190"),
        paging.encode("job_0190'"),
        paging.encode("job_\x00"),
    ],
)
def test_a_bad_cursor_is_named(embedded: Settings, cursor: str) -> None:
    with db.read() as session, pytest.raises(MalformedRequest, match="cursor"):
        jobs.page(session, Filter(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, paging.MAX_LIMIT + 1])
def test_a_bad_limit_is_named(embedded: Settings, limit: int) -> None:
    with db.read() as session, pytest.raises(MalformedRequest, match=f"limit is {limit}"):
        jobs.page(session, Filter(limit=limit))


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(cursor=paging.encode("job_0190")),
        Filter(state="queued"),
        Filter(state="queued", cursor=paging.encode("job_0190")),
        Filter(labels=(VISION,)),
        Filter(labels=(VISION, SPEECH), cursor=paging.encode("job_0190")),
    ],
)
def test_no_list_reads_or_sorts_the_whole_table(embedded: Settings, wanted: Filter) -> None:
    statements: list[tuple[str, object]] = []

    def keep(conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(db.engine(), "before_cursor_execute", keep)
    with db.write() as session:
        # A small table would be read whole by right; these figures make it look large.
        session.execute(text("ANALYZE"))
        session.execute(text("DELETE FROM sqlite_stat1"))
        session.execute(
            text(
                "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('jobs', 'ix_jobs_state_id', '1000000 200000 1'), "
                "('labels', 'sqlite_autoindex_labels_1', '1000000 500000 50000 1')"
            )
        )
    db.engine().dispose()
    with db.read() as session:
        jobs.page(session, wanted)
        statement, parameters = statements[-1]
        plan = [
            row.detail for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    whole_table_in_order = ["SCAN jobs USING INDEX sqlite_autoindex_jobs_1"]
    assert plan == whole_table_in_order or all(step.startswith("SEARCH") for step in plan), plan


def test_deleting_a_job_takes_all_that_hangs_on_it(database: Settings) -> None:
    with db.write() as session:
        id = rows.job(session, rows.model(session), labels={"team": "vision"}).id
        with pytest.raises(Conflict, match="cancel it first"):
            jobs.delete(session, id)
        claim = states.claim(session, states.JOBS, id, "w", 30)
        assert claim is not None
        assert states.finish(session, states.JOBS, id, claim.token, "succeeded", result={})
        file = {"job_id": id, "kind": "model", "format": "keras", "size_bytes": 1, "filename": "m.keras"}
        made = [artifacts.add(session, sha256=digit * 64, **file).id for digit in "aab"]
        assert [artifact.id for artifact in artifacts.of_job(session, id)] == made
        assert artifacts.get(session, made[2]).sha256 == "b" * 64
        assert sorted(jobs.delete(session, id)) == ["a" * 64, "b" * 64]
    with db.read() as session:
        assert session.scalars(select(Event)).all() == []
        assert session.scalars(select(Label)).all() == []
        with pytest.raises(NotFound):
            artifacts.get(session, made[0])
        with pytest.raises(NotFound):
            jobs.get(session, id)


def test_models_and_data_sets_in_use_stay(database: Settings) -> None:
    with db.write() as session:
        model = rows.model(session)
        data, _ = datasets.add(session, sha256="d" * 64, size_bytes=1, description={})
        id = rows.job(session, model, dataset_id=data.id).id
        for delete, of in ((models.delete, model.id), (datasets.delete, data.id)):
            with pytest.raises(Conflict, match=of):
                delete(session, of)
        states.request_cancel(session, id)
        assert list(datasets.delete(session, data.id)) == ["d" * 64]
        assert list(models.delete(session, model.id)) == [model.sha256]
        assert jobs.get(session, id).model_id == model.id
        for get, of in ((models.get, model.id), (datasets.get, data.id)):
            with pytest.raises(NotFound, match=of):
                get(session, of)


def test_the_same_bytes_are_the_same_resource(database: Settings) -> None:
    with db.write() as session:
        fields = {"sha256": "a" * 64, "size_bytes": 1, "format": "h5", "queue": "cpu"}
        first, new = models.add(session, **fields, labels={"team": "vision"})
        again, second_new = models.add(session, **fields, labels={"team": "speech"}, name="other")
        bare, third_new = models.add(session, **fields, architecture_sha256="b" * 64)
        assert (new, second_new, third_new) == (True, False, True)
        assert (again.id, again.labels, again.name) == (first.id, {"team": "vision"}, None)
        assert bare.id != first.id


def test_two_uploads_of_the_same_bytes_at_once_make_one_row(database: Settings) -> None:
    barrier = threading.Barrier(6)
    made: list[tuple[str, bool]] = []

    def upload() -> None:
        barrier.wait()
        with db.write() as session:
            row, new = datasets.add(session, sha256="e" * 64, size_bytes=1, description={})
            made.append((row.id, new))
        with db.write() as session:
            model, new = models.add(session, sha256="e" * 64, size_bytes=1, format="h5", queue="cpu")
            made.append((model.id, new))

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 12
    assert len({id for id, _ in made}) == 2
    assert sum(new for _, new in made) == 2


def test_a_blob_goes_with_its_last_row(database: Settings) -> None:
    storage = get_storage()
    with storage.create() as staged, db.write() as session:
        staged.write(b"shared")
        sha256 = artifacts.keep(session, storage, staged)
        data, _ = datasets.add(session, sha256=sha256, size_bytes=6, description={})
        model, _ = models.add(session, sha256="f" * 64, size_bytes=6, format="keras", queue="cpu")
        model.normalized_sha256 = sha256
    with db.write() as session:
        blobs = datasets.delete(session, data.id)
    assert artifacts.release(storage, blobs) == 0
    assert storage.path(sha256).exists()
    with db.write() as session:
        blobs = models.delete(session, model.id)
    assert set(blobs) == {sha256, "f" * 64}
    assert artifacts.release(storage, blobs) == 1
    assert list(storage.blobs()) == []


def test_a_file_that_is_made_a_model_while_its_job_is_deleted_stays(database: Settings) -> None:
    storage = get_storage()
    with storage.create() as staged, db.write() as session:
        staged.write(b"pruned")
        job = rows.job(session, rows.model(session))
        sha256 = artifacts.keep(session, storage, staged)
        made = artifacts.add(
            session, job_id=job.id, kind="model", format="keras", sha256=sha256, size_bytes=6, filename="m.keras"
        )
        states.request_cancel(session, job.id)

    def delete() -> None:
        with db.write() as session:
            blobs = jobs.delete(session, job.id)
        artifacts.release(storage, blobs)

    deleting = threading.Thread(target=delete)
    with db.write() as session:
        artifact = artifacts.get(session, made.id, lock=True)
        deleting.start()
        deleting.join(0.5)
        assert deleting.is_alive()
        models.add(session, sha256=artifact.sha256, size_bytes=6, format="keras", queue="cpu")
    deleting.join()
    assert storage.path(sha256).exists()


def test_bytes_uploaded_while_they_are_deleted_keep_their_file(database: Settings) -> None:
    storage = get_storage()
    errors: list[str] = []

    def upload_and_delete(rounds: int) -> None:
        for _ in range(rounds):
            with storage.create() as staged:
                staged.write(b"the same")
                staged.flush()
                with db.write() as session:
                    sha256 = artifacts.keep(session, storage, staged)
                    row, _ = datasets.add(session, sha256=sha256, size_bytes=8, description={})
            with db.write() as session:
                if datasets.by_sha256(session, sha256) is not None and not storage.path(sha256).exists():
                    errors.append("a row without a file")
                try:
                    blobs = list(datasets.delete(session, row.id))
                except NotFound:
                    blobs = []  # another thread was faster
            artifacts.release(storage, blobs)

    threads = [threading.Thread(target=upload_and_delete, args=(15,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with db.read() as session:
        assert (datasets.by_sha256(session, staged_digest()) is not None) == bool(list(storage.blobs()))


def staged_digest() -> str:
    import hashlib

    return hashlib.sha256(b"the same").hexdigest()


def test_a_named_lease_has_one_holder(database: Settings) -> None:
    with db.write() as session:
        assert workers.acquire(session, "maintenance", "a", 30)
        assert not workers.acquire(session, "maintenance", "b", 30)
        assert workers.acquire(session, "maintenance", "a", -1)
        assert workers.acquire(session, "maintenance", "b", 30)
        workers.release(session, "maintenance", "a")
        assert not workers.acquire(session, "maintenance", "a", 30)
        workers.release(session, "maintenance", "b")
        assert workers.acquire(session, "maintenance", "a", 30)


def test_only_one_of_many_gets_a_lease_that_nobody_had(database: Settings) -> None:
    barrier = threading.Barrier(6)
    won: list[bool] = []

    def want(name: str) -> None:
        barrier.wait()
        with db.write() as session:
            won.append(workers.acquire(session, "maintenance", name, 30))

    threads = [threading.Thread(target=want, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]


def test_workers_are_alive_while_they_are_heard_of(database: Settings) -> None:
    with db.write() as session:
        for _ in range(2):
            workers.beat(session, "w1", host="h", pid=7, queues=["cpu"], sandbox={"level": "full"})
        assert [(w.id, w.queues, w.sandbox) for w in workers.alive(session, 30)] == [("w1", ["cpu"], {"level": "full"})]
        assert workers.alive(session, -1) == []
        workers.forget(session, silent_seconds=30)
        assert len(workers.alive(session, 30)) == 1
        workers.forget(session, id="w1")
        assert workers.alive(session, 30) == []


def test_ids_sort_by_time() -> None:
    made = [ids.new("job") for _ in range(1000)]
    assert made == sorted(made)
    assert all(ids.created_at(a) <= ids.created_at(b) for a, b in pairwise(made))
    assert ids.first_after("job", ids.created_at(made[0])) > made[0]
