"""What a criterion is: one frozen dataclass that gives each unit of each coupled group a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling, Place
from graphpress.errors import BackendError, DataError, UsageError
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._reduction import Reduction
from graphpress.passes.prune.criteria._roles import chosen_places
from graphpress.passes.prune.criteria._slices import Shares

Scores = dict[str, np.ndarray]
"""By the name of the group: ``(units,)`` float64, higher = more important."""


@dataclass(frozen=True)
class Criterion(ABC):
    """Base of all criteria. Stateless; the same model, data and seed give the same scores.

    Class attributes:
        name: how recipes call it.
        needs_data: cannot judge without calibration data.
        needs_gradients: differentiates the model, through the framework bridge.
        usual: how its scores are reduced unless told otherwise. Where that normalizes nothing, they are in one unit
            for all groups (of the loss, or of the outputs), and no allocation divides them.

    Args:
        reduction: how the places of a group make one score.
    """

    name: ClassVar[str] = ""
    needs_data: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    usual: ClassVar[Reduction] = Reduction(normalize="place")

    reduction: Reduction = field(default_factory=Reduction)

    @abstractmethod
    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """The scores of the units at each place, by group; a group that cannot be judged is absent or has none."""

    def score(self, model: Model, coupling: Coupling, context: Context) -> Scores:
        """Scores of every group that the criterion can judge; pruning leaves the others whole and reports them.

        Args:
            model: not changed.
            coupling: the groups of this very model.
            context: data, seed and threads.

        Raises:
            UsageError: the criterion cannot judge this model at all.
            BackendError: it needs gradients and the framework for them is not installed.
            DataError: scores that are no finite numbers.
        """
        self.check(context)
        shares = self.shares(model, coupling, context)
        scores = {group.name: self.reduction(shares[group.name]) for group in coupling.groups if shares.get(group.name)}
        for name, values in scores.items():
            if not np.isfinite(values).all():
                raise DataError(
                    f"criterion {self.name} finds an importance that is no finite number",
                    where=name,
                    fix="check the weights and the calibration data for NaN and infinity",
                )
        return scores

    def check(self, context: Context) -> None:
        """Check whether the criterion can work here at all; raises as ``score`` does."""
        if self.needs_data and context.calibration is None:
            raise UsageError(
                "needs calibration data",
                where=f"criterion {self.name}",
                fix="give it with --data FILE, or take a criterion that looks at weights alone, such as l2",
            )
        if self.needs_gradients:
            _check_bridge(self.name)

    def chosen(self, coupling: Coupling) -> dict[str, list[Place]]:
        """The constants of each group that count, by the reduction's roles."""
        return {group.name: chosen_places(group, self.reduction) for group in coupling.groups}


def _check_bridge(name: str) -> None:
    from graphpress import torch_bridge

    availability = torch_bridge.available()
    if not availability.works:
        raise BackendError(availability.detail, where=f"criterion {name}", fix=availability.install)
