"""One copy per reader for small parameters that several layers share.

Exporters merge equal biases, scales and zeros into one constant. Coupling would tie every layer that reads it: the
channels of one could not go without the same channels of all the others. Matrices stay shared: what reads a tied
embedding twice means it.
"""

from __future__ import annotations

from graphpress.analysis.linear import linear_ops_of
from graphpress.ir import Editor, Model, Value, constant, is_constant
from graphpress.ir.encoding import copy_annotations


def unshare(model: Model) -> int:
    """Give every reader in the main graph its own copy of each float vector that has several, in place.

    A vector is a constant with at most one axis longer than 1; single numbers tie nothing and stay shared.

    Returns:
        The number of copies made.
    """
    edit, copies = Editor(model), 0
    for value in list(model.graph.initializers.values()):
        uses = [use for use in value.uses() if use.node.graph is model.graph]
        if len(uses) < 2 or not _is_vector(value) or _is_kernel(value, model):
            continue
        array = constant(value)
        assert array is not None
        for use in uses[1:]:
            copy = edit.add_constant(array, value.name or "constant")
            copy_annotations(value, copy)
            edit.set_input(use.node, use.idx, copy)
            copies += 1
    return copies


def _is_vector(value: Value) -> bool:
    if not is_constant(value) or value.dtype is None or not value.dtype.is_floating_point() or value.shape is None:
        return False
    long = [size for size in value.shape.numpy() if size != 1]
    return len(long) == 1


def _is_kernel(value: Value, model: Model) -> bool:
    return any(layer.node.graph is model.graph for layer in linear_ops_of(value))
