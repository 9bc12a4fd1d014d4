"""Operators that move the values of one tensor: reshape, transpose, pad, tile, expand, depth and space.

Reshapes and transposes are shuffle layers, what repeats or pads is a slice layer: a step of 0 repeats an element, a
slice that reaches beyond the tensor is filled, clamped, reflected or wrapped. Open sizes are computed from shapes at
run time. Refused: axes that are known only then, where TensorRT wants numbers.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor

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


def _reshape(call: Call) -> Tensor:
    """TensorRT reads 0 and -1 as ONNX does, in numbers and at run time."""
    layer = call.add("shuffle", call.tensor(0))
    layer.zero_is_placeholder = not call.integer("allowzero", 0)
    sizes = None if call.has(1) and call.constant(1) is None else call.integers("shape", 1)
    if sizes is not None:
        layer.reshape_dims = sizes
    else:
        layer.set_input(1, call.as_index(call.tensor(1)))
    return layer.get_output(0)


def _flatten(call: Call) -> Tensor:
    tensor = call.tensor(0)
    rank = len(tensor.shape)
    axis = call.integer("axis", 1)
    axis = axis + rank if axis < 0 else axis
    parts = [list(tensor.shape[:axis]), list(tensor.shape[axis:])]
    known: list[Size] = [-1 if -1 in part else int(np.prod(part, dtype=np.int64)) for part in parts]
    if known.count(-1) == 2 or (-1 in known and 0 in known):
        sizes = call.sizes(tensor)
        known = [call.product(sizes[:axis]), call.product(sizes[axis:])]
    return call.reshape(tensor, known)


def _squeeze(call: Call) -> Tensor:
    tensor, axes = call.tensor(0), call.integers("axes", 1)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(call.static_shape(0, "the operand")) if size == 1)
    return call.squeeze(tensor, [call.from_front(axis, len(tensor.shape)) for axis in axes])


def _unsqueeze(call: Call) -> Tensor:
    tensor, axes = call.tensor(0), call.integers("axes", 1) or ()
    return call.unsqueeze(tensor, [call.from_front(axis, len(tensor.shape) + len(axes)) for axis in axes])


def _transpose(call: Call) -> Tensor:
    tensor = call.tensor(0)
    return call.transpose(tensor, call.integers("perm") or tuple(reversed(range(len(tensor.shape)))))


def _depth_to_space(call: Call) -> Tensor:
    """Blocks of channels become blocks of pixels: DCR has the block's axes before the channels, CRD behind them."""
    tensor, block = call.tensor(0), call.integer("blocksize", 1)
    batch, channels, height, width = call.sizes(tensor)
    depth = call.calculate("FLOOR_DIV", channels, block * block)
    if call.text("mode", "DCR") == "CRD":
        parts, order = [batch, depth, block, block, height, width], (0, 1, 4, 2, 5, 3)
    else:
        parts, order = [batch, block, block, depth, height, width], (0, 3, 4, 1, 5, 2)
    moved = call.transpose(call.reshape(tensor, parts), order)
    return call.reshape(
        moved, [batch, depth, call.calculate("PROD", height, block), call.calculate("PROD", width, block)]
    )


