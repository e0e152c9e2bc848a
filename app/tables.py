"""The tables. Every time is UTC; every JSON column holds plain data; ids sort by creation (`app.ids`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.db import UtcDateTime

# Ids are compared and sorted byte by byte, whatever the database's locale.
Id = String(40).with_variant(String(40, collation="C"), "postgresql")
Sha256 = String(64)
# JSON and not JSONB: the order of keys is the user's, and nothing is searched inside these columns.
Json = JSON(none_as_null=True)
Number = BigInteger()
# SQLite numbers rows by itself only in a column of type INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Names of constraints are fixed, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[Any]: Json,
        int: Number,
        float: Double(),
    }


class Leased:
    """What a row needs to be worked on by one worker at a time: `app.jobs.states` alone writes these columns.

    `token`: secret of the worker that holds the row. `fence`: number of the claim, never used twice. `attempts`: claims
    that count. `attempt_errors`: why each lost attempt was lost. `version`: changes with everything a reader can see.
    `published_at`, `queue_deadline`: when a waiting row was announced, and until when it may wait; else NULL.
    """

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    version: Mapped[int] = mapped_column(default=1)
    queue: Mapped[str] = mapped_column(String(64))
    token: Mapped[str | None] = mapped_column(String(64))
    worker: Mapped[str | None] = mapped_column(String(128))
    fence: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    attempt_errors: Mapped[list[Any]] = mapped_column(default=list)
    lease_until: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    queue_deadline: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Model(Leased, Base):
    """An uploaded network. `content_key` tells two uploads apart: the digest of the file and of its architecture."""

    __tablename__ = "models"

    content_key: Mapped[str] = mapped_column(String(129), unique=True)
    sha256: Mapped[str] = mapped_column(Sha256, index=True)
    format: Mapped[str] = mapped_column(String(16))
    size_bytes: Mapped[int]
    filename: Mapped[str | None] = mapped_column(String(255))
    name: Mapped[str | None] = mapped_column(Text)
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    architecture_sha256: Mapped[str | None] = mapped_column(Sha256, index=True)
    normalized_sha256: Mapped[str | None] = mapped_column(Sha256, index=True)
    problem: Mapped[dict[str, Any] | None]
    inspection: Mapped[dict[str, Any] | None]

    __table_args__ = (
        Index("ix_models_state_id", "state", "id"),
        Index("ix_models_published_at", "published_at"),
    )


class Dataset(Base):
    """Uploaded arrays with their splits."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(Sha256, unique=True)
    size_bytes: Mapped[int]
    filename: Mapped[str | None] = mapped_column(String(255))
    name: Mapped[str | None] = mapped_column(Text)
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    description: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Job(Leased, Base):
    """One pruning run. It keeps the ids of its model and its data set, also when these are deleted later.

    `plan_sha256`: the plan that it carries out, where that came as an artifact.
    """

    __tablename__ = "jobs"

    model_id: Mapped[str] = mapped_column(Id)
    dataset_id: Mapped[str | None] = mapped_column(Id)
    spec: Mapped[dict[str, Any]]
    # Always there; SQLite takes no NOT NULL for a column of a table that others refer to.
    spec_resolved: Mapped[dict[str, Any]] = mapped_column(nullable=True)
    plan_sha256: Mapped[str | None] = mapped_column(Sha256, index=True)
    name: Mapped[str | None] = mapped_column(Text)
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    phase: Mapped[str | None] = mapped_column(String(32))
    progress: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    run_seconds: Mapped[float]
    memory_bytes: Mapped[int]

    __table_args__ = (
        Index("ix_jobs_state_id", "state", "id"),
        Index("ix_jobs_model_id_state_id", "model_id", "state", "id"),
        Index("ix_jobs_dataset_id_state", "dataset_id", "state"),
        Index("ix_jobs_published_at", "published_at"),
        Index("ix_jobs_queue_deadline", "queue_deadline"),
    )


class Event(Base):
    """Something that happened to a job; never changed. Ids of one job grow in the order of commits."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    type: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    phase: Mapped[str | None] = mapped_column(String(32))
    progress: Mapped[dict[str, Any] | None]
    detail: Mapped[dict[str, Any] | None]

    __table_args__ = (Index("ix_events_job_id_id", "job_id", "id"), {"sqlite_autoincrement": True})


class Artifact(Base):
    """A file that a job made."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(32))
    format: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(Sha256, index=True)
    size_bytes: Mapped[int]
    filename: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_artifacts_job_id_id", "job_id", "id"),)


class Label(Base):
    """One label of one resource, so that a list filtered by label reads an index and not a table."""

    __tablename__ = "labels"

    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[str] = mapped_column(String(256), primary_key=True)
    resource_id: Mapped[str] = mapped_column(Id, primary_key=True, index=True)


class IdempotencyKey(Base):
    """The answer that a request with an Idempotency-Key got; `status` is NULL while the first is under way."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    method: Mapped[str] = mapped_column(String(8), primary_key=True)
    path: Mapped[str] = mapped_column(String(512), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(Sha256)
    status: Mapped[int | None]
    response: Mapped[dict[str, Any] | None]
    headers: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(index=True)


class Worker(Base):
    """A worker's heartbeat and the level of isolation that its children reach."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    queues: Mapped[list[Any]]
    sandbox: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class Lock(Base):
    """A named lease that one process holds at a time."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(128))
    until: Mapped[datetime]
