"""Transactions, clock and migrations, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, literal, select, text
from sqlalchemy.exc import DatabaseError, StatementError

from app import db
from app.jobs import events
from app.settings import Settings
from app.tables import Base, Job, Lock
from tests.app import rows
from tests.services import Postgres, configured


def test_migrations_make_the_tables_of_the_code(database: Settings) -> None:
    with db.engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrade_again_changes_nothing(database: Settings) -> None:
    with db.write() as session:
        session.add(Lock(name="kept", holder="h", until=db.now(5)))
    db.upgrade()
    with db.read() as session:
        assert session.scalars(select(Lock.name)).all() == ["kept"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_api_and_worker_may_upgrade_at_once(
    kind: str, tmp_path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    variables = {"DATA_DIR": str(tmp_path)}
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres_server")
        variables["DATABASE_URL"] = server.create("upgraded_at_once")
    with configured(monkeypatch, **variables):
        command = [sys.executable, "-W", "error", "-m", "app.db", "upgrade"]
        running = [
            subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
        assert ended == [(b"", b"", 0)] * 3
        assert set(Base.metadata.tables) < set(inspect(db.engine()).get_table_names())


def _downgrade(revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "migrations")
    with db.engine().execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_downgrade_removes_everything(database: Settings) -> None:
    _downgrade("base")
    assert inspect(db.engine()).get_table_names() == ["alembic_version"]


def test_revisions_keep_what_is_there(database: Settings) -> None:
    with db.write() as session:
        job = rows.job(session, rows.model(session))
    _downgrade("0001")
    with db.engine().begin() as connection:
        connection.execute(text("UPDATE jobs SET spec_resolved = NULL"))
    db.upgrade()
    with db.read() as session:
        found = session.get_one(Job, job.id)
        assert (found.spec_resolved, found.plan_sha256) == (job.spec, None)
        assert [event.state for event in events.page(session, job.id)] == ["queued"]


def test_an_exception_rolls_back(database: Settings) -> None:
    def broken() -> None:
        with db.write() as session:
            session.add(Lock(name="gone", holder="h", until=db.now()))
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    with db.read() as session:
        assert session.scalars(select(Lock)).all() == []


def test_clock_is_the_databases_and_compares_with_stored_times(database: Settings) -> None:
    with db.write() as session:
        session.add(Lock(name="a", holder="h", until=db.now(100)))
        session.add(Lock(name="b", holder="h", until=db.now(-100)))
    with db.read() as session:
        here = db.clock(session)
        assert abs(here - datetime.now(UTC)) < timedelta(seconds=5)
        assert here.tzinfo is UTC
        assert session.scalars(select(Lock.name).where(Lock.until > db.now())).all() == ["a"]
        assert session.scalars(select(Lock.name).where(Lock.until > db.now(99), Lock.until < db.now(101))).all() == [
            "a"
        ]
        until = session.scalars(select(Lock.until).where(Lock.name == "b")).one()
        assert timedelta(seconds=95) < here - until < timedelta(seconds=105)


def test_times_come_back_in_utc_and_sort_with_the_clock(database: Settings) -> None:
    noon = datetime(2026, 5, 6, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with db.write() as session:
        session.add(Lock(name="a", holder="h", until=noon))
    with db.read() as session:
        stored = session.scalars(select(Lock.until)).one()
        assert stored == noon
        assert stored.utcoffset() == timedelta(0)
        assert session.scalar(select(literal(1)).where(select(Lock.until).scalar_subquery() < db.now())) == 1


def test_a_time_without_a_zone_is_refused(database: Settings) -> None:
    with db.write() as session:
        session.add(Lock(name="a", holder="h", until=datetime(2026, 1, 1)))
        with pytest.raises(StatementError, match="without a zone"):
            session.flush()
        session.rollback()


def test_errors_do_not_tell_what_a_statement_carried(database: Settings) -> None:
    query = text("SELECT 1 FROM nowhere WHERE name = :name").bindparams(name="hunter2")
    with db.read() as session, pytest.raises(DatabaseError, match="nowhere") as failed:
        session.execute(query)
    assert "hunter2" not in str(failed.value)


def test_sqlite_runs_as_intended(embedded: Settings) -> None:
    with db.read() as session:
        found = {name: session.execute(text(f"PRAGMA {name}")).scalar() for name in PRAGMAS}
    assert found == PRAGMAS
    assert db.engine().pool.size() == embedded.database_pool_size == 40


PRAGMAS = {"journal_mode": "wal", "busy_timeout": 30000, "foreign_keys": 1, "synchronous": 2}


def test_a_writer_keeps_no_reader_waiting(database: Settings) -> None:
    with db.write() as writer:
        writer.add(Lock(name="a", holder="h", until=db.now()))
        writer.flush()
        with db.read() as reader:
            assert reader.scalars(select(Lock)).all() == []


def test_usage_is_named() -> None:
    assert db.main(["grade"]) == 2
