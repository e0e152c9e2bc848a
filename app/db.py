"""Engine, transactions, the database's clock, and migrations: `python -m app.db upgrade`.

SQLite and PostgreSQL behave alike here: a writing transaction on SQLite starts with BEGIN IMMEDIATE (a plain BEGIN that
turns into a write later fails with "database is locked" under load), and all times that decide are the database's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Dialect,
    Engine,
    Float,
    TypeDecorator,
    create_engine,
    event,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.settings import get_settings

BUSY_SECONDS = 30
# What is raised where the database does not answer.
UNREACHABLE = (OperationalError, InterfaceError, PoolTimeout)
_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_ENGINES: dict[tuple[str, int], Engine] = {}
_ONE_AT_A_TIME = threading.Lock()
_UPGRADE_LOCK = 0x5EC47E04


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC: `timestamptz` on PostgreSQL, text that sorts by time on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone came: {value}; use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Now(FunctionElement[datetime]):
    type = UtcDateTime()
    inherit_cache = True


def now(seconds: float = 0.0) -> ColumnElement[datetime]:
    """The database's clock, `seconds` from now (negative: ago); constant within a statement."""
    return _Now(literal(float(seconds), Float()))


@compiles(_Now, "sqlite")
def _now_sqlite(element: _Now, compiler: SQLCompiler, **options: Any) -> str:
    # Written as SQLAlchemy writes DateTime, so that text compares as time does.
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))"


@compiles(_Now, "postgresql")
def _now_postgresql(element: _Now, compiler: SQLCompiler, **options: Any) -> str:
    # Not clock_timestamp(): that is volatile, and no index could be used to compare with it.
    seconds = compiler.process(element.clauses, **options)
    return f"(statement_timestamp() + {seconds} * interval '1 second')"


def engine() -> Engine:
    """The engine of the configured database; one per address and process."""
    key = _configured()
    with _ONE_AT_A_TIME:  # the first requests come from several threads
        if key not in _ENGINES:
            _ENGINES[key] = _engine(*key)
        return _ENGINES[key]


def dispose() -> None:
    """Close this process's connections to the configured database; the next use opens new ones."""
    with _ONE_AT_A_TIME:
        known = _ENGINES.pop(_configured(), None)
    if known is not None:
        known.dispose()


@contextmanager
def write() -> Iterator[Session]:
    """A writing transaction: commits at the end, rolls back on an exception. Keep it short: SQLite allows one."""
    with Session(engine().execution_options(writes=True), expire_on_commit=False) as session, session.begin():
        session.connection()  # BEGIN IMMEDIATE now, not at the first statement: what comes before it is guarded, too
        yield session


@contextmanager
def read() -> Iterator[Session]:
    """A reading transaction; what it loaded stays usable afterwards."""
    with Session(engine(), expire_on_commit=False, autoflush=False) as session:
        yield session


def clock(session: Session) -> datetime:
    """The database's time, aware, UTC."""
    return session.execute(select(now())).scalar_one()


def upgrade() -> None:
    """Bring the database to the newest revision; safe to call from several processes at once."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    # One transaction under one lock: the second caller waits, then finds nothing to do.
    with engine().execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _configured() -> tuple[str, int]:
    settings = get_settings()
    return settings.database_url.get_secret_value(), settings.database_pool_size


def _engine(url: str, pool_size: int) -> Engine:
    address = make_url(url)
    # Errors go into logs: what a statement carried is no business of theirs.
    options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "hide_parameters": True}
    if address.get_backend_name() in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+psycopg")
        return create_engine(address, pool_pre_ping=True, **options)
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    made = create_engine(address, connect_args={"timeout": BUSY_SECONDS}, **options)
    event.listen(made, "connect", _prepare_sqlite)
    event.listen(made, "begin", _begin_sqlite)
    return made


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver starts no transactions of its own; `_begin_sqlite` does
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def main(arguments: list[str]) -> int:
    """`python -m app.db upgrade`."""
    if arguments != ["upgrade"]:
        sys.stderr.write("usage: python -m app.db upgrade\n")
        return 2
    upgrade()
    dispose()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
