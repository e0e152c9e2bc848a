"""The criteria: a score per unit, higher is kept. `GET /v1/methods` lists the members of `Criterion`.

A class' docstring names the source, its fields are the parameters, its class variables say what it needs to see and
what it can score. Its function is in `pruning.criteria`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from pruning.contract.base import MOST, Choice

Need = Literal["weights", "activations", "covariance", "feature_maps", "gradients", "loss"]


class Method(Choice):
    """What holds for every criterion unless it says otherwise: it sees the weights alone and scores units.

    `needs`: the evidence it has to see; all but weights need training inputs, gradients and the loss their labels too.
    `of_units`, `of_weights`, `of_blocks`: whether it scores units such as channels, single weights, whole blocks.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"weights"})
    of_units: ClassVar[bool] = True
    of_weights: ClassVar[bool] = False
    of_blocks: ClassVar[bool] = False

    @property
    def needs_samples(self) -> bool:
        """Whether it looks at training inputs."""
        return bool(self.needs - {"weights"})

    @property
    def needs_labels(self) -> bool:
        """Whether it looks at their labels too."""
        return bool(self.needs & {"gradients", "loss"})


class Comparable(Method):
    """What every criterion but `random` takes.

    `aggregation` joins what the layers of a coupled unit, or of a block, say of it; `normalization` makes the scores of
    different groups comparable before they compete under scope `global`; blocks are one group. `auto` is `none` for
    weights and blocks, else `mean`.
    """

    aggregation: Literal["mean", "max", "none"] = "mean"
    normalization: Literal["auto", "none", "mean", "max", "standard", "sum", "lamp"] = "auto"


class L1(Comparable):
    """Sum of the absolute weights of a unit (Li et al. 2017, arXiv:1608.08710)."""

    name: Literal["l1"]
    of_weights: ClassVar[bool] = True
    of_blocks: ClassVar[bool] = True


class L2(Comparable):
    """Euclidean norm of the weights of a unit (Han et al. 2015, arXiv:1506.02626, for single weights)."""

    name: Literal["l2"]
    of_weights: ClassVar[bool] = True
    of_blocks: ClassVar[bool] = True


class MeanAbs(Comparable):
    """Mean of the absolute weights of a unit: L1 without the advantage of large kernels."""

    name: Literal["mean_abs"]
    of_weights: ClassVar[bool] = True
    of_blocks: ClassVar[bool] = True


class BatchNormScale(Comparable):
    """Absolute scale (gamma) of the normalisation that follows a unit (Liu et al. 2017, arXiv:1708.06519)."""

    name: Literal["bn_scale"]
    of_blocks: ClassVar[bool] = True


class FPGM(Comparable):
    """Distance of a unit's weights to those of its layer's other units (He et al. 2019, arXiv:1811.00250).

    Low for a unit that the others can stand in for, whatever its size.
    """

    name: Literal["fpgm"]


class Lamp(Comparable):
    """Share of a magnitude in all that are not below it (Lee et al. 2021, arXiv:2010.07611).

    Made to be compared over the whole model, so its scores are not normalised again unless asked for.
    """

    name: Literal["lamp"]
    normalization: Literal["none", "mean", "max", "standard", "sum", "lamp"] = "none"
    of_weights: ClassVar[bool] = True


class FromSamples(Comparable):
    """What every criterion takes that looks at training samples, drawn by the seed: how many, and how many at once."""

    samples: Annotated[int, Field(ge=1, le=MOST)] = 512
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32


class ActivationMean(FromSamples):
    """Mean absolute activation of a unit where it is read (Molchanov et al. 2017, arXiv:1611.06440)."""

    name: Literal["activation_mean"]
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "activations"})


class APoZ(FromSamples):
    """Share of a unit's activations that are not zero (Network Trimming, Hu et al. 2016, arXiv:1607.03250)."""

    name: Literal["apoz"]
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "activations"})


class HRank(FromSamples):
    """Mean rank of a unit's feature map (Lin et al. 2020, arXiv:2002.10179), or its nuclear norm."""

    name: Literal["hrank"]
    measure: Literal["rank", "nuclear"] = "nuclear"
    samples: Annotated[int, Field(ge=1, le=MOST)] = 64
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "activations", "feature_maps"})


class Wanda(FromSamples):
    """Absolute weight times the norm of its input (Sun et al. 2023, arXiv:2306.11695)."""

    name: Literal["wanda"]
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "activations"})
    of_weights: ClassVar[bool] = True


class Flap(FromSamples):
    """Variance of a unit times the squared weights that read it (An et al. 2023, arXiv:2312.11983)."""

    name: Literal["flap"]
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "activations"})


class OBS(FromSamples):
    """Error of a unit's readers after their other weights are solved for anew (arXiv:2208.11580, on blocks).

    `damping`: ridge on the change of weights, as a share of the mean squared input.
    """

    name: Literal["obs"]
    damping: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "activations", "covariance"})


class Taylor(FromSamples):
    """First-order change of the loss without a unit, squared or absolute (Molchanov et al. 2019, arXiv:1906.10771)."""

    name: Literal["taylor"]
    power: Literal["square", "absolute"] = "square"
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "gradients"})
    of_weights: ClassVar[bool] = True


class OBD(FromSamples):
    """Second-order change of the loss by the Hessian's diagonal (LeCun et al. 1989, Optimal Brain Damage).

    The diagonal is that of the Fisher information, estimated on batches: the smaller they are, the better.
    """

    name: Literal["obd"]
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 8
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "gradients"})
    of_weights: ClassVar[bool] = True


class SNIP(FromSamples):
    """Sensitivity of the loss to a unit's own weights, |gradient * weight| (Lee et al. 2019, arXiv:1810.02340)."""

    name: Literal["snip"]
    needs: ClassVar[frozenset[Need]] = frozenset({"weights", "gradients"})
    of_weights: ClassVar[bool] = True


class Random(Method):
    """Uniform random scores from the job's seed: the baseline every criterion has to beat."""

    name: Literal["random"]
    of_weights: ClassVar[bool] = True
    of_blocks: ClassVar[bool] = True


class OfBlocks(Method):
    """What only whole blocks can be scored by: how the model fares without each, on so many training samples."""

    of_units: ClassVar[bool] = False
    of_blocks: ClassVar[bool] = True

    samples: Annotated[int, Field(ge=1, le=MOST)] = 256
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32


class BlockInfluence(OfBlocks):
    """1 - the mean cosine similarity of what enters a block and what leaves it (Men et al. 2024, arXiv:2403.03853)."""

    name: Literal["block_influence"]
    needs: ClassVar[frozenset[Need]] = frozenset({"activations"})


class LossChange(OfBlocks):
    """How much the loss rises when a block is left out, one at a time; it needs labels."""

    name: Literal["loss_change"]
    needs: ClassVar[frozenset[Need]] = frozenset({"loss"})


Criterion = Annotated[
    L1
    | L2
    | MeanAbs
    | BatchNormScale
    | FPGM
    | Lamp
    | ActivationMean
    | APoZ
    | HRank
    | Wanda
    | Flap
    | OBS
    | Taylor
    | OBD
    | SNIP
    | BlockInfluence
    | LossChange
    | Random,
    Field(discriminator="name"),
]


def criteria(scored: Literal["of_units", "of_weights", "of_blocks"]) -> list[str]:
    """The names of the criteria that score this."""
    (members, *_) = get_args(Criterion)
    fitting = [member for member in get_args(members) if getattr(member, scored)]
    return [get_args(member.model_fields["name"].annotation)[0] for member in fitting]
