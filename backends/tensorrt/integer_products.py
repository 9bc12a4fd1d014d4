"""Why a product does not compute in integers, as far as the model shows: what the linter predicts, and the reason
that the ahead-of-time check gives for what it saw.

    Σₖ (sₓ·qₓ[k]) (s_w·q_w[k]) = sₓ·s_w · Σₖ qₓ[k]·q_w[k]

is a sum of integer products only while no scale depends on ``k``: the scales of activations must be one a tensor, those
of weights may differ along output channels alone. What was seen to happen otherwise (tensorrt_rtx 1.7, by the types in
its list of layers) stands with each reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphpress.backends.tensorrt.operands import Operand, is_product, operands_of, spec_of
from graphpress.ir import Node, Refusal, dims_of, input_of, int_attribute, is_standard, label, rank_of, readers
from graphpress.lint import Finding, degraded, fatal

GRIDS = ("float4e2m1", "float8e4m3fn", "int4", "int8")
"""Types that operands are stored in."""

INT8_GROUP = 4
"""In int8 the channels of each group of a convolution come in multiples of this (NvInfer.h, setNbGroups)."""

FLOAT_ONLY = ("ConvTranspose", "DeformConv")
"""Products without an integer kernel."""

_PARTS = ("Gather", "Slice", "Split")
_HEADS = (*_PARTS, "Add", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""What stands between a product and the heads that its result is taken apart into."""


def fallback_reasons(node: Node, product: str) -> Iterator[Finding]:
    """Everything that keeps a product in float; nothing for other nodes.

    Args:
        node: of a model whose quantization stands in Q/DQ nodes.
        product: ``tensorrt`` or ``tensorrt_rtx``.
    """
    if not is_product(node):
        return
    operands = dict(operands_of(node))
    if node.op_type in FLOAT_ONLY:
        # Seen: Half operands, whatever the axis of the scales.
        fix = "leave it in float (--exclude), or resize and convolve instead"
        yield degraded(node, f"TensorRT has no integer kernel for {node.op_type}", fix)
        return
    if not all(operand.decoder for operand in operands.values()):
        yield from _float_operands(node, operands)
        return
    yield from _unlike_types(node, operands)
    yield from _summed_scales(node, operands)
    yield from _groups(node, product)


def heads_reason(node: Node) -> Refusal | None:
    """Whether TensorRT loses the integers of a product because its result is taken apart; None where it does not.

    Where a matrix product goes to heads (its result is split, sliced or gathered from, and transposed), TensorRT cuts
    the weights instead, and dequantizes them first if every channel has a scale of its own.
    """
    if not is_standard(node, "MatMul", "Gemm") or all(operand.axis is None for _, operand in operands_of(node)):
        return None
    if (part := _taken_apart(node)) is None:
        return None
    return Refusal.at(
        node,
        f"{label(part)} takes its result apart into heads: TensorRT cuts the weights instead, dequantized",
        "one scale for all of its weights, or one product for each part",
    )


def _float_operands(node: Node, operands: Mapping[int, Operand]) -> Iterator[Finding]:
    """Seen: data quantized alone is rounded, and multiplied in float16; weights alone are expanded by a kernel before
    it.
    """
    weight = _weight_index(node)
    for index, operand in operands.items():
        if operand.decoder is None:
            role = f"weights {operand.value.name!r} are" if index == weight else f"input {operand.value.name!r} is"
            yield degraded(node, f"its {role} float", "quantize both operands, or none")


def _unlike_types(node: Node, operands: Mapping[int, Operand]) -> Iterator[Finding]:
    dtypes = sorted({operand.dtype for operand in operands.values()} & set(GRIDS))
    if len(dtypes) > 1:
        # Seen: float8 and int8 give no engine; int8 and int4 widen.
        report = fatal if any(dtype.startswith("float") for dtype in dtypes) else degraded
        yield report(node, f"multiplies {' by '.join(dtypes)}", "quantize both operands to one type")


def _summed_scales(node: Node, operands: Mapping[int, Operand]) -> Iterator[Finding]:
    """Seen: dequantized first, and multiplied in float16."""
    for index, operand in operands.items():
        if operand.axis is None or operand.axis == (wanted := _output_axis(node, index, operand)):
            continue
        role = "weights" if operand.stored else "input"
        outputs = "" if wanted is None else f", not along its outputs (axis {wanted})"
        yield degraded(
            node,
            f"the scales of its {role} differ along axis {operand.axis}{outputs}: they cannot leave the sum",
            "one scale per output channel for weights, one a tensor for other operands",
        )


def _weight_index(node: Node) -> int | None:
    spec = spec_of(node)
    return None if spec is None else spec.quantization.weight


def _output_axis(node: Node, index: int, operand: Operand) -> int | None:
    """The axis of a weight that the result keeps, on whichever side of a product it stands; None for activations."""
    spec, rank = spec_of(node), rank_of(operand.value)
    if spec is None or rank is None or not operand.stored:
        return None
    if index == spec.quantization.weight and spec.quantization.channel_axis is not None:
        return spec.quantization.channel_axis(node, rank) % rank
    transposed = node.op_type == "Gemm" and int_attribute(node, "transA", 0)
    return rank - 1 if transposed else rank - 2


def _groups(node: Node, product: str) -> Iterator[Finding]:
    groups = int_attribute(node, "group", 1)
    if groups == 1 or product != "tensorrt":  # seen: TensorRT for RTX pads them
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


def _taken_apart(node: Node) -> Node | None:
    """The first node that takes a part of the result, if parts of it are transposed as well."""
    reached, waiting = [node], [node]
    while waiting:
        for reader in (reader for value in waiting.pop().outputs for reader in readers(value)):
            if reader not in reached and is_standard(reader, *_HEADS):
                reached.append(reader)
                waiting.append(reader)
    transposed = any(is_standard(reader, "Transpose") for reader in reached)
    return next((reader for reader in reached if transposed and is_standard(reader, *_PARTS)), None)
