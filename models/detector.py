"""A one-stage detector with a feature pyramid and three outputs per level."""

from __future__ import annotations

from dataclasses import dataclass

from graphpress.ir import Model
from graphpress.models import blocks
from graphpress.models.architecture import Architecture, require_multiple
from graphpress.models.builder import LINEAR_GAIN, Builder, Conv

_HEADS = ("class", "score", "box")


@dataclass(frozen=True, kw_only=True)
class Detector(Architecture):
    """A backbone, a top-down pyramid (Resize and Add), and per level a head for class, score and box.

    Args:
        levels: number of pyramid levels; level i has stride ``8 * 2**i``.
        width: channels of the pyramid.
        image: height and width, a multiple of the last level's stride.
        classes: number of classes.
        batch_norm: keep BatchNormalization nodes; else convolutions have biases, as after folding.
    """

    levels: int = 3
    width: int = 16
    image: int = 64
    classes: int = 4
    batch_norm: bool = True

    def build(self) -> Model:
        """From ``input`` (N, 3, H, W) to ``class_S`` (N, A, classes), ``score_S`` (N, A, 1), both 0 to 1, and
        ``box_S`` (N, A, 4) for each stride S, with A = H/S * W/S positions.
        """
        require_multiple("image", self.image, 4 << self.levels)
        b = self.builder()
        x = b.input("input", [self.batch, 3, self.image, self.image])
        for level, feature in enumerate(self._pyramid(b, self._backbone(b, x))):
            stride = 8 << level
            for name, size in zip(_HEADS, (self.classes, 1, 4), strict=True):
                with b.scope(f"head.{stride}.{name}"):
                    result = self._head(b, feature, size)
                    result = result if name == "box" else b.node("Sigmoid", result)
                b.output(result, f"{name}_{stride}", [self.batch, (self.image // stride) ** 2, size])
        return b.finish()

    def _unit(self, b: Builder, name: str, x: str, spec: Conv) -> str:
        return b.node("Relu", b.conv_norm(name, x, spec, norm=self.batch_norm))

    def _backbone(self, b: Builder, x: str) -> list[str]:
        """The features of strides 8, 16, ..."""
        features = []
        channels = 3
        with b.scope("backbone"):
            for stage in range(self.levels + 2):
                x = self._unit(b, f"{stage}.down", x, Conv((channels, self.width), 3, 2))
                x = self._unit(b, f"{stage}.same", x, Conv((self.width, self.width)))
                channels = self.width
                if stage >= 2:
                    features.append(x)
        return features

    def _pyramid(self, b: Builder, features: list[str]) -> list[str]:
        """Add to each level the upsampled next coarser one."""
        merged = [features[-1]]
        with b.scope("pyramid"):
            for level in reversed(range(len(features) - 1)):
                lateral = Conv((self.width, self.width), 1, gain=LINEAR_GAIN)
                x = b.conv_norm(f"lateral{level}", features[level], lateral, norm=self.batch_norm)
                merged.append(b.node("Add", x, blocks.double(b, merged[-1])))
        return merged[::-1]

    def _head(self, b: Builder, x: str, size: int) -> str:
        """(N, width, h, w) to (N, h * w, size)."""
        x = self._unit(b, "0", x, Conv((self.width, self.width)))
        with b.scope("1"):
            x = b.conv(x, Conv((self.width, size), 1, bias=True, gain=LINEAR_GAIN))
        x = b.node("Transpose", x, perm=[0, 2, 3, 1])
        return b.reshape(x, [b.size(x, 0) if isinstance(self.batch, str) else self.batch, -1, size])
