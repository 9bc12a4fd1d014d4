"""What an allocation is asked for: the fraction of a model's cost that may stay.

Every goal is such a fraction, so that a solver needs to know nothing of what the cost is made of: units for ``ratio``,
multiply-accumulates, parameters, bytes, or seconds for ``speedup``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from graphpress.errors import UsageError, did_you_mean

Kind = Literal["ratio", "macs_kept", "params_kept", "bytes_kept", "speedup"]
Resource = Literal["units", "macs", "parameters", "bytes", "seconds"]

RESOURCES: Mapping[Kind, Resource] = {
    "ratio": "units",
    "macs_kept": "macs",
    "params_kept": "parameters",
    "bytes_kept": "bytes",
    "speedup": "seconds",
}
"""The cost that each kind of goal is about."""

TOLERANCE = 1e-9
"""Sums of floats that should be equal differ by less, relative to the whole."""


@dataclass(frozen=True)
class Goal:
    """How much may stay.

    Args:
        kind: ``ratio``: so many of the units go; ``macs_kept``, ``params_kept`` and ``bytes_kept``: this fraction of
            multiply-accumulates, parameters or bytes stays; ``speedup``: the time falls by this factor.
        amount: the fraction or factor.
        where: whose goal it is, for errors.

    Raises:
        UsageError: an amount that makes no sense, or no such kind.
    """

    kind: Kind
    amount: float
    where: str = "allocation"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            fix = did_you_mean(self.kind, get_args(Kind))
            raise UsageError(f"no such goal {self.kind!r}", where=self.where, fix=fix)
        low, high = {"ratio": (0.0, 1.0), "speedup": (1.0, math.inf)}.get(self.kind, (0.0, 1.0))
        if not low <= self.amount <= high or self.budget <= 0 or not math.isfinite(self.amount):
            span = {"ratio": "from 0 to below 1", "speedup": "of 1 or more"}.get(self.kind, "above 0, at most 1")
            raise UsageError(f"{self.kind}={self.amount:g} cannot be", where=self.where, fix=f"give a number {span}")

    @property
    def resource(self) -> Resource:
        """The cost that it is about."""
        return RESOURCES[self.kind]

    @property
    def budget(self) -> float:
        """The fraction of the whole model's cost that may stay."""
        if self.kind == "ratio":
            return 1 - self.amount
        return 1 / self.amount if self.kind == "speedup" else self.amount

    def limit(self, whole: float) -> float:
        """The highest cost within the budget, given the whole model's, up to rounding."""
        return (self.budget + TOLERANCE) * whole

    def describe(self, kept: float) -> str:
        """A kept fraction in the goal's own terms.

        >>> Goal("speedup", 2.0).describe(0.4), Goal("ratio", 0.5).describe(0.4)
        ('speedup 2.500', 'ratio 0.600')
        """
        if self.kind == "ratio":
            return f"ratio {1 - kept:.3f}"
        return f"{self.kind} {1 / kept if self.kind == 'speedup' else kept:.3f}"

    def towards(self, stays: float) -> Goal:
        """A goal of the same kind that leaves this fraction of what there is now."""
        stays = min(max(stays, 0.0), 1.0)
        amount = {"ratio": 1 - stays, "speedup": 1 / stays if stays else 1.0}.get(self.kind, stays)
        return Goal(self.kind, amount, self.where)
