"""What the attributes of an operator mean, worked out once for all that compute it: axes, windows, gates, equations."""

from __future__ import annotations


class InvalidAttributeError(ValueError):
    """An attribute says what ONNX does not define."""
