"""Optimization profiles: between which shapes of its open inputs an engine is tuned.

    first axis     the batch, if it counts samples: from 1, tuned for 1, up to the larger of 16 and what the data holds
    other axes     the range given for them, else what all of the data holds: min, median, max
    of token ids   without data, from 1, tuned for 128, up to 512, or as far as the model runs at all

Axes of the same symbol have the same sizes, whichever input has them, and are the batch only where all of them come
first. Refuses an axis of which nothing is known, and
an input whose number of axes is not even known, for a guess would be an engine that rejects the user's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from graphpress.analysis.leading_axes import steps_in_front
from graphpress.backend import ShapeRange
from graphpress.data import Shapes
from graphpress.errors import ModelError, UsageError
from graphpress.ir import DataType, Model, Shape, Value, label

MAX_BATCH = 16
_INTEGERS = (DataType.INT64, DataType.INT32)


class Sizes(NamedTuple):
    """Sizes of one axis."""

    min: int
    opt: int
    max: int


TEXT_LENGTH = Sizes(1, 128, 512)
"""Of token ids of which nothing is known: what BERT and its kin were trained on."""


def profile_of(
    model: Model,
    ranges: Mapping[str, ShapeRange],
    seen: Sequence[Shapes],
    runs: Callable[[Shapes], bool] = lambda _: True,
) -> dict[str, ShapeRange]:
    """Shapes of every input that has open dimensions; empty where none has.

    Args:
        model: the model that will be built.
        ranges: by input, as the user gave them.
        seen: shapes of all that the data feeds, for what has no range.
        runs: whether the model runs at all on inputs of some shapes, asked where a length must be guessed.

    Raises:
        ModelError: nothing is known of an open dimension, or not even how many an input has.
        UsageError: two inputs that share a dimension were given different sizes of it.
    """
    known = _known(model, ranges, seen)
    for key in sorted(_token_axes(model, known)):
        known[key] = _text_length(model, ranges, known, key, runs)
    profile = {}
    for value in model.graph.inputs:
        name = label(value)
        if name in ranges:
            profile[name] = ranges[name]
        elif value.shape is None:
            raise ModelError("its number of dimensions is not known", where=f"input {name!r}", fix=_fix(name, "AxBxC"))
        elif not value.shape.is_static():
            axes = [_sizes(value, value.shape, axis, known) for axis in range(len(value.shape))]
            profile[name] = ShapeRange(*(tuple(sizes) for sizes in zip(*axes, strict=True)))
    return profile


def token_axes(model: Model, ranges: Mapping[str, ShapeRange], seen: Sequence[Shapes]) -> set[str]:
    """Open axes of unknown size along which token ids lie: the second of integers ``[batch, length]``."""
    return _token_axes(model, _known(model, ranges, seen))


def _token_axes(model: Model, known: Mapping[str, Sizes]) -> set[str]:
    return {
        _key(value, value.shape, 1)
        for value in model.graph.inputs
        if value.dtype in _INTEGERS and value.shape is not None and len(value.shape) == 2
        if not isinstance(value.shape[1], int) and _key(value, value.shape, 1) not in known
    }


def _text_length(
    model: Model,
    ranges: Mapping[str, ShapeRange],
    known: Mapping[str, Sizes],
    key: str,
    runs: Callable[[Shapes], bool],
) -> Sizes:
    """How long texts may be: as far as the model runs, whose table of positions has an end."""
    longest = TEXT_LENGTH.max
    while longest > 1 and not runs(_shapes_with(model, ranges, {**known, key: Sizes(*[longest] * 3)})):
        longest //= 2
    return Sizes(TEXT_LENGTH.min, min(TEXT_LENGTH.opt, longest), longest)


def _shapes_with(model: Model, ranges: Mapping[str, ShapeRange], known: Mapping[str, Sizes]) -> Shapes:
    """Shapes in which every axis has its optimum, as far as it is known."""
    shapes = {}
    for value in model.graph.inputs:
        name, shape = label(value), value.shape or Shape(())
        sizes = [
            dim if isinstance(dim, int) else known.get(_key(value, shape, axis), TEXT_LENGTH).opt
            for axis, dim in enumerate(shape)
        ]
        shapes[name] = ranges[name].opt if name in ranges else tuple(sizes)
    return shapes


def _sizes(value: Value, shape: Shape, axis: int, known: Mapping[str, Sizes]) -> Sizes:
    """The sizes of one axis: fixed, or known."""
    fixed, key = shape[axis], _key(value, shape, axis)
    if isinstance(fixed, int):
        return Sizes(fixed, fixed, fixed)
    if key in known:
        return known[key]
    name, shown = label(value), "x".join(str(dim) if isinstance(dim, int) else f"<{dim.value or '?'}>" for dim in shape)
    raise ModelError(f"nothing is known of dimension {axis} of {shown}", where=f"input {name!r}", fix=_fix(name, shown))


def _known(model: Model, ranges: Mapping[str, ShapeRange], seen: Sequence[Shapes]) -> dict[str, Sizes]:
    """Sizes of open axes, by key: those of a batch, those seen, and above all those given."""
    sizes = {key: sorted(sizes) for key, sizes in _seen(model, seen).items()}
    known = {key: Sizes(each[0], each[len(each) // 2], each[-1]) for key, each in sizes.items() if each}
    batches = {key: Sizes(1, 1, max(MAX_BATCH, *sizes[key], 1)) for key in _batches(model)}
    return {**known, **batches, **_given(model, ranges)}


def _batches(model: Model) -> set[str]:
    """Keys of axes that count samples: they come first wherever they come."""
    later, steps = {key for _, axis, key in _open_axes(model) if axis}, steps_in_front(model)
    return {key for name, axis, key in _open_axes(model) if not axis and name not in steps} - later


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


def _seen(model: Model, seen: Sequence[Shapes]) -> dict[str, list[int]]:
    sizes: dict[str, list[int]] = {}
    for name, axis, key in _open_axes(model):
        shapes = [shapes[name] for shapes in seen if name in shapes]
        sizes.setdefault(key, []).extend(shape[axis] for shape in shapes if axis < len(shape))
    return sizes


def _fix(name: str, shown: str) -> str:
    return f"give its shapes with --input-range {name}=MIN:OPT:MAX, each {shown}, or fix it with --input-shape"
