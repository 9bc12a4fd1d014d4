"""A whole graph as a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.lowering.context import (
    KernelChooser,
    Lowering,
    StoredValue,
    as_it_is,
    elements_of,
    shape_of,
)
from graphpress.backends.tvm.lowering.layout import images_of, natural, plane_of
from graphpress.backends.tvm.lowering.open_axes import OpenSizeError, open_axes, open_node_error
from graphpress.backends.tvm.lowering.open_nodes import check_open_axes
from graphpress.backends.tvm.lowering.placement import placements
from graphpress.backends.tvm.lowering.refusal import UnsupportedError, missing_result, refused
from graphpress.backends.tvm.lowering.rules import RULES
from graphpress.backends.tvm.lowering.rules.generic import lower_generic
from graphpress.backends.tvm.lowering.windows import halos
from graphpress.backends.tvm.program import CallerTensor, OpenSize, Program
from graphpress.backends.tvm.stripes import in_stripes
from graphpress.ir import Model, Node, Value, is_constant, label, values_of
from graphpress.ir.encoding import output_encoding
from graphpress.ops import operator_key


def lower(
    model: Model,
    isa: Isa,
    threads: int = 1,
    chosen: KernelChooser = as_it_is,
    batch_axes: Mapping[str, int] | None = None,
    rounds_activations: bool = False,
    sizes: Sequence[OpenSize] = (),
) -> Program:
    """A model as kernels and buffers.

    Args:
        model: annotated; every value has a static shape: that of one sample, where the batch is open.
        isa: for what.
        threads: among which tasks are meant to be shared.
        chosen: turns the knob of a kernel (``tuning``) to another setting than the rules'.
        batch_axes: where the batch is open, which axis of a value counts samples, by name, of those that have one.
        rounds_activations: whether products with integer weights may round their activations to eight bits in blocks
            (``QuantizationPolicy``).
        sizes: that each run gives; every value has the shape of the largest, and its open axes declared.

    Raises:
        ModelError: a node has no kernels; it is named.
    """
    lowering = Lowering(isa, halos(model.graph), threads, chosen, rounds_activations=rounds_activations)
    if batch_axes is not None:
        named = ((value, batch_axes.get(value.name or "")) for value in values_of(model.graph))
        lowering.batch_axes = {value: axis for value, axis in named if axis is not None}
    lowering.program.sizes = sizes
    lowering.places = {} if sizes else placements(model.graph)
    lowering.program.inputs = [_port(value) for value in model.graph.inputs]
    lowering.program.outputs = [_port(value) for value in model.graph.outputs]
    for value, port in zip(model.graph.inputs, lowering.program.inputs, strict=True):
        lowering.bind(value, None, natural(len(port.shape)), port)
    for node in model.graph:
        if node not in lowering.done and not all(is_constant(value) for value in node.outputs):
            _lower_node(node, lowering)
    for value, port in zip(model.graph.outputs, lowering.program.outputs, strict=True):
        _write_output(value, port, lowering)
    lowering.program.stripes = [] if sizes else in_stripes(lowering.program, isa, threads)
    return lowering.program


def _lower_node(node: Node, lowering: Lowering) -> None:
    """By the operator's rule, which refuses before it makes room for results; else as loops of TVM's."""
    check_open_axes(node)
    try:
        rule = RULES.get(operator_key(node.op_type, node.domain))
        if rule is None:
            raise refused(node, "the operator has no rule")
        rule(node, lowering)
        if missing := [value for value in node.outputs[1:] if _is_read(value) and value not in lowering.forms]:
            raise missing_result(node, missing[0])
    except OpenSizeError as error:
        error.where = error.where or f"node {label(node)}"
        raise
    except UnsupportedError as error:
        assert not any(value in lowering.forms for value in node.outputs), f"{node.op_type} was refused too late"
        if any(map(open_axes, (*node.inputs, *node.outputs))):
            raise open_node_error(node, error.why) from error
        lower_generic(node, lowering, error.why)


def _is_read(value: Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _port(value: Value) -> CallerTensor:
    shape = shape_of(value)
    order = natural(len(shape))
    plane = replace(plane_of(shape, order, 1), dtype=elements_of(value))
    assert value.dtype is not None
    return CallerTensor(value.name or "", shape, plane, images_of(shape, order), value.dtype.numpy().name)


def _write_output(value: Value, port: CallerTensor, lowering: Lowering) -> None:
    source = lowering.form(value, output_encoding(value))
    if source.memory is port:
        return
    lowering.copy(source, StoredValue(port, None, natural(len(port.shape)), port.shape, port.plane))
