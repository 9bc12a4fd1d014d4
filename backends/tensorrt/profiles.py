"""Optimization profiles: between which shapes of its open inputs an engine is tuned.

    first axis     the batch: from 1, tuned for 1, up to the larger of 16 and what the samples hold
    other axes     the range given for them, else what the samples hold: min, median, max

Axes of the same symbol have the same sizes, whichever input has them, and are the batch only where all of them come
first. Refuses an axis of which nothing is known, and
an input whose number of axes is not even known, for a guess would be an engine that rejects the user's inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from graphpress.backend import ShapeRange
from graphpress.errors import ModelError, UsageError
from graphpress.ir import Model, Shape, Value, label

MAX_BATCH = 16


class Sizes(NamedTuple):
    """Sizes of one axis."""

    min: int
    opt: int
    max: int


def profile_of(
    model: Model, ranges: Mapping[str, ShapeRange], samples: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, ShapeRange]:
    """Shapes of every input that has open dimensions; empty where none has.

    Args:
        model: the model that will be built.
        ranges: by input, as the user gave them.
        samples: feeds, for what has no range.

    Raises:
        ModelError: nothing is known of an open dimension, or not even how many an input has.
        UsageError: two inputs that share a dimension were given different sizes of it.
    """
    given, seen = _given(model, ranges), _seen(model, samples)
    batches = {key for _, _, key in _open_axes(model)} - {key for _, axis, key in _open_axes(model) if axis}
    profile = {}
    for value in model.graph.inputs:
        name = label(value)
        if name in ranges:
            profile[name] = ranges[name]
        elif value.shape is None:
            raise ModelError("its number of dimensions is not known", where=f"input {name!r}", fix=_fix(name, "AxBxC"))
        elif not value.shape.is_static():
            axes = [_sizes(value, value.shape, axis, given, seen, batches) for axis in range(len(value.shape))]
            profile[name] = ShapeRange(*(tuple(sizes) for sizes in zip(*axes, strict=True)))
    return profile


def _sizes(
    value: Value,
    shape: Shape,
    axis: int,
    given: Mapping[str, Sizes],
    seen: Mapping[str, Sequence[int]],
    batches: Collection[str],
) -> Sizes:
    """The sizes of one axis: fixed, given, those of a batch, or seen."""
    fixed, key = shape[axis], _key(value, shape, axis)
    if isinstance(fixed, int):
        return Sizes(fixed, fixed, fixed)
    if key in given:
        return given[key]
    sizes = sorted(seen.get(key, ()))
    if key in batches:
        return Sizes(1, 1, max(MAX_BATCH, *sizes, 1))
    if sizes:
        return Sizes(sizes[0], sizes[len(sizes) // 2], sizes[-1])
    name, shown = label(value), "x".join(str(dim) if isinstance(dim, int) else f"<{dim.value or '?'}>" for dim in shape)
    raise ModelError(f"nothing is known of dimension {axis} of {shown}", where=f"input {name!r}", fix=_fix(name, shown))


def _key(value: Value, shape: Shape, axis: int) -> str:
    """What names an axis: its symbol; nameless first axes are one batch, other nameless ones stand alone."""
    symbol = getattr(shape[axis], "value", None)
    return str(symbol) if symbol else "the batch" if axis == 0 else f"{label(value)} axis {axis}"


def _open_axes(model: Model) -> Iterable[tuple[str, int, str]]:
    """Input, axis and key of every open dimension."""
    for value in model.graph.inputs:
        if value.shape is not None:
            yield from (
                (label(value), axis, _key(value, value.shape, axis))
                for axis, dim in enumerate(value.shape)
                if not isinstance(dim, int)
            )


def _given(model: Model, ranges: Mapping[str, ShapeRange]) -> dict[str, Sizes]:
    sizes_of: dict[str, tuple[str, Sizes]] = {}
    for name, axis, key in _open_axes(model):
        if name not in ranges:
            continue
        sizes = Sizes(*(shape[axis] for shape in ranges[name]))
        other, before = sizes_of.setdefault(key, (name, sizes))
        if before != sizes:
            raise UsageError(
                f"dimension {key!r} is {'..'.join(map(str, sizes))} in input {name!r}, "
                f"but {'..'.join(map(str, before))} in {other!r}",
                where="--input-range",
                fix="give both inputs the same sizes of it",
            )
    return {key: sizes for key, (_, sizes) in sizes_of.items()}


def _seen(model: Model, samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, list[int]]:
    sizes: dict[str, list[int]] = {}
    for name, axis, key in _open_axes(model):
        shapes = [np.shape(feed[name]) for feed in samples if name in feed]
        sizes.setdefault(key, []).extend(shape[axis] for shape in shapes if axis < len(shape))
    return sizes


def _fix(name: str, shown: str) -> str:
    return f"give its shapes with --input-range {name}=MIN:OPT:MAX, each {shown}, or fix it with --input-shape"
