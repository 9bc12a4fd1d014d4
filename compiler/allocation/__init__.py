"""Allocation: how a budget is shared among the parts of a model, at the least damage.

A part is whatever one choice is made for: the channels that a group keeps, the rank of a matrix, the bits or the format
of a layer. Each choice does damage (``graphpress.evaluation.sensitivity`` measures it, or scores stand in for it) and
has costs: bytes, multiply-accumulates, seconds (``latency`` measures those). A ``Goal`` says how much cost may stay.

    costs add up         ``knapsack``: exact, any kind of choice, any number of limits
    costs influence      ``descend``: greedy along damage curves; sizes and a ``CostModel``
    each other           ``uniform``, ``ranking``: the same fraction of each item; one order over all of them
    only the whole       ``match_ratio``: corrects the budget of any of these until the measured ratio is
    tells the time       the one asked for

The bits of two layers, of whose bytes five eighths may stay:

>>> layers = {
...     "features": Item(choices=(8, 4), damage=(0.0, 0.02), costs={"bytes": (6000, 3000)}),
...     "classifier": Item(choices=(8, 4, 2), damage=(0.0, 0.3, 2.5), costs={"bytes": (2000, 1000, 500)}),
... }
>>> limit = Goal("bytes_kept", 0.625).limit(8000)
>>> best = knapsack(layers, {"bytes": limit})
>>> best.choices, best.damage, best.optimal
({'features': 4, 'classifier': 8}, 0.02, True)
"""

from graphpress.allocation.costs import CostModel, Sizes, sizes_at
from graphpress.allocation.curves import Curve
from graphpress.allocation.descent import descend
from graphpress.allocation.goal import Goal, Kind, Resource
from graphpress.allocation.knapsack import Allocation, Item, knapsack
from graphpress.allocation.latency import LatencyBench, LatencyTable
from graphpress.allocation.ranking import ranking
from graphpress.allocation.speedup import Trial, match_ratio
from graphpress.allocation.uniform import uniform

__all__ = [
    "Allocation",
    "CostModel",
    "Curve",
    "Goal",
    "Item",
    "Kind",
    "LatencyBench",
    "LatencyTable",
    "Resource",
    "Sizes",
    "Trial",
    "descend",
    "knapsack",
    "match_ratio",
    "ranking",
    "sizes_at",
    "uniform",
]
