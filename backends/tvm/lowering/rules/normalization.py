"""Softmax and normalizations: over the channels of a pixel, of any axis; over the pixels of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.kernels.group_normalization import GroupNormalizationKernel
from graphpress.backends.tvm.kernels.rows import RowNormalization, Softmax
from graphpress.backends.tvm.lowering.context import Lowering, StoredValue, shape_of
from graphpress.backends.tvm.lowering.epilogue import Epilogue
from graphpress.backends.tvm.lowering.fusion import ChainEnd, finish
from graphpress.backends.tvm.lowering.layout import channels_last
from graphpress.backends.tvm.lowering.operands import floats_of, last
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.rules.rule import Rule
from graphpress.backends.tvm.program import Constant
from graphpress.ir import Node, NodeView, constant, input_of, opset_of, present_outputs

SOFTMAX_OF_AN_AXIS = 13
"""The opset from which on Softmax takes one axis: before, it took all from one on."""


def _softmax(node: Node, lowering: Lowering) -> None:
    source = _row(node, lowering, _softmax_axis(node))
    target = finish(lowering, node, source.order, Epilogue())
    logarithm = node.op_type == "LogSoftmax"
    kernel = Softmax(source.plane, target.store, tuple(target.epilogue.stages), logarithm)
    _emit(lowering, kernel, source, target, {})


def _softmax_axis(node: Node) -> int:
    """The axis that it sums over: before opset 13 the only one behind its axis with more than one element."""
    shape = shape_of(node.outputs[0])
    old = (opset_of(node) or SOFTMAX_OF_AN_AXIS) < SOFTMAX_OF_AN_AXIS
    axis = NodeView.of(node).axis(1 if old else -1, len(shape))
    if not old:
        return axis
    behind = [each for each in range(axis, len(shape)) if shape[each] > 1]
    if len(behind) > 1:
        raise refused(node, "before opset 13 it takes several axes at once")
    return behind[0] if behind else axis


def _row_normalization(node: Node, lowering: Lowering) -> None:
    shape = shape_of(node.outputs[0])
    if NodeView.of(node).axis(-1, len(shape)) != len(shape) - 1:
        raise refused(node, "it takes several axes at once")
    if len(list(present_outputs(node))) > 1:
        raise refused(node, "its statistics are read")
    numbers = _per_channel(node, shape[-1], (1, 2))
    source = _row(node, lowering, len(shape) - 1)
    target = finish(lowering, node, source.order, Epilogue())
    kernel = RowNormalization(
        source.plane,
        target.store,
        NodeView.of(node).number("epsilon", 1e-5),
        centered=node.op_type == "LayerNormalization",
        shifted="bias" in numbers,
        stages=tuple(target.epilogue.stages),
    )
    _emit(lowering, kernel, source, target, numbers)


def _plane_normalization(node: Node, lowering: Lowering) -> None:
    """Over pixels: of groups of channels, or of each channel by itself."""
    shape = shape_of(node.outputs[0])
    channels = shape[1]
    groups = channels if node.op_type == "InstanceNormalization" else NodeView.of(node).integer("num_groups", 1)
    numbers = _per_channel(node, channels, (1, 2), repeats=groups)
    if len(shape) not in (3, 4):
        raise refused(node, "its pixels have more than two axes")
    source = floats_of(lowering, node, 0, channels_last(len(shape)))
    rows = 1 if len(shape) == 3 else source.plane.height
    target = finish(lowering, node, source.order, Epilogue())
    epsilon, stages = NodeView.of(node).number("epsilon", 1e-5), tuple(target.epilogue.stages)
    kernel = GroupNormalizationKernel(source.plane, target.store, channels // groups, rows, epsilon, stages)
    _emit(lowering, kernel, source, target, numbers)


# -- operands -----------------------------------------------------------------------------------------------------


def _row(node: Node, lowering: Lowering, axis: int) -> StoredValue:
    """The input with an axis as the fastest, in whatever order the others are."""
    source = floats_of(lowering, node, 0)
    return source if source.order[-1] == axis else floats_of(lowering, node, 0, last(source.order, axis))


def _per_channel(node: Node, channels: int, indices: Sequence[int], repeats: int = 1) -> dict[str, Constant]:
    """Scale and bias of each channel.

    Raises:
        UnsupportedError: they are computed at run time.
    """
    numbers: dict[str, Constant] = {}
    for index, name in zip(indices, ("scale", "bias"), strict=True):
        if input_of(node, index) is None:
            continue
        array = constant(node.inputs[index])
        if array is None or array.size not in (1, repeats, channels):
            raise refused(node, "its scale and bias are no constants of each channel")
        flat = array.reshape(-1).astype(np.float32)
        numbers[name] = Constant(np.repeat(flat, channels // flat.size))
    return numbers


def _emit(
    lowering: Lowering,
    kernel: Softmax | RowNormalization | GroupNormalizationKernel,
    source: StoredValue,
    target: ChainEnd,
    numbers: Mapping[str, Constant],
) -> None:
    operands = {"source": source.memory, **numbers, **target.epilogue.operands, "result": target.operand.memory}
    lowering.emit(kernel, operands, target.nodes, source.images)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), _plane_normalization),
        **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _row_normalization),
        **dict.fromkeys(("LogSoftmax", "Softmax"), _softmax),
    }
)
"""Rules by operator."""
