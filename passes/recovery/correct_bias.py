"""Bias correction: what a layer's result moved by, channel by channel on average, is taken back through its bias.

    b ← b + E[y] − E[ŷ]        (Nagel et al., arXiv 1906.04721, section 4.2, with the expectations from data)

Rounding shifts results; sparse and pruned layers mostly shrink them, which shifting alone makes worse from layer to
layer until nothing varies any more. With ``deviations`` (the default) a channel's weights are scaled as well:

    W ← s·W,   b ← E[y] − s (E[ŷ] − b)    with  s = σ[y] / σ[ŷ]      (Jordan et al., arXiv 2211.08403, section 4)

y is what the start model computes there, restricted to the channels that are left, ŷ what the changed model computes
with the layers before already corrected. A convolution or Gemm without a bias gets one; behind a product (MatMul) the
constant that is added to it takes the shift, or a new Add does.

Refuses a layer whose bias is not constant, whose weight is shared, or that the start model does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.linear import LinearOp, LinearParameters, parameters_of, updated, write_bias
from graphpress.analysis.linear.rows import by_channel
from graphpress.coupling.kept import Kept
from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Node, Refusal, label
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation import LayerPiece, LayerWalk, Moments, Pieces, Wanted, observe
from graphpress.passes._kept import restrict
from graphpress.passes.recovery._repair import RepairPlan, nothing_before, plan_repair

_ROUNDING = 1e-4
"""Relative differences below this are rounding."""
_CONSTANT = 1e-4
"""A channel whose variance is below this share of what it should be is no longer a scaled copy of anything."""


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Take back the average shift of every layer's result that pruning, quantizing or sparsifying made.

    Args:
        samples: calibration samples that are looked at, at most.
        deviations: match the standard deviation of each channel too, by scaling its weights.
    """

    name: ClassVar[str] = "correct_bias"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    samples: int = 1000
    deviations: bool = True

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError("samples must be at least 1", where=self.name, fix="leave it out for the default")

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, and a model to repair towards."""
        return super().refuse(model, context) or nothing_before(self.name, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Layer by layer: take means, shift."""
        plan = plan_repair(model, context, residual=False)
        if not plan.waves:
            return Outcome(0, plan.refusals, ["no layer differs from the start of the transaction"])
        assert context.calibration is not None
        data = Pieces.of(model, context.calibration, self.samples)
        aims = _aims(plan, data, context)
        edit, refusals, shifts = Editor(model), list(plan.refusals), list[float]()

        def finish(seen: _Means) -> None:
            op, refusal, bias_dtype = seen.op, seen.refusal(), context.target.quantization.bias
            if refusal is not None:
                refusals.append(refusal)
            elif self.deviations and seen.differs:
                shifts.append(seen.relative)
                updated(op, seen.rescaled, with_bias=seen.relative > _ROUNDING).write(edit, bias_dtype)
            elif seen.relative > _ROUNDING:
                shifts.append(seen.relative)
                write_bias(edit, op, seen.corrected, bias_dtype)

        walk = LayerWalk(model, plan.waves, data, threads=context.threads)
        walk.run(lambda node: _Means(plan.layers[node], aims[node], finish), context.progress, "correcting biases")
        note = f"{len(shifts)} biases corrected"
        if shifts:
            note += f"; mean shift before {np.mean(shifts):.2%} of the result's root mean square"
        return Outcome(len(shifts), refusals, [note])


def _aims(plan: RepairPlan, data: Pieces, context: Context) -> dict[Node, _ChannelMoments]:
    """What each layer should compute, channel by channel: the start model runs once."""
    assert context.transaction is not None
    start, kept = context.transaction.start, context.transaction.kept
    aims = {node: _ChannelMoments(op.channel_axis, kept.get(label(op.result))) for node, op in plan.layers.items()}
    observers = {label(node.outputs[0]): aim for node, aim in aims.items()}
    observe(start, observers, data, threads=context.threads, progress=context.progress)
    return aims


class _ChannelMoments:
    """Mean and variance of each channel of a value, of the channels that are left.

    Args:
        axis: of the channels.
        kept: what is left of the value.
    """

    def __init__(self, axis: int, kept: Kept | None = None) -> None:
        self._axis, self._kept = axis, kept
        self.moments = Moments(full=False)

    def update(self, array: np.ndarray) -> None:
        """Take in one batch."""
        self.moments.add(by_channel(restrict(array, self._kept), self._axis))


class _Means:
    """Means by channel of what a layer computes, against those of what it should."""

    def __init__(self, op: LinearOp, aim: _ChannelMoments, write: Callable[[_Means], None]) -> None:
        self.op, self._write = op, write
        self._now, self._aim = _ChannelMoments(op.channel_axis), aim.moments

    @property
    def wants(self) -> Wanted:
        """Nothing but the result."""
        return Wanted(result=True)

    def see(self, piece: LayerPiece) -> None:
        """Take in one piece."""
        assert piece.result is not None
        self._now.update(piece.result)

    def finish(self) -> None:
        """Hand them over."""
        self._write(self)

    def refusal(self) -> Refusal | None:
        """Why this layer stays as it is, or None."""
        now, aim = self._now.moments, self._aim
        if (now.count, now.mean.shape) != (aim.count, aim.mean.shape):
            return Refusal.at(self.op.node, "its result is of another shape than the start model's")
        if not (now.is_finite and aim.is_finite):
            return Refusal.at(self.op.node, "it computes, or should compute, infinite or undefined values")
        if self.op.matrix_shape[0] > 1 and not self.op.is_convolution:
            return Refusal.at(self.op.node, "a product with a batch of weights has no bias by channel")
        return None

    @property
    def relative(self) -> float:
        """Shift as a share of the root mean square of the result, over all channels."""
        square = (self._aim.variance + np.square(self._aim.mean)).sum()
        return float(np.sqrt(np.square(self._shift).sum() / max(float(square), np.finfo(float).tiny)))

    @property
    def corrected(self) -> np.ndarray:
        """The bias that takes the shift back, ``[blocks, outputs]``."""
        bias = self.op.bias_rows()
        assert bias is not None
        corrected: np.ndarray = bias + self._shift.reshape(bias.shape)
        return corrected

    @property
    def differs(self) -> bool:
        """Whether shift or deviation are off by more than rounding."""
        return self.relative > _ROUNDING or bool(np.any(np.abs(self._scale - 1) > _ROUNDING))

    @property
    def rescaled(self) -> LinearParameters:
        """Matrix and bias that give each channel the mean and the deviation that it should have."""
        present, means = parameters_of(self.op), (self._now.moments.mean[0], self._aim.mean[0])
        bias = present.bias
        scale, mean, target = (array.reshape(bias.shape) for array in (self._scale, *means))
        return LinearParameters(present.matrix * scale[:, None, :], target - scale * (mean - bias))

    @property
    def _shift(self) -> np.ndarray:
        shift: np.ndarray = self._aim.mean[0] - self._now.moments.mean[0]
        return shift

    @property
    def _scale(self) -> np.ndarray:
        """σ[y] / σ[ŷ], by channel; 1 where either is constant."""
        now, wanted = self._now.moments.variance[0], self._aim.variance[0]
        sound = (now > _CONSTANT * wanted) & (wanted > 0)
        scale: np.ndarray = np.sqrt(np.divide(wanted, now, out=np.ones_like(now), where=sound))
        return scale
