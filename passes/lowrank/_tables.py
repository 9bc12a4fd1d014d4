"""Embedding tables as layers: ids read a thin table, and a product widens its rows.

    table[ids] = table[ids] · I      I ≈ T·B in the norm of the rows that are read      table[ids] · T = (table·T)[ids]

``expose_tables`` puts the identity behind what reads a table by ids. That is a layer as any other, and its Gram matrix
Σ_v p_v a_v a_vᵀ weighs each row a_v by how often the data reads it: its optimum is the weighted low rank of GroupReduce
(Chen et al., arXiv 1806.06950, section 3.2). Rows that the data does not show count as well, every row as if it was
read once more (Laplace's rule of succession). ``absorb_tables`` multiplies T into the table, or takes the identity
away again where the table stays whole.

A head tied to the table by a Transpose reads the same factors the other way round,

    h · tableᵀ  ≈  (h · Bᵀ) · (table·T)ᵀ

so that the thin table stays shared; what h is counts for the measured damage, not for the norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.analysis.linear.bias import FLOAT_DTYPES
from graphpress.ir import (
    Dims,
    Editor,
    Model,
    Node,
    Refusal,
    Value,
    constant,
    graphs,
    input_of,
    int_attribute,
    ints_attribute,
    is_constant,
    is_standard,
    label,
    readers,
    static_shape,
)
from graphpress.ir.encoding import read_encoding
from graphpress.ir.factors import is_factor, mark_factor
from graphpress.ir.meta import texts
from graphpress.ir.sparsity import sparsity_of
from graphpress.observation import Moments

TABLE = 0
"""Index of the table among the inputs of a Gather."""

_IDENTITY_KEY = "graphpress.table.v1"


@dataclass(frozen=True)
class ExposedTable:
    """A Gather that reads a table, and the identity behind it.

    Args:
        gather: reads rows by ids.
        product: multiplies them by the identity.
    """

    gather: Node
    product: Node


def expose_tables(model: Model, shapes: dict[str, Dims]) -> tuple[list[ExposedTable], list[Refusal]]:
    """Put an identity behind whatever reads a table by ids.

    Args:
        model: changed in place, to compute the same.
        shapes: static, by value name; those of new values are added.

    Returns:
        What was exposed, and why other tables were not.
    """
    edit, exposed, refusals = Editor(model), list[ExposedTable](), list[Refusal]()
    identities: dict[Value, Value] = {}
    for gather in list(tables(model)):
        refusal, table = _unfit(gather, model), gather.inputs[TABLE]
        assert table is not None
        if refusal is None:
            if table not in identities:
                identities[table] = _identity_for(edit, table)
            exposed.append(_expose(edit, gather, identities[table], shapes))
        else:
            refusals.append(refusal)
    return exposed, refusals


def absorb_tables(model: Model, exposed: list[ExposedTable]) -> None:
    """Multiply the first factor of each decomposed identity into its table, and take the other identities away."""
    edit, thin = Editor(model), set[Value | None]()
    for table in exposed:
        (first,) = readers(table.gather.outputs[0])
        table.product.metadata_props.pop(_IDENTITY_KEY)
        if first is not table.product:
            if table.gather.inputs[TABLE] not in thin:
                _narrow(edit, heads_of(table.gather), constant(table.product.inputs[1]))
                thin.add(_multiply_into(edit, table.gather, first))
            table.gather.outputs[0].shape = None
            mark_factor(table.gather)
        edit.replace(first.outputs[0], table.gather.outputs[0])
        edit.remove(first)


def tables(model: Model) -> Iterator[Node]:
    """The nodes that read rows of a constant matrix of floats by ids."""
    for graph in graphs(model):
        for node in graph:
            if is_standard(node, "Gather") and _is_matrix(node) and _axis_of(node) == 0:
                yield node


def heads_of(gather: Node) -> list[Node]:
    """The products by the transposed table that a Gather reads."""
    table = gather.inputs[TABLE]
    assert table is not None
    transposes = [use.node for use in table.uses() if use.node.op_type == "Transpose"]
    return [use.node for transpose in transposes for use in transpose.outputs[0].uses()]


def approximate_heads(copy: Model, gather: Node, matrix: np.ndarray) -> None:
    """Let the heads of a table compute, in a copy of the model, what they will with this for the identity.

    Args:
        copy: changed in place.
        gather: of the original.
        matrix: ``[width, width]``, T·B.
    """
    edit = Editor(copy)
    for twin in list(tables(copy)):
        if label(twin.outputs[0]) == label(gather.outputs[0]):
            for head in heads_of(twin):
                factor = edit.add_constant(matrix.T.astype(_array_of(twin).dtype), f"{label(head)}_factor")
                _multiply_data(edit, head, factor)


def gather_of(op: LinearOp) -> Node | None:
    """What reads the table in front of an identity that exposes it; None for any other layer."""
    return op.data.producer() if _IDENTITY_KEY in texts(op.node) else None


def add_rows(seen: Moments, op: LinearOp) -> None:
    """Count every row of an exposed table once more than it was seen; other layers are left as they are."""
    gather = gather_of(op)
    if gather is not None:
        rows = constant(gather.inputs[TABLE])
        assert rows is not None
        seen.add(rows[None], rows[None] if seen.has_targets else None)


def _reads_rows(node: Node, index: int, model: Model) -> bool:
    return index == TABLE and node.graph is model.graph and is_standard(node, "Gather") and _axis_of(node) == 0


def _is_tied(transpose: Node, model: Model) -> bool:
    """Whether it turns a table for heads alone."""
    if not is_standard(transpose, "Transpose") or transpose.graph is not model.graph:
        return False
    turned = transpose.outputs[0]
    return (
        not turned.is_graph_output()
        and all(
            is_standard(use.node, "MatMul") and use.idx == 1 and use.node.graph is model.graph for use in turned.uses()
        )
        and ints_attribute(transpose, "perm") in (None, (1, 0))
    )


def _axis_of(node: Node) -> int:
    return int_attribute(node, "axis", 0) % 2


def _is_matrix(node: Node) -> bool:
    table = input_of(node, TABLE)
    if table is None or not is_constant(table) or len(static_shape(table) or ()) != 2:
        return False
    return table.dtype is not None and table.dtype.is_floating_point()


def _unfit(node: Node, model: Model) -> Refusal | None:
    table = node.inputs[TABLE]
    assert table is not None
    array = constant(table)
    assert array is not None
    if node.graph is not model.graph:
        return Refusal.at(node, "it is inside of a subgraph or function", "inline that first")
    if is_factor(node):
        return Refusal.at(node, "its table is a factor already", "decompose the model as it was before")
    if read_encoding(node, TABLE) is not None:
        return Refusal.at(node, "its table is quantized already", "decompose before quantizing")
    if sparsity_of(table) is not None:
        return Refusal.at(node, "its table is sparse, which factors are not", "decompose before sparsifying")
    if table.is_graph_output() or not all(
        _reads_rows(use.node, use.idx, model) or _is_tied(use.node, model) for use in table.uses()
    ):
        return Refusal.at(node, "its table has another reader, or is a result of the model")
    if array.dtype not in FLOAT_DTYPES:
        return Refusal.at(
            node, f"its table is of {array.dtype}, which nothing here computes in", "convert it to float32"
        )
    if not np.isfinite(array).all():
        return Refusal.at(node, "its table holds infinite or undefined values", "repair the table")
    return None


def _identity_for(edit: Editor, table: Value) -> Value:
    """One for all readers of the table: they share what it becomes."""
    array = constant(table)
    assert array is not None
    return edit.add_constant(np.eye(array.shape[1], dtype=array.dtype), f"{label(table)}_widened")


def _expose(edit: Editor, gather: Node, identity: Value, shapes: dict[str, Dims]) -> ExposedTable:
    result, shape = gather.outputs[0], shapes.get(label(gather.outputs[0]))
    made = edit.put_behind(result, "MatMul", [identity], after=gather, name=f"{label(gather)}_widen")
    product = made.producer()
    assert product is not None
    product.metadata_props[_IDENTITY_KEY] = "1"
    if shape is not None:
        shapes |= dict.fromkeys((label(result), label(made)), shape)
    return ExposedTable(gather, product)


def _array_of(gather: Node) -> np.ndarray:
    array = constant(gather.inputs[TABLE])
    assert array is not None
    return array


def _narrow(edit: Editor, heads: Sequence[Node], last: np.ndarray | None) -> None:
    """Let heads multiply what they read by Bᵀ first; their weight is the thin table from now on."""
    assert last is not None
    if not heads:
        return
    factor = edit.add_constant(np.ascontiguousarray(last.T), f"{label(heads[0])}_factor")
    for head in heads:
        mark_factor(_multiply_data(edit, head, factor))
        turned = head.inputs[1]
        assert turned is not None
        turned.shape = None


def _multiply_data(edit: Editor, head: Node, factor: Value) -> Node:
    """A product by a matrix in front of a head."""
    made = edit.add_node("MatMul", [head.inputs[0], factor], before=head, name=f"{label(head)}_narrow")
    made.outputs[0].type = head.outputs[0].type
    edit.set_input(head, 0, made.outputs[0])
    return made


def _multiply_into(edit: Editor, gather: Node, first: Node) -> Value:
    """Let all readers of a table read it multiplied by the weight of the factor behind a Gather, which is returned."""
    whole, table, factor = gather.inputs[TABLE], _array_of(gather), constant(first.inputs[1])
    assert whole is not None
    assert factor is not None
    product = (table.astype(np.float64) @ factor.astype(np.float64)).astype(table.dtype)
    thin = edit.own_constant(gather, TABLE, product)
    for use in list(whole.uses()) if thin is not whole else ():
        edit.set_input(use.node, use.idx, thin)
    edit.drop_if_unused(whole)
    return thin