def _space_to_depth(call: Call) -> Tensor:
    tensor, block = call.tensor(0), call.integer("blocksize", 1)
    batch, channels, height, width = call.sizes(tensor)
    rows, columns = call.calculate("FLOOR_DIV", height, block), call.calculate("FLOOR_DIV", width, block)
    order = (0, 1, 3, 5, 2, 4) if call.text("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    moved = call.transpose(call.reshape(tensor, [batch, channels, rows, block, columns, block]), order)
    return call.reshape(moved, [batch, call.calculate("PROD", channels, block * block), rows, columns])


# -- slices that repeat or pad --------------------------------------------------------------------------------


def _expand(call: Call) -> Tensor:
    """ONNX broadcasts both ways: the target may say 1 where the tensor has more."""
    tensor, target = call.tensor(0), call.vector(1)
    rank = max(len(tensor.shape), len(target))
    tensor = call.unsqueeze(tensor, range(rank - len(tensor.shape)))
    wanted: list[Size] = [*[1] * (rank - len(target)), *target]
    own = call.sizes(tensor)
    return call.expand(tensor, [_meet(call, *pair) for pair in zip(own, wanted, strict=True)])


def _meet(call: Call, own: Size, wanted: Size) -> Size:
    """The size that two sizes broadcast to."""
    for one, other in ((own, wanted), (wanted, own)):
        if isinstance(one, int):
            return other if one == 1 else one
    return call.calculate("MAX", own, wanted)


def _tile(call: Call) -> Tensor:
    tensor, repeats = call.tensor(0), call.vector(1)
    if call.opset < 6:
        raise call.refuse(
            "Tile of operator sets before 6 has other operands", "convert the model to a newer operator set"
        )
    sizes = [call.calculate("PROD", *pair) for pair in zip(call.sizes(tensor), repeats, strict=True)]
    layer = call.slice(tensor, [0] * len(sizes), sizes, [1] * len(sizes))
    layer.mode = call.trt.SampleMode.WRAP
    return layer.get_output(0)


def _pad(call: Call) -> Tensor:
    """A slice from ``-before`` of ``before + size + after`` elements."""
    tensor, mode = call.tensor(0), call.text("mode", "constant")
    rank = len(tensor.shape)
    if mode not in _PAD_MODES:
        raise call.refuse(f"TensorRT does not pad in mode {mode!r}")
    attribute = call.integers("pads") or call.integers("paddings")
    pads: list[Size] = list(attribute) if attribute is not None else call.vector(1)
    axes = call.integers("axes", 3) or tuple(range(rank))
    starts: list[Size] = [0] * rank
    sizes = call.sizes(tensor)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        index = call.from_front(axis, rank)
        starts[index] = call.calculate("SUB", 0, before)
        sizes[index] = call.calculate("SUM", sizes[index], call.calculate("SUM", before, after))
    layer = call.slice(tensor, starts, sizes, [1] * rank)
    layer.mode = getattr(call.trt.SampleMode, _PAD_MODES[mode])
    fill = _fill_value(call, tensor)
    if mode == "constant" and fill is not None:
        layer.set_input(4, fill)
    return layer.get_output(0)


def _fill_value(call: Call, tensor: Tensor) -> Tensor | None:
    """The value to pad with, None for 0, which the layer takes by itself."""
    array = call.constant(2)
    if array is not None and array.size == 1 and not array.any():
        return None
    if call.has(2):
        return call.as_scalar(call.tensor(2))
    value = call.number("value", 0.0)
    return call.like(value, tensor, rank=0) if value else None


def _center_crop_pad(call: Call) -> Tensor:
    """Crops and pads around the middle; what is odd is cut, or filled, behind."""
    shape, target = call.static_shape(0, "the operand"), call.known(1, "the target shape")
    axes = call.integers("axes") or tuple(range(len(shape)))
    starts, sizes = [0] * len(shape), list(shape)
    for axis, wanted in zip(axes, target, strict=True):
        index = call.from_front(axis, len(shape))
        own, sizes[index] = shape[index], int(wanted)
        starts[index] = (own - sizes[index]) // 2 if own >= sizes[index] else -((sizes[index] - own) // 2)
    layer = call.slice(call.tensor(0), starts, sizes, [1] * len(shape))
    layer.mode = call.trt.SampleMode.FILL
    return layer.get_output(0)


# -- positions ------------------------------------------------------------------------------------------------


def _trilu(call: Call) -> Tensor:
    """Elements on one side of a diagonal, by comparing the numbers of rows and columns; zero elsewhere."""
    tensor = call.tensor(0)
    distance, shift = diagonal_distance(call, tensor), _shift(call)
    upper = call.integer("upper", 1)
    one = call.like(1, shift)
    beyond = call.elementwise("SUB", shift, one) if upper else call.elementwise("SUM", shift, one)
    kept = call.elementwise("GREATER" if upper else "LESS", distance, beyond)
    return call.select(kept, tensor, call.like(0, tensor))


def diagonal_distance(call: Call, tensor: Tensor) -> Tensor:
    """Column minus row of each element of the last two axes."""
    rows, columns = call.sizes(tensor)[-2:]
    dtype = call.index_type
    down = call.unsqueeze(call.iota(rows, dtype), [1])
    across = call.unsqueeze(call.iota(columns, dtype), [0])
    return call.elementwise("SUB", across, down)


def _shift(call: Call) -> Tensor:
    return call.indices([0]) if not call.has(1) else call.reshape(call.as_index(call.tensor(1)), [1])


def _reverse_sequence(call: Call) -> Tensor:
    layer = call.add("reverse_sequence", call.tensor(0), call.tensor(1))
    layer.batch_axis, layer.sequence_axis = call.integer("batch_axis", 1), call.integer("time_axis", 0)
    return layer.get_output(0)
