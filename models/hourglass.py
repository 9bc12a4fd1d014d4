"""Stacked hourglass (Newell et al. 2016): each stack predicts heat maps, which the next one reads and refines."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Hourglass(Architecture):
    """``stacks=8, depth=4, width=256, joints=16, image=256`` is the paper's model.

    Args:
        stacks: how often the prediction is refined.
        depth: how often an hourglass halves the resolution.
        width: channels everywhere, even.
        joints: heat maps of each prediction.
        image: height and width, a multiple of ``4 * 2**depth``.
    """

    stacks: int = 2
    depth: int = 2
    width: int = 16
    joints: int = 5
    image: int = 64

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``heatmaps_K`` (N, joints, H/4, W/4) of each stack K."""
        require_multiple("width", self.width, 2)
        require_multiple("image", self.image, 4 << self.depth)
        b = self.builder()
        x = blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), self.width)
        results = []
        for stack in range(self.stacks):
            with b.scope(f"stack{stack}"):
                y = self._hourglass(b, x, self.depth)
                y = blocks.unit(b, "feature", y, Conv((self.width, self.width), 1, gain=RESIDUAL_GAIN))
                maps = _project(b, "maps", y, (self.width, self.joints))
                results.append(maps)
                if stack < self.stacks - 1:
                    back = b.node("Add", _project(b, "back", y, (self.width,) * 2),
                                  _project(b, "maps_back", maps, (self.joints, self.width)))  # fmt: skip
                    x = b.node("Add", x, back)
        for stack, maps in enumerate(results):
            b.output(maps, f"heatmaps_{stack}", [self.batch, self.joints, self.image // 4, self.image // 4])
        return b.finish()

    def _hourglass(self, b: Builder, x: str, depth: int) -> str:
        with b.scope(f"depth{depth}"):
            upper = self._residual(b, "upper", x)
            y = self._residual(b, "down", b.pool("MaxPool", x, 2, 2))
            y = self._hourglass(b, y, depth - 1) if depth > 1 else self._residual(b, "middle", y)
            return b.node("Add", upper, blocks.double(b, self._residual(b, "up", y)))

    def _residual(self, b: Builder, name: str, x: str) -> str:
        """Pre-activation bottleneck."""
        half = self.width // 2
        y = x
        for index, (channels, kernel) in enumerate(
            (((self.width, half), 1), ((half, half), 3), ((half, self.width), 1))
        ):
            with b.scope(f"{name}.{index}"):
                y = b.node("Relu", b.batch_norm(y, channels[0]))
                y = b.conv(y, Conv(channels, kernel, bias=True, gain=RESIDUAL_GAIN if index == 2 else HE_GAIN))
        return b.node("Add", x, y)


def _project(b: Builder, name: str, x: str, channels: tuple[int, int]) -> str:
    with b.scope(name):
        return b.conv(x, Conv(channels, 1, bias=True, gain=RESIDUAL_GAIN))
