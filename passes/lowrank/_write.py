"""A decomposed layer in the graph: a chain of nodes of the same operator, the last of which is the layer's own.

The last node keeps the name of the result, the bias and what quantizes it; the ones before are new. Of a convolution
each takes stride, padding and dilation of the axes along which it slides, so that the border sees the same zeros. Of a
transposed one only those that slide are transposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphpress.analysis.linear import LinearOp, write_bias
from graphpress.analysis.linear.op import DATA
from graphpress.ir import Editor, Model, Node, Value, int_attribute, ints_attribute, label, string_attribute
from graphpress.ir.factors import FACTOR_KEY
from graphpress.ir.meta import texts
from graphpress.ir.values import with_subgraphs
from graphpress.passes.lowrank._folded import write_folded_chain
from graphpress.passes.lowrank._form import ChainStage


def write_chain(edit: Editor, op: LinearOp, stages: Sequence[ChainStage], bias: np.ndarray | None) -> list[Node]:
    """Put a chain in place of a layer.

    Args:
        edit: of the model.
        op: the layer.
        stages: at least two.
        bias: ``[blocks, outputs]`` of the whole; None to leave it as it is.

    Returns:
        The nodes of the chain, in the order in which they run.
    """
    if stages[0].fold is not None:
        products = write_folded_chain(edit, op, _as_rows(edit, op), stages, bias)
        for product in products:
            mark_factor(product)
        return products
    node, weights = op.node, [stored(op, stage).astype(op.stored_weight().dtype) for stage in stages]
    kinds, given = [_operator(op, stage) for stage in stages], [_attributes(op, stage) for stage in stages]
    mark_factor(node)
    data, chain = _as_rows(edit, op), list[Node]()
    for kind, attributes, weight in zip(kinds[:-1], given[:-1], weights[:-1], strict=True):
        made = edit.add_node(kind, [data], attributes, before=node, name=f"{node.name}_factor")
        mark_factor(made)
        edit.set_input(made, op.weight_index, edit.add_constant_for(made, weight, f"{op.weight.name}_factor"))
        made.outputs[0].type = op.result.type
        data = made.outputs[0]
        chain.append(made)
    edit.set_input(node, DATA, data)
    edit.own_constant(node, op.weight_index, weights[-1])
    edit.set_attributes(node, **_forgotten(op), **given[-1])
    if op.is_convolution:
        node.op_type = kinds[-1]
    if bias is not None:
        write_bias(edit, op, bias)
    return [*chain, node]


def write_twins(edit: Editor, ops: Sequence[LinearOp], stages: Sequence[ChainStage]) -> None:
    """Put the same chain, with the same constants, in place of each of several layers; their biases stay.

    Args:
        edit: of the model.
        ops: layers that multiply by one weight in one way.
        stages: at least two.
    """
    first, *others = [write_chain(edit, op, stages, None) for op in ops]
    for place, node in enumerate(first):
        own = node.inputs[ops[0].weight_index]
        assert own is not None
        if own.graph is not edit.model.graph:  # of a subgraph, whose constants others do not see
            edit.lift(own, edit.model.graph)
        for chain in others:
            old = chain[place].inputs[ops[0].weight_index]
            edit.set_input(chain[place], ops[0].weight_index, own)
            edit.drop_if_unused(old)


def in_copy(ops: Iterable[LinearOp], copy: Model) -> list[LinearOp]:
    """The same layers of a copy of the model."""
    twins = {label(node.outputs[0]): node for graph in with_subgraphs(copy.graph) for node in graph if node.outputs}
    return [replace(op, node=twins[label(op.result)]) for op in ops]


def is_factor(node: Node) -> bool:
    """Whether the node is one of a chain."""
    return FACTOR_KEY in texts(node)


def mark_factor(node: Node) -> None:
    """Remember that the node is one of a chain: the graph alone cannot tell a separable convolution from one."""
    node.metadata_props[FACTOR_KEY] = "1"


def stored(op: LinearOp, stage: ChainStage) -> np.ndarray:
    """The kernel of a stage as its node holds it."""
    kernel = stage.kernel
    blocks, inputs, outputs, *sizes = kernel.shape
    if op.is_convolution and _operator(op, stage) == "Conv":
        return np.ascontiguousarray(kernel.swapaxes(1, 2)).reshape(blocks * outputs, inputs, *sizes)
    if op.is_convolution:
        return kernel.reshape(blocks * inputs, outputs, *sizes)
    if op.node.op_type == "Gemm":
        return np.ascontiguousarray(kernel[0])
    return kernel.reshape(*op.weight_shape[:-2], inputs, outputs)


def _attributes(op: LinearOp, stage: ChainStage) -> dict[str, Any]:
    """Of the node of a stage."""
    if not op.is_convolution:
        return {}
    rank = len(op.weight_shape) - 2
    slid = [axis in stage.axes for axis in range(rank)]
    attributes: dict[str, Any] = {
        name: [
            size if here else 1 for size, here in zip(ints_attribute(op.node, name) or (1,) * rank, slid, strict=True)
        ]
        for name in ("strides", "dilations")
    }
    pads = ints_attribute(op.node, "pads") or (0,) * (2 * rank)
    attributes["pads"] = [pad if here else 0 for pad, here in zip(pads, [*slid, *slid], strict=True)]
    extra = ints_attribute(op.node, "output_padding") if any(slid) else None
    attributes["output_padding"] = extra and [size if here else 0 for size, here in zip(extra, slid, strict=True)]
    kind = string_attribute(op.node, "auto_pad", "NOTSET")
    if kind != "NOTSET":
        attributes |= {"pads": None, "auto_pad": kind}
    return attributes | {"kernel_shape": list(stage.kernel.shape[3:]), "group": int(stage.kernel.shape[0])}


def _as_rows(edit: Editor, op: LinearOp) -> Value:
    """What the chain reads: the data of the layer, turned where a Gemm does that."""
    if op.node.op_type != "Gemm" or not int_attribute(op.node, "transA", 0):
        return op.data
    return edit.add_node("Transpose", [op.data], {"perm": [1, 0]}, before=op.node).outputs[0]


def _operator(op: LinearOp, stage: ChainStage) -> str:
    """Of a stage: the layer's own where it slides, else one that needs no bias in any operator set."""
    if not op.is_convolution:
        return "MatMul"
    return op.node.op_type if stage.axes else "Conv"


def _forgotten(op: LinearOp) -> dict[str, None]:
    """What the layer's own node no longer says: the factors hold ``alpha``, and are stored as they multiply."""
    return dict.fromkeys(("alpha", "transA", "transB")) if op.node.op_type == "Gemm" else {}
