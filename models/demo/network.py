"""The demo network: a small residual CNN for 8x8 gray digits, about 76,000 parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphpress.ir import Model
from graphpress.models.builder import Builder, Conv

WIDTHS = (48, 64)
CLASSES = 10


def build(weights: Mapping[str, np.ndarray] | None = None) -> Model:
    """The network in ONNX, each BatchNormalization a node of its own.

    Args:
        weights: the trained state by parameter name; without it parameters are drawn at random.

    Returns:
        A model from ``image`` (N, 1, 8, 8), gray levels 0 to 1, to ``logits`` (N, 10).
    """
    narrow, wide = WIDTHS
    b = Builder("digits", weights=weights)
    x = b.input("image", ["batch", 1, 8, 8])
    x = _unit(b, "stem", x, Conv((1, narrow)))
    x = _residual(b, x, Conv((narrow, narrow)))
    x = _unit(b, "widen", x, Conv((narrow, wide)))
    x = _unit(b, "depthwise", x, Conv((wide, wide), stride=2, groups=wide))
    x = _unit(b, "pointwise", x, Conv((wide, wide), kernel=1))
    with b.scope("head"):
        logits = b.classifier(x, wide, CLASSES)
    b.output(logits, "logits", ["batch", CLASSES])
    return b.finish()


def _unit(b: Builder, name: str, x: str, spec: Conv) -> str:
    x = b.conv_norm(name, x, spec)
    with b.scope(name):
        return b.node("Relu", x)


def _residual(b: Builder, x: str, spec: Conv) -> str:
    with b.scope("residual"):
        y = b.conv_norm("second", _unit(b, "first", x, spec), spec)
        return b.node("Relu", b.node("Add", y, x))
