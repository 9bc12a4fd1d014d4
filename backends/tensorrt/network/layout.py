"""Operators that move the values of one tensor: reshape, transpose, pad, tile, expand, depth and space.

Reshapes and transposes are shuffle layers, what repeats or pads is a slice layer: a step of 0 repeats an element, a
slice that reaches beyond the tensor is filled, clamped, reflected or wrapped. Open sizes are computed from shapes at
run time. Refused: axes that are known only then, where TensorRT wants numbers.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.ir import normalize_axis
from graphpress.ops.semantics.slices import padded

_PAD_MODES = {"constant": "FILL", "edge": "CLAMP", "reflect": "REFLECT", "wrap": "WRAP"}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "CenterCropPad": _center_crop_pad,
        "DepthToSpace": _depth_to_space,
        "Expand": _expand,
        "Flatten": _flatten,
        "Pad": _pad,
        "Reshape": _reshape,
        "ReverseSequence": _reverse_sequence,
        "SpaceToDepth": _space_to_depth,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Trilu": _trilu,
        "Unsqueeze": _unsqueeze,
    }


# -- reshapes -------------------------------------------------------------------------------------------------


def _reshape(ctx: LoweringContext) -> Tensor:
    """TensorRT reads 0 and -1 as ONNX does, in numbers and at run time."""
    layer = ctx.add("shuffle", ctx.tensor(0))
    layer.zero_is_placeholder = not ctx.node.integer("allowzero", 0)
    sizes = None if ctx.node.has(1) and ctx.node.constant(1) is None else ctx.known_integers("shape", 1)
    if sizes is not None:
        layer.reshape_dims = sizes
    else:
        layer.set_input(1, ctx.as_index(ctx.tensor(1)))
    return layer.get_output(0)


def _flatten(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    rank = len(tensor.shape)
    axis = ctx.node.integer("axis", 1)
    axis = axis + rank if axis < 0 else axis
    parts = [list(tensor.shape[:axis]), list(tensor.shape[axis:])]
    known: list[Size] = [-1 if -1 in part else int(np.prod(part, dtype=np.int64)) for part in parts]
    if known.count(-1) == 2 or (-1 in known and 0 in known):
        sizes = ctx.sizes(tensor)
        known = [ctx.product(sizes[:axis]), ctx.product(sizes[axis:])]
    return ctx.reshape(tensor, known)


def _squeeze(ctx: LoweringContext) -> Tensor:
    tensor, axes = ctx.tensor(0), ctx.known_integers("axes", 1)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(ctx.static_shape(0, "the operand")) if size == 1)
    return ctx.squeeze(tensor, [normalize_axis(axis, len(tensor.shape)) for axis in axes])


def _unsqueeze(ctx: LoweringContext) -> Tensor:
    tensor, axes = ctx.tensor(0), ctx.known_integers("axes", 1) or ()
    return ctx.unsqueeze(tensor, [normalize_axis(axis, len(tensor.shape) + len(axes)) for axis in axes])


def _transpose(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    return ctx.transpose(tensor, ctx.node.integers("perm") or tuple(reversed(range(len(tensor.shape)))))


def _depth_to_space(ctx: LoweringContext) -> Tensor:
    """Blocks of channels become blocks of pixels: DCR has the block's axes before the channels, CRD behind them."""
    tensor, block = ctx.tensor(0), ctx.node.integer("blocksize", 1)
    batch, channels, height, width = ctx.sizes(tensor)
    depth = ctx.calculate("FLOOR_DIV", channels, block * block)
    if ctx.node.text("mode", "DCR") == "CRD":
        parts, order = [batch, depth, block, block, height, width], (0, 1, 4, 2, 5, 3)
    else:
        parts, order = [batch, block, block, depth, height, width], (0, 3, 4, 1, 5, 2)
    moved = ctx.transpose(ctx.reshape(tensor, parts), order)
    return ctx.reshape(moved, [batch, depth, ctx.calculate("PROD", height, block), ctx.calculate("PROD", width, block)])


