"""Window: the part of a constant that begins where an open size says, such as the rows of a mask behind a cache.

A node of this backend's own: exporters write a Range from the length of the past on, and what is computed of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.moving import move, sliced_view
from graphpress.backends.tvm.lowering.open_axes import window_starts
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.ir import Node
from graphpress.ops import operator_key

WINDOW, DOMAIN = "Window", "graphpress.tvm"


def _window(node: Node, lowering: Lowering) -> None:
    """A copy, as every run begins elsewhere."""
    table, result = node.inputs[0], node.outputs[0]
    assert table is not None
    order = natural(len(shape_of(result)))
    source = lowering.form(table, None, order)
    view = source.view
    for axis, first in window_starts(result).items():
        view = sliced_view(view, axis, first, 1)
    target = lowering.room(result, lowering.wanted(result), order)
    move(lowering, node, source, (view, target.view), shape_of(result), target)


RULES: Mapping[str, Rule] = MappingProxyType({operator_key(WINDOW, DOMAIN): _window})
"""Rules by operator."""
