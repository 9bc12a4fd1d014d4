"""Arrays as kernels see them: an image and where its elements lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphpress.backends.tvm.kernels.view import StridedView


def dense_view(array: np.ndarray, spread: Sequence[int] = ()) -> StridedView:
    """An image of a dense array ``[images, …]``.

    Args:
        array: all images.
        spread: axes of an image over which it is the same.
    """
    image = array[0]
    steps = [step // image.itemsize for step in image.strides]
    return StridedView(0, tuple(0 if axis in spread else step for axis, step in enumerate(steps)), image.size)


def permuted_view(array: np.ndarray, axes: Sequence[int]) -> StridedView:
    """The same memory with the axes of an image in another order."""
    view = dense_view(array)
    return replace(view, steps=tuple(view.steps[axis] for axis in axes))
