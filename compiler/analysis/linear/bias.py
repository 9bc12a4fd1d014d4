"""Where the bias of a linear operator lives, and how it gets another one.

A convolution and a Gemm have an input for it. A MatMul has none: the constant that an Add behind it adds serves as one,
or else a new Add is made.
"""

from __future__ import annotations

import numpy as np

from graphpress.analysis.linear.op import LinearOp
from graphpress.analysis.linear.requantize import bias_encoding
from graphpress.ir import Editor, Node, Value, constant, is_standard, only_reader, readers
from graphpress.ir.encoding import read_encoding, set_encoding

FLOAT_DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
"""Types that numpy computes in."""


def adder_of(op: LinearOp) -> Node | None:
    """The Add behind a product that adds one plain constant a channel to its result, and to nothing else.

    None for an operator that has a bias of its own.
    """
    add = next(iter(readers(op.result)), None) if op.bias_index is None else None
    if add is None or not is_standard(add, "Add") or not only_reader(op.result, add) or op.matrix_shape[0] > 1:
        return None
    index = constant_operand(add)
    if index is None or read_encoding(add, index) is not None:
        return None
    array = constant(add.inputs[index])
    assert array is not None
    outputs = op.matrix_shape[2]
    return add if array.size == outputs and array.shape[-1:] == (outputs,) and array.dtype in FLOAT_DTYPES else None


def takes_shift(op: LinearOp) -> bool:
    """Whether a shift of the result has somewhere to go without a new node."""
    return op.bias_index is not None or adder_of(op) is not None


def constant_operand(node: Node) -> int | None:
    """Which of the two operands of a node is constant; None for none or both."""
    places = [index for index, value in enumerate(node.inputs) if constant(value) is not None]
    return places[0] if len(places) == 1 else None


def write_bias(edit: Editor, op: LinearOp, bias: np.ndarray, dtype: str = "int32") -> Value:
    """Give the operator this bias, in a new input or a new Add where it has none.

    Args:
        edit: of the model.
        op: whose weight is as it will be delivered: the grid of an integer layer's bias follows from it.
        bias: ``[blocks, outputs]``. For a product it is added to what is added behind it already.
        dtype: what the bias of an integer layer is on the target, ``int32`` or a float type.

    Returns:
        The result with the bias: that of the operator, or that of the Add behind a product.
    """
    if op.bias_index is None:
        return _shift_result(edit, op, bias)
    node, had = op.node, op.bias is not None
    if not had and not np.any(bias):
        return op.result
    encoding = bias_encoding(node, op.weight_index, bias) if dtype == "int32" else None
    array = bias.reshape(-1).astype(op.stored_weight().dtype)
    own = edit.own_constant(node, op.bias_index, array, None if had else f"{node.name or 'layer'}_bias")
    if node.op_type == "Gemm":
        edit.set_attributes(node, beta=None)
    set_encoding(own, encoding)
    return op.result


def _shift_result(edit: Editor, op: LinearOp, bias: np.ndarray) -> Value:
    """Add to the result of a product: through the constant that is added behind it, or with a new Add."""
    shift, adder = bias.reshape(-1), adder_of(op)
    if adder is not None and np.any(shift):
        index = constant_operand(adder)
        assert index is not None
        array = constant(adder.inputs[index])
        assert array is not None
        edit.own_constant(adder, index, (array + shift.reshape(array.shape)).astype(array.dtype))
    if adder is not None:
        return adder.outputs[0]
    return add_behind(edit, op, shift) if np.any(shift) else op.result


def add_behind(edit: Editor, op: LinearOp, shift: np.ndarray) -> Value:
    """A new Add of one constant a channel behind the operator, which all that read its result read instead."""
    node, result = op.node, op.result
    value = edit.add_constant_for(node, shift.astype(op.stored_weight().dtype), f"{node.name or node.op_type}_bias")
    return edit.put_behind(result, "Add", [value], after=node, name=f"{node.name or node.op_type}_shift")
