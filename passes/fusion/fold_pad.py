"""Fold a constant Pad into the padding of the convolution or pooling that reads it.

    Conv(pad(x, p, 0), pads=q) = Conv(x, pads=p + q)
    AveragePool(pad(x, p, 0), pads=q) = AveragePool(x, pads=p + q, count_include_pad=1)      q = 0, or counted already
    MaxPool(pad(x, p, v), pads=q) = MaxPool(x, pads=p + q)       v = -inf, or v = 0 below which x never is

Refuses when padding is negative, not constant or on the batch or channel axis, when the padded value is a graph output
or read by another operator, and where a reader's own rule of padding would see another size (``ceil_mode``,
``auto_pad`` of unknown sizes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.ir import (
    Editor,
    Match,
    Node,
    Refusal,
    Value,
    constant,
    float_attribute,
    input_of,
    int_attribute,
    ints_attribute,
    is_standard,
    opset_of,
    producer,
    rank_of,
    scalar,
    static_shape,
    string_attribute,
)
from graphpress.manager.contract import RewritePass
from graphpress.passes._operands import NEVER_NEGATIVE, ints_operand, normal_axes
from graphpress.passes.fusion._operator import encoded_within

READERS = ("Conv", "AveragePool", "MaxPool")
COUNTS_PADS = 7
"""The first operator set whose AveragePool has ``count_include_pad``."""


@dataclass(frozen=True)
class FoldPad(RewritePass):
    """Lossless: the padded copy of the tensor is never made."""

    name: ClassVar[str] = "fold_pad"
    root_ops: ClassVar[tuple[str, ...]] = ("Pad",)

    def match(self, node: Node) -> Match | Refusal | None:
        """Fits a Pad all of whose readers can pad by themselves."""
        readers = _readers(node)
        if not readers:
            return None
        if refusal := encoded_within((node,), readers[0]):
            return refusal
        pads = {}
        for reader in readers:
            both = _pads_of_both(node, reader)
            if isinstance(both, Refusal):
                return both
            pads[reader] = both
        return Match(pad=node, pads=pads)

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Add the padding to the readers' and drop the Pad."""
        for reader, pads in match.pads.items():
            edit.set_attributes(reader, pads=pads, auto_pad=None)
            if reader.op_type == "AveragePool":
                edit.set_attributes(reader, count_include_pad=1)
        edit.replace(match.pad.outputs[0], match.pad.inputs[0])
        edit.remove(match.pad)


def _readers(pad: Node) -> list[Node]:
    """Who reads the padded value, empty when somebody among them cannot pad."""
    padded = pad.outputs[0]
    uses = padded.uses()
    if padded.is_graph_output() or any(use.idx != 0 or not is_standard(use.node, *READERS) for use in uses):
        return []
    return [use.node for use in uses]


def _pads_of_both(pad: Node, reader: Node) -> list[int] | Refusal:
    """The padding of the reader once it does the work of the Pad."""
    if string_attribute(pad, "mode", "constant") != "constant":
        return Refusal.at(pad, f"pads by {string_attribute(pad, 'mode', '')}, the {reader.op_type} with one value")
    added = _spatial_pads(pad, reader)
    if isinstance(added, Refusal):
        return added
    own = _own_pads(pad, reader, added)
    if isinstance(own, Refusal):
        return own
    if why := _refusal_reason(pad, reader, own, added):
        return Refusal.at(pad, why)
    return [a + b for a, b in zip(own, added, strict=True)]


def _spatial_pads(pad: Node, reader: Node) -> list[int] | Refusal:
    """What the Pad adds ahead of and behind each spatial axis, in the order of a convolution's ``pads``."""
    rank = rank_of(reader.inputs[1]) if reader.op_type == "Conv" else _window_rank(reader)
    given = ints_attribute(pad, "paddings") or ints_operand(pad, "pads", 1)
    if given is None or rank is None:
        return Refusal.at(pad, "the amount of padding is not constant", "run fold_constants first")
    before, after = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
    axes = normal_axes(ints_operand(pad, "axes", 3) or tuple(range(rank)), rank)
    if len(given) != 2 * len(axes) or (input_of(pad, 3) is not None and constant(input_of(pad, 3)) is None):
        return Refusal.at(pad, "the padded axes are not constant", "run fold_constants first")
    before[list(axes)], after[list(axes)] = given[: len(axes)], given[len(axes) :]
    if before[:2].any() or after[:2].any():
        return Refusal.at(pad, f"pads the batch or channel axis, which a {reader.op_type} cannot")
    if min(before.min(), after.min()) < 0:
        return Refusal.at(pad, "crops: the padding is negative")
    return [int(count) for count in (*before[2:], *after[2:])]