def _space_to_depth(ctx: LoweringContext) -> Tensor:
    tensor, block = ctx.tensor(0), ctx.node.integer("blocksize", 1)
    batch, channels, height, width = ctx.sizes(tensor)
    rows, columns = ctx.calculate("FLOOR_DIV", height, block), ctx.calculate("FLOOR_DIV", width, block)
    order = (0, 1, 3, 5, 2, 4) if ctx.node.text("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    moved = ctx.transpose(ctx.reshape(tensor, [batch, channels, rows, block, columns, block]), order)
    return ctx.reshape(moved, [batch, ctx.calculate("PROD", channels, block * block), rows, columns])


# -- slices that repeat or pad --------------------------------------------------------------------------------


def _expand(ctx: LoweringContext) -> Tensor:
    """ONNX broadcasts both ways: the target may have 1 where the tensor has more."""
    tensor, target = ctx.tensor(0), ctx.vector(1)
    rank = max(len(tensor.shape), len(target))
    tensor = ctx.unsqueeze(tensor, range(rank - len(tensor.shape)))
    wanted: list[Size] = [*[1] * (rank - len(target)), *target]
    own = ctx.sizes(tensor)
    return ctx.expand(tensor, [_broadcast_size(ctx, *pair) for pair in zip(own, wanted, strict=True)])


def _broadcast_size(ctx: LoweringContext, own: Size, wanted: Size) -> Size:
    """The size that two sizes broadcast to."""
    for size, other in ((own, wanted), (wanted, own)):
        if isinstance(size, int):
            return other if size == 1 else size
    return ctx.calculate("MAX", own, wanted)


def _tile(ctx: LoweringContext) -> Tensor:
    tensor, repeats = ctx.tensor(0), ctx.vector(1)
    if ctx.node.opset < 6:
        raise ctx.refuse(
            "Tile of operator sets before 6 has other operands", "convert the model to a newer operator set"
        )
    sizes = [ctx.calculate("PROD", *pair) for pair in zip(ctx.sizes(tensor), repeats, strict=True)]
    layer = ctx.slice(tensor, [0] * len(sizes), sizes, [1] * len(sizes))
    layer.mode = ctx.trt.SampleMode.WRAP
    return layer.get_output(0)


def _pad(ctx: LoweringContext) -> Tensor:
    """A slice from ``-before`` of ``before + size + after`` elements."""
    tensor, mode = ctx.tensor(0), ctx.node.text("mode", "constant")
    rank = len(tensor.shape)
    if mode not in _PAD_MODES:
        raise ctx.refuse(f"TensorRT does not pad in mode {mode!r}")
    attribute = ctx.node.integers("pads") or ctx.node.integers("paddings")
    pads: list[Size] = list(attribute) if attribute is not None else ctx.vector(1)
    axes = ctx.known_integers("axes", 3) or None
    starts: list[Size] = [0] * rank
    sizes = ctx.sizes(tensor)
    for axis, (before, after) in padded(pads, axes, rank).items():
        starts[axis] = ctx.calculate("SUB", 0, before)
        sizes[axis] = ctx.calculate("SUM", sizes[axis], ctx.calculate("SUM", before, after))
    layer = ctx.slice(tensor, starts, sizes, [1] * rank)
    layer.mode = getattr(ctx.trt.SampleMode, _PAD_MODES[mode])
    fill = _fill_value(ctx, tensor)
    if mode == "constant" and fill is not None:
        layer.set_input(4, fill)
    return layer.get_output(0)


def _fill_value(ctx: LoweringContext, tensor: Tensor) -> Tensor | None:
    """The value to pad with, None for 0, which the layer takes by itself."""
    array = ctx.node.constant(2)
    if array is not None and array.size == 1 and not array.any():
        return None
    if ctx.node.has(2):
        return ctx.as_scalar(ctx.tensor(2))
    value = ctx.node.number("value", 0.0)
    return ctx.like(value, tensor, rank=0) if value else None


def _center_crop_pad(ctx: LoweringContext) -> Tensor:
    """Crops and pads around the middle; what is odd is cut, or filled, behind."""
    shape, target = ctx.static_shape(0, "the operand"), ctx.known(1, "the target shape")
    axes = ctx.node.integers("axes") or tuple(range(len(shape)))
    starts, sizes = [0] * len(shape), list(shape)
    for axis, wanted in zip(axes, target, strict=True):
        index = normalize_axis(axis, len(shape))
        own, sizes[index] = shape[index], int(wanted)
        starts[index] = (own - sizes[index]) // 2 if own >= sizes[index] else -((sizes[index] - own) // 2)
    layer = ctx.slice(ctx.tensor(0), starts, sizes, [1] * len(shape))
    layer.mode = ctx.trt.SampleMode.FILL
    return layer.get_output(0)


# -- positions ------------------------------------------------------------------------------------------------


def _trilu(ctx: LoweringContext) -> Tensor:
    """Elements on one side of a diagonal, by comparing the numbers of rows and columns; zero elsewhere."""
    tensor = ctx.tensor(0)
    distance, shift = diagonal_distance(ctx, tensor), _shift(ctx)
    upper = ctx.node.integer("upper", 1)
    step = ctx.like(1, shift)
    beyond = ctx.elementwise("SUB", shift, step) if upper else ctx.elementwise("SUM", shift, step)
    kept = ctx.elementwise("GREATER" if upper else "LESS", distance, beyond)
    return ctx.select(kept, tensor, ctx.like(0, tensor))


def diagonal_distance(ctx: LoweringContext, tensor: Tensor) -> Tensor:
    """Column minus row of each element of the last two axes."""
    rows, columns = ctx.sizes(tensor)[-2:]
    dtype = ctx.index_type
    down = ctx.unsqueeze(ctx.iota(rows, dtype), [1])
    across = ctx.unsqueeze(ctx.iota(columns, dtype), [0])
    return ctx.elementwise("SUB", across, down)


def _shift(ctx: LoweringContext) -> Tensor:
    return ctx.indices([0]) if not ctx.node.has(1) else ctx.reshape(ctx.as_index(ctx.tensor(1)), [1])


def _reverse_sequence(ctx: LoweringContext) -> Tensor:
    layer = ctx.add("reverse_sequence", ctx.tensor(0), ctx.tensor(1))
    layer.batch_axis, layer.sequence_axis = ctx.node.integer("batch_axis", 1), ctx.node.integer("time_axis", 0)
    return layer.get_output(0)
