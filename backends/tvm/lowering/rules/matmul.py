"""Products of two activations: MatMul with any leading axes, and Gemm without an addend.

What is read in codes is multiplied as the numbers that the codes stand for.
"""

from __future__ import annotations

from dataclasses import replace

from graphpress.backends.tvm.kernels.batched_product import BatchedProduct
from graphpress.backends.tvm.kernels.stages import Multiply
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.operands import along, floats_of, spread
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.ir import Node, NodeView, input_of


def lower_product(node: Node, lowering: Lowering) -> None:
    """A product whose factors are both computed at run time.

    Raises:
        UnsupportedError: a factor is a vector, or a Gemm adds something.
    """
    view = NodeView.of(node)
    shapes = [shape_of(value) for value in node.inputs[:2] if value is not None]
    if min(len(shape) for shape in shapes) < 2:
        raise refused(node, "a factor is a vector")
    if input_of(node, 2) is not None and view.number("beta", 1.0):
        raise refused(node, "its weights are computed at run time, and it adds something")
    turned = [view.flag("transA"), view.flag("transB")]
    result = shape_of(node.outputs[0])
    columns = len(shapes[1]) - (2 if turned[1] else 1)
    left, right = floats_of(lowering, node, 0), along(lowering, node, 1, columns)
    epilogue = Epilogue()
    if (alpha := view.number("alpha", 1.0)) != 1.0:
        epilogue.stages.append(Multiply(alpha))
    target = finish(lowering, node, natural(len(result)), epilogue)
    first, second = (_matrices(source, result[:-2], turn) for source, turn in zip((left, right), turned, strict=True))
    depth = shapes[0][-2 if turned[0] else -1]
    kernel = BatchedProduct(first, second, target.store, result[:-2], depth, tuple(epilogue.stages))
    operands = {"left": left.memory, "right": right.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes)


def _matrices(source: StoredValue, leading: tuple[int, ...], turned: bool) -> StridedView:
    """Where the matrices of a factor lie, for all leading axes of the result; transposed where they are turned."""
    view = spread(source, (*leading, *source.shape[-2:]))
    if not turned:
        return view
    return replace(view, steps=(*view.steps[:-2], view.steps[-1], view.steps[-2]))
