"""ConvTranspose: a product for each phase of the result, which is written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.kernels.combine import Combine
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Add, AddCodes, VectorStage
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.factors import Factors
from graphpress.backends.tvm.lowering.fusion import ChainEnd, finish
from graphpress.backends.tvm.lowering.layout import channels_last
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.linear import emit_product
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.transposition import ResultPhase, phases, strides_of
from graphpress.ir import Node, NodeView, constant, input_of
from graphpress.ir.encoding import read_encoding, round_trip


def _conv_transpose(node: Node, lowering: Lowering) -> None:
    """Computed in floats.

    Raises:
        UnsupportedError: its weights are computed at run time, or its window is not one of rows and pixels.
    """
    weights, parts = _numbers(node, 1), phases(node)
    if weights is None or (input_of(node, 2) is not None and _numbers(node, 2) is None):
        raise refused(node, "its weights or its bias are computed at run time")
    value, groups = node.inputs[0], NodeView.of(node).integer("group", 1)
    assert value is not None
    order = channels_last(len(shape_of(value)))
    lowering.read(node, 0, order)
    source = lowering.form(value, None, order)
    kernel = _by_outputs(weights, groups)
    bias = _numbers(node, 2) if input_of(node, 2) is not None else np.zeros(len(kernel), np.float32)
    assert bias is not None
    target, strides = finish(lowering, node, order, Epilogue()), strides_of(node)
    for phase in parts:
        factors = Factors(_taps_of(kernel, phase), bias)
        emit_product(lowering, source, _part(target, phase, strides), phase.window, factors, groups)


def _numbers(node: Node, index: int) -> np.ndarray | None:
    """A constant as the node reads it."""
    array = constant(node.inputs[index])
    if array is None:
        return None
    encoding = read_encoding(node, index)
    numbers = array.astype(np.float32)
    return numbers if encoding is None else round_trip(numbers, encoding)


def _by_outputs(weights: np.ndarray, groups: int) -> np.ndarray:
    """``[inputs, outputs of a group, rows, columns]`` as ``[outputs, inputs of a group, rows, columns]``."""
    inputs, outputs, *taps = weights.shape
    split = weights.reshape(groups, inputs // groups, outputs, *taps).swapaxes(1, 2)
    turned: np.ndarray = split.reshape(groups * outputs, inputs // groups, *taps)
    return turned


def _taps_of(kernel: np.ndarray, phase: ResultPhase) -> np.ndarray:
    """The weights of a phase."""
    rows, pixels = phase.rows.taps, phase.pixels.taps
    if not rows or not pixels:
        return np.zeros((*kernel.shape[:2], *phase.window.taps), np.float32)
    return np.ascontiguousarray(kernel[:, :, rows][..., pixels])


def _part(target: ChainEnd, phase: ResultPhase, strides: tuple[int, int]) -> ChainEnd:
    """Where the results of a phase lie, and what its stages read beside them."""

    def area(plane: Plane) -> Plane:
        """Rows and pixels of the phase, where there are more than one."""
        axes = ((phase.rows, plane.height), (phase.pixels, plane.width))
        (top, height, row_step), (left, width, step) = (
            (axis.first, axis.count, stride) if extent > 1 else (0, extent, 1)
            for (axis, extent), stride in zip(axes, strides, strict=True)
        )
        return plane.area(top, left, height, width, (row_step, step))

    epilogue = replace(target.epilogue, stages=_moved(target.epilogue.stages, area))
    return replace(target, operand=replace(target.operand, plane=area(target.operand.plane)), epilogue=epilogue)


def _moved(stages: Sequence[VectorStage], area: Callable[[Plane], Plane]) -> list[VectorStage]:
    """The stages, reading of their operands what belongs to the phase."""
    return [
        replace(stage, plane=area(stage.plane)) if isinstance(stage, (Add, AddCodes, Combine)) else stage
        for stage in stages
    ]


RULES: Mapping[str, Rule] = MappingProxyType({"ConvTranspose": _conv_transpose})
"""Rules by operator."""
