"""Sum of absolute weights: Li et al., Pruning Filters for Efficient ConvNets, arXiv 1608.08710, section 3.1.

s_u = Σ |w|   over the weights of unit u
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._reduction import BY_WEIGHTS, Reduction
from graphpress.passes.prune.criteria._slices import Shares, numbers, sizes_of, sum_slices


@dataclass(frozen=True)
class L1(Criterion):
    """Sum of absolute weights.

    Args:
        reduction: how the places of a group make one score.
    """

    name: ClassVar[str] = "l1"
    usual: ClassVar[Reduction] = BY_WEIGHTS

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One L1 norm a place and unit."""
        return sum_slices(self.chosen(coupling), sizes_of(coupling), lambda value: np.abs(numbers(value)))
