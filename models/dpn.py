"""Dual-path network (Chen et al. 2017): each block adds to a residual path and appends to a dense one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Dpn(Architecture):
    """``blocks=(3, 4, 20, 3)`` is the shape of DPN-92.

    Args:
        blocks: of each stage.
        width: channels of the residual path in the first stage.
        growth: channels that each block appends to the dense path.
        groups: of the 3x3 convolutions; divides ``width``.
        image: height and width.
        classes: size of the output.
    """

    blocks: Sequence[int] = (2, 2, 2)
    width: int = 32
    growth: int = 8
    groups: int = 4
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        require_multiple("width", self.width, self.groups)
        b = self.builder()
        paths = [blocks.stem(b, b.input("input", [self.batch, 3, self.image, self.image]), self.width)]
        channels = self.width
        for stage, count in enumerate(self.blocks):
            out = self.width << stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                with b.scope(f"conv{stage + 2}.{index}"):
                    paths = self._block(b, paths, (channels, out), stride, project=not index)
                channels = out + 2 * self.growth + (index + 1) * self.growth
        x = b.node("Concat", *paths, axis=1)
        with b.scope("last"):
            x = b.node("Relu", b.batch_norm(x, channels))
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _block(
        self, b: Builder, paths: list[str], channels: tuple[int, int], stride: int, *, project: bool
    ) -> list[str]:
        """The residual and the dense path after one block."""
        full, width = channels
        x = b.node("Concat", *paths, axis=1) if len(paths) > 1 else paths[0]
        residual, *dense = paths
        if project:
            both = _norm_conv(b, "project", x, Conv((full, width + 2 * self.growth), 1, stride))
            residual, dense = self._cut(b, both, width, 2 * self.growth)
        y = _norm_conv(b, "a", x, Conv((full, width), 1))
        y = _norm_conv(b, "b", y, Conv((width, width), 3, stride, groups=self.groups))
        y = _norm_conv(b, "c", y, Conv((width, width + self.growth), 1, gain=RESIDUAL_GAIN))
        added, appended = self._cut(b, y, width, self.growth)
        return [b.node("Add", residual, added), b.node("Concat", *dense, *appended, axis=1)]

    def _cut(self, b: Builder, x: str, width: int, growth: int) -> tuple[str, list[str]]:
        return b.slice(x, 0, width, axis=1), [b.slice(x, width, width + growth, axis=1)]


def _norm_conv(b: Builder, name: str, x: str, spec: Conv) -> str:
    with b.scope(f"{name}.norm"):
        x = b.node("Relu", b.batch_norm(x, spec.channels[0]))
    with b.scope(f"{name}.conv"):
        return b.conv(x, spec)
