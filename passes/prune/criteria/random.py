"""Random scores: the baseline that every other criterion has to beat (Mittal et al., arXiv 1801.10447)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._reduction import Share
from graphpress.passes.prune.criteria._slices import Shares


@dataclass(frozen=True)
class Random(Criterion):
    """Uniform numbers from the run's seed and the group's name: a group keeps its scores when others change.

    Args:
        reduction: how the places of a group make one score; here there is one place.
    """

    name: ClassVar[str] = "random"

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One number in [0, 1) a unit."""
        return {
            group.name: [
                Share(
                    np.random.default_rng([context.seed, zlib.crc32(group.name.encode())]).random(group.size),
                    np.ones(group.size),
                )
            ]
            for group in coupling.groups
        }
