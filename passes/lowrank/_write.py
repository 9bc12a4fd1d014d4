"""A decomposed layer in the graph: a chain of nodes of the same operator, the last of which is the layer's own.

The last node keeps the name of the result, the bias and what quantizes it; the ones before are new. Of a convolution
each takes stride, padding and dilation of the axes along which it slides, so that the border sees the same zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphpress.analysis.linear import LinearOp, write_bias
from graphpress.analysis.linear.op import DATA
from graphpress.ir import Editor, Model, Node, Value, int_attribute, ints_attribute, label, string_attribute
from graphpress.ir.meta import texts
from graphpress.passes.lowrank._form import ChainStage

FACTOR_KEY = "graphpress.factor.v1"


def write_chain(edit: Editor, op: LinearOp, stages: Sequence[ChainStage], bias: np.ndarray | None) -> None:
    """Put a chain in place of a layer.

    Args:
        edit: of the model.
        op: the layer.
        stages: at least two.
        bias: ``[blocks, outputs]`` of the whole; None to leave it as it is.
    """
    node, given = op.node, [_attributes(op, stage) for stage in stages]
    mark_factor(node)
    data, dtype = _as_rows(edit, op), op.stored_weight().dtype
    for stage, attributes in zip(stages[:-1], given[:-1], strict=True):
        made = edit.add_node(_factor_type(op), [data], attributes, before=node, name=f"{node.name}_factor")
        mark_factor(made)
        weight = edit.add_constant_for(made, stored(op, stage).astype(dtype), f"{op.weight.name}_factor")
        edit.set_input(made, op.weight_index, weight)
        made.outputs[0].type = op.result.type
        data = made.outputs[0]
    edit.set_input(node, DATA, data)
    edit.own_constant(node, op.weight_index, stored(op, stages[-1]).astype(dtype))
    edit.set_attributes(node, **_forgotten(op), **given[-1])
    if bias is not None:
        write_bias(edit, op, bias)


def in_copy(ops: Iterable[LinearOp], copy: Model) -> list[LinearOp]:
    """The same layers of a copy of the model."""
    twins = {label(node.outputs[0]): node for node in copy.graph if node.outputs}
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
    if op.node.op_type == "Conv":
        return np.ascontiguousarray(kernel.swapaxes(1, 2)).reshape(blocks * outputs, inputs, *sizes)
    if op.node.op_type == "Gemm":
        return np.ascontiguousarray(kernel[0])
    return kernel.reshape(*op.weight_shape[:-2], inputs, outputs)


def _attributes(op: LinearOp, stage: ChainStage) -> dict[str, Any]:
    """Of the node of a stage."""
    if not op.is_convolution:
        return {}
    rank = len(op.weight_shape) - 2
    ones, zeros = (1,) * rank, (0,) * (2 * rank)
    pads = ints_attribute(op.node, "pads") or zeros
    kind = string_attribute(op.node, "auto_pad", "NOTSET")
    own: Mapping[str, tuple[int, ...]] = {
        "strides": ints_attribute(op.node, "strides") or ones,
        "dilations": ints_attribute(op.node, "dilations") or ones,
    }
    slid = [axis in stage.axes for axis in range(rank)]
    attributes: dict[str, Any] = {
        name: [size if here else 1 for size, here in zip(sizes, slid, strict=True)] for name, sizes in own.items()
    }
    attributes["pads"] = [pad if here else 0 for pad, here in zip(pads, [*slid, *slid], strict=True)]
    if kind != "NOTSET":
        attributes |= {"pads": None, "auto_pad": kind}
    return attributes | {"kernel_shape": list(stage.kernel.shape[3:]), "group": int(stage.kernel.shape[0])}


def _as_rows(edit: Editor, op: LinearOp) -> Value:
    """What the chain reads: the data of the layer, turned where a Gemm does that."""
    if op.node.op_type != "Gemm" or not int_attribute(op.node, "transA", 0):
        return op.data
    return edit.add_node("Transpose", [op.data], {"perm": [1, 0]}, before=op.node).outputs[0]


def _factor_type(op: LinearOp) -> str:
    """The operator of a factor: one that needs no bias in any operator set."""
    return "Conv" if op.is_convolution else "MatMul"


def _forgotten(op: LinearOp) -> dict[str, None]:
    """What the layer's own node no longer says: the factors hold ``alpha``, and are stored as they multiply."""
    return dict.fromkeys(("alpha", "transA", "transB")) if op.node.op_type == "Gemm" else {}
