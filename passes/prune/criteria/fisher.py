"""Fisher information of a gate on the unit, or of its weights.

    joint:     s_u = ½ E_n[(Σ g·w)²]     over all places of the group that count
    diagonal:  s_u = ½ Σ E_n[g²]·w²      summed over the unit's weights in one place

with g the gradient of sample n's log-likelihood at a drawn target, so that E[g²] is the Fisher information and stands
for the Hessian: the loss grows by s_u when the unit goes. Joint: Theis et al., arXiv 1801.05787, equation 7, over
coupled layers as Liu et al., Group Fisher Pruning, arXiv 2108.00708, equation 9 (a gate where a layer reads the unit
has the derivative Σ g·w over the weights that read it). Diagonal: LeCun et al., Optimal Brain Damage (1990),
equation 5.

Targets are drawn from a Gaussian around the outputs (``outputs``: the Gauss-Newton matrix, to which every sample
contributes) or from the predicted classes (``sampled``: the true Fisher information of a classifier).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from graphpress.coupling import Coupling
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._gradients import GradientOptions
from graphpress.passes.prune.criteria._products import Squared, gate_moments
from graphpress.passes.prune.criteria._reduction import Reduction
from graphpress.passes.prune.criteria._slices import Shares


@dataclass(frozen=True)
class Fisher(Criterion):
    """Growth of the loss by the Fisher information.

    Args:
        reduction: how the places of a group make one score; when ``joint``, which places count.
        samples: about so many samples of the calibration data are used, in whole feeds.
        batch: samples of a micro-batch; fewer give a better estimate and take longer.
        joint: add up what the places of a group contribute before squaring, else take each weight by itself.
        targets: the distribution whose information it is: ``outputs`` or ``sampled``.

    Raises:
        UsageError: targets that are neither.
    """

    name: ClassVar[str] = "fisher"
    needs_data: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    usual: ClassVar[Reduction] = Reduction()

    samples: int = 512
    batch: int = 4
    joint: bool = False
    targets: Literal["outputs", "sampled"] = "outputs"

    def __post_init__(self) -> None:
        if self.targets not in ("outputs", "sampled"):
            fix = did_you_mean(self.targets, ("outputs", "sampled"))
            raise UsageError(f"{self.targets!r} is no choice", where="targets", fix=fix)

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One share a group when joint, else one a place."""
        options = GradientOptions(self.samples, self.batch, targets=self.targets)
        squared: Squared = "group" if self.joint else "element"
        moments = gate_moments(model, coupling, self.chosen(coupling), context, options, squared)
        return {name: [replace(share, scores=share.scores / 2) for share in shares] for name, shares in moments.items()}
