"""Distance from the other units: He et al., Filter Pruning via Geometric Median, arXiv 1811.00250, equation 5.

    s_u = Σ_v ‖w_u − w_v‖₂

The unit nearest the geometric median of all is the one that the others can stand in for best. Squared distances come
from one Gram matrix a place: ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.coupling import Coupling, Place
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._reduction import BY_WEIGHTS, Reduction, Share
from graphpress.passes.prune.criteria._roles import factor_of
from graphpress.passes.prune.criteria._slices import Shares, numbers, sizes_of, unit_rows

_ROWS_AT_A_TIME = 1024
"""Rows of the matrix of distances alive at a time."""


@dataclass(frozen=True)
class Fpgm(Criterion):
    """Summed distance from the group's other units.

    Args:
        reduction: how the places of a group make one score.
    """

    name: ClassVar[str] = "fpgm"
    usual: ClassVar[Reduction] = BY_WEIGHTS

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One sum of distances a place and unit."""
        sizes = sizes_of(coupling)
        result: Shares = {}
        for name, places in self.chosen(coupling).items():
            result[name] = [_share(place, sizes[name]) for place in places]
        return result


def _share(place: Place, size: int) -> Share:
    rows = unit_rows(numbers(place.value), place, size)
    return Share(summed_distances(rows), np.full(size, rows.shape[1]), factor_of(place))


def summed_distances(rows: np.ndarray) -> np.ndarray:
    """For each row of ``(units, numbers)``, the sum of its Euclidean distances from all rows."""
    rows = rows - rows.mean(axis=0)  # near the origin less is lost when squares are subtracted
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    result = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = slice(start, start + _ROWS_AT_A_TIME)
        inner = (rows[some] @ rows.T).astype(np.float64)
        distances = squares[some, None] + squares[None, :] - 2 * inner
        np.fill_diagonal(distances[:, start:], 0.0)
        result[some] = np.sqrt(np.maximum(distances, 0.0)).sum(axis=1)
    return result
