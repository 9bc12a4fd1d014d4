"""What depends on constants and on fixed shapes alone is computed before anything is lowered.

Exporters read shapes at run time, and slice masks and tables by them. Once shapes are fixed, all of that is constant:
ONNX Runtime computes it, in one session.
"""

from __future__ import annotations

import math

import numpy as np

from graphpress.errors import DataError, ModelError
from graphpress.ir import Editor, Model, NodeView, Value, is_constant, is_standard, static_shape
from graphpress.ir.encoding import read_encoding
from graphpress.ir.extract import extract
from graphpress.ir.types import Node
from graphpress.ir.values import holds_graphs
from graphpress.ops import lookup

LARGEST = 1 << 24
"""Elements of the largest result that is made constant: beyond it, computing is cheaper than reading."""


def fold_constants(model: Model) -> None:
    """Make constants of what is constant, in place; what ONNX Runtime cannot compute stays as it is.

    Args:
        model: whose values have static shapes.
    """
    edit = Editor(model)
    _fold_shapes(model, edit)
    folded: dict[Value, None] = {}
    for node in model.graph:
        if _is_foldable(node, folded):
            folded.update(dict.fromkeys(node.outputs))
    read = [value for value in folded if _is_read_elsewhere(value, folded)]
    if not read:
        return
    arrays = _computed(model, [value.name or "" for value in read])
    for value in read:
        if (array := arrays.get(value.name or "")) is not None:
            edit.replace(value, edit.add_constant(array, f"{value.name}_folded"))
    _remove_unread(model, edit)


def _fold_shapes(model: Model, edit: Editor) -> None:
    """Shape and Size of what has a static shape."""
    for node in list(model.graph):
        shape = static_shape(node.inputs[0]) if is_standard(node, "Shape", "Size") else None
        if shape is None or node.outputs[0].is_graph_output():
            continue
        view = NodeView.of(node)
        part = shape[view.integer("start", 0) : view.integer("end", len(shape))]
        number = np.array(part if node.op_type == "Shape" else math.prod(shape), np.int64)
        edit.replace(node.outputs[0], edit.add_constant(number, f"{node.outputs[0].name}_folded"))
        edit.remove(node)


def _is_foldable(node: Node, folded: dict[Value, None]) -> bool:
    """Whether a node is the same at every run, reads constants alone, and makes nothing large."""
    spec = lookup(node.op_type) if is_standard(node) else None
    if spec is None or not spec.foldable or holds_graphs(node) or node.op_type in ("Dropout", "Constant"):
        return False
    if any(read_encoding(node, index) is not None for index in range(len(node.inputs))):
        return False
    shapes = [static_shape(value) for value in node.outputs]
    small = all(shape is not None and math.prod(shape) <= LARGEST for shape in shapes)
    return small and all(value is None or value in folded or is_constant(value) for value in node.inputs)


def _is_read_elsewhere(value: Value, folded: dict[Value, None]) -> bool:
    """Whether something that stays reads it; graph outputs keep the node that makes them."""
    stays = any(
        use.node.outputs[0] not in folded or any(result.is_graph_output() for result in use.node.outputs)
        for use in value.uses()
    )
    return stays and not value.is_graph_output()


def _computed(model: Model, names: list[str]) -> dict[str, np.ndarray]:
    from graphpress.runtime import Session

    try:
        arrays = Session(extract(model, [], names), optimization="none").run({})
    except (DataError, ModelError):
        return {}
    return dict(arrays)


def _remove_unread(model: Model, edit: Editor) -> None:
    """The nodes whose results nobody reads any more, last first; what one alone has read goes with it."""
    for node in reversed(list(model.graph)):
        if node.graph is not None and not any(value.uses() or value.is_graph_output() for value in node.outputs):
            edit.remove(node)
