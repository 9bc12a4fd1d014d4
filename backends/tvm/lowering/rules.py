"""One rule an operator: how a node becomes kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.pool import AveragePool, GlobalAveragePool, MaxPool
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.lowering.chain import FUNCTIONS, limits_of
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import add, codes_behind, finish
from graphpress.backends.tvm.lowering.layout import channels_last, natural, plane_of, transposed
from graphpress.backends.tvm.lowering.linear import lower_linear
from graphpress.backends.tvm.lowering.windows import window_of
from graphpress.backends.tvm.program import Buffer
from graphpress.errors import ModelError
from graphpress.ir import Node, NodeView, is_constant, label
from graphpress.ir.encoding import read_encoding

Rule = Callable[[Node, Lowering], None]


# -- elementwise --------------------------------------------------------------------------------------------------


def _elementwise(node: Node, lowering: Lowering) -> None:
    """A function or a clamp with nothing before it to be computed along with."""
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    if node.op_type in FUNCTIONS:
        epilogue.activate(FUNCTIONS[node.op_type])
    else:
        limits = limits_of(node)
        if limits is None:
            raise _refused(node, "its limits are computed at run time")
        epilogue.clip(*limits)
    _emit_map(node, lowering, source, epilogue)


def _add(node: Node, lowering: Lowering) -> None:
    """A sum of two activations that were both there before."""
    first, second = node.inputs
    assert first is not None
    assert second is not None
    if any(is_constant(value) for value in (first, second)) or shape_of(first) != shape_of(second):
        raise _refused(node, "it adds a constant, or spreads one operand over the other")
    source = lowering.read(node, 0)
    epilogue = Epilogue(unit=source.unit)
    other = lowering.read(node, 1, source.order)
    add(epilogue, other, source.codes, codes_behind(lowering, node), index=1)
    _emit_map(node, lowering, source, epilogue)


def _emit_map(node: Node, lowering: Lowering, source: StoredValue, epilogue: Epilogue) -> None:
    target = finish(lowering, node, source.order, epilogue)
    kernel = Map(source.plane, target.store, source.plane.channels, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes)


# -- windows ------------------------------------------------------------------------------------------------------


def _max_pool(node: Node, lowering: Lowering) -> None:
    """In codes where what is read and what is wanted lie on one grid, else in floats."""
    result = node.outputs[0]
    order = channels_last(len(shape_of(result)))
    encoding, wanted = read_encoding(node, 0), lowering.wanted(result)
    same = encoding is not None and wanted is not None and encoding.grid == wanted.grid
    if not same and encoding is not None:
        raise _refused(node, "it reads codes of another grid than it writes")
    source = lowering.read(node, 0, order)
    target = lowering.room(result, encoding, order)
    kernel = MaxPool(source.plane, target.plane, window_of(node, source.plane))
    lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""])


def _average_pool(node: Node, lowering: Lowering) -> None:
    source = lowering.read(node, 0, channels_last(len(shape_of(node.outputs[0]))))
    epilogue = Epilogue(unit=source.unit)
    target = finish(lowering, node, source.order, epilogue)
    window, counts = window_of(node, source.plane), NodeView.of(node).flag("count_include_pad")
    kernel = AveragePool(source.plane, target.store, window, source.zero_point, counts, tuple(epilogue.stages))
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes)


def _global_average_pool(node: Node, lowering: Lowering) -> None:
    source = lowering.read(node, 0, channels_last(len(shape_of(node.outputs[0]))))
    epilogue = Epilogue(unit=source.unit, summed=source.plane.height * source.plane.width)
    target = finish(lowering, node, source.order, epilogue)
    kernel = GlobalAveragePool(source.plane, target.store, source.zero_point, tuple(epilogue.stages))
    operands = {"source": source.memory, **epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes)


# -- movement -----------------------------------------------------------------------------------------------------


def _transpose(node: Node, lowering: Lowering) -> None:
    """Nothing moves: the same memory, its axes in another order."""
    result = node.outputs[0]
    rank = len(shape_of(result))
    permutation = NodeView.of(node).integers("perm") or tuple(reversed(range(rank)))
    if permutation[0] != 0:
        raise _refused(node, "it moves the first axis, the images")
    source = lowering.read(node, 0)
    lowering.bind(result, read_encoding(node, 0), transposed(source.order, permutation), source.memory)


def _reshape(node: Node, lowering: Lowering) -> None:
    """The same memory where no axis lies otherwise in it; else a copy without gaps comes before."""
    value, result = node.inputs[0], node.outputs[0]
    assert value is not None
    before, after = shape_of(value), shape_of(result)
    if before[0] != after[0]:
        raise _refused(node, f"it makes {after[0]} of {before[0]} images")
    encoding = read_encoding(node, 0)
    source = lowering.read(node, 0)
    if source.plane.height == source.plane.width == 1 and max(after[1:]) == source.plane.channels:
        order = _order_of_vector(after)
        lowering.bind(result, encoding, order, source.memory)
        return
    order = natural(len(before))
    dense = plane_of(before, order, 1)
    target = Buffer(dense, 0, value.name or "")
    epilogue = Epilogue(unit=source.unit)
    epilogue.into(1.0)
    lowering.copy(source, Destination(dense), target, order, epilogue)
    target.plane = plane_of(after, natural(len(after)), 1)
    lowering.bind(result, None, natural(len(after)), target)


def _concat(node: Node, lowering: Lowering) -> None:
    """Each part is copied to where its channels begin."""
    result = node.outputs[0]
    rank = len(shape_of(result))
    axis = NodeView.of(node).axis(0, rank)
    if axis == 0:
        raise _refused(node, "it joins images")
    rest = lowering.read(node, 0).order
    order = (*(other for other in rest if other != axis), axis)
    target = lowering.room(result, lowering.wanted(result), order)
    first = 0
    for index in range(len(node.inputs)):
        source = lowering.read(node, index, order)
        epilogue = Epilogue(unit=source.unit)
        epilogue.into(target.unit)
        store, channels = Destination(target.plane, target.zero_point), source.plane.channels
        kernel = Map(source.plane, store, channels, tuple(epilogue.stages), source.zero_point, target=first)
        lowering.emit(kernel, {"source": source.memory, "result": target.memory}, [node.name or ""])
        first += channels


def _order_of_vector(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of size 1 first."""
    return tuple(sorted(range(1, len(shape)), key=lambda axis: shape[axis] > 1))


def _refused(node: Node, why: str) -> ModelError:
    return ModelError(f"{node.op_type} cannot be lowered: {why}", where=f"node {label(node)}", fix="use onnxruntime")


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Add": _add,
        "AveragePool": _average_pool,
        "Clip": _elementwise,
        "Concat": _concat,
        "Conv": lower_linear,
        "Flatten": _reshape,
        "Gemm": lower_linear,
        "GlobalAveragePool": _global_average_pool,
        "MatMul": lower_linear,
        "MaxPool": _max_pool,
        "Relu": _elementwise,
        "Reshape": _reshape,
        "Transpose": _transpose,
        **dict.fromkeys(FUNCTIONS, _elementwise),
    }
)
"""Rules by operator."""
