"""Pixels from channels, channels from pixels, and copies beside each other: one strided copy each.

DepthToSpace    result[c, y · b + i, x · b + j] = source[(i · b + j) · C + c, y, x]      DCR
= source[(c · b + i) · b + j, y, x]      CRD
SpaceToDepth    result[(i · b + j) · C + c, y, x] = source[c, y · b + i, x · b + j]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.moving import move, moved_into_room, order_for
from graphpress.backends.tvm.lowering.operands import spread
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node, NodeView


def _depth_to_space(node: Node, lowering: Lowering) -> None:
    view, result = NodeView.of(node), node.outputs[0]
    block, crossed = view.integer("blocksize", 1), view.text("mode", "DCR") == "CRD"
    source, _ = lowering.moved(node)
    images, channels, height, width = source.shape
    few = channels // block**2
    target = lowering.room(result, lowering.wanted(result), order_for(result))
    factors = (block, 1, block**2) if crossed else (block * few, few, 1)
    views = _split_channels(source.view, factors), _split_pixels(target.view, block)
    move(lowering, node, source, views, (images, block, block, few, height, width), target)


def _space_to_depth(node: Node, lowering: Lowering) -> None:
    view = NodeView.of(node)
    if view.text("mode", "DCR") != "DCR":
        raise refused(node, "its channels are in another order")
    result, block = node.outputs[0], view.integer("blocksize", 1)
    source, _ = lowering.moved(node)
    images, channels, height, width = source.shape
    target = lowering.room(result, lowering.wanted(result), order_for(result))
    views = _split_pixels(source.view, block), _split_channels(target.view, (block * channels, channels, 1))
    move(lowering, node, source, views, (images, block, block, channels, height // block, width // block), target)


def _split_channels(view: StridedView, factors: tuple[int, int, int]) -> StridedView:
    """Axes: images, rows and pixels of a block, channels, rows, pixels."""
    images, channels, rows, pixels = view.steps
    return replace(view, steps=(images, *(factor * channels for factor in factors), rows, pixels))


def _split_pixels(view: StridedView, block: int) -> StridedView:
    """Likewise."""
    images, channels, rows, pixels = view.steps
    return replace(view, steps=(images, rows, pixels, channels, rows * block, pixels * block))


def _expand(node: Node, lowering: Lowering) -> None:
    """Axes of size 1 are read again and again."""
    shape = shape_of(node.outputs[0])
    source, _ = lowering.moved(node)
    same = len(source.shape) == len(shape)
    moved_into_room(lowering, node, source, spread(source, shape), source.order if same else natural(len(shape)))


def _tile(node: Node, lowering: Lowering) -> None:
    """Each axis is read as often as it is repeated."""
    repeats = NodeView.of(node).integers("repeats", 1)
    if repeats is None:
        raise refused(node, "its repeats are computed at run time")
    result = node.outputs[0]
    source, _ = lowering.moved(node)
    target = lowering.room(result, lowering.wanted(result), source.order)
    extents = [number for pair in zip(repeats, source.shape, strict=True) for number in pair]
    again = [number for step in source.view.steps for number in (0, step)]
    steps = zip(target.view.steps, source.shape, strict=True)
    beside = [number for step, extent in steps for number in (step * extent, step)]
    views = replace(source.view, steps=tuple(again)), replace(target.view, steps=tuple(beside))
    assert math.prod(extents) == math.prod(target.shape)
    move(lowering, node, source, views, extents, target)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"DepthToSpace": _depth_to_space, "Expand": _expand, "SpaceToDepth": _space_to_depth, "Tile": _tile}
)
"""Rules by operator."""
