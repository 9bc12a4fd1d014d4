"""Shapes of inputs as options of the command line give them: fixed ones, and ranges of open ones."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.backend import ShapeRange
from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Model
from graphpress.manager.prepare import check_dims


def parse_input_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=1x3x224x224`` options.

    Raises:
        UsageError: one is not of that form.

    >>> parse_input_shapes(["x=1x3x8x8"])
    {'x': (1, 3, 8, 8)}
    """
    shapes = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        form = "NAME=1x3x224x224"
        if not equals:
            raise UsageError(f"cannot read {text!r}", where="--input-shape", fix=f"write {form}")
        shapes[name] = _parse_dims(dims, "--input-shape", form)
    return shapes


def _parse_dims(text: str, option: str, form: str) -> tuple[int, ...]:
    """The sizes in ``1x3x224x224``; none in an empty text."""
    parts = text.split("x") if text else []
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"cannot read {text!r}", where=option, fix=f"write {form}, sizes as 1x3x224x224")
    return tuple(int(part) for part in parts)


def parse_input_ranges(texts: Sequence[str], model: Model) -> dict[str, ShapeRange]:
    """Read ``NAME=1x3x8x8:4x3x8x8:16x3x8x8`` options: minimum, optimum and maximum shape of an input.

    Raises:
        UsageError: one is not of that form, names no input of the model, or its shapes are not in order.
    """
    inputs = {value.name or "": value for value in model.graph.inputs}
    ranges: dict[str, ShapeRange] = {}
    for text in texts:
        name, _, shapes = text.rpartition("=")
        parts = shapes.split(":")
        if len(parts) != 3:
            raise UsageError(f"cannot read {text!r}", where="--input-range", fix="write NAME=MIN:OPT:MAX")
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}", where="--input-range", fix=did_you_mean(name, inputs))
        minimum, optimum, maximum = (_parse_dims(part, "--input-range", "NAME=MIN:OPT:MAX") for part in parts)
        if not len(minimum) == len(optimum) == len(maximum) or any(
            not low <= middle <= high for low, middle, high in zip(minimum, optimum, maximum, strict=True)
        ):
            raise UsageError(f"{shapes!r} is not in order", where="--input-range", fix="write NAME=MIN:OPT:MAX")
        declared = inputs[name].shape
        if declared is not None:
            for shape in (minimum, optimum, maximum):
                check_dims(f"--input-range {name}", declared, shape)
        ranges[name] = ShapeRange(minimum, optimum, maximum)
    return ranges
