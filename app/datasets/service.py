"""How a data set comes in: its headers checked and described, stored by its digest, or refused at once."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.artifacts import repository as artifacts
from app.datasets import repository, validation
from app.datasets.schemas import view
from app.http.idempotency import Answer, Key, digest, once
from app.http.uploads import Upload
from app.storage import get_storage
from pruning.contract.errors import MalformedRequest


def add(upload: Upload, key: Key | None) -> Answer:
    """The data set with these bytes: 201 if it is new, 200 with the one that is there.

    Raises what `validation.check` does.
    """
    if upload.architecture is not None:
        raise MalformedRequest("the form has a part 'architecture': a data set takes none")
    description = validation.check(upload.staged.path).model_dump()
    upload.staged.flush()

    def work(session: Session) -> Answer:
        dataset, is_new = repository.add(
            session,
            sha256=artifacts.keep(session, get_storage(), upload.staged),
            size_bytes=upload.staged.size_bytes,
            description=description,
            filename=upload.filename,
            name=upload.told.name,
            labels=upload.told.labels,
        )
        return Answer(201 if is_new else 200, view(dataset), f"/v1/datasets/{dataset.id}")

    return once(key, digest(upload.staged.sha256, upload.told.name, upload.told.labels), work)
