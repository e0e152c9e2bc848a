"""Every way to fail, by name. An error's docstring is its default message; its code is API.md's.

One class per code. The engine raises them, the child sends them as JSON, the service answers with them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypedDict


class FieldError(TypedDict):
    """One wrong place: a path in the request or in the data, a code and a sentence."""

    path: str
    code: str
    detail: str


class SecateurError(Exception):
    """The service met an error that it has no name for."""

    code: ClassVar[str] = "internal_error"
    status: int = 500

    def __init__(self, detail: str | None = None, *, errors: Sequence[FieldError] = (), **extra: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = list(errors)
        self.extra = extra
        super().__init__(self.detail)

    def body(self) -> dict[str, Any]:
        """The error as plain data: code, detail, errors and what else is known."""
        body: dict[str, Any] = {"code": self.code, "detail": self.detail, **self.extra}
        if self.errors:
            body["errors"] = self.errors
        return body


class MalformedRequest(SecateurError):
    """The request is not what its content type says."""

    code, status = "malformed_request", 400


class Unauthorized(SecateurError):
    """No valid credentials came with the request."""

    code, status = "unauthorized", 401


class Forbidden(SecateurError):
    """These credentials do not allow this."""

    code, status = "forbidden", 403


class NotFound(SecateurError):
    """There is nothing at this path or under this id."""

    code, status = "not_found", 404


class MethodNotAllowed(SecateurError):
    """This path does not take this method."""

    code, status = "method_not_allowed", 405


class Conflict(SecateurError):
    """The resource is in a state that does not allow this."""

    code, status = "conflict", 409


class IdempotencyKeyReused(SecateurError):
    """This Idempotency-Key came before with another request."""

    code, status = "idempotency_key_reused", 409


class JobNotFinished(SecateurError):
    """The job has no result yet: wait until its state is succeeded, failed or cancelled."""

    code, status = "job_not_finished", 409


class FileTooLarge(SecateurError):
    """The file is larger than this service takes."""

    code, status = "file_too_large", 413


class UnsupportedFormat(SecateurError):
    """The file is in a format that this service does not take."""

    code, status = "unsupported_format", 415


class RangeNotSatisfiable(SecateurError):
    """The range lies outside the content."""

    code, status = "range_not_satisfiable", 416


class InvalidSpec(SecateurError):
    """The spec has a wrong type, an unknown field or the name of a method that is not there."""

    code, status = "invalid_spec", 422


class TargetOutOfRange(SecateurError):
    """A number or an index lies outside what it may be."""

    code, status = "target_out_of_range", 422


class ContradictorySpec(SecateurError):
    """Two parts of the spec cannot both hold."""

    code, status = "contradictory_spec", 422


class LayerNotFound(SecateurError):
    """A layer name or pattern matches no layer of the model."""

    code, status = "layer_not_found", 422


class DatasetRequired(SecateurError):
    """The spec needs data and names none."""

    code, status = "dataset_required", 422


class DigestMismatch(SecateurError):
    """The bytes that arrived do not have the digest that was announced."""

    code, status = "digest_mismatch", 422


class DatasetMismatch(SecateurError):
    """The data do not fit the model."""

    code, status = "dataset_mismatch", 422


class UnreadableFile(SecateurError):
    """The file is broken and cannot be read."""

    code, status = "unreadable_file", 422


class UnsafeFile(SecateurError):
    """The file holds what could run code or reach outside itself."""

    code, status = "unsafe_file", 422


class QuotaExceeded(SecateurError):
    """Too many requests or resources."""

    code, status = "quota_exceeded", 429


class Unavailable(SecateurError):
    """The service cannot answer just now."""

    code, status = "unavailable", 503


class OutOfStorage(SecateurError):
    """The service's storage is full."""

    code, status = "out_of_storage", 507


# As the system says that a disk, a quota or a file is full.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class InfeasibleTarget(SecateurError):
    """The target lies below what this model can reach under these constraints."""

    code, status = "infeasible_target", 422


class NothingToPrune(SecateurError):
    """No unit of this model may be removed under this spec."""

    code, status = "nothing_to_prune", 422


class VerificationFailed(SecateurError):
    """The pruned model does not compute what the masked original computes; it is not delivered."""

    code, status = "verification_failed", 500


class TimeLimit(SecateurError):
    """The job ran longer than its limit."""

    code, status = "time_limit", 500


class QueueTimeLimit(SecateurError):
    """The job waited in the queue longer than its limit."""

    code, status = "queue_time_limit", 500


class MemoryLimit(SecateurError):
    """The job took more memory than its limit."""

    code, status = "memory_limit", 500


class WorkerLost(SecateurError):
    """The process that ran the job died."""

    code, status = "worker_lost", 500


class ExportFailed(SecateurError):
    """The pruned model could not be written in a format that was asked for."""

    code, status = "export_failed", 500


_KINDS: list[type[SecateurError]] = [SecateurError, *SecateurError.__subclasses__()]
BY_CODE = {kind.code: kind for kind in _KINDS}


def origins(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def from_body(body: dict[str, Any]) -> SecateurError:
    """The error that `SecateurError.body` described; an unknown code becomes the base class."""
    extra = {k: v for k, v in body.items() if k not in ("code", "detail", "errors")}
    kind = BY_CODE.get(body.get("code", ""), SecateurError)
    return kind(body.get("detail"), errors=body.get("errors", ()), **extra)
