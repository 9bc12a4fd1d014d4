"""Euclidean norm of the weights: Li et al., arXiv 1608.08710; over coupled layers Fang et al., arXiv 2301.12900.

s_u = √(Σ w²)   over the weights of unit u in one place; places are then combined
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._reduction import BY_WEIGHTS, Reduction
from graphpress.passes.prune.criteria._slices import Shares, numbers, sizes_of, sum_slices


@dataclass(frozen=True)
class L2(Criterion):
    """Euclidean norm of the weights.

    Args:
        reduction: how the places of a group make one score.
    """

    name: ClassVar[str] = "l2"
    usual: ClassVar[Reduction] = BY_WEIGHTS

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One L2 norm a place and unit."""
        sums = sum_slices(self.chosen(coupling), sizes_of(coupling), lambda value: np.square(numbers(value)))
        return {
            name: [replace(share, scores=np.sqrt(share.scores)) for share in shares] for name, shares in sums.items()
        }
