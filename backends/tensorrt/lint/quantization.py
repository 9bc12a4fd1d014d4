"""Q/DQ nodes: grids that TensorRT does not read, and placements that it computes in float all the same.

A grid that it reads is symmetric, of int8 (int4 or float8 where the processor has them), with constant scales: one a
tensor for activations, one an output channel or a block for weights. A multiplication computes in integers when both
operands come straight out of such a grid, or through nodes that only move data:

    conv(DQ(q), DQ(w), bias)    with  scale(w)  along the output channels,  q and w of one type,  bias in float

What was seen to happen otherwise (tensorrt_rtx 1.7, by the types in its list of layers) stands with each rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.lint.finding import Finding, degraded, fatal
from graphpress.backends.tensorrt.lint.types import type_name
from graphpress.ir import (
    Model,
    Node,
    Value,
    constant,
    dims_of,
    graphs,
    input_of,
    int_attribute,
    ints_attribute,
    is_constant,
    is_standard,
    producer,
    rank_of,
    readers,
)
from graphpress.ops import Quantization, Role, lookup

Q, DQ = "QuantizeLinear", "DequantizeLinear"

GRIDS = ("float4e2m1", "float8e4m3fn", "int4", "int8")
"""Types that operands are stored in."""

SYMMETRIC = "quantise symmetrically, with a zero-point of 0"

FUSED_ACTIVATIONS = ("Clip", "LeakyRelu", "Relu")
"""Activations that the kernel before them computes on its accumulator."""

INT8_GROUP = 4
"""In int8 the channels of each group of a convolution come in multiples of this (NvInfer.h, setNbGroups)."""

FLOAT_ONLY = ("ConvTranspose", "DeformConv")
"""Multiplications without an integer kernel."""


# -- grids ----------------------------------------------------------------------------------------------------


def grid_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Q and DQ nodes whose zero-point, scale, type or block is not read."""
    for graph in graphs(model):
        for node in graph:
            if device.platform.dla:
                yield from _without_range(node)
            elif is_standard(node, Q, DQ):
                yield from _zero_point(node)
                yield from _integers(node)
                yield from _scale(node)


def _without_range(node: Node) -> Iterator[Finding]:
    """The accelerator has the grids of activations from a cache that holds a scale for each, and nothing else."""
    if not is_standard(node, Q) or is_constant(node.inputs[0]):
        return
    scale = constant(input_of(node, 1))
    if _stored_type(node) != "int8" or scale is None or scale.size > 1 or next(_zero_point(node), None) is not None:
        yield degraded(
            node,
            "its grid is not int8 with one scale and a zero-point of 0: what reads it runs in float on the accelerator",
            SYMMETRIC,
        )


def _zero_point(node: Node) -> Iterator[Finding]:
    value = input_of(node, 2)
    zero = constant(value)
    if value is not None and zero is None:
        yield fatal(node, "its zero-point is computed at run time", SYMMETRIC)
    elif zero is not None and zero.astype("float32").any():
        yield fatal(node, "its zero-point is not 0: TensorRT reads symmetric grids only", SYMMETRIC)


def _integers(node: Node) -> Iterator[Finding]:
    dtype = _stored_type(node)
    if dtype == "uint8":
        yield fatal(
            node,
            "its grid is uint8, which TensorRT reads as int8: everything above 127 saturates",
            "quantise to int8",
        )
    elif dtype == "int32":
        yield fatal(node, "dequantises int32, which TensorRT does not", "keep the bias in float")


def _stored_type(node: Node) -> str:
    """Type of the integers of a Q or DQ node; "" where it is unknown."""
    typed = input_of(node, 2) or (node.inputs[0] if node.op_type == DQ else node.outputs[0])
    if typed is None or not type_name(typed):
        return "uint8" if input_of(node, 2) is None and "output_dtype" not in node.attributes else ""
    return type_name(typed)


def _scale(node: Node) -> Iterator[Finding]:
    scale = constant(input_of(node, 1))
    if scale is None:
        yield degraded(node, "its scale is computed at run time: what reads it runs in float", "quantise statically")
        return
    if scale.size > 1 and node.op_type == Q and not is_constant(node.inputs[0]):
        # Seen: the convolution behind it runs in float16.
        yield degraded(
            node,
            "quantises an activation with one scale a channel: what reads it runs in float",
            "use one scale for the tensor; weights may have one a channel",
        )
    if int_attribute(node, "block_size", 0):
        yield from _blocks(node, scale.shape)


