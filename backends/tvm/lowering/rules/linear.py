"""Conv, Gemm and MatMul with constant weights, over floats or codes.

    Σ (x - z) · w + b  =  Σ x · w + (b - z · Σ w)         the zero-point goes into the bias, padding included: the halo
                                                          of the source holds z

A bias that is no integer in units of the sums is added behind them, as it is: on their grid it would be another number.
Codes are multiplied where the input is read in bytes and the weights are bytes without a zero-point; everything else is
computed in floats, of the weights that the codes decode to; those of a matrix product become floats as they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np

from graphpress.analysis.linear import LinearOp, as_read, linear_op_of
from graphpress.analysis.linear.bias import adder_of, constant_operand
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.depthwise import Depthwise, can_zip, exact_in_floats, packed_taps, per_lane
from graphpress.backends.tvm.kernels.packing import merged_groups, packed_weights, per_channel
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import TABLE
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.factors import Factors, channel_operands, channels_of
from graphpress.backends.tvm.lowering.fusion import ChainEnd, finish
from graphpress.backends.tvm.lowering.layout import Order, channels_last, natural
from graphpress.backends.tvm.lowering.operands import last
from graphpress.backends.tvm.lowering.pixel_blocks import (
    WORTH,
    WORTH_OF_WINOGRAD,
    PixelBlock,
    blocks_of,
    pixel_block,
)
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.matmul import lower_product
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.weight_only import coded_matrix, emit_weight_only
from graphpress.backends.tvm.lowering.windows import window_of
from graphpress.backends.tvm.lowering.winograd import emit_winograd, winograd_tile
from graphpress.backends.tvm.program import Constant, Source
from graphpress.backends.tvm.tiles import rule_tile
from graphpress.ir import Node, NodeView, constant
from graphpress.ir.encoding import AffineEncoding, codes_of, read_encoding

ZIPPED_COLUMNS = 3
"""Pixels of a tile of four vectors of channels, whose weights take registers, too."""


def _linear(node: Node, lowering: Lowering) -> None:
    """A product, and the chain behind it, as one kernel.

    Raises:
        UnsupportedError: a convolution's weights, or the bias, are not constant.
    """
    op = linear_op_of(node)
    if node.op_type != "Conv" and (op is None or op.matrix_shape[0] > 1):
        lower_product(node, lowering)
        return
    if op is None or op.bias_rows() is None:
        raise refused(node, "its weights or its bias are computed at run time")
    order = channels_last(len(shape_of(op.data))) if op.is_convolution else _rows_order(op, lowering)
    source = lowering.read(node, 0, order)
    adder = _adder_of(op)
    bias = _bias_numbers(op, adder)
    integer = integer_factors(op, source, lowering.isa, bias)
    coded = coded_matrix(op) if integer is None else None
    if integer is None:
        source = lowering.floats(node, 0, order)
    window = window_of(node, source.plane) if op.is_convolution else TapWindow()
    after = natural(2) if node.op_type == "Gemm" else order
    epilogue = Epilogue() if integer is None else Epilogue(integer.scales, addend=integer.addend)
    blocks = partial(_block, op, source, window, lowering.isa)
    target = finish(lowering, adder or node, after, epilogue, blocks)
    block = blocks(target.operand.plane, target.epilogue.operands)
    if adder is not None:
        lowering.done.add(adder)
        target = replace(target, nodes=(node.name or "", *target.nodes))
    if coded is not None:
        emit_weight_only(lowering, source, target, coded, bias, coded=lowering.rounds_activations)
        return
    factors = float_factors(op, bias) if integer is None else integer.reading(source.zero_point)
    if op.groups > 1 and op.groups == source.plane.channels == op.channels_out:
        _emit_depthwise(lowering, source, target, window, factors)
    elif block is not None:
        for part, moved in blocks_of(target, block):
            emit_product(lowering, source, part, moved, block.factors(factors), 1)
    elif op.groups == 1 and (m := winograd_tile(source.plane, target.store.plane, window, lowering.isa)):
        emit_winograd(lowering, source, target, window, factors, m)
    else:
        emit_product(lowering, source, target, window, factors, op.groups)


def _block(
    op: LinearOp, source: StoredValue, window: TapWindow, isa: Isa, result: Plane, operands: Mapping[str, Source]
) -> PixelBlock | None:
    """The pixels that a convolution computes together; None where each is computed alone, or in another basis."""
    if not op.is_convolution or op.groups > 1 or result.is_part:  # of what is joined, others lie between the pixels
        return None
    whole = replace(result, stride=whole_vectors(result.channels, isa.lanes))  # as Winograd's products would write it
    worth = WORTH if winograd_tile(source.plane, whole, window, isa) is None else WORTH_OF_WINOGRAD
    return pixel_block(result, window, operands, isa.lanes, worth)


def _rows_order(op: LinearOp, lowering: Lowering) -> Order:
    """Rows in whatever order they lie, the elements of each together."""
    elements = 0 if op.node.op_type == "Gemm" and NodeView.of(op.node).flag("transA") else len(shape_of(op.data)) - 1
    return last(lowering.read(op.node, 0).order, elements)


def _adder_of(op: LinearOp) -> Node | None:
    """The Add behind a product that serves as its bias: of sums that nobody else sees, unrounded."""
    adder = adder_of(op)
    if adder is None or op.result.is_graph_output():
        return None
    index = next(index for index, value in enumerate(adder.inputs) if value is op.result)
    return adder if read_encoding(adder, index) is None else None


# -- numbers ------------------------------------------------------------------------------------------------------


def _kernel_of(op: LinearOp, stored: np.ndarray) -> np.ndarray:
    """An array of the weight's shape as ``[outputs, inputs of a group, tap rows, tap columns]``."""
    blocks, inputs, outputs, *taps = op.kernel_shape
    taps = [1] * (2 - len(taps)) + taps
    kernel = op.as_kernel(stored).swapaxes(1, 2)
    flat: np.ndarray = kernel.reshape(blocks * outputs, inputs, *taps)
    return flat


