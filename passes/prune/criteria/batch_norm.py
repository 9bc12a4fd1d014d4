"""Scale of the normalization behind a unit: Liu et al., Network Slimming, arXiv 1708.06519, section 3.

    s_u = |γ_u|

Judges only groups with a normalization that has a scale. Refuses a model without any: once a BatchNormalization is
folded into its convolution, its scale is part of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling, Place
from graphpress.errors import UsageError
from graphpress.ir import Model, is_standard
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._slices import Shares, numbers, sizes_of, sum_slices

_NORMALIZATIONS = (
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
)
_SCALE = 1
"""Index of the scale among the inputs of each of them."""


@dataclass(frozen=True)
class BatchNormScale(Criterion):
    """Absolute scale of the normalizations behind a unit.

    Args:
        reduction: how the places of a group make one score; every scale counts, whatever its roles.
    """

    name: ClassVar[str] = "batch_norm"

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One |γ| a normalization and unit."""
        scales = {group.name: [place for place in group.constants if _is_scale(place)] for group in coupling.groups}
        if coupling.groups and not any(scales.values()):
            raise UsageError(
                "the model has no normalization whose scale belongs to a prunable group "
                "(BatchNormalizations that are folded into convolutions are gone)",
                where=f"criterion {self.name}",
                fix="take the criterion l2, or give the model as it was before folding",
            )
        return sum_slices(scales, sizes_of(coupling), lambda value: np.abs(numbers(value)))


def _is_scale(place: Place) -> bool:
    return any(use.idx == _SCALE and is_standard(use.node, *_NORMALIZATIONS) for use in place.value.uses())