def _blocks(node: Node, blocks: tuple[int, ...]) -> Iterator[Finding]:
    dims, block = dims_of(node.inputs[0]), int_attribute(node, "block_size", 0)
    if dims is None or len(dims) != len(blocks):
        return
    axis = int_attribute(node, "axis", 1) % len(dims)
    size = dims[axis]
    if axis < len(dims) - 2:
        yield fatal(node, f"its blocks run along axis {axis}, not along one of the last two", "leave it float")
    elif size is not None and size % block:
        # Seen: refused, or read with blocks of another size where the number of scales divides the axis.
        yield fatal(
            node,
            f"its blocks of {block} do not divide axis {axis} of size {size}",
            "choose a block size that divides it, or leave it float",
        )


# -- placements -----------------------------------------------------------------------------------------------


def integer_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Multiplications that quantisation was meant for and that run in float, and activations cut off from them."""
    if device.platform.dla:
        return
    for graph in graphs(model):
        for node in graph:
            spec = lookup(node.op_type) if is_standard(node) else None
            if spec is None or spec.quantization.role is not Role.ANCHOR or spec.quantization.weight is None:
                continue
            yield from _multiplication(node, spec.quantization, device)
            yield from _cut_off(node)


@dataclass(frozen=True)
class Operand:
    """One side of a multiplication.

    Args:
        value: as the node reads it.
        decoder: the DQ node that it comes out of, if any.
        axis: axis of the operand that its scales run along; None for one scale, or where it is lost on the way.
        per_axis: there are several scales, and not in blocks.
        stored: it is a weight: known before the model runs.
    """

    value: Value
    decoder: Node | None
    axis: int | None
    per_axis: bool
    stored: bool

    @property
    def dtype(self) -> str:
        """Type of the stored integers."""
        return "" if self.decoder is None else _stored_type(self.decoder)

    @property
    def blocked(self) -> bool:
        """Whether scales come in blocks."""
        return self.decoder is not None and int_attribute(self.decoder, "block_size", 0) > 0


def _operand(value: Value) -> Operand:
    """Follow the value back through what only moves data, and its axes with it."""
    rank, here = rank_of(value), value
    axes = None if rank is None else list(range(rank))  # axes[i]: where axis i of `here` lies in the operand
    while (node := here.producer()) is not None and not is_standard(node, DQ, Q) and _moves(node):
        source = node.inputs[0]
        assert source is not None
        axes = _before(node, axes)
        here = source
    decoder = producer(here, DQ)
    if decoder is None:
        return Operand(value, None, None, False, is_constant(here))
    source, scale = decoder.inputs[0], constant(input_of(decoder, 1))
    encoder = producer(source, Q)
    stored = is_constant(source) or (encoder is not None and is_constant(encoder.inputs[0]))
    per_axis = scale is not None and scale.size > 1 and not int_attribute(decoder, "block_size", 0)
    axis = axes[int_attribute(decoder, "axis", 1) % len(axes)] if per_axis and axes else None
    return Operand(value, decoder, axis, per_axis, stored)


def _moves(node: Node) -> bool:
    spec = lookup(node.op_type) if is_standard(node) else None
    return spec is not None and spec.quantization.moves_data and node.inputs[0] is not None


def _before(node: Node, axes: list[int] | None) -> list[int] | None:
    """The map of axes in front of a node, where it can be told."""
    if axes is None:
        return None
    if is_standard(node, "Transpose"):
        order = ints_attribute(node, "perm") or tuple(reversed(range(len(axes))))
        return [axes[order.index(axis)] for axis in range(len(axes))]
    same_rank = rank_of(node.inputs[0]) == len(axes)
    return axes if same_rank and not is_standard(node, "Reshape", "DepthToSpace", "SpaceToDepth") else None


def _multiplication(node: Node, roles: Quantization, device: Device) -> Iterator[Finding]:
    index = roles.weight
    assert index is not None
    values = {place: input_of(node, place) for place in (0, index)}
    operands = {place: _operand(value) for place, value in values.items() if value is not None}
    quantised = [operand for operand in operands.values() if operand.decoder is not None]
    if not quantised or len(operands) < 2:
        return
    if len(quantised) == 1:
        other = next(operand for operand in operands.values() if operand.decoder is None)
        yield from _one_sided(node, quantised[0], other)
    elif node.op_type in FLOAT_ONLY:
        # Seen: Half operands, whatever the axis of the scales.
        yield degraded(node, f"{node.op_type} has no integer kernel: it runs in float", "leave it float")
    elif not any(operand.blocked for operand in quantised):
        yield from _two_sided(node, roles, operands)
        yield from _groups(node, device)


def _one_sided(node: Node, operand: Operand, other: Operand) -> Iterator[Finding]:
    if not operand.stored:
        what = "its weight is float" if other.stored else "its other operand is float"
        # Seen: rounded, and multiplied in float16.
        yield degraded(node, f"its data is quantised and {what}: it runs in float", "quantise both operands, or none")
    elif node.op_type not in ("MatMul", "Gemm"):
        # Seen: a kernel before it expands the weights to float16.
        yield degraded(
            node,
            "its weights are quantised and its data is float: TensorRT expands them to float before it runs",
            "quantise its data too, or leave it float",
        )
    elif (operand.dtype == "int4" and not operand.blocked) or (operand.dtype == "int8" and operand.blocked):
        # Seen: expanded to float16 by a kernel of its own; int4 in blocks and int8 without stay as they are.
        form = "without blocks" if operand.dtype == "int4" else "in blocks"
        yield degraded(
            node,
            f"its {operand.dtype} weights {form} are expanded to float before it runs",
            "quantise to int4 in blocks, or to int8 with one scale a channel",
        )


def _two_sided(node: Node, roles: Quantization, operands: dict[int, Operand]) -> Iterator[Finding]:
    dtypes = sorted({operand.dtype for operand in operands.values()} & set(GRIDS))
    if len(dtypes) > 1:
        # Seen: float8 and int8 give no engine; int8 and int4 widen.
        report = fatal if any(dtype.startswith("float") for dtype in dtypes) else degraded
        yield report(node, f"multiplies {' by '.join(dtypes)}", "quantise both operands to one type")
    for place, operand in operands.items():
        rank = rank_of(operand.value)
        if not operand.stored or not operand.per_axis or operand.axis is None or rank is None:
            continue
        wanted = _channel_axis(node, roles, place, rank)
        if operand.axis != wanted:
            # Seen: dequantised first, and multiplied in float16.
            yield degraded(
                node,
                f"the scales of its weight run along axis {operand.axis}, not along its outputs (axis {wanted}):"
                " it runs in float",
                "quantise the weight along its outputs",
            )


def _channel_axis(node: Node, roles: Quantization, place: int, rank: int) -> int:
    """The axis of outputs of a weight, on whichever side of a product it stands."""
    if place == roles.weight and roles.channel_axis is not None:
        return roles.channel_axis(node, rank) % rank
    transposed = node.op_type == "Gemm" and int_attribute(node, "transA", 0)
    return rank - 1 if transposed else rank - 2


def _groups(node: Node, device: Device) -> Iterator[Finding]:
    groups = int_attribute(node, "group", 1)
    if groups == 1 or device.platform.product != "tensorrt":  # seen: TensorRT for RTX pads them
        return
    weight = dims_of(input_of(node, 1))
    if weight is None or weight[0] is None or weight[1] is None:
        return
    outputs, inputs = weight[0] // groups, weight[1]
    depthwise = inputs == 1
    if not depthwise and (outputs % INT8_GROUP or inputs % INT8_GROUP):
        yield degraded(
            node,
            f"its groups of {inputs} and {outputs} channels are no multiples of {INT8_GROUP}: int8 kernels want that",
            "leave it float, or change the number of groups",
        )


def _cut_off(node: Node) -> Iterator[Finding]:
    """Between a multiplication and its activation: Q, DQ. What others read too has to be written out anyway."""
    encoders = readers(node.outputs[0])
    if len(encoders) != 1 or not is_standard(encoders[0], Q):
        return
    behind = {one for decoder in readers(encoders[0].outputs[0]) for one in readers(decoder.outputs[0])}
    if len(behind) != 1:
        return
    (activation,) = behind
    if is_standard(activation, *FUSED_ACTIVATIONS):
        # Seen: a kernel of its own for the activation.
        yield degraded(
            encoders[0],
            f"stands between {node.op_type} and {activation.op_type}, which one kernel would compute",
            f"quantise behind {activation.op_type}",
        )
