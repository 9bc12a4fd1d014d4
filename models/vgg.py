"""VGG (Simonyan and Zisserman 2014): plain 3x3 convolutions, max pools and a wide classifier."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.errors import UsageError
from graphpress.ir import Model
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import HE_GAIN, Builder, Conv

_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDENING = (1, 2, 4, 8, 8)


@dataclass(frozen=True, kw_only=True)
class Vgg(Architecture):
    """``depth=16, width=64, hidden=4096, image=224, classes=1000`` is VGG-16.

    Args:
        depth: 11, 13, 16 or 19.
        width: channels of the first stage.
        hidden: width of the two hidden linear layers.
        image: height and width, a multiple of 32.
        classes: size of the output.
        batch_norm: VGG-BN, with a BatchNormalization after each convolution.
    """

    depth: int = 16
    width: int = 8
    hidden: int = 64
    image: int = 32
    classes: int = 10
    batch_norm: bool = False

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``logits`` (N, classes)."""
        if self.depth not in _STAGES:
            raise UsageError(f"no VGG of depth {self.depth}", where="depth", fix="take 11, 13, 16 or 19")
        require_multiple("image", self.image, 32)
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        channels, index = 3, 0
        for blocks, widening in zip(_STAGES[self.depth], _WIDENING, strict=True):
            for _ in range(blocks):
                with b.scope("features"):
                    x = b.conv_norm(str(index), x, Conv((channels, self.width * widening)), norm=self.batch_norm)
                    x = b.node("Relu", x)
                channels, index = self.width * widening, index + 1
            with b.scope("features"):
                x = b.pool("MaxPool", x, 2, 2)
        x = self._classifier(b, x, channels * (self.image // 32) ** 2)
        b.output(x, "logits", [self.batch, self.classes])
        return b.finish()

    def _classifier(self, b: Builder, x: str, features: int) -> str:
        x = b.node("Flatten", x, axis=1)
        for index in range(2):
            with b.scope(f"classifier.{index}"):
                x = b.node("Relu", b.linear(x, (features, self.hidden), HE_GAIN))
            features = self.hidden
        with b.scope("classifier.2"):
            return b.linear(x, (features, self.classes))
