"""Deep layer aggregation (Yu et al. 2017): trees of residual blocks whose nodes read all their children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture
from graphpress.models.builder import RESIDUAL_GAIN, Builder, Conv


@dataclass(frozen=True, kw_only=True)
class Dla(Architecture):
    """``depths=(1, 2, 2, 1), width=32, image=224, classes=1000`` is about DLA-34.

    Args:
        depths: of the tree of each stage; a stage halves the resolution and doubles the channels.
        width: channels before the first stage.
        image: height and width.
        classes: size of the output.
    """

    depths: Sequence[int] = (1, 2, 2)
    width: int = 8
    image: int = 64
    classes: int = 10

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        b = self.builder()
        x = blocks.unit(b, "stem", b.input("input", [self.batch, 3, self.image, self.image]), Conv((3, self.width), 7))
        x = blocks.unit(b, "level0", x, Conv((self.width, self.width), 3, 2))
        channels = self.width
        for stage, depth in enumerate(self.depths):
            with b.scope(f"level{stage + 1}"):
                x = self._tree(b, x, (channels, 2 * channels), depth, 2, [])
            channels *= 2
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _tree(
        self,
        b: Builder,
        x: str,
        channels: tuple[int, int],
        depth: int,
        stride: int,
        children: Sequence[tuple[str, int]],
    ) -> str:
        """A tree of this depth; its root reads both subtrees and the ``children`` handed down, with their channels."""
        out = channels[1]
        if stride > 1:
            children = [*children, (b.pool("MaxPool", x, 2, 2), channels[0])]
        if depth > 1:
            with b.scope("tree1"):
                first = self._tree(b, x, channels, depth - 1, stride, [])
            with b.scope("tree2"):
                return self._tree(b, first, (out, out), depth - 1, 1, [*children, (first, out)])
        first = _block(b, "block1", x, channels, stride)
        second = _block(b, "block2", first, (out, out), 1)
        joint = b.node("Concat", second, first, *(value for value, _ in children), axis=1)
        return blocks.unit(b, "root", joint, Conv((2 * out + sum(size for _, size in children), out), 1))


def _block(b: Builder, name: str, x: str, channels: tuple[int, int], stride: int) -> str:
    with b.scope(name):
        y = blocks.unit(b, "part1", x, Conv(channels, 3, stride))
        y = b.conv_norm("part2", y, Conv((channels[1],) * 2, gain=RESIDUAL_GAIN))
        return b.node("Relu", b.node("Add", y, blocks.shortcut(b, x, channels, stride)))
