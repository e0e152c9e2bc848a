"""Rows of artifacts, and the blobs that rows of any table refer to.

A blob is kept and released under one lock, so that an upload of bytes that are just being deleted cannot lose its file:
`keep` renames the file inside the transaction that adds the row, `release` looks for rows and unlinks inside another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from app import db, ids, rows
from app.storage import FileStorage, Staged
from app.tables import Artifact, Dataset, Job, Model


def add(
    session: Session,
    *,
    job_id: str,
    kind: str,
    format: str,
    sha256: str,
    size_bytes: int,
    filename: str,
    id: str | None = None,
) -> Artifact:
    """A new artifact of a job; `id` where it had to be known before."""
    id = id or ids.new("art")
    artifact = Artifact(
        id=id,
        job_id=job_id,
        kind=kind,
        format=format,
        sha256=sha256,
        size_bytes=size_bytes,
        filename=filename,
        created_at=ids.created_at(id),
    )
    session.add(artifact)
    session.flush()
    return artifact


def get(session: Session, id: str, *, lock: bool = False, field: str | None = None) -> Artifact:
    """The artifact. `lock`: neither it nor its blob can be deleted until the transaction ends.

    Raises `NotFound`, naming the `field` of the body that the id came in.
    """
    return rows.get(session, Artifact, id, "shared" if lock else None, field)


def of_job(session: Session, job_id: str) -> Sequence[Artifact]:
    """All artifacts of a job, in the order in which they were made."""
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.id)).all()


def keep(session: Session, storage: FileStorage, staged: Staged) -> str:
    """Make a staged file a blob, in the transaction that adds the row which refers to it. Returns the SHA-256.

    Call `staged.flush()` before the transaction, so that it stays short.
    """
    _lock(session, staged.sha256)
    return storage.commit(staged)


def release(storage: FileStorage, blobs: Iterable[str]) -> int:
    """Remove those of the blobs that no row refers to; how many. Call it after the rows' deletion was committed."""
    removed = 0
    for sha256 in sorted(set(blobs)):
        with db.write() as session:
            _lock(session, sha256)
            if not blob_in_use(session, sha256):
                removed += storage.delete(sha256)
    return removed


def blob_in_use(session: Session, sha256: str) -> bool:
    """Whether a row refers to the blob."""
    model = or_(Model.sha256 == sha256, Model.architecture_sha256 == sha256, Model.normalized_sha256 == sha256)
    rest = (Dataset.sha256, Artifact.sha256, Job.plan_sha256)
    found = or_(exists().where(model), *(exists().where(column == sha256) for column in rest))
    return bool(session.scalar(select(found)))


def _lock(session: Session, sha256: str) -> None:
    # SQLite has one writer at a time, which is lock enough.
    if session.get_bind().dialect.name == "postgresql":
        key = int(sha256[:15], 16)
        session.execute(select(func.pg_advisory_xact_lock(key)))
