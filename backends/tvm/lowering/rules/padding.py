"""Pad: a copy into memory whose border was filled before the first run, or pixels of the border once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.interpolation import TapTable
from graphpress.backends.tvm.lowering.moving import move
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.resizing import PLANE_RANKS, emit_resample
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Buffer
from graphpress.ir import Node, NodeView
from graphpress.ops.semantics.slices import padded

MODES: Mapping[str, Literal["edge", "reflect", "wrap"]] = MappingProxyType(
    {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
)
"""Padding by what is there, by numpy's name."""


def _pad(node: Node, lowering: Lowering) -> None:
    """Raises UnsupportedError: it takes something away, or how much it adds is computed at run time."""
    value = node.inputs[0]
    assert value is not None
    view, shape = NodeView.of(node), shape_of(value)
    given = view.integers("pads", 1)
    if given is None or min(given) < 0:
        raise refused(node, "its pads are negative, or computed at run time")
    pads = padded(given, view.integers("axes", 3), len(shape))
    mode = view.text("mode", "constant")
    if mode == "constant":
        _constant(node, lowering, view, pads)
        return
    if len(shape) not in PLANE_RANKS or any(pads.get(axis, (0, 0)) != (0, 0) for axis in (0, 1)):
        raise refused(node, f"it pads images or channels by {mode}")
    emit_resample(node, lowering, [_table(shape[axis], pads.get(axis, (0, 0)), mode) for axis in range(2, len(shape))])


def _table(size: int, pads: tuple[int, int], mode: str) -> TapTable:
    """Where each row or pixel of the result comes from."""
    places = np.pad(np.arange(size, dtype=np.int32), pads, mode=MODES[mode])[:, None]
    return TapTable(places, np.ones(places.shape, np.float32))


def _constant(node: Node, lowering: Lowering, view: NodeView, pads: Mapping[int, tuple[int, int]]) -> None:
    """The border keeps from run to run what it was filled with."""
    fill = view.number("value", 0.0) if view.opset < 11 else view.scalar(2) if view.has(2) else 0.0
    source, encoding = lowering.moved(node)
    if fill is None or fill:
        raise refused(node, "what it pads with is not zero, or is computed at run time")
    target = lowering.room(node.outputs[0], encoding, source.order)
    assert isinstance(target.memory, Buffer)
    target.memory.keeps = True
    start = target.view.start + sum(before * target.view.steps[axis] for axis, (before, _) in pads.items())
    move(lowering, node, source, (source.view, replace(target.view, start=start)), source.shape, target)


RULES: Mapping[str, Rule] = MappingProxyType({"Pad": _pad})
"""Rules by operator."""