def float_factors(op: LinearOp, bias: np.ndarray) -> Factors:
    """Weights as the operator reads them, and its bias.

    Args:
        op: a product.
        bias: per output.
    """
    kernel = _kernel_of(op, as_read(op.node, op.weight_index, op.stored_weight())) * np.float32(op.alpha)
    return Factors(np.ascontiguousarray(kernel, np.float32), bias.astype(np.float32))


def _bias_numbers(op: LinearOp, adder: Node | None) -> np.ndarray:
    """The operator's bias, or what is added behind it, per output."""
    if adder is None:
        bias = op.bias_rows()
        assert bias is not None
        return bias.reshape(-1)
    index = constant_operand(adder)
    assert index is not None
    array = constant(adder.inputs[index])
    assert array is not None
    numbers: np.ndarray = array.reshape(-1).astype(np.float64)
    return numbers


def integer_factors(op: LinearOp, source: StoredValue, isa: Isa, bias: np.ndarray) -> Factors | None:
    """Codes of weights and bias, for a source without zero-point; None where the product is one of floats.

    Args:
        op: the product.
        source: what it reads.
        isa: for what.
        bias: per output, in real numbers.
    """
    encoding = read_encoding(op.node, op.weight_index)
    if source.codes is None or not isinstance(encoding, AffineEncoding) or encoding.dtype != "int8":
        return None
    if np.any(encoding.zero_point) or encoding.block or encoding.axis not in (None, op.out_axis) or op.alpha != 1.0:
        return None
    assert op.weight.const_value is not None
    kernel = np.ascontiguousarray(_kernel_of(op, codes_of(op.weight.const_value, encoding)))
    if np.abs(kernel.astype(np.int16)).max(initial=0) > isa.dot.largest_weight:
        return None
    # The groups of a transposed convolution share their scales.
    scales = np.float32(source.codes.scale) * np.resize(encoding.scale, op.channels_out).astype(np.float32)
    codes = _bias_codes(op, scales)
    addend = bias.astype(np.float32) if codes is None and np.any(bias) else None
    return Factors(kernel, np.zeros(op.channels_out, np.int64) if codes is None else codes, scales, addend=addend)


