"""First-order Taylor: the squared change of the loss when a unit's weights go to zero.

    s_u = E_b[(Σ g·w)²]   over the weights of unit u in one place, g the gradient of micro-batch b

Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019 (arXiv 1906.10771), equation 8, for the
joint contribution of a filter's weights. The loss is cross-entropy where the data has one class label a sample. Without
labels the targets are drawn from a Gaussian around the outputs, of their own scale: s_u is then the squared first-order
change of the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.coupling import Coupling
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._gradients import GradientOptions
from graphpress.passes.prune.criteria._products import gate_moments
from graphpress.passes.prune.criteria._reduction import Reduction
from graphpress.passes.prune.criteria._slices import Shares


@dataclass(frozen=True)
class Taylor(Criterion):
    """Squared first-order change of the loss.

    Args:
        reduction: how the places of a group make one score.
        samples: about so many samples of the calibration data are used, in whole feeds.
        batch: samples of a micro-batch, over which gradients are averaged before they are squared.
    """

    name: ClassVar[str] = "taylor"
    needs_data: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    usual: ClassVar[Reduction] = Reduction()

    samples: int = 512
    batch: int = 8

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One mean square a place and unit."""
        options = GradientOptions(self.samples, self.batch, targets="labels")
        return gate_moments(model, coupling, self.chosen(coupling), context, options, "place")
