"""How a model comes in: checked without TensorFlow, stored by its digest, put in line for its inspection."""

from __future__ import annotations

from contextlib import ExitStack

from sqlalchemy.orm import Session

from app import queue
from app.artifacts import repository as artifacts
from app.http.idempotency import Answer, Key, digest, once
from app.http.uploads import Upload
from app.models import repository, validation
from app.models.schemas import FromArtifact, view
from app.settings import get_settings
from app.storage import Staged, get_storage
from app.tables import Model
from pruning.contract.errors import UnsupportedFormat


def add(upload: Upload, key: Key | None) -> Answer:
    """The model with these bytes: 201 if it is new, 200 with the one that is there.

    Raises what `validation.check` does.
    """
    format = validation.check(upload.staged.path)
    with ExitStack() as stack:
        architecture = None
        if upload.architecture is not None:
            validation.check_architecture(upload.architecture)
            architecture = stack.enter_context(get_storage().create())
            architecture.write(upload.architecture)
            architecture.flush()
        upload.staged.flush()

        def work(session: Session) -> Answer:
            model, is_new = repository.add(
                session,
                sha256=_keep(session, upload.staged),
                size_bytes=upload.staged.size_bytes,
                format=format,
                queue=get_settings().default_queue,
                filename=upload.filename,
                name=upload.told.name,
                labels=upload.told.labels,
                architecture_sha256=_keep(session, architecture) if architecture else None,
            )
            return _answer(model, is_new)

        beside = architecture.sha256 if architecture else None
        content = digest(upload.staged.sha256, beside, upload.told.name, upload.told.labels)
        return _announced(once(key, content, work))


def add_artifact(wanted: FromArtifact, key: Key | None) -> Answer:
    """A job's artifact as a model. Raises `NotFound`, `UnsupportedFormat` for an artifact that is no model."""

    def work(session: Session) -> Answer:
        artifact = artifacts.get(session, wanted.artifact_id, lock=True, field="artifact_id")
        if artifact.kind != "model":
            raise UnsupportedFormat(f"artifact {artifact.id} is a {artifact.kind}: only a model can be pruned again")
        model, is_new = repository.add(
            session,
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            format=artifact.format,
            queue=get_settings().default_queue,
            filename=artifact.filename,
            name=wanted.name,
            labels=wanted.labels,
        )
        return _answer(model, is_new)

    return _announced(once(key, digest(wanted.model_dump()), work))


def _keep(session: Session, staged: Staged) -> str:
    return artifacts.keep(session, get_storage(), staged)


def _answer(model: Model, is_new: bool) -> Answer:
    return Answer(201 if is_new else 200, view(model), f"/v1/models/{model.id}")


def _announced(answer: Answer) -> Answer:
    if answer.status == 201 and not answer.replayed:
        queue.enqueue_model(answer.body["id"])
    return answer
