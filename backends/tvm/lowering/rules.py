"""One rule an operator: how a node becomes kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo
from graphpress.backends.tvm.kernels.pool import AveragePool, GlobalAveragePool, MaxPool
from graphpress.backends.tvm.kernels.transposition import ChannelsFirst
from graphpress.backends.tvm.lowering.chain import FUNCTIONS, limits_of
from graphpress.backends.tvm.lowering.context import Lowering, Operand
from graphpress.backends.tvm.lowering.epilogue import REAL, Epilogue
from graphpress.backends.tvm.lowering.linear import lower_linear
from graphpress.backends.tvm.lowering.windows import window_of
from graphpress.errors import ModelError
from graphpress.ir import Node, NodeView, is_constant, label, static_shape
from graphpress.ir.encoding import read_encoding

Rule = Callable[[Node, Lowering], None]


def _units(source: Operand) -> Epilogue:
    """Stages of a kernel that gives its source's numbers, less the zero-point."""
    return Epilogue(unit=REAL if source.codes is None else source.codes.scale)


def _elementwise(node: Node, lowering: Lowering) -> None:
    """A function or a clamp with nothing before it to be computed along with."""
    source = lowering.read(node, 0)
    epilogue = _units(source)
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
    shapes = [static_shape(value) for value in node.inputs]
    if len(set(shapes)) != 1 or any(is_constant(value) for value in node.inputs):
        raise _refused(node, "it adds a constant, or spreads one operand over the other")
    first, second = lowering.read(node, 0), lowering.read(node, 1)
    epilogue = _units(first)
    wanted = lowering.codes(node.outputs[0], lowering.wanted(node.outputs[0]))
    in_codes = wanted is not None and first.codes is not None and second.codes is not None
    epilogue.add(second.buffer, second.codes, wanted.scale if in_codes and wanted is not None else REAL)
    _emit_map(node, lowering, first, epilogue)


def _emit_map(node: Node, lowering: Lowering, source: Operand, epilogue: Epilogue) -> None:
    target = lowering.finish(node, epilogue)
    plane = source.buffer.plane
    kernel = Map(plane, target.store, plane.channels, tuple(epilogue.stages), source.zero_point)
    operands = {"source": source.buffer, **epilogue.operands, "result": target.buffer}
    lowering.emit(kernel, operands, target.nodes)


def _max_pool(node: Node, lowering: Lowering) -> None:
    """In codes where what is read and what is wanted lie on one grid, else in floats."""
    value, result = node.inputs[0], node.outputs[0]
    assert value is not None
    encoding, wanted = read_encoding(node, 0), lowering.wanted(result)
    same = encoding is not None and wanted is not None and encoding.grid == wanted.grid
    source = lowering.form(value, encoding if same else None)
    if not same and encoding is not None:
        lowering.form(value, encoding)  # rounded first, as the node reads it
        raise _refused(node, "it reads codes of another grid than it writes")
    buffer = lowering.buffer(result, encoding if same else None)
    kernel = MaxPool(source.buffer.plane, buffer.plane, window_of(node, source.buffer.plane))
    lowering.bind(result, encoding if same else None, buffer)
    lowering.emit(kernel, {"source": source.buffer, "result": buffer}, [node.name or ""])


def _average_pool(node: Node, lowering: Lowering) -> None:
    source = lowering.read(node, 0)
    epilogue = _units(source)
    target = lowering.finish(node, epilogue)
    window = window_of(node, source.buffer.plane)
    counts = NodeView.of(node).flag("count_include_pad")
    kernel = AveragePool(source.buffer.plane, target.store, window, source.zero_point, counts, tuple(epilogue.stages))
    lowering.emit(kernel, {"source": source.buffer, **epilogue.operands, "result": target.buffer}, target.nodes)


def _global_average_pool(node: Node, lowering: Lowering) -> None:
    source = lowering.read(node, 0)
    epilogue = _units(source)
    epilogue.unit /= source.buffer.plane.height * source.buffer.plane.width
    target = lowering.finish(node, epilogue)
    kernel = GlobalAveragePool(source.buffer.plane, target.store, source.zero_point, tuple(epilogue.stages))
    lowering.emit(kernel, {"source": source.buffer, **epilogue.operands, "result": target.buffer}, target.nodes)


def _flatten(node: Node, lowering: Lowering) -> None:
    """An image of one pixel is a vector already; of others, channels go before pixels."""
    value, result = node.inputs[0], node.outputs[0]
    assert value is not None
    shape = static_shape(result)
    if shape is None or len(shape) != 2 or shape[0] != (static_shape(value) or (None,))[0]:
        raise _refused(node, f"it gives the shape {shape}")
    encoding = read_encoding(node, 0)
    source = lowering.form(value, encoding)
    plane = source.buffer.plane
    if plane.height == plane.width == 1 and plane.halo == Halo():
        lowering.bind(result, encoding, source.buffer)
        return
    source = lowering.form(value, None)
    buffer = lowering.buffer(result, None)
    lowering.bind(result, None, buffer)
    lowering.emit(ChannelsFirst(source.buffer.plane), {"source": source.buffer, "result": buffer}, [node.name or ""])


def _refused(node: Node, why: str) -> ModelError:
    return ModelError(f"{node.op_type} cannot be lowered: {why}", where=f"node {label(node)}", fix="use onnxruntime")


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Add": _add,
        "AveragePool": _average_pool,
        "Clip": _elementwise,
        "Conv": lower_linear,
        "Flatten": _flatten,
        "Gemm": lower_linear,
        "GlobalAveragePool": _global_average_pool,
        "MatMul": lower_linear,
        "MaxPool": _max_pool,
        "Relu": _elementwise,
        "Reshape": _flatten,
        **dict.fromkeys(FUNCTIONS, _elementwise),
    }
)
"""Rules by operator."""
