"""The orders in which the axes of values lie in memory.

The first axis of a value are its images, always. An order names the others from the slowest to the fastest:
convolutions want the channels last, products the last axis. Transposing changes the order and moves nothing.
"""

from __future__ import annotations

import math

from graphpress.backends.tvm.kernels.permute import Axes
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors

Order = tuple[int, ...]
"""Axes of a value, without the first."""

LARGEST_RANK = 4
"""Of values that can be copied from one order into another."""


def natural(rank: int) -> Order:
    """As the standard has it: the last axis is the fastest."""
    return tuple(range(1, rank))


def channels_last(rank: int) -> Order:
    """Pixels by rows, the channels of each together."""
    return (*range(2, rank), 1) if rank > 1 else ()


def plane_of(shape: tuple[int, ...], order: Order, lanes: int, halo: Halo | None = None) -> Plane:
    """The layout of a value, its fastest axis in whole vectors.

    Args:
        shape: of the value.
        order: of its axes.
        lanes: elements of a vector; 1 for a tensor without gaps.
        halo: around rows and pixels.
    """
    *rows, width, channels = (1, 1, *(shape[axis] for axis in order))
    return Plane(channels, math.prod(rows), width, whole_vectors(channels, lanes), halo or Halo())


def transposed(order: Order, permutation: tuple[int, ...]) -> Order:
    """The order of a transposed value in the same memory.

    Args:
        order: of the value.
        permutation: of all axes, the first staying where it is.
    """
    return tuple(permutation.index(axis) for axis in order)


def axes_between(source: Order, result: Order) -> Axes:
    """For rows, pixels and channels in one order the axes that they are in another."""
    places = (*range(3 - len(source)), *(axis + 3 for axis in source))
    wanted = (*range(3 - len(result)), *(axis + 3 for axis in result))
    row, pixel, channel = (places.index(axis) for axis in wanted)
    return row, pixel, channel
