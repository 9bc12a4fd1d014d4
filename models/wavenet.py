"""WaveNet (van den Oord et al. 2016): causal dilated convolutions with gates; all layers add to the output."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class WaveNet(Architecture):
    """``layers=30, width=64, classes=256`` is about the paper's model.

    Args:
        layers: gated layers; the dilation doubles from one to the next and starts again after the fifth.
        width: channels of the residual path and of the gates.
        skip: channels that are added up for the output.
        steps: a fixed length, or the name of a dynamic one.
        classes: size of the output at each step.
    """

    layers: int = 4
    width: int = 16
    skip: int = 24
    steps: int | str = "steps"
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 1, T) to ``logits`` (N, classes, T)."""
        b = self.builder()
        x = b.input("input", [self.batch, 1, self.steps])
        with b.scope("first"):
            x = blocks.conv_1d(b, x, Conv((1, self.width), 1))
        total = ""
        for layer in range(self.layers):
            with b.scope(f"layers.{layer}"):
                x, skipped = self._layer(b, x, 1 << layer % 5)
                total = b.node("Add", total, skipped) if total else skipped
        with b.scope("out1"):
            x = blocks.conv_1d(b, b.node("Relu", total), Conv((self.skip, self.skip), 1))
        with b.scope("out2"):
            x = blocks.conv_1d(b, b.node("Relu", x), Conv((self.skip, self.classes), 1, gain=LINEAR_GAIN))
        b.output(x, "logits", [self.batch, self.classes, self.steps])
        return b.finish()

    def _layer(self, b: Builder, x: str, dilation: int) -> tuple[str, str]:
        """The residual path after a gated convolution, and what it adds to the output."""
        sides = []
        padded = b.node("Pad", x, b.literal([0, 0, dilation, 0, 0, 0]), mode="constant")
        for name, activation in (("filter", "Tanh"), ("gate", "Sigmoid")):
            with b.scope(name):
                spec = Conv((self.width, self.width), 2)
                sides.append(b.node(activation, blocks.conv_1d(b, padded, spec, dilation=dilation, pads=(0, 0))))
        gated = b.node("Mul", *sides)
        with b.scope("residual"):
            x = b.node("Add", x, blocks.conv_1d(b, gated, Conv((self.width, self.width), 1, gain=RESIDUAL_GAIN)))
        with b.scope("skip"):
            return x, blocks.conv_1d(b, gated, Conv((self.width, self.skip), 1, gain=LINEAR_GAIN))
