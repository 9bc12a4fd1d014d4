"""A linear operator in numbers alone: its matrix and bias, and an affine map of its channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LinearParameters:
    """``y = x @ matrix + bias``, block by block: ``[blocks, features, outputs]`` and ``[blocks, outputs]``, float64."""

    matrix: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class ChannelAffine:
    """``x·scale + shift`` by channel: float64 arrays of one element a channel, or of one for all of them."""

    scale: np.ndarray
    shift: np.ndarray
