"""A whole graph as a program."""

from __future__ import annotations

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import REAL, Epilogue
from graphpress.backends.tvm.lowering.layout import natural, plane_of
from graphpress.backends.tvm.lowering.rules import RULES
from graphpress.backends.tvm.lowering.windows import halos
from graphpress.backends.tvm.program import CallerTensor, Program
from graphpress.errors import ModelError
from graphpress.ir import DataType, Model, Value, is_constant, is_standard, label
from graphpress.ir.encoding import output_encoding


def lower(model: Model, isa: Isa, threads: int = 1) -> Program:
    """A model as kernels and buffers.

    Args:
        model: annotated; every value has a static shape, the images first.
        isa: for what.
        threads: among which tasks are meant to be shared.

    Raises:
        ModelError: a node has no kernels; it is named.
    """
    lowering = Lowering(isa, halos(model.graph), threads)
    lowering.program.inputs = [_port(value) for value in model.graph.inputs]
    lowering.program.outputs = [_port(value) for value in model.graph.outputs]
    for value, port in zip(model.graph.inputs, lowering.program.inputs, strict=True):
        lowering.bind(value, None, natural(len(port.shape)), port)
    for node in model.graph:
        if node in lowering.done or all(is_constant(value) for value in node.outputs):
            continue
        rule = RULES.get(node.op_type) if is_standard(node) else None
        if rule is None:
            raise ModelError(f"{node.op_type} has no kernels", where=f"node {label(node)}", fix="use onnxruntime")
        rule(node, lowering)
    for value, port in zip(model.graph.outputs, lowering.program.outputs, strict=True):
        _write_output(value, port, lowering)
    return lowering.program


def _port(value: Value) -> CallerTensor:
    if value.dtype is not DataType.FLOAT:
        raise ModelError("is no float tensor", where=f"value {label(value)}", fix="use onnxruntime")
    shape = shape_of(value)
    return CallerTensor(value.name or "", shape, plane_of(shape, natural(len(shape)), 1))


def _write_output(value: Value, port: CallerTensor, lowering: Lowering) -> None:
    source = lowering.form(value, output_encoding(value))
    epilogue = Epilogue(unit=source.unit)
    epilogue.into(REAL)
    lowering.copy(source, Destination(port.plane), port, natural(len(port.shape)), epilogue)
