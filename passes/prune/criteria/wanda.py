"""Weights times the strength of what they read: Sun et al., Wanda, arXiv 2306.11695, equation 1, over units.

    s_u = Σ |w_io| · √E[x_i²]   over the weights of linear operators that read unit u

with i over what the operator reads (channel and kernel position) and o over its outputs. A group that no linear
operator with a constant weight reads (the width of attention's queries and keys) is judged by the weights that write
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling
from graphpress.ir import Model, label
from graphpress.manager.contract import Context
from graphpress.observation import Observation, second_moments
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._linear import LinearPlace, linear_places
from graphpress.passes.prune.criteria._reduction import Reduction
from graphpress.passes.prune.criteria._slices import Shares, numbers, unit_share


@dataclass(frozen=True)
class Wanda(Criterion):
    """Absolute weights times the norm of what they read.

    Args:
        reduction: how the places of a group make one score.
    """

    name: ClassVar[str] = "wanda"
    needs_data: ClassVar[bool] = True
    usual: ClassVar[Reduction] = Reduction()

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One sum a weight and unit."""
        linear = linear_places(coupling, self.reduction)
        linear_ops = {label(place.op.result): place.op for places in linear.values() for place in places}
        assert context.calibration is not None
        options = Observation(threads=context.threads, progress=context.progress)
        squares = second_moments(model, linear_ops.values(), context.calibration, options)
        norms = {name: np.sqrt(mean)[:, :, None].astype(np.float32) for name, mean in squares.items()}
        return {
            group.name: [
                unit_share(
                    linear_place.op.from_matrix(_importance(linear_place, norms)),
                    linear_place.place,
                    group.size,
                )
                for linear_place in linear[group.name]
            ]
            for group in coupling.groups
        }


def _importance(linear_place: LinearPlace, norms: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of each weight of a linear operator, as a matrix: its size times the norm of what it is multiplied with."""
    op = linear_place.op
    return np.asarray(np.abs(op.matrix(numbers(linear_place.place.value))) * norms[label(op.result)])
