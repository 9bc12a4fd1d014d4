"""HRNet (Sun et al. 2019): branches of several resolutions that exchange features at every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class HrNet(Architecture):
    """A pose net: a heat map per joint at a quarter of the input's resolution.

    Args:
        branches: number of resolutions; each stage adds one.
        width: channels of the highest resolution; each further branch doubles them.
        joints: channels of the output.
        image: height and width, a multiple of ``4 * 2**(branches - 1)``.
    """

    branches: int = 3
    width: int = 8
    joints: int = 5
    image: int = 64

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``heatmaps`` (N, joints, H/4, W/4)."""
        require_multiple("image", self.image, 2 << self.branches)
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        with b.scope("stem"):
            x = blocks.unit(b, "0", x, Conv((3, self.width), 3, 2))
            levels = [blocks.unit(b, "1", x, Conv((self.width, self.width), 3, 2))]
        for stage in range(1, self.branches):
            with b.scope(f"transition{stage}"):
                levels.append(blocks.unit(b, "new", levels[-1], Conv((self._at(stage - 1), self._at(stage)), 3, 2)))
            with b.scope(f"stage{stage + 1}"):
                levels = [self._block(b, f"branch{index}", x, index) for index, x in enumerate(levels)]
                levels = [self._fuse(b, levels, index) for index in range(len(levels))]
        raised = [levels[0], *(blocks.double(b, x, 2 << index) for index, x in enumerate(levels[1:]))]
        x = b.node("Concat", *raised, axis=1)
        with b.scope("head"):
            total = sum(self._at(index) for index in range(self.branches))
            x = blocks.unit(b, "0", x, Conv((total, total), 1))
            x = b.conv(x, Conv((total, self.joints), 1, bias=True, gain=LINEAR_GAIN))
        b.output(x, "heatmaps", [self.batch, self.joints, self.image // 4, self.image // 4])
        return b.finish()

    def _at(self, branch: int) -> int:
        return self.width << branch

    def _block(self, b: Builder, name: str, x: str, branch: int) -> str:
        width = self._at(branch)
        with b.scope(name):
            y = blocks.unit(b, "0", x, Conv((width, width)))
            y = b.conv_norm("1", y, Conv((width, width), gain=RESIDUAL_GAIN))
            return b.node("Relu", b.node("Add", y, x))

    def _fuse(self, b: Builder, levels: Sequence[str], target: int) -> str:
        """The sum of all branches, brought to the resolution and channels of one."""
        total = levels[target]
        for source, x in enumerate(levels):
            with b.scope(f"fuse{target}.{source}"):
                if source > target:
                    x = b.conv_norm("up", x, Conv((self._at(source), self._at(target)), 1, gain=RESIDUAL_GAIN))
                    total = b.node("Add", total, blocks.double(b, x, 1 << (source - target)))
                for step in range(source, target):
                    out = self._at(target if step == target - 1 else source)
                    x = b.conv_norm(f"down{step}", x, Conv((self._at(source), out), 3, 2, gain=RESIDUAL_GAIN))
                    x = x if step == target - 1 else b.node("Relu", x)
                if source < target:
                    total = b.node("Add", total, x)
        return b.node("Relu", total)
