"""A job's spec: what to prune, how far, how to recover, what to measure.

The discriminated unions here and in `criteria` *are* the catalogue of methods: `GET /v1/methods` is their JSON Schema,
and a test checks that each member has one implementation. A new method is one class here and one function there.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pruning.contract.base import MOST, Choice, contradiction
from pruning.contract.criteria import L2, Criterion
from pruning.contract.dataset import Split
from pruning.contract.names import LossName, MetricName
from pruning.contract.plan import Index, Plan, Structure
from pruning.contract.structures import misfit

Scope = Literal["global", "layer", "isomorphic"]
Measure = Literal["macs", "parameters", "size_bytes"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
YEAR = 366 * 86400.0


# --- targets: how far to go --------------------------------------------------------------------------------------


class RatioTarget(Choice):
    """Remove this share of the units of the structure (channels, heads; weights: the sparsity)."""

    type: Literal["ratio"]
    value: Share


class BudgetTarget(Choice):
    """Prune the least that fits: at most this much of a measure, absolute or as a share of the original.

    For weights a measure counts what is not zero: `nonzero_parameters`, `nonzero_macs` and `sparse_bytes` of the result
    (zeros leave the file's own size as it is).
    """

    type: Literal["budget"]
    measure: Measure
    at_most: Annotated[float, Field(gt=0.0)] | None = None
    at_most_ratio: Share | None = None

    @model_validator(mode="after")
    def one_bound(self) -> Self:
        if self.at_most is not None and self.at_most_ratio is not None:
            raise contradiction("at_most and at_most_ratio were both given: give one of them")
        if self.at_most is None and self.at_most_ratio is None:
            raise PydanticCustomError("missing_bound", "a budget needs at_most or at_most_ratio")
        return self


class Quantile(Choice):
    """The score below which this share of all units lies."""

    quantile: Share


class ThresholdTarget(Choice):
    """Remove what scores below a number, the median or a quantile of all scores."""

    type: Literal["threshold"]
    value: float | Literal["median"] | Quantile


class ManualTarget(Choice):
    """Remove only what `layers` says."""

    type: Literal["manual"]


class PlanTarget(Choice):
    """Do what a plan says: `plan` itself, as a dry run or the artifact `plan.json` has it, or that artifact by its id.

    The plan has chosen: criterion, scope, schedule and constraints do not choose again. `sha256` is the artifact's.
    """

    type: Literal["plan"]
    plan: Plan | None = None
    artifact_id: str | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def one_plan(self) -> Self:
        if self.plan is not None and (self.artifact_id is not None or self.sha256 is not None):
            raise contradiction("plan and artifact_id were both given: give one of them")
        if self.plan is None and self.artifact_id is None:
            raise PydanticCustomError("missing_plan", "a target of type plan needs plan or artifact_id")
        return self


Target = Annotated[
    RatioTarget | BudgetTarget | ThresholdTarget | ManualTarget | PlanTarget, Field(discriminator="type")
]


# --- schedule, constraints, layers -------------------------------------------------------------------------------


class OneShot(Choice):
    """Remove everything in one step."""

    name: Literal["one_shot"] = "one_shot"


Schedule = Annotated[OneShot, Field(discriminator="name")]


class Constraints(Choice):
    """What holds for every group: widths in multiples of `round_to`, at least `min_units`, `max_ratio` gone at most.

    Of structure layer `max_ratio` is the share of the blocks that may go.
    """

    round_to: Annotated[int, Field(ge=1, le=1024)] = 1
    min_units: Annotated[int, Field(ge=1, le=MOST)] = 1
    max_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    # Axes that a normalisation or a mean takes its statistics over keep their units, or it goes on with fewer.
    normalized_axes: Literal["keep", "prune"] = "keep"


class LayerRule(Choice):
    """What the user says of one layer or pattern; it binds whatever the target says.

    `remove`: indices of units or, for structure layer, true: the blocks of this id go.
    """

    skip: bool = False
    ratio: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    remove: list[Index] | bool | None = None
    keep: list[Index] | None = None

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.keep is not None and not self.keep:
            raise contradiction("keep is empty: that would remove the whole layer")
        if self.skip and (self.ratio or self.remove or self.keep):
            raise contradiction("skip leaves the layer as it is; ratio, remove and keep change it: give one of them")
        if self.ratio is not None and (self.remove is not None or self.keep is not None):
            raise contradiction("ratio lets the criterion choose, remove and keep choose by index: give one of them")
        if self.remove is False:
            raise PydanticCustomError("remove_false", "remove: false says nothing: give indices, true, or leave it out")
        if self.remove is True and self.keep is not None:
            raise contradiction("remove: true takes a whole block, keep leaves units of it: give one of them")
        if both := sorted(set(self.indices) & set(self.keep or ())):
            raise contradiction(f"remove and keep both name {both}")
        return self

    @property
    def indices(self) -> list[int]:
        """The indices that `remove` names."""
        return self.remove if isinstance(self.remove, list) else []


class Pruning(Choice):
    """What is removed, by which criterion, how far, under which constraints."""

    structure: Structure = "channel"
    criterion: Criterion = L2(name="l2")
    scope: Scope = "global"
    target: Target
    schedule: Schedule = OneShot()
    constraints: Constraints = Constraints()
    layers: dict[Annotated[str, Field(min_length=1, max_length=512)], LayerRule] = {}

    @model_validator(mode="after")
    def manual_says_something(self) -> Self:
        if self.target.type == "manual" and not any(
            rule.ratio or rule.remove or rule.keep for rule in self.layers.values()
        ):
            raise PydanticCustomError("missing_layers", "a manual target needs layers with ratio, remove or keep")
        return self

    @model_validator(mode="after")
    def plan_fits_the_rest(self) -> Self:
        if not isinstance(self.target, PlanTarget):
            return self
        if self.layers:
            raise contradiction("a plan says all that goes: leave `layers` out, or change the plan")
        if self.target.plan is not None and self.target.plan.structure != self.structure:
            raise contradiction(
                f"the plan has structure {self.target.plan.structure}, the spec {self.structure}: give the plan's"
            )
        return self

    @model_validator(mode="after")
    def fits_the_structure(self) -> Self:
        if (detail := misfit(self)) is not None:
            raise PydanticCustomError("other_structure", "{detail}", {"detail": detail})
        return self

    @property
    def needs_samples(self) -> bool:
        """Whether the decision needs training inputs; a plan has decided already."""
        return self.criterion.needs_samples and self.target.type != "plan"

    @property
    def needs_labels(self) -> bool:
        """Whether it needs their labels too."""
        return self.criterion.needs_labels and self.target.type != "plan"


# --- recovery ----------------------------------------------------------------------------------------------------


class FoldStage(Choice):
    """Add what removed units gave on average to the biases of the layers that read them; no labels needed.

    With data the average is taken over up to `samples` training inputs. Without, only what the weights tell is folded:
    units that are constant, or behind a BatchNormalization and an activation. Exact for a constant unit but at borders
    padded with zeros.
    """

    stage: Literal["fold"]
    samples: Annotated[int, Field(ge=1, le=MOST)] = 600


class LeastSquaresStage(Choice):
    """Solve the kept weights of each layer in turn so that it gives what the original's gives; no labels needed.

    Least squares on up to `samples` training inputs, in the order of the graph, with all repairs before it (He et al.
    2017, arXiv:1707.06168). `ridge` holds the weights to the old ones, in parts of the inputs' mean square.
    """

    stage: Literal["least_squares"]
    samples: Annotated[int, Field(ge=1, le=MOST)] = 600
    ridge: Annotated[float, Field(gt=0.0, le=1e6)] = 0.001


class BatchNormStage(Choice):
    """Estimate the moving statistics of every BatchNormalization again on training inputs; no labels needed."""

    stage: Literal["batch_norm"]
    samples: Annotated[int, Field(ge=1, le=MOST)] = 2048
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256


class FineTuneStage(Choice):
    """Train on the training split, keep the epoch that is best on validation, stop when it no longer improves.

    `distill` is the share of the loss that follows the original's outputs instead of the labels, at `temperature` for
    classes (Hinton et al. 2015, arXiv:1503.02531); 0 trains on labels alone. `patience` null never stops early.
    """

    stage: Literal["fine_tune"]
    epochs: Annotated[int, Field(ge=1, le=10000)] = 5
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 0.001
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    patience: Annotated[int, Field(ge=1, le=MOST)] | None = 3
    # ResNet8 on CIFAR-10 at half its MACs, 5 epochs, test accuracy for seeds 0 and 1: 77.0 and 77.0 % on labels alone,
    # 79.1 and 78.4 % with half the loss following the original; half its weights, 4 epochs, seed 0: 87.6 and 87.2 %.
    distill: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 4.0


Stage = Annotated[FoldStage | LeastSquaresStage | BatchNormStage | FineTuneStage, Field(discriminator="stage")]
# Stages that edit weights at full width, before the slicing, and the structures whose removed units they make up for.
REPAIRS = ("fold", "least_squares")
REPAIRED = ("channel", "head")


# --- evaluation, measures, exports, limits -----------------------------------------------------------------------


class Evaluation(Choice):
    """Loss and metrics; what is not given comes from the compile config, then from output and labels."""

    loss: LossName | None = None
    metrics: list[MetricName] | None = None
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256


class Latency(Choice):
    """How latency is measured: one call of a compiled function on one batch, before and after interleaved."""

    batch_sizes: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1, max_length=8)] = [1]
    repeats: Annotated[int, Field(ge=3, le=10000)] = 50


class Measures(Choice):
    """What is measured beside size, parameters and MACs; `null` leaves a measure out."""

    latency: Latency | None = Latency()


ExportName = Literal["keras", "h5"]


class Limits(Choice):
    """What a job may take: seconds of running and of waiting, bytes of memory."""

    run_seconds: Annotated[float, Field(gt=0.0, le=YEAR)] = 3600
    queue_seconds: Annotated[float, Field(gt=0.0, le=YEAR)] = 86400
    memory_bytes: Annotated[int, Field(ge=256 * 2**20, le=2**50)] = 8_000_000_000


class Spec(Choice):
    """One pruning run, all the engine needs to know: model and data come beside it."""

    pruning: Pruning
    recovery: Literal["auto"] | list[Stage] = "auto"
    evaluation: Evaluation = Evaluation()
    measures: Measures = Measures()
    exports: Annotated[list[ExportName], Field(min_length=1)] = ["keras"]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dry_run: bool = False

    @model_validator(mode="after")
    def repairs_stand_first_and_have_units(self) -> Self:
        names = [stage.stage for stage in self.recovery if not isinstance(stage, str)]
        repairs = [name for name in names if name in REPAIRS]
        if repairs != names[: len(repairs)]:
            other = next(name for name in names if name not in REPAIRS)
            raise contradiction(f"{repairs[-1]} edits the model before units are cut out: name it before {other}")
        if repairs and self.pruning.structure not in REPAIRED:
            detail = f"{repairs[0]} makes up for removed channels or heads, not for structure {self.pruning.structure}"
            raise PydanticCustomError("nothing_to_repair", "{detail}", {"detail": detail})
        return self


def resolve(spec: Spec, splits: Collection[Split], has_labels: bool) -> Spec:
    """The spec with every `auto` spelled out, for data with these splits.

    Recovery: BN statistics and fine-tuning with labels, training and validation samples; with other training samples
    what needs no labels, least squares for units and the statistics for single weights; else nothing.
    """
    spec = spec.model_copy(update={"pruning": _spelled_out(spec.pruning)})
    if spec.recovery != "auto":
        return spec
    stages: list[Any] = []
    if has_labels and "train" in splits and "validation" in splits:
        stages = [BatchNormStage(stage="batch_norm"), FineTuneStage(stage="fine_tune")]
    elif "train" in splits:
        # ResNet8 without 30 % of its channels: least squares alone is better than with statistics estimated after it.
        units = spec.pruning.structure in REPAIRED
        stages = [LeastSquaresStage(stage="least_squares") if units else BatchNormStage(stage="batch_norm")]
    return spec.model_copy(update={"recovery": stages})


def _spelled_out(pruning: Pruning) -> Pruning:
    if getattr(pruning.criterion, "normalization", None) != "auto":
        return pruning
    normalization = "none" if pruning.structure in ("weight", "layer") else "mean"
    criterion = pruning.criterion.model_copy(update={"normalization": normalization})
    return pruning.model_copy(update={"criterion": criterion})


def reads_data(stage: Stage) -> bool:
    """Whether a stage cannot do without training inputs."""
    return stage.stage != "fold"


def needs_data(spec: Spec) -> str | None:
    """Which part of the spec needs a data set, or None."""
    if spec.pruning.needs_samples:
        return f"criterion {spec.pruning.criterion.name}"
    for stage in spec.recovery if spec.recovery != "auto" else ():
        if reads_data(stage):
            return f"recovery stage {stage.stage}"
    return None
