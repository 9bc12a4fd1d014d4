"""CRNN (Shi et al. 2015): text lines read by convolutions and a recurrent layer over the columns."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Crnn(Architecture):
    """``width=64, hidden=256, height=32, length=100, classes=37`` is about the paper's model.

    Args:
        width: channels of the first convolution; the third doubles them.
        hidden: state size of each direction.
        height: of the image, a multiple of 8.
        length: width of the image, a multiple of 4.
        classes: size of the output at each column, "blank" included.
    """

    width: int = 16
    hidden: int = 24
    height: int = 32
    length: int = 64
    classes: int = 12

    def build(self) -> Model:
        """From ``input`` (N, 1, height, length) to ``logits`` (length / 4, N, classes)."""
        require_multiple("height", self.height, 8)
        require_multiple("length", self.length, 4)
        b = self.builder()
        x = b.input("input", [self.batch, 1, self.height, self.length])
        for index, channels in enumerate(((1, self.width), (self.width, 2 * self.width))):
            x = b.pool("MaxPool", blocks.unit(b, f"cnn.{index}", x, Conv(channels)), 2, 2)
        wide, rows = 2 * self.width, self.height // 8
        x = blocks.unit(b, "cnn.2", x, Conv((wide, wide)))
        x = b.node("MaxPool", x, kernel_shape=[2, 1], strides=[2, 1])
        x = b.reshape(x, [blocks.batch_of(b, x, self.batch), wide * rows, self.length // 4])
        x = b.node("Transpose", x, perm=[2, 0, 1])
        with b.scope("embed"):
            x = b.node("Relu", b.projection(x, (wide * rows, 2 * self.hidden), HE_GAIN))
        with b.scope("gru"):
            x = self._recurrent(b, x, 2 * self.hidden)
        with b.scope("head"):
            x = b.projection(x, (2 * self.hidden, self.classes))
        b.output(x, "logits", [self.length // 4, self.batch, self.classes])
        return b.finish()

    def _recurrent(self, b: Builder, x: str, features: int) -> str:
        """A bidirectional GRU with zero initial states: (T, N, features) to (T, N, 2 * hidden)."""
        rows = 3 * self.hidden
        weight = b.weight((2, rows, features), features, LINEAR_GAIN, "weight_ih")
        recurrence = b.weight((2, rows, self.hidden), self.hidden, LINEAR_GAIN, "weight_hh")
        bias = b.weight((2, 2 * rows), 1, RESIDUAL_GAIN, "bias")
        y, _ = b.nodes(
            "GRU", x, weight, recurrence, bias,
            outputs=2, direction="bidirectional", hidden_size=self.hidden, linear_before_reset=1,
        )  # fmt: skip
        return b.reshape(b.node("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, 2 * self.hidden])