def _bias_codes(op: LinearOp, scales: np.ndarray) -> np.ndarray | None:
    """The operator's bias where it is codes in units of the sums, else None."""
    if op.bias is None or op.bias_index is None or op.bias.const_value is None:
        return None
    encoding = read_encoding(op.node, op.bias_index)
    if not isinstance(encoding, AffineEncoding) or op.beta != 1.0 or np.any(encoding.zero_point):
        return None
    # ONNX Runtime adds codes to the sums of a convolution as they are where scales are as near as this.
    relative, absolute = (1e-2, 1e-6) if op.is_convolution else (1e-5, 0.0)
    if not np.allclose(encoding.scale, scales, rtol=relative, atol=absolute):
        return None
    codes: np.ndarray = codes_of(op.bias.const_value, encoding).reshape(-1).astype(np.int64)
    return codes


# -- kernels ------------------------------------------------------------------------------------------------------


def emit_product(
    lowering: Lowering, source: StoredValue, target: ChainEnd, window: TapWindow, factors: Factors, groups: int
) -> None:
    """A product as one kernel.

    Args:
        lowering: the program.
        source: what it reads.
        target: what it writes, and how.
        window: the taps.
        factors: of the product.
        groups: of channels.
    """
    isa, plane = lowering.isa, source.plane
    merged = merged_groups(groups, factors.kernel.shape[0], isa.lanes)
    stages = tuple(target.epilogue.stages)
    product = Product(plane, target.store, window, Tile(1, 1, 1), merged, stages)
    product = lowering.chosen(rule_tile(product, isa, lowering.threads, source.images))
    kernel = _with_zeros(factors.kernel, groups // merged, groups)
    operands = {
        "source": source.memory,
        "weights": Constant(packed_weights(product, kernel, isa)),
        **channel_operands(target.epilogue.operands, whole_vectors(product.store.plane.channels, isa.lanes)),
        "bias": Constant(per_channel(product, factors.bias, isa)),
        "result": target.operand.memory,
    }
    lowering.emit(product, operands, target.nodes, source.images)


def _with_zeros(kernel: np.ndarray, joined: int, groups: int) -> np.ndarray:
    """The weights of joined groups, each output's own inputs among zeros."""
    if joined == 1:
        return kernel
    outputs, inputs, *taps = kernel.shape
    filled = np.zeros((outputs, joined, inputs, *taps), kernel.dtype)
    place = np.arange(outputs) // (outputs // groups) % joined
    filled[np.arange(outputs), place] = kernel
    return filled.reshape(outputs, joined * inputs, *taps)


def _emit_depthwise(
    lowering: Lowering, source: StoredValue, target: ChainEnd, window: TapWindow, factors: Factors
) -> None:
    isa, plane = lowering.isa, source.plane
    integer = factors.scales is not None
    bytes_ = integer and (isa.dot.prefers_bytes or not exact_in_floats(factors.kernel, factors.bias))
    stages = tuple(target.epilogue.stages)
    numbers = {name: channels_of(operand) for name, operand in target.epilogue.operands.items()}
    store = target.store
    zipped = (
        bytes_ and can_zip(store, isa) and all(array is not None or name == TABLE for name, array in numbers.items())
    )
    columns = min(store.plane.width, ZIPPED_COLUMNS) if zipped else _columns(store.plane.width)
    kernel = lowering.chosen(Depthwise(plane, store, window, stages, columns, bytes_, zipped))
    operands = {
        "source": source.memory,
        "weights": Constant(packed_taps(kernel, factors.kernel, isa.lanes)),
        "bias": Constant(per_lane(kernel, factors.bias.astype(kernel.sums), isa.lanes)),
        **{
            name: Constant(per_lane(kernel, array, isa.lanes)) if (array := numbers[name]) is not None else operand
            for name, operand in target.epilogue.operands.items()
        },
        "result": target.operand.memory,
    }
    lowering.emit(kernel, operands, target.nodes, source.images)


def _columns(width: int) -> int:
    """Pixels of a tile: as many as registers hold, with a small rest."""
    return min(range(min(width, 8), 3, -1), key=lambda columns: -(-width // columns) * columns, default=width)


RULES: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(("Conv", "Gemm", "MatMul"), _linear))
"""Rules by operator."""
