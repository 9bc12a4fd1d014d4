"""Operators that move values within one tensor: reshape, transpose, pad, tile, expand, depth and space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.ops.dependency import Axes, Axis
from graphpress.ops.rules import keep_size, moving, passing, pin_inputs, view, whole_axes
from graphpress.ops.semantics.slices import padded
from graphpress.ops.shrink import Shrink
from graphpress.ops.spec import MOVES_FIRST, Flow, OpSpec, Quantization, Role

_VIEWS = ("Flatten", "Squeeze", "Unsqueeze")


def entries() -> dict[str, OpSpec]:
    """The operators of this family."""
    return {
        "Reshape": OpSpec(_reshape, view, MOVES_FIRST, shrink=_smaller_target),
        **{name: OpSpec(_reshape, view, MOVES_FIRST) for name in _VIEWS},
        "Transpose": OpSpec(_transpose, moving, MOVES_FIRST),
        "Pad": OpSpec(_pad, moving, Quantization(Role.MOVES_DATA, shared=(0, 2)), shrink=_fewer_pads),
        "CenterCropPad": OpSpec(keep_size, moving, MOVES_FIRST),
        "Tile": OpSpec(_tile, moving, MOVES_FIRST),
        "Expand": OpSpec(_expand, moving, MOVES_FIRST, shrink=_smaller_target),
        "DepthToSpace": OpSpec(_depth_to_space, moving, MOVES_FIRST),
        "SpaceToDepth": OpSpec(_space_to_depth, moving, MOVES_FIRST),
        "Trilu": OpSpec(_trilu, moving, MOVES_FIRST),
        "ReverseSequence": OpSpec(_reverse_sequence, moving, MOVES_FIRST),
    }


def _reshape(flow: Flow) -> Sequence[Axes | None]:
    return [flow.classes.reshape(flow.of(0), flow.node.output_shape())]


def _smaller_target(shrink: Shrink) -> None:
    """Overwrite the target sizes of shrunken axes; 0, 1 and -1 go on meaning copied, broadcast and inferred.

    The target of an Expand may be shorter than the result: it is aligned at the end, and the axes ahead of it are those
    of the data.
    """
    target, shape = shrink.node.integers("shape", 1), shrink.node.output_shape()
    ahead = len(shape) - (shrink.node.input_shape(1)[0] if target is None else len(target))
    sizes = {axis: int(mask.sum()) for axis, mask in shrink.lost().items() if axis >= ahead}
    if target is None:
        shrink.scale_entries(1, {axis - ahead: (size, shape[axis]) for axis, size in sizes.items()})
        return
    sizes = {axis: size for axis, size in sizes.items() if not _follows(shrink, target[axis - ahead], axis, size)}
    shrink.set_entries("shape", 1, {axis - ahead: size for axis, size in sizes.items()})


def _follows(shrink: Shrink, entry: int, axis: int, size: int) -> bool:
    """Whether an entry of the target stands for the new size as well."""
    if entry == 0:
        return int(shrink.read(0, axis).sum()) == size
    return entry == -1 or (entry == 1 and shrink.node.op_type == "Expand")


def _transpose(flow: Flow) -> Sequence[Axes | None]:
    data = flow.of(0)
    order = flow.node.integers("perm") or tuple(reversed(range(len(data))))
    return [tuple(data[index] for index in order)]


def _pad(flow: Flow) -> Sequence[Axes | None]:
    """A padded axis gains positions of its own, in constant mode; other modes copy neighbors, so it stays whole."""
    data, pads = flow.of(0), flow.node.integers("pads", 1)
    if pads is None or (flow.node.has(3) and flow.node.constant(3) is None):
        return keep_size(flow)
    result = list(data)
    for axis, (before, after) in padded(pads, flow.node.integers("axes", 3) or None, len(data)).items():
        result[axis] = _padded(flow, data[axis], before, after)
    return [tuple(result)]


def _padded(flow: Flow, axis: Axis, before: int, after: int) -> Axis:
    if before == after == 0:
        return axis
    if min(before, after) >= 0 and flow.node.text("mode", "constant") == "constant":
        classes = flow.classes
        return np.concatenate([_extra(flow, before), axis, _extra(flow, after)]) if len(axis) else classes.fresh(before)
    flow.pin(axis, "a padded axis")
    return flow.fixed([len(axis) + before + after], "a padded axis")[0]


def _fewer_pads(shrink: Shrink) -> None:
    """Recount the padding of shrunken axes."""
    rank, pads = len(shrink.node.input_shape(0)), shrink.node.integers("pads", 1)
    if pads is None or (shrink.node.has(3) and shrink.node.constant(3) is None):
        return
    axes = [axis % rank for axis in shrink.node.integers("axes", 3) or range(rank)]
    entries = {}
    for axis, mask in shrink.lost().items():
        if axis in axes:
            place = axes.index(axis)
            before, after = pads[place], pads[place + len(axes)]
            entries[place] = int(mask[:before].sum())
            entries[place + len(axes)] = int(mask[len(mask) - after :].sum())
    shrink.set_entries("pads", 1, entries)


def _extra(flow: Flow, count: int) -> Axis:
    """DependencyClasses of padding: one position too is free, unlike a whole axis of size one."""
    return flow.classes.fresh(count + 1)[1:] if count else np.zeros(0, np.int64)


def _tile(flow: Flow) -> Sequence[Axes | None]:
    data, repeats = flow.of(0), flow.node.integers("repeats", 1)
    if repeats is None:
        return keep_size(flow)
    return [tuple(np.tile(axis, count) for axis, count in zip(data, repeats, strict=True))]


def _expand(flow: Flow) -> Sequence[Axes | None]:
    """Copies along an axis are free to go when its target size can be changed: it is the same in every run."""
    data, shape = flow.of(0), flow.node.output_shape()
    aligned = (*(np.zeros(1, np.int64) for _ in range(len(shape) - len(data))), *data)
    constant = flow.node.constant(1) is not None
    result = []
    for axis, size, declared in zip(aligned, shape, flow.declared(), strict=True):
        if len(axis) == size:
            result.append(axis)
        else:
            result.append(
                flow.classes.fresh(size) if constant or declared else flow.fixed([size], "a computed shape")[0]
            )
    return [tuple(result)]


def _depth_to_space(flow: Flow) -> Sequence[Axes | None]:
    """The block is the outer part of the channels in mode DCR, the inner one in mode CRD."""
    data, shape = flow.of(0), flow.node.output_shape()
    block = flow.node.integer("blocksize", 1) ** 2
    if flow.node.text("mode", "DCR") == "DCR":
        blocks, channels = flow.classes.split(data[1], block, shape[1])
    else:
        channels, blocks = flow.classes.split(data[1], shape[1], block)
    flow.pin(blocks, "a block axis")
    return [(data[0], channels, *_space(flow, data, shape))]


def _space_to_depth(flow: Flow) -> Sequence[Axes | None]:
    data, shape = flow.of(0), flow.node.output_shape()
    block = flow.fixed([flow.node.integer("blocksize", 1) ** 2], "a block axis")[0]
    return [(data[0], flow.classes.merge(block, data[1]), *_space(flow, data, shape))]


def _space(flow: Flow, data: Axes, shape: Sequence[int]) -> Axes:
    return tuple(passing(flow, axis, size) for axis, size in zip(data[2:], shape[2:], strict=True))


def _trilu(flow: Flow) -> Sequence[Axes | None]:
    rank = len(flow.of(0))
    return [whole_axes(flow, [rank - 2, rank - 1], "an axis of the triangle")]


def _reverse_sequence(flow: Flow) -> Sequence[Axes | None]:
    pin_inputs(flow, [1], "a length")
    return [
        whole_axes(flow, [flow.node.integer("time_axis", 0), flow.node.integer("batch_axis", 1)], "a reversed axis")
    ]
