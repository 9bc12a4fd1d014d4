"""Reductions over axes, the positions of extremes, running sums and the largest k.

    ReduceL1          Σ|x|
    ReduceL2          √Σx²
    ReduceLogSum      ln Σx
    ReduceLogSumExp   m + ln Σ exp(x − m),  m the maximum, or 0 where that is infinite
    ReduceSumSquare   Σx²
    ArgMax, ArgMin    the position that a TopK of 1 gives; for the last of equal elements, of the reversed axis

Refused: axes that are known at run time only, running products.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import is_bool

_PLAIN = {"ReduceMax": "MAX", "ReduceMean": "AVG", "ReduceMin": "MIN", "ReduceProd": "PROD", "ReduceSum": "SUM"}
_LARGEST_K = 3840
"""What TensorRT's TopK takes."""


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        **{name: _reduction(operation) for name, operation in _PLAIN.items()},
        "ReduceL1": _reduction("SUM", before=lambda call, tensor: call.unary("ABS", tensor)),
        "ReduceL2": _reduction("SUM", before=_square, after=lambda call, tensor: call.unary("SQRT", tensor)),
        "ReduceLogSum": _reduction("SUM", after=lambda call, tensor: call.unary("LOG", tensor)),
        "ReduceLogSumExp": _log_sum_exp,
        "ReduceSumSquare": _reduction("SUM", before=_square),
        "ArgMax": _arg("MAX"),
        "ArgMin": _arg("MIN"),
        "CumSum": _cumulative,
        "TopK": _top_k,
    }


Step = Callable[[Call, Tensor], Tensor]


def _same(call: Call, tensor: Tensor) -> Tensor:
    return tensor


def _square(call: Call, tensor: Tensor) -> Tensor:
    return call.elementwise("PROD", tensor, tensor)


def _reduction(operation: str, *, before: Step = _same, after: Step = _same) -> Rule:
    def rule(call: Call) -> Tensor:
        tensor, axes = call.tensor(0), _axes(call)
        if axes is None:
            return call.out("identity", tensor)
        return after(call, _reduce(call, operation, before(call, tensor), axes))

    return rule


def _reduce(call: Call, operation: str, tensor: Tensor, axes: list[int]) -> Tensor:
    keep = bool(call.integer("keepdims", 1))
    if not is_bool(tensor.dtype):
        return call.reduce(operation, tensor, axes, keep)
    found = call.reduce(operation, call.cast(tensor, call.trt.DataType.INT32), axes, keep)
    return call.elementwise("GREATER", found, call.like(0, found))


def _axes(call: Call) -> list[int] | None:
    """The axes from the front, all where none are given; None where that means to leave the tensor as it is."""
    given, rank = call.integers("axes", 1), call.rank(0)
    if given:
        return [call.from_front(axis, rank) for axis in given]
    return None if call.integer("noop_with_empty_axes", 0) else list(range(rank))


def _log_sum_exp(call: Call) -> Tensor:
    tensor, axes = call.tensor(0), _axes(call)
    if axes is None or not axes:
        return call.out("identity", tensor)
    largest = call.reduce("MAX", tensor, axes)
    largest = call.select(call.unary("ISINF", largest), call.like(0, largest), largest)
    powers = call.unary("EXP", call.elementwise("SUB", tensor, largest))
    total = call.elementwise("SUM", call.unary("LOG", call.reduce("SUM", powers, axes)), largest)
    return total if call.integer("keepdims", 1) else call.squeeze(total, axes)


# -- positions ------------------------------------------------------------------------------------------------


def _largest(call: Call, tensor: Tensor, operation: str, count: int | Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Values and positions; TensorRT wants at least two axes."""
    vector = len(tensor.shape) == 1
    if vector:
        tensor, axis = call.unsqueeze(tensor, [0]), 1
    known = count if isinstance(count, int) else 1
    if known > _LARGEST_K:
        raise call.refuse(f"it asks for {known} elements, TensorRT gives {_LARGEST_K} at most", "ask for fewer")
    layer = call.add("topk", tensor, getattr(call.trt.TopKOperation, operation), known, 1 << axis)
    if not isinstance(count, int):
        layer.set_input(1, count)
    found = layer.get_output(0), call.as_index(layer.get_output(1))
    return (call.squeeze(found[0], [0]), call.squeeze(found[1], [0])) if vector else found


def _arg(operation: str) -> Rule:
    def rule(call: Call) -> Tensor:
        tensor = call.tensor(0)
        axis = call.axis(0, len(tensor.shape))
        last = bool(call.integer("select_last_index", 0))
        _, positions = _largest(call, _reversed(call, tensor, axis) if last else tensor, operation, 1, axis)
        if last:
            highest = call.calculate("SUB", call.sizes(tensor)[axis], 1)
            positions = call.elementwise("SUB", call.as_operand(highest, positions), positions)
        return positions if call.integer("keepdims", 1) else call.squeeze(positions, [axis])

    return rule


def _reversed(call: Call, tensor: Tensor, axis: int) -> Tensor:
    """The tensor with one axis from back to front."""
    sizes = call.sizes(tensor)
    starts: list[Size] = [0] * len(sizes)
    starts[axis] = call.calculate("SUB", sizes[axis], 1)
    return call.slice(tensor, starts, sizes, [-1 if one == axis else 1 for one in range(len(sizes))]).get_output(0)


def _top_k(call: Call) -> list[Result]:
    axis = call.axis(-1, call.rank(0))
    operation = "MAX" if call.integer("largest", 1) else "MIN"
    count: int | Tensor = call.integer("k", 0)
    if "k" not in call.node.attributes:
        known = call.constant(1)
        count = int(known.reshape(-1)[0]) if known is not None else call.as_scalar(call.tensor(1))
    return list(_largest(call, call.tensor(0), operation, count, axis))


def _cumulative(call: Call) -> Tensor:
    axis = call.from_front(int(call.number_of(1, "the axis", 0)), call.rank(0))
    where = call.constant_tensor(np.array(axis, np.int32))
    operation = call.trt.CumulativeOperation.SUM if hasattr(call.trt, "CumulativeOperation") else None
    exclusive, reverse = bool(call.integer("exclusive", 0)), bool(call.integer("reverse", 0))
    return call.out("cumulative", call.tensor(0), where, operation, exclusive, reverse)
