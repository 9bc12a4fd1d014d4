"""Work out shapes ahead of time.

    Shape(x) = c                           when every size of x is known, and so for all that is computed from it:
    Gather(Shape(x), i) = c                when the sizes that it picks are known
    Reshape(x, [.., dimᵢ(x), .., t, ..])   = Reshape(x, [.., 0, .., -1, ..])   a copied size, and at most one unknown

and sizes that are one size under two names get one, where ONNX's inference gives up: fusions compare sizes by name.

Sizes are followed element by element through Shape, Gather, Concat, Slice, Cast, arithmetic and the like, so a target
with one unknown size is found wherever the sizes come from. With both a copied and an unknown size, a batch of size
zero could no longer be reshaped; that is the one thing that changes.

Functions are left alone: their shapes differ from call to call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphpress.analysis.shapes import infer_shapes
from graphpress.ir import (
    DataType,
    Editor,
    Graph,
    Model,
    Node,
    Value,
    constant,
    input_of,
    int_attribute,
    is_constant,
    is_standard,
    with_subgraphs,
)
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.cleanup._partial import Partials, Token, known_integers
from graphpress.passes.cleanup._result_sizes import result_sizes
from graphpress.passes.cleanup._size_names import SizeNames, input_symbols

NUMPY_INTEGERS: dict[DataType, np.dtype] = {DataType.INT32: np.dtype(np.int32), DataType.INT64: np.dtype(np.int64)}


@dataclass(frozen=True)
class ShapeArithmetic(Pass):
    """Lossless: what remains is shorter, and the shapes are the same."""

    name: ClassVar[str] = "shape_arithmetic"

    def run(self, model: Model, context: Context) -> Outcome:
        """Infer shapes, then walk each graph once, the outer ones first."""
        bodies = list(with_subgraphs(model.graph))
        if not _may_simplify(model, bodies):
            return Outcome()
        infer_shapes(model)
        edit = Editor(model)
        partials = Partials(SizeNames(input_symbols(model)))
        changes = sum(_simplify(graph, partials, edit, names=graph is model.graph) for graph in bodies)
        partials.names.rename_all(model)
        return Outcome(changes)


def _may_simplify(model: Model, bodies: Sequence[Graph]) -> bool:
    """Whether there is a shape to infer or anything to work out: if not, inference is time for nothing."""
    symbols = input_symbols(model)
    return any(
        _computes_shapes(node) or any(_is_open(output, symbols) for output in node.outputs if output.name)
        for graph in bodies
        for node in graph
    )


def _computes_shapes(node: Node) -> bool:
    """Whether the node starts shape arithmetic, may go on with it, or reads a shape that is not constant."""
    if node.op_type == "Reshape":
        return constant(input_of(node, 1)) is None
    return node.op_type in ("Shape", "Size") or all(value is None or is_constant(value) for value in node.inputs)


def _is_open(value: Value, symbols: set[str]) -> bool:
    """Whether inference could say more of a value: a symbol of the inputs is as good as a size."""
    if value.type is None or value.shape is None:
        return True
    return any(not isinstance(dim, int) and str(dim) not in symbols for dim in value.shape)


def _simplify(graph: Graph, partials: Partials, edit: Editor, *, names: bool) -> int:
    """Walk a graph once; sizes get names where all nodes run, and so all that they ask of sizes holds."""
    changes = 0
    for node in graph:
        if names:
            _name_sizes(node, partials)
        if is_standard(node, "Reshape") and _settle_target(node, partials, edit):
            changes += 1
        result = partials.visit(node)
        if result is not None and _settle(node.outputs[0], result, edit):
            changes += 1
    return changes


def _name_sizes(node: Node, partials: Partials) -> None:
    sizes = result_sizes(node, partials) if is_standard(node) and node.outputs else None
    if sizes is not None:
        partials.names.unite(node.outputs[0], [size.symbol if isinstance(size, Token) else size for size in sizes])


def _settle(value: Value, result: np.ndarray, edit: Editor) -> bool:
    """Put a constant in the place of a result that is wholly known and is no graph output."""
    contents = known_integers(result)
    producer = value.producer()
    if contents is None or producer is None or value.is_graph_output() or producer.op_type == "Constant":
        return False
    dtype = np.dtype(np.int64) if value.dtype is None else NUMPY_INTEGERS.get(value.dtype)
    if dtype is None:
        return False
    if value.uses():
        edit.replace(value, edit.add_constant_for(producer, contents.astype(dtype), value.name or "shape"))
    edit.remove(producer)
    return True


def _settle_target(node: Node, partials: Partials, edit: Editor) -> bool:
    """Make the target of a Reshape constant where at most one of its sizes is unknown."""
    target = input_of(node, 1)
    if target is None or constant(target) is not None:
        return False
    wanted, sizes = partials.of(target), partials.sizes_of(node.inputs[0])
    if wanted is None or wanted.ndim != 1:
        return False
    is_literal = int_attribute(node, "allowzero", 0) == 1
    if is_literal and 0 in wanted.tolist():
        return False
    settled = [_written(size, sizes, axis) for axis, size in enumerate(wanted)]
    if settled.count(-1) > 1:
        return False
    edit.set_input(node, 1, edit.add_constant_for(node, np.array(settled, np.int64), target.name or "shape"))
    if is_literal:
        edit.set_attributes(node, allowzero=0)
    return True


def _written(size: object, sizes: tuple[object, ...] | None, axis: int) -> int:
    """A size as a Reshape target has it: known, 0 to copy the operand's at this axis, or -1."""
    if isinstance(size, int):
        return size
    return 0 if sizes is not None and axis < len(sizes) and sizes[axis] == size else -1
