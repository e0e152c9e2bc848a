"""What the API takes and says of a job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.http.idempotency import plain
from app.http.uploads import Labels, Name
from app.tables import Artifact, Event, Job
from pruning.contract.progress import Phase
from pruning.contract.result import Result
from pruning.contract.spec import Limits, Spec

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
# What of a job's body is not its spec.
BESIDE_SPEC = ("model_id", "dataset_id", "name", "labels")


class JobCreate(Spec):
    """A job: which model, which data, what is pruned, how quality is recovered, what is measured."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model_id": "mdl_0190b0a4c5d67def8123456789abcdef",
                "pruning": {"target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.5}},
            }
        }
    )

    model_id: str
    dataset_id: str | None = None
    name: Name | None = None
    labels: Labels = {}
    limits: Limits = Limits()


class JobOverrides(BaseModel):
    """What a clone changes: any part of a job's body. Objects are merged, all else is replaced."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": {"seed": 1}})


class Progress(BaseModel):
    """How far the phase has come."""

    completed: float
    total: float
    unit: str


class JobError(BaseModel):
    """Why a job failed; `infeasible_target` has `floor` and `nearest`, a lost worker has `attempts`."""

    model_config = ConfigDict(extra="allow")

    code: str
    detail: str


class Urls(BaseModel):
    """Where the rest of a job is."""

    self: str
    events: str
    artifacts: str
    report: str
    cancel: str


class JobView(BaseModel):
    """One pruning run."""

    id: str
    state: State
    phase: Phase | None
    progress: Progress | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    attempts: int
    cancel_requested: bool
    model_id: str
    dataset_id: str | None
    spec: dict[str, Any]
    spec_resolved: dict[str, Any]
    name: str | None
    labels: dict[str, str]
    error: JobError | None
    result: Result | None
    urls: Urls


class ArtifactView(BaseModel):
    """A file that a job made."""

    id: str
    job_id: str
    kind: str
    format: str
    sha256: str
    size_bytes: int
    filename: str
    created_at: AwareDatetime
    url: Annotated[str, Field(description="where its bytes are")]


class EventView(BaseModel):
    """Something that happened to a job."""

    id: str
    at: AwareDatetime
    type: str
    state: State
    phase: str | None
    progress: dict[str, Any] | None
    detail: dict[str, Any] | None


class Artifacts(BaseModel):
    """All files that a job made."""

    items: list[ArtifactView]
    next_cursor: None = None


class Report(JobView):
    """A finished job with its artifacts."""

    artifacts: list[ArtifactView]


_COLUMNS = [name for name in JobView.model_fields if name != "urls"]


def view(job: Job) -> dict[str, Any]:
    """The body of a job."""
    own = f"/v1/jobs/{job.id}"
    urls = {"self": own} | {name: f"{own}/{name}" for name in ("events", "artifacts", "report", "cancel")}
    return plain({name: getattr(job, name) for name in _COLUMNS} | {"urls": urls})


def artifact_view(artifact: Artifact) -> dict[str, Any]:
    """The body of an artifact."""
    url = f"/v1/artifacts/{artifact.id}/content"
    return plain({name: getattr(artifact, name) for name in ArtifactView.model_fields if name != "url"} | {"url": url})


def event_view(event: Event) -> dict[str, Any]:
    """The body of an event; its id is what `Last-Event-ID` takes."""
    return plain({name: getattr(event, name) for name in EventView.model_fields} | {"id": f"evt_{event.id}"})
