"""Q/DQ nodes whose grid TensorRT does not read.

A grid that it reads is symmetric, of int8 (int4 or float8 where the processor has them), with constant scales: one a
tensor for activations, one an output channel or a block for weights. What was seen to happen otherwise (tensorrt_rtx
1.7, by the types in its list of layers) stands with each rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.operands import DQ, Q, stored_type
from graphpress.ir import Model, Node, constant, dims_of, graphs, input_of, int_attribute, is_constant, is_standard
from graphpress.lint import Finding, degraded, fatal

SYMMETRIC = "quantize symmetrically, with a zero-point of 0"


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
    if stored_type(node) != "int8" or scale is None or scale.size > 1 or next(_zero_point(node), None) is not None:
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
    dtype = stored_type(node)
    if dtype == "uint8":
        yield fatal(
            node,
            "its grid is uint8, which TensorRT reads as int8: everything above 127 saturates",
            "quantize to int8",
        )
    elif dtype == "int32":
        yield fatal(node, "dequantizes int32, which TensorRT does not", "keep the bias in float")


def _scale(node: Node) -> Iterator[Finding]:
    scale = constant(input_of(node, 1))
    if scale is None:
        yield degraded(node, "its scale is computed at run time: what reads it runs in float", "quantize statically")
        return
    if scale.size > 1 and node.op_type == Q and not is_constant(node.inputs[0]):
        # Seen: the convolution behind it runs in float16.
        yield degraded(
            node,
            "quantizes an activation with one scale a channel: what reads it runs in float",
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