def _window_rank(pool: Node) -> int | None:
    window = ints_attribute(pool, "kernel_shape")
    return None if window is None else len(window) + 2


def _own_pads(pad: Node, reader: Node, added: list[int]) -> list[int] | Refusal:
    """The padding that the reader itself adds to its padded input."""
    rule = string_attribute(reader, "auto_pad", "NOTSET")
    axes = len(added) // 2
    if rule == "NOTSET":
        return list(ints_attribute(reader, "pads") or [0] * (2 * axes))
    if rule == "VALID":
        return [0] * (2 * axes)
    sizes = static_shape(pad.inputs[0])
    if sizes is None or _window(reader) is None:
        return Refusal.at(reader, f"pads by auto_pad={rule}, and the size of its input or of its window is unknown")
    padded = [size + added[axis] + added[axes + axis] for axis, size in enumerate(sizes[2:])]
    return _same_pads(reader, padded, upper=rule == "SAME_UPPER")


def _same_pads(reader: Node, sizes: Sequence[int], *, upper: bool) -> list[int]:
    strides = ints_attribute(reader, "strides") or (1,) * len(sizes)
    small, large = [], []
    for size, stride, extent in zip(sizes, strides, _extents(reader), strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    return [*small, *large] if upper else [*large, *small]


def _window(reader: Node) -> tuple[int, ...] | None:
    """The size of the window along each spatial axis; None where it is unknown."""
    window = ints_attribute(reader, "kernel_shape")
    if window is None and reader.op_type == "Conv":
        weight = static_shape(reader.inputs[1])
        return None if weight is None else weight[2:]
    return window


def _extents(reader: Node) -> list[int]:
    """How far the window, whose size is known, reaches along each spatial axis, its holes included."""
    window = _window(reader) or ()
    dilations = ints_attribute(reader, "dilations") or (1,) * len(window)
    return [(size - 1) * step + 1 for size, step in zip(window, dilations, strict=True)]


def _refusal_reason(pad: Node, reader: Node, own: list[int], added: list[int]) -> str | None:
    """Why the reader's own padding does not stand for what the Pad fills in."""
    fill = _fill(pad)
    if fill is None:
        return "the value to pad with is not constant"
    if reader.op_type == "Conv":
        return None if fill == 0 else f"pads with {fill:g}, a convolution with zero"
    if int_attribute(reader, "ceil_mode", 0):
        return "the pooling rounds its size up, which treats its own padding differently"
    if any(a + b >= extent for a, b, extent in zip(own, added, _extents(reader) * 2, strict=True)):
        return "the padding is as large as the window"
    if reader.op_type == "AveragePool":
        if fill != 0:
            return f"pads with {fill:g}, an average pooling with zero"
        if (opset_of(reader) or COUNTS_PADS) < COUNTS_PADS:
            return f"before opset {COUNTS_PADS} an average pooling cannot count its own padding"
        counted = bool(int_attribute(reader, "count_include_pad", 0))
        return None if counted or not any(own) else "the pooling does not count its own padding, but would this"
    return _max_pool_refusal_reason(pad, reader, fill)


def _max_pool_refusal_reason(pad: Node, reader: Node, fill: float) -> str | None:
    if len(reader.outputs) > 1 and reader.outputs[1].uses():
        return "the pooling's indices count the padding"
    if any(step != 1 for step in ints_attribute(reader, "dilations") or ()):
        return "a window with holes may see nothing but padding"
    if fill == -np.inf or (fill == 0 and _never_negative(pad.inputs[0])):
        return None
    return f"pads with {fill:g}, which may be the largest value of a window"


def _never_negative(value: Value | None) -> bool:
    clip = producer(value, "Clip")
    if clip is not None:
        lowest = scalar(input_of(clip, 1))
        return (float_attribute(clip, "min", -np.inf) if lowest is None else lowest) >= 0
    return producer(value, *NEVER_NEGATIVE) is not None


def _fill(pad: Node) -> float | None:
    """The number that is padded with, None when it is not constant."""
    if input_of(pad, 2) is not None:
        return scalar(input_of(pad, 2))
    return float_attribute(pad, "value", 0.0)
