"""ConvTranspose: a product for each phase of the result, which is written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from graphpress.analysis.linear import linear_op_of
from graphpress.backends.tvm.kernels.combine import Combine
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Add, AddCodes, VectorStage
from graphpress.backends.tvm.lowering.context import Lowering, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import ChainEnd, finish
from graphpress.backends.tvm.lowering.layout import channels_last
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.linear import emit_product, float_factors, integer_factors
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.lowering.transposition import ResultPhase, phases, strides_of
from graphpress.ir import Node


def _conv_transpose(node: Node, lowering: Lowering) -> None:
    """In codes where they are multiplied, else in floats.

    Raises:
        UnsupportedError: its weights are computed at run time, or its window is not one of rows and pixels.
    """
    op, parts = linear_op_of(node), phases(node)
    if op is None or (bias := op.bias_rows()) is None:
        raise refused(node, "its weights or its bias are computed at run time")
    order, numbers = channels_last(len(shape_of(op.data))), bias.reshape(-1)
    source = lowering.read(node, 0, order)
    factors = integer_factors(op, source, lowering.isa, numbers) or float_factors(op, numbers)
    if factors.scales is None:
        source = lowering.floats(node, 0, order)
    target = finish(lowering, node, order, Epilogue(factors.scales, addend=factors.addend))
    for phase in parts:
        taps = replace(factors, kernel=_taps_of(factors.kernel, phase))
        taps = taps if factors.scales is None else taps.reading(source.zero_point)
        emit_product(lowering, source, _part(target, phase, strides_of(node)), phase.window, taps, op.groups)


def _taps_of(kernel: np.ndarray, phase: ResultPhase) -> np.ndarray:
    """The weights of a phase."""
    rows, pixels = phase.rows.taps, phase.pixels.taps
    if not rows or not pixels:
        return np.zeros((*kernel.shape[:2], *phase.window.taps), kernel.dtype)
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
