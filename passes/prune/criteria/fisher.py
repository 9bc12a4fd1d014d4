"""Fisher information of a gate on the unit, or of its weights.

    joint:     s_u = ½ E_n[(Σ g·w)²]     over all places of the group that count
    diagonal:  s_u = ½ Σ E_n[g²]·w²      summed over the unit's weights in one place

with g the gradient of sample n's log-likelihood at a target drawn from the model's prediction, so that E[g²] is the
true Fisher information and stands for the Hessian: the loss grows by s_u when the unit goes. Joint: Theis et al.,
arXiv 1801.05787, equation 7, over coupled layers as Liu et al., Group Fisher Pruning, arXiv 2108.00708, equation 9 (a
gate where a layer reads the unit has the derivative Σ g·w over the weights that read it). Diagonal: LeCun et al.,
Optimal Brain Damage (1990), equation 5.

Where the model fixes its batch size, a feed counts as one sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from graphpress.coupling import Coupling
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._gradients import GradientOptions
from graphpress.passes.prune.criteria._products import gate_moments
from graphpress.passes.prune.criteria._slices import Shares
from graphpress.passes.prune.criteria.criterion import Criterion
from graphpress.passes.prune.criteria.reduction import Reduction


@dataclass(frozen=True)
class Fisher(Criterion):
    """Growth of the loss by the Fisher information.

    Args:
        reduction: how the places of a group make one score; when ``joint``, which places count.
        samples: how many samples of the calibration data are used at most.
        joint: add up what the places of a group contribute before squaring, else take each weight by itself.
    """

    name: ClassVar[str] = "fisher"
    needs_data: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True

    reduction: Reduction = field(default_factory=lambda: Reduction(roles=("reads",)))
    samples: int = 512
    joint: bool = True

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One share a group when joint, else one a place."""
        options = GradientOptions(self.samples, 1, given_labels=False)
        squared = "group" if self.joint else "element"
        moments = gate_moments(model, coupling, self.chosen(coupling), context, options, squared)
        return {name: [replace(one, scores=one.scores / 2) for one in shares] for name, shares in moments.items()}
