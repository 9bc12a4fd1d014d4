"""Which criterion judges units where none was named: the best that what is there allows.

calibration data, and a framework that differentiates the model    taylor: what the outputs lose, measured
calibration data alone                                             wanda: weights times what they read
neither                                                            l2: weights, at both ends of each unit
"""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.coupling import Coupling
from graphpress.errors import BackendError, UsageError, did_you_mean
from graphpress.ir import Model
from graphpress.manager.contract import Context, Outcome
from graphpress.passes.prune.criteria import (
    Combine,
    Criterion,
    Normalize,
    Reduction,
    Role,
    Scores,
    criterion_names,
    load_criterion,
)
from graphpress.torch_bridge import BridgeError

AUTO = "auto"


@dataclass(frozen=True)
class CriterionChoice:
    """A criterion, by name or left to what is there, and how its scores are reduced.

    Args:
        name: of the criterion, or ``auto``.
        combine: how the places of a group make one score; None for what is usual with the criterion, here and below.
        roles: which constants count.
        normalize: how scores of different groups are made comparable.

    Raises:
        UsageError: no such criterion, or no such way of reducing.
    """

    name: str = AUTO
    combine: Combine | None = None
    roles: tuple[Role, ...] | None = None
    normalize: Normalize | None = None

    def __post_init__(self) -> None:
        if self.name not in (AUTO, *criterion_names()):
            fix = did_you_mean(self.name, (AUTO, *criterion_names()))
            raise UsageError(f"unknown criterion {self.name!r}", where="criterion", fix=fix)
        self.criterion("l2" if self.name == AUTO else self.name)

    def criterion(self, name: str) -> Criterion:
        """The criterion of that name, with the reduction that was chosen."""
        kind = load_criterion(name)
        usual = kind.usual
        combine, roles = self.combine or usual.combine, self.roles or usual.roles
        return kind(Reduction(combine, roles, self.normalize or usual.normalize))

    def check(self, context: Context) -> None:
        """What was named may need data, or gradients."""
        if self.name != AUTO:
            self.criterion(self.name).check(context)

    def score(self, model: Model, coupling: Coupling, context: Context, outcome: Outcome) -> tuple[str, Scores]:
        """The criterion named, else the first that can judge this model, which the outcome notes; and its scores."""
        if self.name != AUTO:
            return self.name, self.criterion(self.name).score(model, coupling, context)
        candidates, reasons = _WITHOUT_DATA if context.calibration is None else _WITH_DATA, ""
        for name in candidates:
            try:
                scores = self.criterion(name).score(model, coupling, context)
            except (BridgeError, BackendError, UsageError) as error:
                if name == candidates[-1]:
                    raise
                reasons += f"; {name} cannot: {error.what}"
            else:
                break
        outcome.notes.append(f"units were judged by {_JUDGES[name]} (criterion {name}{reasons})")
        return name, scores


_WITH_DATA = ("taylor", "wanda")
_WITHOUT_DATA = ("l2",)
_JUDGES = {
    "taylor": "what the outputs lose on the calibration data",
    "wanda": "their weights and what these read in the calibration data",
    "l2": "their weights alone: there is no calibration data",
}
