"""Operators that join, cut and pick: Concat, Split, Slice, Gather and what selects at run time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from graphpress.ops.atoms import Axes
from graphpress.ops.rules import moving, opaque, per_output, stuck, whole_axes
from graphpress.ops.spec import MOVES_FIRST, Flow, OpSpec, Quantization, Role

_RUN_TIME = ("GatherND", "GatherElements", "Compress")
_SCATTERING = ("Scatter", "ScatterElements", "ScatterND", "TensorScatter")
_FINDING = ("NonZero", "NonMaxSuppression", "Unique")
_LONGEST_INDEX = 1 << 24


def entries() -> list[OpSpec]:
    """The operators of this family."""
    return [
        OpSpec("Concat", _concat, moving, Quantization(Role.MOVES_DATA, shared=None)),
        OpSpec("Split", _split, moving, MOVES_FIRST),
        OpSpec("Slice", _slice, moving, MOVES_FIRST),
        OpSpec("Gather", _gather, moving, MOVES_FIRST),
        OpSpec("OneHot", _one_hot, moving),
        *(OpSpec(name, opaque, moving, MOVES_FIRST) for name in _RUN_TIME),
        *(OpSpec(name, opaque, moving) for name in _SCATTERING),
        *(OpSpec(name, opaque, per_output()) for name in _FINDING),
    ]


def _concat(flow: Flow) -> Sequence[Axes | None]:
    parts = [flow.of(index) for index in range(len(flow.node.inputs))]
    axis = flow.axis(1, len(parts[0]))
    for part in parts[1:]:
        for index, other in enumerate(part):
            if index != axis:
                flow.atoms.unite(parts[0][index], other)
    joined = np.concatenate([part[axis] for part in parts])
    return [(*parts[0][:axis], joined, *parts[0][axis + 1 :])]


def _split(flow: Flow) -> Sequence[Axes | None]:
    """Sizes are read off the results, whichever way they were given."""
    data = flow.of(0)
    axis = flow.axis(0, len(data))
    ends = [*accumulate(flow.output(index)[axis] for index in range(len(flow.outputs)))]
    return [
        (*data[:axis], data[axis][start:end], *data[axis + 1 :])
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _slice(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    starts, ends = flow.integers("starts", 1), flow.integers("ends", 2)
    axes, steps = flow.integers("axes", 3), flow.integers("steps", 4)
    if starts is None or ends is None or (flow.has(3) and axes is None) or (flow.has(4) and steps is None):
        return _slice_at_run_time(flow, axes)
    result = list(data)
    for place, start in enumerate(starts):
        axis = axes[place] if axes else place
        step = steps[place] if steps else 1
        result[axis] = result[axis][_bounds(start, ends[place], step, len(result[axis]))]
    return [tuple(result)]


def _bounds(start: int, end: int, step: int, size: int) -> slice:
    """ONNX clamps; a negative end below the axis means, with a negative step, up to and including position 0."""
    if step < 0 and end < -size:
        return slice(start, None, step)
    return slice(start, end, step)


def _slice_at_run_time(flow: Flow, axes: Sequence[int] | None) -> Sequence[Axes | None]:
    data, shape = flow.of(0), flow.output()
    cut = {axis % len(data) for axis in (axes if axes is not None else range(len(data)))}
    whole_axes(flow, sorted(cut), "bounds computed at run time")
    fixed = flow.fixed(shape, "bounds computed at run time")
    return [tuple(fixed[index] if index in cut else axis for index, axis in enumerate(data))]


def _gather(flow: Flow) -> Sequence[Axes | None]:
    """Constant indices in a row select and permute; computed ones need the whole axis."""
    data, picked = flow.of(0), flow.of(1)
    axis = flow.axis(0, len(data))
    indices = flow.constant(1)
    if indices is None or indices.ndim > 1 or indices.size > _LONGEST_INDEX:
        flow.freeze(data[axis], "an axis indexed at run time" if indices is None else "an axis indexed by a table")
        return [(*data[:axis], *picked, *data[axis + 1 :])]
    taken = data[axis][indices.astype(np.int64)]
    if indices.ndim == 0:
        flow.freeze(np.atleast_1d(taken), "a position picked")
        return [(*data[:axis], *data[axis + 1 :])]
    return [(*data[:axis], taken, *data[axis + 1 :])]


def _one_hot(flow: Flow) -> Sequence[Axes | None]:
    indices, shape = flow.of(0), flow.output()
    axis = flow.axis(-1, len(shape))
    if len(indices) + 1 != len(shape):
        return stuck(flow, "an input or output")
    return [(*indices[:axis], *flow.fixed([shape[axis]], "an output"), *indices[axis:])]
