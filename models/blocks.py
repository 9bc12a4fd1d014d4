"""The parts that several families share: activated convolutions, gates, channel shuffles, channel-last norms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.models import transformer
from graphpress.models.builder import HE_GAIN, LINEAR_GAIN, RESIDUAL_GAIN, Builder, Conv


def unit(b: Builder, name: str, x: str, spec: Conv, *, norm: bool = True) -> str:
    """Convolution, batch normalization, Relu."""
    return b.node("Relu", b.conv_norm(name, x, spec, norm=norm))


def silu_unit(b: Builder, name: str, x: str, spec: Conv) -> str:
    """Convolution, batch normalization, SiLU."""
    return silu(b, b.conv_norm(name, x, spec))


def silu(b: Builder, x: str) -> str:
    """X * sigmoid(x), in two operators."""
    return b.node("Mul", x, b.node("Sigmoid", x))


def excite(b: Builder, x: str, channels: int, squeezed: int, *, smooth: bool = False) -> str:
    """Squeeze-and-excite (Hu et al. 2017): scale each channel by a gate computed from all channels' means.

    Args:
        b: the graph.
        x: (N, channels, H, W).
        channels: of ``x``.
        squeezed: hidden width of the gate.
        smooth: SiLU in place of Relu inside the gate.
    """
    gate = b.node("GlobalAveragePool", x)
    with b.scope("reduce"):
        gate = b.conv(gate, Conv((channels, squeezed), 1, bias=True))
    gate = silu(b, gate) if smooth else b.node("Relu", gate)
    with b.scope("expand"):
        gate = b.conv(gate, Conv((squeezed, channels), 1, bias=True, gain=LINEAR_GAIN))
    return b.node("Mul", x, b.node("Sigmoid", gate))


def batch_of(b: Builder, x: str, batch: int | str) -> int | str:
    """The batch size for a Reshape: the fixed one, or a value read from the shape at run time."""
    return b.size(x, 0) if isinstance(batch, str) else batch


def shuffle(b: Builder, x: str, groups: int, shape: Sequence[int | str]) -> str:
    """Channel shuffle of (N, C, H, W), which is ``shape``: (groups, C/groups) to (C/groups, groups)."""
    batch, channels, height, width = shape
    assert isinstance(channels, int)
    x = b.reshape(x, [batch, groups, channels // groups, height, width])
    return b.reshape(b.node("Transpose", x, perm=[0, 2, 1, 3, 4]), shape)


def double(b: Builder, x: str, factor: int = 2) -> str:
    """Nearest upsampling of H and W by ``factor``."""
    scales = b.literal(np.array([1, 1, factor, factor], np.float32))
    return b.node("Resize", x, "", scales, coordinate_transformation_mode="asymmetric", mode="nearest",
                  nearest_mode="floor")  # fmt: skip


def conv_1d(b: Builder, x: str, spec: Conv, *, dilation: int = 1, pads: tuple[int, int] | None = None) -> str:
    """Convolution over N, C, T with a bias; "same" padding unless ``pads`` says otherwise."""
    inner = spec.channels[0] // spec.groups
    weight = b.weight((spec.channels[1], inner, spec.kernel), inner * spec.kernel, spec.gain)
    around = dilation * (spec.kernel // 2)
    return b.node(
        "Conv",
        x,
        weight,
        b.small(spec.channels[1]),
        dilations=[dilation],
        group=spec.groups,
        kernel_shape=[spec.kernel],
        pads=list(pads or (around, around)),
        strides=[spec.stride],
    )


def bottleneck(b: Builder, x: str, channels: tuple[int, int], middle: Conv, *, excited: int | None = None) -> str:
    """A residual block of 1x1, ``middle`` and 1x1 convolutions, projected where the shape changes.

    Args:
        b: the graph.
        x: (N, channels[0], H, W).
        channels: in and out.
        middle: the 3x3 convolution, with its stride and groups.
        excited: hidden width of a squeeze-and-excite gate before the sum.
    """
    y = unit(b, "part1", x, Conv((channels[0], middle.channels[0]), 1))
    y = unit(b, "part2", y, middle)
    y = b.conv_norm("part3", y, Conv((middle.channels[1], channels[1]), 1, gain=RESIDUAL_GAIN))
    if excited is not None:
        with b.scope("se"):
            y = excite(b, y, channels[1], excited)
    return b.node("Relu", b.node("Add", y, shortcut(b, x, channels, middle.stride)))


def shortcut(b: Builder, x: str, channels: tuple[int, int], stride: int) -> str:
    """What a residual branch is added to: ``x``, or its projection where channels or resolution change."""
    if stride == 1 and channels[0] == channels[1]:
        return x
    return b.conv_norm("shortcut", x, Conv(channels, 1, stride, gain=LINEAR_GAIN))


def stem(b: Builder, x: str, channels: int) -> str:
    """The usual first layers of an image classifier: 3x3 stride 2 and a max pool, together a quarter of the size."""
    with b.scope("stem"):
        return b.pool("MaxPool", unit(b, "first", x, Conv((3, channels), 3, 2)), 3, 2)


def patches(b: Builder, x: str, channels: tuple[int, int], side: int) -> str:
    """A linear layer on patches of ``side`` x ``side`` that do not overlap: a convolution of that stride."""
    weight = b.weight((channels[1], channels[0], side, side), channels[0] * side**2, LINEAR_GAIN)
    return b.node("Conv", x, weight, b.small(channels[1]), kernel_shape=[side] * 2, strides=[side] * 2)


def layer_norm(b: Builder, x: str, width: int) -> str:
    """LayerNormalization over the last axis, one operator from operator set 17 on, else nine."""
    return transformer.layer_norm(b, x, width, decomposed=b.opset < 17)


def mlp(b: Builder, x: str, widths: tuple[int, int, int]) -> str:
    """Two linear layers on the last axis with a Gelu between them."""
    with b.scope("up"):
        x = transformer.gelu(b, b.projection(x, widths[:2], HE_GAIN))
    with b.scope("down"):
        return b.projection(x, widths[1:], RESIDUAL_GAIN)
