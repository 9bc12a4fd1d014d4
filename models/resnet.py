"""ResNet (He et al. 2015): basic and bottleneck blocks, with the ImageNet or the CIFAR stem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphpress.errors import UsageError
from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import RESIDUAL_GAIN, Builder, Conv

_IMAGENET_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_FIRST_WITH_BOTTLENECKS = 50
_EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class ResNet(Architecture):
    """``depth=50, width=64, image=224, classes=1000`` is ResNet-50; ``depth=20, stem="cifar", width=16`` ResNet-20.

    Args:
        depth: 18, 34, 50, 101 or 152; with the CIFAR stem 6n + 2, three stages of n basic blocks.
        stem: ``imagenet``: 7x7 stride 2 and max pool; ``cifar``: 3x3 stride 1.
        width: channels of the first stage.
        image: height and width.
        classes: size of the output.
        batch_norm: keep BatchNormalization nodes; else convolutions have biases, as after folding.
    """

    depth: int = 18
    stem: Literal["imagenet", "cifar"] = "imagenet"
    width: int = 16
    image: int = 64
    classes: int = 10
    batch_norm: bool = True

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        stages = self._stages()
        b = self.builder()
        x = self._stem(b, b.input("input", [self.batch, 3, self.image, self.image]))
        channels = self.width
        for stage, blocks in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                with b.scope(f"layer{stage + 1}.{block}"):
                    x, channels = self._block(b, x, channels, self.width << stage, stride)
        with b.scope("fc"):
            b.output(b.classifier(x, channels, self.classes), "logits", [self.batch, self.classes])
        return b.finish()

    def _stages(self) -> tuple[int, ...]:
        if self.stem == "cifar" and self.depth > 2 and self.depth % 6 == 2:
            return (self.depth // 6,) * 3
        if self.stem == "imagenet" and self.depth in _IMAGENET_STAGES:
            return _IMAGENET_STAGES[self.depth]
        raise UsageError(
            f"no ResNet of depth {self.depth} with the {self.stem} stem",
            where="depth",
            fix="take 18, 34, 50, 101 or 152; for the cifar stem 6n + 2",
        )

    def _stem(self, b: Builder, x: str) -> str:
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        with b.scope("stem"):
            x = b.conv_norm("first", x, Conv((3, self.width), kernel, stride), norm=self.batch_norm)
            x = b.node("Relu", x)
            return b.pool("MaxPool", x, 3, 2) if self.stem == "imagenet" else x

    def _block(self, b: Builder, x: str, channels: int, width: int, stride: int) -> tuple[str, int]:
        """Add a block and return its result and channels."""
        specs = self._branch(channels, width, stride)
        out = specs[-1].channels[1]
        y = x
        for index, spec in enumerate(specs):
            y = b.conv_norm(f"part{index + 1}", y, spec, norm=self.batch_norm)
            if index < len(specs) - 1:
                y = b.node("Relu", y)
        if stride > 1 or channels != out:
            shortcut = Conv((channels, out), 1, stride, gain=1.0)
            x = b.conv_norm("shortcut", x, shortcut, norm=self.batch_norm)
        return b.node("Relu", b.node("Add", y, x)), out

    def _branch(self, channels: int, width: int, stride: int) -> tuple[Conv, ...]:
        if self.stem == "cifar" or self.depth < _FIRST_WITH_BOTTLENECKS:
            return Conv((channels, width), 3, stride), Conv((width, width), 3, gain=RESIDUAL_GAIN)
        return (
            Conv((channels, width), 1),
            Conv((width, width), 3, stride),
            Conv((width, width * _EXPANSION), 1, gain=RESIDUAL_GAIN),
        )
