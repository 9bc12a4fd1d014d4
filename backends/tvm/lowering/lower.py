"""A whole graph as a program."""

from __future__ import annotations

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Store
from graphpress.backends.tvm.kernels.transposition import ChannelsFirst, ChannelsLast
from graphpress.backends.tvm.lowering.context import Lowering
from graphpress.backends.tvm.lowering.epilogue import REAL, Epilogue
from graphpress.backends.tvm.lowering.rules import RULES
from graphpress.backends.tvm.lowering.windows import halos
from graphpress.backends.tvm.program import Buffer, Port, Program
from graphpress.errors import ModelError
from graphpress.ir import Model, Value, is_standard, label, static_shape
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
    for value, port in zip(model.graph.inputs, lowering.program.inputs, strict=True):
        _read_input(value, port, lowering)
    for node in model.graph:
        if node in lowering.done:
            continue
        rule = RULES.get(node.op_type) if is_standard(node) else None
        if rule is None:
            raise ModelError(f"{node.op_type} has no kernels", where=f"node {label(node)}", fix="use onnxruntime")
        rule(node, lowering)
    lowering.program.outputs = [_port(value) for value in model.graph.outputs]
    for value, port in zip(model.graph.outputs, lowering.program.outputs, strict=True):
        _write_output(value, port, lowering)
    return lowering.program


def _port(value: Value) -> Port:
    shape = static_shape(value)
    if shape is None or value.dtype is None or value.dtype.name != "FLOAT":
        raise ModelError("is no float tensor of fixed shape", where=f"value {label(value)}", fix="use --input-shape")
    return Port(value.name or "", shape, FLOAT)


def _read_input(value: Value, port: Port, lowering: Lowering) -> None:
    encoding = lowering.wanted(value)
    codes = lowering.codes(value, encoding)
    plane = lowering.plane(value)
    epilogue = Epilogue()
    epilogue.into(REAL if codes is None else codes.scale)
    few = 4 if codes is not None else plane.channels
    stride = few if plane.channels <= 4 else plane.stride
    dtype = FLOAT if codes is None else lowering.isa.dot.activations
    zero = 0 if codes is None else codes.zero_point
    plane = Plane(plane.channels, plane.height, plane.width, stride, plane.halo, dtype)
    buffer = Buffer(plane, zero, port.name)
    lowering.bind(value, encoding, buffer)
    kernel = ChannelsLast(plane, zero, tuple(epilogue.stages))
    lowering.emit(kernel, {"source": port, "result": buffer}, [port.name])


def _write_output(value: Value, port: Port, lowering: Lowering) -> None:
    source = lowering.form(value, output_encoding(value))
    epilogue = Epilogue(unit=REAL if source.codes is None else source.codes.scale)
    epilogue.into(REAL)
    plane, stages = source.buffer.plane, tuple(epilogue.stages)
    kernel: Kernel = ChannelsFirst(plane, source.zero_point, stages)
    if plane.height == plane.width == 1:
        result = Plane(plane.channels, 1, 1, plane.channels)
        kernel = Map(plane, Store(result), plane.channels, stages, source.zero_point)
    lowering.emit(kernel, {"source": source.buffer, "result": port}, [port.name])
