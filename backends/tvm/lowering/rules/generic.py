"""Any node that no other rule takes: loops of TVM's library of operators, tried beside ONNX Runtime first.

They are slow, but present, and the report names them. What they read and write lies without gaps, as the standard has
it; what they keep to themselves is a buffer like all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import onnx

from graphpress.backends.tvm.codegen.legalize import LoopProgram, LoopTensor, NoLoopsError, loops_of
from graphpress.backends.tvm.kernels.generic import GenericLoops
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.lowering.context import Lowering, elements_of, shape_of
from graphpress.backends.tvm.lowering.layout import images_of, natural, plane_of
from graphpress.backends.tvm.lowering.node_model import input_name, model_of, output_name, written_out
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.program import Buffer, Constant, Source
from graphpress.backends.tvm.trial import try_loops
from graphpress.errors import ModelError
from graphpress.ir import Node, Value, is_constant, label, subgraphs_of

REMEMBERED = 64
"""Models of nodes whose loops are kept: a network has many alike."""


def lower_generic(node: Node, lowering: Lowering, why: str) -> None:
    """A node as loops.

    Args:
        node: the node.
        lowering: the program.
        why: no other rule takes it.

    Raises:
        UnsupportedError: TVM has no loops for it, or wrong ones.
    """
    if any(True for _ in subgraphs_of(node)):
        raise refused(node, "it holds graphs of its own")
    try:
        model, axes = model_of(node), _sample_axes(node, lowering)
        program = _loops(model.SerializeToString(deterministic=True), axes)
    except (NoLoopsError, ModelError) as error:
        other = f"{error.where} {error.what}" if isinstance(error, ModelError) else error
        raise refused(node, f"{why}, and {other}") from error
    places = _places(node, lowering, program)
    for step in program.steps:
        shared = tuple(isinstance(places[tensor.name], Constant) for tensor in step.tensors)
        kernel = GenericLoops(step.nest, shared)
        names = [operand.name for operand in kernel.operands]
        operands = {name: places[tensor.name] for name, tensor in zip(names, step.tensors, strict=True)}
        lowering.emit(kernel, operands, [node.name or ""])
    lowering.program.generic[node.name or label(node)] = why


@lru_cache(REMEMBERED)
def _loops(serialized: bytes, axes: tuple[tuple[str, int], ...] | None) -> LoopProgram:
    """Loops that were tried: of the node as it is, else of what the standard defines it by."""
    model = onnx.ModelProto.FromString(serialized)
    try:
        return _tried(model, model, axes)
    except NoLoopsError as error:
        try:
            return _tried(written_out(model), model, axes)
        except (NoLoopsError, ModelError):
            raise error from None


def _tried(written: onnx.ModelProto, model: onnx.ModelProto, axes: tuple[tuple[str, int], ...] | None) -> LoopProgram:
    program = loops_of(written)
    try_loops(program, model, None if axes is None else dict(axes))
    return program


def _sample_axes(node: Node, lowering: Lowering) -> tuple[tuple[str, int], ...] | None:
    """By input and output the axis that counts samples; None where the batch is fixed."""
    if lowering.batch_axes is None:
        return None
    inputs = [(input_name(index), value) for index, value in enumerate(node.inputs) if not is_constant(value)]
    outputs = [(output_name(index), value) for index, value in enumerate(node.outputs)]
    axes = ((name, lowering.batch_axes.get(value)) for name, value in (*inputs, *outputs) if value is not None)
    return tuple((name, axis) for name, axis in axes if axis is not None)


def _places(node: Node, lowering: Lowering, program: LoopProgram) -> dict[str, Source]:
    """What the tensors of the loops lie in, by name."""
    places: dict[str, Source] = {name: Constant(array) for name, array in program.constants.items()}
    for index, value in enumerate(node.inputs):
        if value is not None and not is_constant(value):
            places[input_name(index)] = lowering.numbers(node, index).memory
    for value, tensor in zip(node.outputs, program.outputs, strict=False):
        places[tensor.name] = _result(value, tensor, places, lowering)
    for step in program.steps:
        for tensor in step.tensors:
            if tensor.name not in places:
                places[tensor.name] = Buffer(_dense(tensor))
    return places


def _result(value: Value, tensor: LoopTensor, places: Mapping[str, Source], lowering: Lowering) -> Source:
    """Where a result lies: in the input, constant or other result that it is, else in new memory."""
    shape = shape_of(value)
    order = natural(len(shape))
    plane = replace(plane_of(shape, order, 1), dtype=elements_of(value))
    memory = places.get(tensor.name) or Buffer(plane, 0, value.name or "", images_of(shape, order))
    if isinstance(memory, Constant):
        memory = Constant(memory.array, plane, images_of(shape, order))
    lowering.bind(value, None, order, memory, plane)
    return memory


def _dense(tensor: LoopTensor) -> Plane:
    """A tensor as one line of elements."""
    size = math.prod(tensor.shape)
    return Plane(size, 1, 1, size, dtype=tensor.dtype)
