"""How strongly a unit's features fire on the calibration data.

    mean:  s_u = E|a|                 (Molchanov et al., arXiv 1611.06440, section 2.2)
    rms:   s_u = √E[a²]
    apoz:  s_u = P(a ≠ 0)             (Hu et al., Network Trimming, arXiv 1607.03250, equation 1: 1 − APoZ)

The features that count are those that linear operators read, for they are all that the rest of the model sees of the
unit; where no linear operator reads the unit, all of its features count, but for those along an axis that holds the
batch as well (a reshape to [batch · channels, …]): its length is another one in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from graphpress.coupling import Coupling, Group, Place
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Model, dims_of, label
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._moments import AxisMoments, observe_moments
from graphpress.passes.prune.criteria._reduction import Share
from graphpress.passes.prune.criteria._roles import data_axis
from graphpress.passes.prune.criteria._slices import Shares, unit_sums

Statistic = Literal["mean", "rms", "apoz"]


@dataclass(frozen=True)
class Activation(Criterion):
    """Strength of the features.

    Args:
        reduction: how the features of a group make one score; its roles are not used here.
        statistic: ``mean`` absolute value, root mean square (``rms``), or how often it is not zero (``apoz``).

    Raises:
        UsageError: a statistic that is none of these.
    """

    name: ClassVar[str] = "activation"
    needs_data: ClassVar[bool] = True

    statistic: Statistic = "mean"

    def __post_init__(self) -> None:
        if self.statistic not in get_args(Statistic):
            fix = did_you_mean(self.statistic, get_args(Statistic))
            raise UsageError(f"{self.statistic!r} is no choice", where="statistic", fix=fix)

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One mean a feature and unit."""
        features = {group.name: features_read(group) for group in coupling.groups}
        wanted = {label(place.value): place.axis for places in features.values() for place in places}
        moments = observe_moments(model, wanted, context)
        return {
            group.name: [self._share(moments[label(place.value)], place, group.size) for place in features[group.name]]
            for group in coupling.groups
        }

    def _share(self, seen: AxisMoments, place: Place, size: int) -> Share:
        total = {"mean": seen.absolute, "rms": seen.squares, "apoz": seen.active}[self.statistic]
        counts = unit_sums(np.full(len(place.units), float(seen.count)), place.units, size)
        means = unit_sums(total, place.units, size) / np.maximum(counts, 1)
        return Share(np.sqrt(means) if self.statistic == "rms" else means, np.ones(size))


def features_read(group: Group) -> list[Place]:
    """The group's features that linear operators sum along the units' axis, else all on an axis of fixed size."""
    read = [
        place
        for place in group.features
        if any(use.idx == 0 and data_axis(use.node) == place.axis for use in place.value.uses())
    ]
    return read or [place for place in group.features if _is_fixed(place)]


def _is_fixed(place: Place) -> bool:
    """Whether the axis has one position for each unit in every run, as far as is known."""
    dims = dims_of(place.value)
    return dims is None or dims[place.axis] == len(place.units)
