"""What a product multiplies by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Factors:
    """Weights and bias of a product as a kernel multiplies them.

    Args:
        kernel: ``[outputs, inputs of a group, tap rows, tap columns]``, float32 or int8.
        bias: float32 or int32, per output.
        scales: float32, per output: what integer sums are multiplied by; None for floats.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scales: np.ndarray | None = None
