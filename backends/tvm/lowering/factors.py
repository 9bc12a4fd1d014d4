"""What a product multiplies by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphpress.backends.tvm.program import Constant, Source


@dataclass(frozen=True)
class Factors:
    """Weights and bias of a product as a kernel multiplies them.

    Args:
        kernel: ``[outputs, inputs of a group, tap rows, tap columns]``, float32 or int8.
        bias: float32 or int32, per output.
        scales: float32, per output: what integer sums are multiplied by; None for sums of floats.
        addend: float32, per output: what is added to integer sums once they are scaled; None for nothing.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scales: np.ndarray | None = None
    addend: np.ndarray | None = None

    def reading(self, zero_point: int) -> Factors:
        """The same of codes: what their zero-point adds to each sum is taken from the bias."""
        zero = zero_point * self.kernel.astype(np.int64).sum(axis=(1, 2, 3))
        return replace(self, bias=(self.bias - zero).astype(np.int32))


def channel_operands(operands: Mapping[str, Source], count: int) -> dict[str, Source]:
    """What stages read, numbers of channels with zeros behind them up to a count."""
    known = {name: (operand, channels_of(operand)) for name, operand in operands.items()}
    return {
        name: operand if array is None else Constant(filled(array, count)) for name, (operand, array) in known.items()
    }


def filled(array: np.ndarray, count: int) -> np.ndarray:
    """Numbers of channels, zeros behind them."""
    result = np.zeros(count, array.dtype)
    result[: array.size] = array.reshape(-1)
    return result


def channels_of(operand: Source) -> np.ndarray | None:
    """The numbers of a constant that has one for each channel."""
    if not isinstance(operand, Constant):
        return None
    plane = operand.plane
    alone = plane is None or (plane.height == plane.width == operand.images == 1 and plane.channels > 1)
    return operand.array if alone else None
