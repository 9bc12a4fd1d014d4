"""The deep learning accelerator: what it does not run and leaves to the GPU, node by node.

It takes static shapes of four dimensions: at most 4096 in the batch, 8192 in each other. From NVIDIA's developer
guide, "DLA supported layers and restrictions", and the operator matrix of its repository Deep-Learning-Accelerator-SW
(TensorRT 8.5 to 10.7); nothing of this can be tried without the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.ir import (
    Graph,
    Model,
    Node,
    dims_of,
    graphs,
    input_of,
    int_attribute,
    ints_attribute,
    is_constant,
    is_standard,
    rank_of,
    scalar,
    static_shape,
    string_attribute,
)
from graphpress.lint import Finding, degraded

MAX_BATCH, MAX_DIMENSION = 4096, 8192

FALLS_BACK = "move it out of the part that the accelerator runs, or accept that the GPU computes it"

NOT_LAYERS = ("Constant", "ConstantOfShape", "DequantizeLinear", "Identity", "QuantizeLinear", "Shape")
"""What is gone before layers are placed: constants, shapes, and quantization, which the calibration cache holds."""

Dims = tuple[int | None, ...]

Limit = Callable[[Node], str | None]
"""Why the accelerator does not run this node, or None where it does."""


def dla_findings(model: Model, device: Device) -> Iterator[Finding]:
    """Open dimensions, and nodes that fall back to the GPU; nothing where the accelerator is not requested."""
    if not device.platform.dla:
        return
    for value in model.graph.inputs:
        if static_shape(value) is None:
            yield degraded(
                value,
                "the accelerator takes one shape only: the engine for it is built for the optimum one of the profile",
                "say which that is with --input-range, or fix the shape with --input-shape",
            )
    old = device.platform.capabilities == ("7.2",)
    for graph in graphs(model):
        for node in graph:
            if not is_standard(node, *NOT_LAYERS):
                why = _why_not(node, old, isinstance(graph, Graph) and graph is model.graph)
                if why is not None:
                    yield degraded(node, f"the accelerator does not run it: {why}", FALLS_BACK)


def _why_not(node: Node, old: bool, outermost: bool) -> str | None:
    if not is_standard(node) or node.op_type not in LAYERS:
        return f"it has no {node.op_type}"
    if not outermost:
        return "it stands in a subgraph"
    if old and node.op_type in LATER:
        return f"that of Xavier has no {node.op_type}"
    return _sizes(node) or LAYERS[node.op_type](node)


def _sizes(node: Node) -> str | None:
    for value in (*node.inputs, *node.outputs):
        dims = None if value is None or is_constant(value) else dims_of(value)
        if not dims:
            continue
        batch = prod(dim or 1 for dim in dims[:-3])  # whatever stands before channels, height and width
        if batch > MAX_BATCH:
            return f"a batch of {batch} is above {MAX_BATCH}"
        if (largest := max(dim or 1 for dim in dims[-3:])) > MAX_DIMENSION:
            return f"a dimension of {largest} is above {MAX_DIMENSION}"
    return None


# -- one limit an operator ------------------------------------------------------------------------------------


def _any(node: Node) -> str | None:
    return None


@dataclass(frozen=True)
class WindowBounds:
    """Bounds of what slides over an image, each from and to, inclusive; None where it has no such attribute."""

    kernel: tuple[int, int]
    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int] | None = None

    def beyond(self, node: Node, name: str, kernel: tuple[int, ...] | None) -> str | None:
        """Which attribute of a node lies outside, or None; ``name`` is what messages call its kernel."""
        return (
            _within(name, kernel, *self.kernel)
            or _within("padding", ints_attribute(node, "pads"), *self.padding)
            or _within("stride", ints_attribute(node, "strides"), *self.stride)
            or (self.dilation and _within("dilation", ints_attribute(node, "dilations"), *self.dilation))
            or None
        )


CONVOLUTION = WindowBounds(kernel=(1, 32), padding=(0, 31), stride=(1, 8), dilation=(1, 32))
DECONVOLUTION = WindowBounds(kernel=(1, 32), padding=(0, 0), stride=(1, 32), dilation=(1, 1))
POOLING = WindowBounds(kernel=(1, 8), padding=(0, 7), stride=(1, 16))


def _convolution(node: Node) -> str | None:
    return _planes(node) or _constant_weight(node) or CONVOLUTION.beyond(node, "kernel", _kernel(node))


def _deconvolution(node: Node) -> str | None:
    if int_attribute(node, "group", 1) > 1:
        return "it has no groups in deconvolutions"
    return _planes(node) or _constant_weight(node) or DECONVOLUTION.beyond(node, "kernel", _kernel(node))


def _pooling(node: Node) -> str | None:
    if node.op_type == "AveragePool" and not int_attribute(node, "count_include_pad", 0):
        padding = ints_attribute(node, "pads")
        if padding is not None and any(padding):
            return "its averages count the padding"
    return _planes(node) or POOLING.beyond(node, "window", ints_attribute(node, "kernel_shape"))


def _clip(node: Node) -> str | None:
    low, high = scalar(input_of(node, 1)), scalar(input_of(node, 2))
    if low != 0.0 or high is None or not 1.0 <= high <= 127.0:
        return "it clips from 0 to a bound between 1 and 127 only"
    return None


def _concat(node: Node) -> str | None:
    rank = rank_of(node.outputs[0])
    axis = int_attribute(node, "axis", 1)
    return None if rank is None or axis % rank == max(rank - 3, 0) else "it joins along channels only"


def _elementwise(node: Node) -> str | None:
    whole = dims_of(node.outputs[0])
    operands = (dims_of(value) for value in node.inputs if value is not None and not is_constant(value))
    if whole is None or all(dims in (whole, None) or _per_channel(dims, whole) for dims in operands):
        return None
    return "it broadcasts from one value a channel only"


def _per_channel(dims: Dims | None, whole: Dims) -> bool:
    return dims is not None and len(dims) == len(whole) == 4 and dims[2:] == (1, 1) and dims[1] in (1, whole[1])


def _resize(node: Node) -> str | None:
    before, after = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    if before is None or after is None:
        return None
    if len(before) != 4 or before[:2] != after[:2]:
        return "it resizes images only"
    most = 32 if string_attribute(node, "mode", "nearest") == "nearest" else 4
    pairs = [(old, new) for old, new in zip(before[2:], after[2:], strict=True) if old is not None and new is not None]
    whole = all(new % old == 0 and 1 <= new // old <= most for old, new in pairs)
    return None if whole else f"it enlarges by whole numbers up to {most} only"


def _slice(node: Node) -> str | None:
    return None if all(is_constant(value) for value in node.inputs[1:] if value is not None) else "its range is open"


def _normalization(node: Node) -> str | None:
    return None if int_attribute(node, "size", 0) in (3, 5, 7, 9) else "its window is not 3, 5, 7 or 9"


def _slopes(node: Node) -> str | None:
    return None if is_constant(input_of(node, 1)) else "its slopes are no constant"


def _planes(node: Node) -> str | None:
    rank = rank_of(input_of(node, 0))
    return None if rank in (4, None) else "it works on images only"


def _constant_weight(node: Node) -> str | None:
    """Whether weights are constant, as such or behind the DQ of their quantization."""
    value = input_of(node, 1)
    before = None if value is None else value.producer()
    if before is not None and is_standard(before, "DequantizeLinear"):
        value = before.inputs[0]
    return None if is_constant(value) else "its weight is no constant"


def _kernel(node: Node) -> tuple[int, ...] | None:
    dims = static_shape(input_of(node, 1))
    return ints_attribute(node, "kernel_shape") or (None if dims is None else dims[2:])


def _within(what: str, values: tuple[int, ...] | None, low: int, high: int) -> str | None:
    if values is None or all(low <= value <= high for value in values):
        return None
    return f"a {what} of {max(values)} is outside {low} to {high}"


LAYERS: Mapping[str, Limit] = {
    "Abs": _any,
    "Add": _elementwise,
    "AveragePool": _pooling,
    "BatchNormalization": _any,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _deconvolution,
    "Equal": _any,
    "Gemm": _constant_weight,
    "LRN": _normalization,
    "LeakyRelu": _any,
    "MatMul": _constant_weight,
    "Max": _elementwise,
    "MaxPool": _pooling,
    "Mul": _elementwise,
    "PRelu": _slopes,
    "Relu": _any,
    "Reshape": _any,
    "Resize": _resize,
    "Sigmoid": _any,
    "Slice": _slice,
    "Softmax": _any,
    "Split": _any,
    "Sub": _elementwise,
    "Sum": _elementwise,
    "Tanh": _any,
    "Transpose": _any,
    "Upsample": _resize,
}
"""Operators that it runs, through TensorRT, and when not."""

LATER = ("Abs", "Equal", "Softmax")
"""Of them, those that only Orin's accelerator has."""
