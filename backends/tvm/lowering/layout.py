"""The orders in which the axes of values lie in memory.

An order names all axes of a value from the slowest to the fastest: convolutions want the channels last, products the
last axis. The fastest is the channels of a plane, the next its pixels, the next its rows; whatever comes before are
images. Transposing changes the order and moves nothing; reshaping changes it, too, where no axis lies otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from graphpress.backends.tvm.codegen.extent import is_open
from graphpress.backends.tvm.kernels.plane import Halo, Plane, whole_vectors
from graphpress.backends.tvm.kernels.view import StridedView

Order = tuple[int, ...]
"""Axes of a value."""

PLANE_AXES = 3
"""Rows, pixels, channels."""


def natural(rank: int) -> Order:
    """As the standard has it: the last axis is the fastest."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """The second axis is the fastest: pixels by rows, the channels of each together."""
    return (0, *range(2, rank), 1) if rank > 1 else natural(rank)


def plane_of(shape: tuple[int, ...], order: Order, lanes: int, halo: Halo | None = None) -> Plane:
    """The layout of one image of a value, its fastest axis in whole vectors.

    Args:
        shape: of the value.
        order: of its axes.
        lanes: elements of a vector; 1 for a tensor without gaps.
        halo: around rows and pixels.
    """
    height, width, channels = (1, 1, 1, *(shape[axis] for axis in order))[-PLANE_AXES:]
    return Plane(channels, height, width, whole_vectors(channels, lanes), halo or Halo())


def images_of(shape: tuple[int, ...], order: Order) -> int:
    """How many images a value has."""
    return math.prod(shape[axis] for axis in order[:-PLANE_AXES])


def view_of(shape: tuple[int, ...], order: Order, plane: Plane, zero_point: int = 0) -> StridedView:
    """Where the elements of a value lie.

    Args:
        shape: of the value.
        order: of its axes.
        plane: layout of an image.
        zero_point: of codes.
    """
    steps = dict(zip(reversed(order), (1, plane.stride, plane.row), strict=False))
    step = plane.size
    for axis in reversed(order[:-PLANE_AXES]):
        steps[axis], step = step, int(step * shape[axis])
    start = plane.at(0, 0)
    assert isinstance(start, int)
    in_axis_order = tuple(steps[axis] for axis in range(len(shape)))
    return StridedView(start, in_axis_order, int(images_of(shape, order)) * plane.size, plane.dtype, zero_point)


def transposed(order: Order, permutation: tuple[int, ...]) -> Order:
    """The order of a transposed value in the same memory."""
    return tuple(permutation.index(axis) for axis in order)


def reshaped(before: tuple[int, ...], order: Order, plane: Plane, after: tuple[int, ...]) -> Order | None:
    """The order of a reshaped value in the same memory; None where its elements would have to move.

    Axes that are split or joined have to follow each other in memory, in the standard's order and without gaps.

    Args:
        before: shape of the value.
        order: of its axes.
        plane: layout of an image.
        after: shape of the result.
    """
    places = [axis for axis in order if before[axis] != 1]
    result: list[int] = []
    blocks = {olds[0]: (olds, news) for olds, news in _blocks(before, after)}
    while places:
        olds, news = blocks.get(places[0], ((), ()))
        if not olds or tuple(places[: len(olds)]) != olds:
            return None
        places = places[len(olds) :]
        if not _keeps_open(before, olds, after, news):
            return None
        result.extend(news)
    filled = (*(axis for axis, extent in enumerate(after) if extent == 1), *result)
    return filled if _same_plane(plane, images_of(before, order), after, filled) else None


def reshaped_plane(plane: Plane, after: tuple[int, ...], order: Order) -> Plane:
    """The layout of a ``reshaped`` value in the memory of the value that it was."""
    wanted = plane_of(after, order, 1, plane.halo)
    if _extents(wanted) == _extents(plane):
        return plane
    stride = int(wanted.channels) if plane.is_dense else plane.stride
    return replace(wanted, stride=stride, dtype=plane.dtype)


def _keeps_open(before: tuple[int, ...], olds: Order, after: tuple[int, ...], news: Order) -> bool:
    """Whether an open axis stays one, or is the slowest of those that it is joined with: memory is laid out for the
    largest size.
    """
    return (
        olds == news
        or len(olds) == len(news) == 1
        or not is_open([*(before[axis] for axis in olds[1:]), *(after[axis] for axis in news[1:])])
    )


def _same_plane(plane: Plane, images: int, after: tuple[int, ...], order: Order) -> bool:
    """Whether a gap behind the channels, and a halo around pixels, stay where they are."""
    wanted = plane_of(after, order, 1)
    if plane.halo != Halo() or plane.is_part:
        return (*_extents(plane), images) == (*_extents(wanted), images_of(after, order))
    return plane.is_dense or plane.channels == wanted.channels


def _extents(plane: Plane) -> tuple[int, int, int]:
    return plane.height, plane.width, plane.channels


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The smallest runs of axes, without those of size 1, whose elements are the same before and after."""
    olds = [axis for axis, extent in enumerate(before) if extent != 1]
    news = [axis for axis, extent in enumerate(after) if extent != 1]
    while olds:
        first, second = [olds.pop(0)], [news.pop(0)]
        while (left := math.prod(before[a] for a in first)) != (right := math.prod(after[a] for a in second)):
            if left < right:
                first.append(olds.pop(0))
            else:
                second.append(news.pop(0))
        yield tuple(first), tuple(second)
