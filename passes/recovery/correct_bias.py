"""Bias correction: what a layer's result moved by, channel by channel on average, is taken back through its bias.

    b ← b + E[y] − E[ŷ]        (Nagel et al., arXiv 1906.04721, section 4.2, with the expectations from data)

y is what the start model computes there, restricted to the channels that are left, ŷ what the changed model computes
with the layers before already corrected. A convolution or Gemm without a bias gets one; behind a product (MatMul) the
constant that is added to it takes the shift, or a new Add does.

Refuses a layer whose bias is not constant, whose weight is shared, or that the start model does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.errors import UsageError
from graphpress.ir import Editor, Model, Node, Refusal
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.recovery._layers import Layer, write_bias
from graphpress.passes.recovery._walk import Shown, Walk, nothing_before, plan

_ROUNDING = 1e-6


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Take back the average shift of every layer's result that pruning, quantising or sparsifying made.

    Args:
        samples: calibration samples that are looked at, at most.
    """

    name: ClassVar[str] = "correct_bias"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    samples: int = 1000

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError("samples must be at least 1", where=self.name, fix="leave it out for the default")

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, and a model to repair towards."""
        return super().refuse(model, context) or nothing_before(self.name, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Wave by wave: take means, shift."""
        found = plan(model, context, residual=False)
        if not found.waves:
            return Outcome(0, found.refusals, ["no layer differs from the start of the transaction"])
        walk, edit = Walk(model, context, found, self.samples, results=True), Editor(model)
        refusals, shifts = list(found.refusals), list[float]()
        for wave in context.progress.track(range(len(found.waves)), "correcting biases", len(found.waves)):
            means = {node: _Means(found.layers[node]) for node in found.waves[wave]}
            for shown in walk.wave(wave):
                for one in shown:
                    means[one.node].add(one)
            for node, seen in means.items():
                refusal = seen.refusal(node)
                if refusal is not None:
                    refusals.append(refusal)
                elif seen.relative > _ROUNDING:
                    shifts.append(seen.relative)
                    write_bias(edit, seen.layer, seen.corrected)
        note = f"{len(shifts)} biases corrected"
        if shifts:
            note += f"; mean shift before {np.mean(shifts):.2%} of the result's root mean square"
        return Outcome(len(shifts), refusals, [note])


class _Means:
    """Means by channel of what a layer computes and of what it should."""

    def __init__(self, layer: Layer) -> None:
        self.layer, self._count = layer, 0
        self._trouble = ""
        self._shift = self._square = np.zeros(1)

    def add(self, shown: Shown) -> None:
        """Take in one piece."""
        assert shown.result is not None
        if self._trouble or shown.result.shape != shown.target.shape:
            self._trouble = f"its result is of another shape than the start model's {list(shown.target.shape)}"
            return
        axis = self.layer.contraction.channel_axis % shown.result.ndim
        others = tuple(one for one in range(shown.result.ndim) if one != axis)
        wanted = shown.target.astype(np.float64)
        self._count += wanted.size // wanted.shape[axis]
        self._shift = self._shift + (wanted - shown.result).sum(axis=others)
        self._square = self._square + np.square(wanted).sum(axis=others)

    def refusal(self, node: Node) -> Refusal | None:
        """Why this layer stays as it is, or None."""
        if self._trouble:
            return Refusal.at(node, self._trouble)
        if not (np.isfinite(self._shift).all() and np.isfinite(self._square).all()):
            return Refusal.at(node, "it computes, or should compute, infinite or undefined values")
        if self.layer.contraction.matrix_shape[0] > 1 and not self.layer.contraction.is_convolution:
            return Refusal.at(node, "a product with a batch of weights has no bias by channel")
        return None

    @property
    def relative(self) -> float:
        """Mean shift as a share of the root mean square of the result."""
        square = np.maximum(self._square / self._count, np.finfo(float).tiny)
        return float(np.sqrt(np.square(self._shift / self._count).sum() / square.sum()))

    @property
    def corrected(self) -> np.ndarray:
        """The bias that takes the shift back, ``[blocks, outputs]``."""
        bias = self.layer.affine.bias
        corrected: np.ndarray = bias + (self._shift / self._count).reshape(bias.shape)
        return corrected
