"""Operators that join, cut and pick: Concat, Split, Slice, Gather and what selects at run time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from graphpress.ops.dependency import Axes
from graphpress.ops.rules import moving, opaque, pin_all, pin_inputs, whole_axes
from graphpress.ops.semantics.slices import sliced
from graphpress.ops.shrink import Shrink, ranks
from graphpress.ops.spec import MOVES_FIRST, Flow, OpSpec, Quantization, Role

_LONGEST_INDEX = 1 << 24
_SIZES_ARE_AN_INPUT_SINCE = 13
_BEFORE_THE_FIRST = -(1 << 31)
"""As the end of a slice that runs backwards: position 0 is taken too."""


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Concat": OpSpec(_concat, moving, Quantization(Role.MOVES_DATA, shared=None)),
        "Gather": OpSpec(_gather, moving, MOVES_FIRST, shrink=_other_indices),
        "GatherElements": OpSpec(opaque, moving, MOVES_FIRST),
        "GatherND": OpSpec(_gather_nd, moving, MOVES_FIRST, shrink=_other_coordinates),
        "OneHot": OpSpec(_one_hot, moving),
        "Slice": OpSpec(_slice, moving, MOVES_FIRST, shrink=_other_bounds),
        "Split": OpSpec(_split, moving, MOVES_FIRST, shrink=_smaller_parts),
    }


def _concat(flow: Flow) -> Sequence[Axes | None]:
    parts = [flow.of(index) for index in range(len(flow.node.inputs))]
    axis = flow.node.axis(1, len(parts[0]))
    for part in parts[1:]:
        for index, other in enumerate(part):
            if index != axis:
                flow.classes.unite(parts[0][index], other)
    joined = np.concatenate([part[axis] for part in parts])
    return [(*parts[0][:axis], joined, *parts[0][axis + 1 :])]


def _split(flow: Flow) -> Sequence[Axes | None]:
    """Sizes are read off the results, whichever way they were given."""
    data = flow.of(0)
    axis = flow.node.axis(0, len(data))
    ends = [*accumulate(flow.node.output_shape(index)[axis] for index in range(len(flow.node.output_shapes)))]
    return [
        (*data[:axis], data[axis][start:end], *data[axis + 1 :])
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _smaller_parts(shrink: Shrink) -> None:
    """Sizes are always written out: what is left need not be equal parts."""
    axis = shrink.node.axis(0, len(shrink.node.input_shape(0)))
    if any(axis in shrink.lost(index) for index in range(len(shrink.node.output_shapes))):
        sizes = [int(shrink.write(index, axis).sum()) for index in range(len(shrink.node.output_shapes))]
        shrink.set_attributes(num_outputs=None)
        if shrink.node.opset < _SIZES_ARE_AN_INPUT_SINCE:
            shrink.set_attributes(split=sizes)
        else:
            shrink.set_integers("split", 1, sizes)


def _slice(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    starts, ends = flow.node.integers("starts", 1), flow.node.integers("ends", 2)
    axes, steps = flow.node.integers("axes", 3), flow.node.integers("steps", 4)
    if starts is None or ends is None or (flow.node.has(3) and axes is None) or (flow.node.has(4) and steps is None):
        return _slice_at_run_time(flow, axes)
    result = list(data)
    for place, start in enumerate(starts):
        axis = axes[place] if axes else place
        step = steps[place] if steps else 1
        result[axis] = result[axis][sliced(start, ends[place], step, len(result[axis]))]
    return [tuple(result)]


def _other_bounds(shrink: Shrink) -> None:
    """Bounds of a shrunken axis, counted among what is left; where that is no progression, picked by Gather."""
    rank = len(shrink.node.input_shape(0))
    starts, ends = shrink.node.integers("starts", 1), shrink.node.integers("ends", 2)
    if starts is None or ends is None:
        return
    axes = [axis % rank for axis in shrink.node.integers("axes", 3) or range(len(starts))]
    steps = shrink.node.integers("steps", 4) or (1,) * len(starts)
    for place, axis in enumerate(axes):
        mask = shrink.read(0, axis)
        if mask.all():
            continue
        taken = np.arange(len(mask))[sliced(starts[place], ends[place], steps[place], len(mask))]
        positions = ranks(mask)[taken[mask[taken]]]
        gaps = np.unique(np.diff(positions))
        step = int(gaps[0]) if len(gaps) == 1 else 1
        if len(gaps) > 1:
            _pick(shrink, axis, positions)
            first, last, step = 0, len(positions), 1
        else:
            first, last = int(positions[0]), int(positions[-1]) + (1 if step > 0 else -1)
        shrink.set_entries("starts", 1, {place: first})
        shrink.set_entries("ends", 2, {place: last if last >= 0 else _BEFORE_THE_FIRST})
        if step != steps[place]:
            shrink.set_entries("steps", 4, {place: step})


def _pick(shrink: Shrink, axis: int, positions: np.ndarray) -> None:
    """Take these positions of the data before it is sliced."""
    node, data = shrink.node.node, shrink.node.inputs[0]
    assert data is not None
    stem = f"{node.name or 'Slice'}_picked"
    indices = shrink.edit.add_constant_for(node, positions.astype(np.int64), stem)
    gather = shrink.edit.add_node("Gather", [data, indices], {"axis": axis}, before=node, name=stem)
    gather.outputs[0].type = data.type
    shrink.edit.set_input(node, 0, gather.outputs[0])


def _slice_at_run_time(flow: Flow, axes: Sequence[int] | None) -> Sequence[Axes | None]:
    data, shape = flow.of(0), flow.node.output_shape()
    cut = {axis % len(data) for axis in (axes if axes is not None else range(len(data)))}
    whole_axes(flow, sorted(cut), "bounds computed at run time")
    fixed = flow.fixed(shape, "bounds computed at run time")
    return [tuple(fixed[index] if index in cut else axis for index, axis in enumerate(data))]


def _gather(flow: Flow) -> Sequence[Axes | None]:
    """Constant indices in a row select and permute; computed ones need the whole axis."""
    data, picked = flow.of(0), flow.of(1)
    axis = flow.node.axis(0, len(data))
    indices = flow.node.constant(1)
    if indices is None or indices.ndim > 1 or indices.size > _LONGEST_INDEX:
        flow.pin(data[axis], "an axis indexed at run time" if indices is None else "an axis indexed by a table")
        return [(*data[:axis], *picked, *data[axis + 1 :])]
    taken = data[axis][indices.astype(np.int64)]
    if indices.ndim == 0:
        flow.pin(np.atleast_1d(taken), "a position picked")
        return [(*data[:axis], *data[axis + 1 :])]
    return [(*data[:axis], taken, *data[axis + 1 :])]


def _other_indices(shrink: Shrink) -> None:
    """Constant indices into a shrunken axis, counted among what is left; those that are gone are dropped."""
    axis = shrink.node.axis(0, len(shrink.node.input_shape(0)))
    mask, indices = shrink.read(0, axis), shrink.node.constant(1)
    if indices is None or (mask.all() and axis not in shrink.lost()):
        return
    wanted = indices.astype(np.int64) % len(mask)
    kept = wanted[mask[wanted]] if wanted.ndim else wanted
    shrink.edit.own_constant(shrink.node.node, 1, ranks(mask)[kept].astype(indices.dtype))


def _gather_nd(flow: Flow) -> Sequence[Axes | None]:
    """Axes behind those that are indexed pass. A constant row of single indices selects, as a Gather along axis 0."""
    data, picked = flow.of(0), flow.of(1)
    batch = flow.node.integer("batch_dims", 0)
    indexed, indices = batch + len(picked[-1]), flow.node.constant(1)
    if indices is not None and indices.ndim == 2 and (batch, indexed) == (0, 1) and len(indices) <= _LONGEST_INDEX:
        return [(data[0][indices[:, 0]], *data[1:])]
    whole_axes(flow, range(indexed), "an axis indexed by coordinates")
    pin_inputs(flow, [1], "coordinates")
    return [(*flow.fixed(flow.node.output_shape()[: len(picked) - 1], "an axis of coordinates"), *data[indexed:])]


def _other_coordinates(shrink: Shrink) -> None:
    """As of a Gather: coordinates count what is left."""
    mask, indices = shrink.read(0, 0), shrink.node.constant(1)
    if indices is None or mask.all():
        return
    wanted = indices % len(mask)
    shrink.edit.own_constant(shrink.node.node, 1, ranks(mask)[wanted[mask[wanted[:, 0]]]].astype(indices.dtype))


def _one_hot(flow: Flow) -> Sequence[Axes | None]:
    indices, shape = flow.of(0), flow.node.output_shape()
    axis = flow.node.axis(-1, len(shape))
    pin_inputs(flow, [1, 2], "the depth or the pair of values")
    if len(indices) + 1 != len(shape):
        return pin_all(flow, "an input or output")
    return [(*indices[:axis], *flow.fixed([shape[axis]], "an output"), *indices[axis:])]
