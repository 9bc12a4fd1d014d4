"""Allocation: how many units of each group stay, for a goal. One strategy a file."""

from graphpress.passes.prune.allocation.curves import Curve
from graphpress.passes.prune.allocation.goal import Allocation, Goal, Kind, Limits
from graphpress.passes.prune.allocation.plan import Plan, Strategy
from graphpress.passes.prune.allocation.speed import Realise, allocate

__all__ = ["Allocation", "Curve", "Goal", "Kind", "Limits", "Plan", "Realise", "Strategy", "allocate"]
