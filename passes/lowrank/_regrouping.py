"""What brings features into another order between two stages of a chain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Regrouping:
    """Split, permute, merge. Of a product the last axis but one takes part, for blocks go in front of it.

    Args:
        split: sizes of the axes that rows and features of a product become, of those in order; 0 keeps a size and -1
            takes what is left. Of a convolution the sizes that its channels become.
        order: of these axes, by what is first; empty to leave them.
        merged: sizes of the axes that they become in the end, 0 and -1 likewise; of a convolution, all channels.
    """

    split: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()

    def steps(self, leading: int) -> list[tuple[str, tuple[int, ...]]]:
        """The operators of a product with their shape or permutation, behind so many axes that stay."""
        kept, behind = (0,) * leading, tuple(leading + axis for axis in self.order)
        steps = [
            ("Reshape", self.split and (*kept, *self.split)),
            ("Transpose", behind and (*range(leading), *behind)),
            ("Reshape", self.merged and (*kept, *self.merged)),
        ]
        return [(op_type, sizes) for op_type, sizes in steps if sizes]

    @property
    def channels(self) -> np.ndarray:
        """Of a convolution, which channel comes to each place."""
        places: np.ndarray = np.arange(math.prod(self.split)).reshape(self.split).transpose(self.order)
        return places.reshape(-1)


NOTHING = Regrouping()
"""Leaves features as they are."""


def even_factors(size: int) -> tuple[int, int]:
    """Two factors as near to each other as they can be, the smaller one first: 1 and a prime."""
    small = next(factor for factor in range(math.isqrt(size), 0, -1) if size % factor == 0)
    return small, size // small
