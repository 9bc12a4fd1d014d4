"""A chain of products of folded channels in the graph: before each the channels are folded and reordered.

Leading axes of the data stay as they are, whatever their sizes: a Reshape copies them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpress.analysis.linear import LinearOp, write_bias
from graphpress.ir import Editor, Node, Value, rank_of
from graphpress.passes.lowrank._form import ChainStage


def write_folded_chain(
    edit: Editor, op: LinearOp, data: Value, stages: Sequence[ChainStage], bias: np.ndarray | None
) -> list[Node]:
    """Put a chain of folded products in place of a layer.

    Args:
        edit: of the model.
        op: a product.
        data: what it reads, as rows.
        stages: each with a fold.
        bias: ``[blocks, outputs]`` of the whole; None to leave it as it is.

    Returns:
        The products.
    """
    if bias is not None:
        write_bias(edit, op, bias)
    node, rank, products = op.node, rank_of(op.data) or 0, list[Node]()
    for stage in stages:
        kernel, fold = stage.kernel[..., None, :, :], stage.fold
        assert fold is not None
        data = _reshaped(edit, node, data, rank, fold.sizes)
        order = [*range(rank - 1), *(rank - 1 + axis for axis in fold.order)]
        data = edit.add_node("Transpose", [data], {"perm": order}, before=node, name=f"{node.name}_turn").outputs[0]
        data = _reshaped(edit, node, data, rank, (stage.repeats, kernel.shape[-2]))
        core = kernel.reshape(*op.weight_shape[:-2], *kernel.shape[-3:]) if op.weight_shape[2:] else kernel[0, 0]
        weight = edit.add_constant_for(node, core.astype(op.stored_weight().dtype), f"{op.weight.name}_factor")
        products.append(edit.add_node("MatMul", [data, weight], before=node, name=f"{node.name}_factor"))
        data = products[-1].outputs[0]
    _take_place(edit, op, _reshaped(edit, node, data, rank, (op.channels_out // op.matrix_shape[0],)))
    return products


def _reshaped(edit: Editor, node: Node, data: Value, rank: int, channels: Sequence[int]) -> Value:
    """The data with its last axes, behind those of the rows, in other sizes."""
    shape = edit.add_constant_for(node, np.array([0] * (rank - 1) + list(channels)), f"{node.name}_fold")
    return edit.add_node("Reshape", [data, shape], before=node, name=f"{node.name}_fold").outputs[0]


def _take_place(edit: Editor, op: LinearOp, data: Value) -> None:
    """Let a value be the result of the layer, under its name; the bias of a Gemm is added to it."""
    node, result, name = op.node, op.result, op.result.name
    shift = op.bias
    if shift is not None and op.beta != 1:
        factor = edit.add_constant_for(node, np.array(op.beta, op.stored_weight().dtype), f"{node.name}_beta")
        shift = edit.add_node("Mul", [shift, factor], before=node, name=f"{node.name}_shift").outputs[0]
    if shift is not None:
        data = edit.add_node("Add", [data, shift], before=node, name=f"{node.name}_shifted").outputs[0]
    edit.copy_type(result, data)
    edit.replace(result, data)
    edit.remove(node)
    data.name = result.name = name  # which the layer is known by, though its node is gone
