"""The attributes of operators that read between pixels: Resize and Upsample, RoiAlign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphpress.ir import NodeView

_COORDINATES_SINCE = 11
"""Before this operator set, Resize had one transformation of coordinates."""
_HALF_PIXEL_SINCE = 16
"""Before this operator set, RoiAlign had no choice of coordinates."""


@dataclass(frozen=True)
class ResizeAttributes:
    """What a Resize or Upsample says of coordinates and weights.

    Args:
        mode: ``nearest``, ``linear`` or ``cubic``.
        coordinates: the coordinate transformation.
        nearest: how a coordinate is rounded; ``simple`` is up where the axis shrinks, else down.
        cubic_coeff: the coefficient of cubic interpolation.
        exclude_outside: weights of pixels outside are dropped and the rest scaled up.
        antialias: the kernel is stretched when the axis shrinks.
        fill: what stands outside the cropped input.
        aspect: what happens to the aspect ratio: ``stretch``, ``not_larger`` or ``not_smaller``.
    """

    mode: str
    coordinates: str
    nearest: str
    cubic_coeff: float
    exclude_outside: bool
    antialias: bool
    fill: float
    aspect: str

    @staticmethod
    def of(node: NodeView) -> ResizeAttributes:
        """Those of a node."""
        modern = has_coordinates(node)
        return ResizeAttributes(
            node.text("mode", "nearest"),
            node.text("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric",
            node.text("nearest_mode", "round_prefer_floor") if modern else "simple",
            node.number("cubic_coeff_a", -0.75),
            node.flag("exclude_outside"),
            node.flag("antialias"),
            node.number("extrapolation_value", 0.0),
            node.text("keep_aspect_ratio_policy", "stretch"),
        )


def has_coordinates(node: NodeView) -> bool:
    """Whether the node may choose coordinates, and reads a region and sizes beside its scales."""
    return node.op_type == "Resize" and node.opset >= _COORDINATES_SINCE


def resized(sizes: Sequence[int], have: Sequence[int], aspect: str) -> tuple[list[int], list[float]]:
    """Sizes and factors of a Resize that is given sizes.

    Args:
        sizes: what is asked for.
        have: the sizes of these axes.
        aspect: ``stretch``, or ``not_larger`` or ``not_smaller``, which give all axes the factor of one of them.
    """
    factors = [want / size for want, size in zip(sizes, have, strict=True)]
    if aspect == "stretch":
        return list(sizes), factors
    factor = min(factors) if aspect == "not_larger" else max(factors)
    return [math.floor(factor * size + 0.5) for size in have], [factor] * len(have)


@dataclass(frozen=True)
class RoiAlignAttributes:
    """What a RoiAlign says of its regions.

    Args:
        rows: of the result.
        columns: of the result.
        scale: from the coordinates of a region to those of the data.
        samples: along each side of a bin; 0 for as many as the region's size asks for.
        half_pixel: whether coordinates are those of pixel centers; else a region has at least the size of a pixel.
        mode: what is made of the samples: ``avg`` or ``max``.
    """

    rows: int
    columns: int
    scale: float
    samples: int
    half_pixel: bool
    mode: str

    @staticmethod
    def of(node: NodeView) -> RoiAlignAttributes:
        """Those of a node."""
        given = node.text("coordinate_transformation_mode", "half_pixel")
        return RoiAlignAttributes(
            node.integer("output_height", 1),
            node.integer("output_width", 1),
            node.number("spatial_scale", 1.0),
            node.integer("sampling_ratio", 0),
            node.opset >= _HALF_PIXEL_SINCE and given == "half_pixel",
            node.text("mode", "avg"),
        )
