"""Products of two activations: MatMul with any leading axes, and Gemm without an addend.

Where both are read in codes, integers are multiplied; of one alone, and where a processor has no exact products of
bytes, the numbers that the codes stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from graphpress.backends.tvm.kernels.batched_product import BatchedProduct
from graphpress.backends.tvm.kernels.code_packing import CodePacking
from graphpress.backends.tvm.kernels.code_product import CodeProduct
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Multiply
from graphpress.backends.tvm.kernels.view import StridedView
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import finish
from graphpress.backends.tvm.lowering.layout import natural
from graphpress.backends.tvm.lowering.operands import along, floats_of, spread
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.program import Buffer
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
    turned = (view.flag("transA"), view.flag("transB"))
    factors = _code_factors(node, lowering, turned)
    unit = 1.0 if factors is None else float(np.float32(factors[0].unit) * np.float32(factors[1].unit))
    epilogue = Epilogue(unit=unit)
    if (alpha := view.number("alpha", 1.0)) != 1.0:
        epilogue.stages.append(Multiply(alpha))
    result = shape_of(node.outputs[0])
    depth = shapes[0][-2 if turned[0] else -1]
    product = MatrixProduct(node, turned, result[:-2], depth, epilogue)
    if factors is not None:
        _emit_codes(lowering, product, *factors)
    else:
        _emit_floats(lowering, product, len(shapes[1]) - (2 if turned[1] else 1))


class MatrixProduct(NamedTuple):
    """A product under construction.

    Args:
        node: it.
        turned: whether each factor is transposed.
        leading: extents of the leading axes of the result.
        depth: products of a sum.
        epilogue: behind the sums.
    """

    node: Node
    turned: tuple[bool, bool]
    leading: tuple[int, ...]
    depth: int
    epilogue: Epilogue


def _emit_floats(lowering: Lowering, product: MatrixProduct, columns: int) -> None:
    """As one kernel; the right factor in vectors along an axis."""
    node, leading = product.node, product.leading
    left, right = floats_of(lowering, node, 0), along(lowering, node, 1, columns)
    target = finish(lowering, node, natural(len(leading) + 2), product.epilogue)
    first, second = (_matrices(*factor, leading) for factor in zip((left, right), product.turned, strict=True))
    stages = tuple(target.epilogue.stages)
    kernel = BatchedProduct(first, second, target.store, leading, product.depth, stages)
    operands = {"left": left.memory, "right": right.memory, **target.epilogue.operands}
    lowering.emit(kernel, {**operands, "result": target.operand.memory}, target.nodes)


def _code_factors(node: Node, lowering: Lowering, turned: tuple[bool, bool]) -> tuple[StoredValue, StoredValue] | None:
    """Both factors in codes, laid as integer kernels read them; None where floats are multiplied."""
    encodings = lowering.factor_encodings(node)
    if encodings is None or turned[0]:
        return None
    left, right = (
        lowering.form(value, encoding)
        for value, encoding in zip(node.inputs, encodings, strict=False)
        if value is not None
    )
    if left.view.steps[-1] != 1:
        left = lowering.without_gaps(left, left.codes)
    if 1 not in right.view.steps[-2:]:
        right = lowering.without_gaps(right, right.codes)
    return left, right


def _emit_codes(lowering: Lowering, product: MatrixProduct, left: StoredValue, right: StoredValue) -> None:
    """The right factor packed, then the product."""
    isa, leading = lowering.isa, product.leading
    target = finish(lowering, product.node, natural(len(leading) + 2), product.epilogue)
    own, columns = right.shape[:-2], target.store.plane.channels
    packing = CodePacking(_matrices(right, product.turned[1], own), own, product.depth, columns, left.zero_point)
    view = packing.packed(isa.lanes)
    packed = Buffer(Plane(view.size, 1, 1, view.size, dtype=view.dtype))
    lowering.emit(packing, {"right": right.memory, "result": packed})
    kernel = CodeProduct(
        _matrices(left, False, leading),
        _spread_blocks(view, own, leading),
        target.store,
        leading,
        product.depth,
        packing.packed_zero_point,
        tuple(target.epilogue.stages),
    )
    operands = {"left": left.memory, "right": packed, **target.epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes)


def _spread_blocks(view: StridedView, own: Sequence[int], leading: Sequence[int]) -> StridedView:
    """Packed matrices for all leading axes of the result."""
    steps = (0 if extent == 1 else step for extent, step in zip(own, view.steps, strict=False))
    return replace(view, steps=(*(0,) * (len(leading) - len(own)), *steps, *view.steps[-2:]))


def _matrices(source: StoredValue, turned: bool, leading: tuple[int, ...]) -> StridedView:
    """Where the matrices of a factor lie, for all leading axes of the result; transposed where they are turned."""
    view = spread(source, (*leading, *source.shape[-2:]))
    if not turned:
        return view
    return replace(view, steps=(*view.steps[:-2], view.steps[-1], view.steps[-2]))
