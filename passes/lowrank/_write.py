"""A decomposed layer in the graph: a chain of nodes of the same operator, the last of which is the layer's own.

The last node keeps the name of the result, the bias and what quantizes it; the ones before are new. Of a convolution
each takes stride, padding and dilation of the axes along which it slides, so that the border sees the same zeros. Of a
transposed one only those that slide are transposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphpress.analysis.linear import LinearOp, write_bias
from graphpress.analysis.linear.op import DATA
from graphpress.ir import Editor, Model, Node, Value, int_attribute, ints_attribute, label, rank_of, string_attribute
from graphpress.ir.factors import mark_factor
from graphpress.ir.values import with_subgraphs
from graphpress.passes.lowrank._form import ChainStage
from graphpress.passes.lowrank._regrouping import NOTHING, Regrouping


def write_chain(edit: Editor, op: LinearOp, stages: Sequence[ChainStage], bias: np.ndarray | None) -> list[Node]:
    """Put a chain in place of a layer.

    Args:
        edit: of the model.
        op: the layer.
        stages: at least two.
        bias: ``[blocks, outputs]`` of the whole; None to leave it as it is.

    Returns:
        The nodes that multiply, in the order in which they run.
    """
    if bias is not None:
        write_bias(edit, op, bias)
    node, weights = op.node, [stored(op, stage).astype(op.stored_weight().dtype) for stage in stages]
    kinds, given = [_operator(op, stage) for stage in stages], [_attributes(op, stage) for stage in stages]
    chain, data = list[Node](), _as_rows(edit, op)
    for stage, kind, attributes, weight in zip(stages[:-1], kinds, given, weights, strict=False):
        chain.append(_factor(edit, op, kind, _regrouped(edit, op, data, stage.before), attributes, weight))
        data = chain[-1].outputs[0]
    data = _regrouped(edit, op, data, stages[-1].before)
    if stages[-1].after != NOTHING:
        chain.append(_factor(edit, op, kinds[-1], data, given[-1], weights[-1]))
        _end_regrouped(edit, op, chain[-1].outputs[0], stages[-1].after)
        return chain
    mark_factor(node)
    edit.set_input(node, DATA, data)
    edit.own_constant(node, op.weight_index, weights[-1])
    edit.set_attributes(node, **_forgotten(op), **given[-1])
    if op.is_convolution:
        node.op_type = kinds[-1]
    return [*chain, node]


def _factor(
    edit: Editor, op: LinearOp, kind: str, data: Value, attributes: Mapping[str, Any], weight: np.ndarray
) -> Node:
    """A new node of the chain."""
    made = edit.add_node(kind, [data], attributes, before=op.node, name=f"{op.node.name}_factor")
    mark_factor(made)
    edit.set_input(made, op.weight_index, edit.add_constant_for(made, weight, f"{op.weight.name}_factor"))
    made.outputs[0].type = op.result.type
    return made


def _regrouped(edit: Editor, op: LinearOp, data: Value, how: Regrouping) -> Value:
    """Data in the order in which the next stage reads it."""
    if op.is_convolution and how.split:
        channels = edit.add_constant_for(op.node, how.channels, f"{op.node.name}_order")
        return _moved(edit, op, "Gather", [data, channels], {"axis": 1})
    for step in [] if op.is_convolution else how.steps(_leading(op)):
        data = _step(edit, op, data, *step)
    return data


def _step(edit: Editor, op: LinearOp, data: Value, op_type: str, sizes: Sequence[int]) -> Value:
    if op_type == "Transpose":
        return _moved(edit, op, op_type, [data], {"perm": sizes})
    return _moved(edit, op, op_type, [data, _sizes(edit, op, sizes)])


def _moved(
    edit: Editor, op: LinearOp, op_type: str, inputs: Sequence[Value], attributes: Mapping[str, Any] | None = None
) -> Value:
    made = edit.add_node(op_type, inputs, attributes, before=op.node, name=f"{op.node.name}_{op_type.lower()}")
    made.outputs[0].type = op.result.type
    return made.outputs[0]


def _sizes(edit: Editor, op: LinearOp, sizes: Sequence[int]) -> Value:
    return edit.add_constant_for(op.node, np.array(sizes, np.int64), f"{op.node.name}_shape")


def _end_regrouped(edit: Editor, op: LinearOp, data: Value, how: Regrouping) -> None:
    """Let the layer's own node regroup the last stage's result; that of a Gemm with a bias adds it instead."""
    *steps, (last, sizes) = how.steps(_leading(op))
    for step in steps:
        data = _step(edit, op, data, *step)
    node, weight, bias = op.node, op.weight, _as_added(edit, op)
    operand = _sizes(edit, op, sizes)
    if bias is not None:
        data, operand, last = _moved(edit, op, last, [data, operand]), bias, "Add"
    node.resize_inputs(2)
    node.op_type = last
    node.attributes.clear()
    edit.set_input(node, 0, data)
    edit.set_input(node, 1, operand)
    edit.drop_if_unused(weight)


def _as_added(edit: Editor, op: LinearOp) -> Value | None:
    """The bias of a Gemm, with ``beta`` in it."""
    rows = op.bias_rows()
    if op.bias is not None and op.beta != 1.0 and rows is not None:
        write_bias(edit, op, rows)
    return op.bias


def _leading(op: LinearOp) -> int:
    """How many axes of a product's data are in front of its rows."""
    shape = op.data.shape
    assert shape is not None, "only what has rows is regrouped"
    return len(shape) - 2


def has_rows(op: LinearOp) -> bool:
    """Whether features can be regrouped: in front of those of a product there are rows, known how deep, and a stack of
    weights adds no axes.
    """
    data, result = rank_of(op.data), rank_of(op.result)
    return op.is_convolution or (data is not None and data > 1 and data == result)


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


def stored(op: LinearOp, stage: ChainStage) -> np.ndarray:
    """The kernel of a stage as its node holds it."""
    kernel = stage.kernel
    blocks, inputs, outputs, *sizes = kernel.shape
    if op.is_convolution and _operator(op, stage) == "Conv":
        return np.ascontiguousarray(kernel.swapaxes(1, 2)).reshape(blocks * outputs, inputs, *sizes)
    if op.is_convolution:
        return kernel.reshape(blocks * inputs, outputs, *sizes)
    lead = op.weight_shape[:-2] if blocks == op.matrix_shape[0] else (blocks,)
    return np.ascontiguousarray(kernel).reshape(*lead, inputs, outputs)


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
