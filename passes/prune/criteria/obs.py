"""Output error that is left after the best compensation: Optimal Brain Surgeon over units.

For a linear operator y = xW with H = E[x xᵀ] that reads unit u at the features P, taking W_P out and refitting the
other weights by least squares leaves

    s_u = Σ_o  w_Poᵀ ((H⁻¹)_PP)⁻¹ w_Po

Hassibi & Stork, Second order derivatives for network pruning (1993), equation 5 with a block in place of one weight
(as Kurtic et al., ZipLM, arXiv 2302.04089, equation 2; for one weight it is SparseGPT's w²/[H⁻¹]_ii, arXiv 2301.00774).
Where a bias can be refitted too, the covariance stands in place of H. H is damped by a fraction of its mean diagonal,
for features may be more than the data spans.

A group that no linear operator with a constant weight reads is judged by what it is written with: the power of the
units' own outputs, wᵀHw, for which nothing compensates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.coupling import Coupling
from graphpress.ir import Model, label
from graphpress.manager.contract import Context
from graphpress.observation import Moments, Observation, in_portions, input_moments
from graphpress.passes.prune.criteria._criterion import Criterion
from graphpress.passes.prune.criteria._data import some_samples
from graphpress.passes.prune.criteria._linear import LinearPlace, linear_places
from graphpress.passes.prune.criteria._reduction import Reduction, Share
from graphpress.passes.prune.criteria._slices import Shares, numbers, unit_share, unit_sums

_GRAM_BYTES = 512 << 20
"""Bytes of Gram matrices alive at a time, as long as a single one fits."""
_MIN_DAMPING = 1e-10
"""Below this the inverse would be of rounding errors."""
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Obs(Criterion):
    """Error after optimal compensation.

    Args:
        reduction: how the places of a group make one score.
        samples: about so many samples of the calibration data are used, in whole feeds.
        damping: fraction of the mean diagonal that is added to the diagonal of H.
        relative: divide by the power E‖y‖² of the operator's output.
    """

    name: ClassVar[str] = "obs"
    needs_data: ClassVar[bool] = True
    usual: ClassVar[Reduction] = Reduction()

    samples: int = 256
    damping: float = 1e-2
    relative: bool = False

    def shares(self, model: Model, coupling: Coupling, context: Context) -> Shares:
        """One error a weight and unit."""
        sizes = {group.name: group.size for group in coupling.groups}
        jobs: dict[str, list[tuple[str, int, LinearPlace]]] = {}
        linear_ops: dict[str, LinearOp] = {}
        for name, places in linear_places(coupling, self.reduction).items():
            for at, place in enumerate(places):
                operator = label(place.op.result)
                linear_ops[operator] = place.op
                jobs.setdefault(operator, []).append((name, at, place))
        shares: dict[str, dict[int, Share]] = {name: {} for name in sizes}
        assert context.calibration is not None
        data = some_samples(context.calibration, self.samples)
        options = Observation(threads=context.threads, progress=context.progress)
        for some in in_portions(linear_ops.values(), _GRAM_BYTES):
            for operator, moments in input_moments(model, some, data, options).items():
                layer = _Layer.of(linear_ops[operator], moments, self)
                for name, at, place in jobs[operator]:
                    shares[name][at] = layer.share(place, sizes[name])
        return {name: [by_place[at] for at in sorted(by_place)] for name, by_place in shares.items()}


@dataclass(frozen=True)
class _Layer:
    """One linear operator.

    Args:
        op: the operator.
        matrix: its weight, ``[blocks, features, outputs]`` float64.
        hessian: H without damping, ``[blocks, features, features]``.
        damping: what is added to the diagonal, by block.
        power: of the output, by which errors are divided.
    """

    op: LinearOp
    matrix: np.ndarray
    hessian: np.ndarray
    damping: np.ndarray
    power: float

    @staticmethod
    def of(op: LinearOp, moments: Moments, options: Obs) -> _Layer:
        has_bias = op.bias_index is not None and len(op.node.inputs) > op.bias_index
        hessian = moments.covariance if has_bias else moments.gram
        matrix = op.matrix(numbers(op.weight)).astype(np.float64)
        power = float(np.einsum("bfo,bfo->", hessian @ matrix, matrix)) if options.relative else 1.0
        damping = max(options.damping, _MIN_DAMPING) * np.einsum("bff->b", hessian) / hessian.shape[1]
        return _Layer(op, matrix, hessian, damping, max(power, _TINY))

    def share(self, linear: LinearPlace, size: int) -> Share:
        if not linear.reads:
            energy = self.op.from_matrix(self.matrix * (self.hessian @ self.matrix))
            whole = unit_share(energy, linear.place, size)
            return Share(np.maximum(whole.scores, 0.0) / self.power, whole.elements)
        owners = self._owners(linear)
        errors = np.zeros(size)
        for block, units in enumerate(owners):
            errors += self._errors(block, units, size)
        counts = unit_sums(np.ones(owners.size), owners.reshape(-1), size)
        return Share(errors / self.power, counts * self.matrix.shape[2])

    def _owners(self, linear: LinearPlace) -> np.ndarray:
        """The unit that each feature belongs to, or -1: ``[blocks, features]``."""
        shape = [1] * len(self.op.weight_shape)
        shape[linear.place.axis] = -1
        spread = np.broadcast_to(linear.place.units.reshape(shape), self.op.weight_shape)
        return np.asarray(self.op.as_matrix(spread)[:, :, 0])

    def _errors(self, block: int, units: np.ndarray, size: int) -> np.ndarray:
        """By unit, what is left within one block of features; NaN where the data held what is no number."""
        if not np.isfinite(self.hessian[block]).all():
            return np.full(size, np.nan)
        damped = self.hessian[block] + max(self.damping[block], _TINY) * np.eye(len(units))
        inverse = np.linalg.inv(damped)
        errors = np.zeros(size)
        for some, features in _by_count(units, size):
            left = np.linalg.inv(inverse[features[:, :, None], features[:, None, :]])
            removed = self.matrix[block][features]
            errors[some] = np.einsum("upo,upq,uqo->u", removed, left, removed, optimize=True)
        return np.maximum(errors, 0.0)


def _by_count(units: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Units with equally many features, and these features as ``[units, features of each]``."""
    mine = np.flatnonzero(units >= 0)
    order = mine[np.argsort(units[mine], kind="stable")]
    counts = np.bincount(units[mine], minlength=size)
    starts = np.cumsum(counts) - counts
    for count in np.unique(counts[counts > 0]):
        some = np.flatnonzero(counts == count)
        yield some, order[starts[some][:, None] + np.arange(count)]
