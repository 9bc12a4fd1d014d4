"""Softmax and what is made of it, along one axis or (before operator set 13) along all from ``axis`` on as one.

    Softmax      e^x / Σ e^x
    LogSoftmax   x - max x - log Σ e^(x - max x), which stays finite where the logarithm of a softmax would not
    Hardmax      one at the first of the largest, zero elsewhere

Integers are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.linear import floats

_PER_AXIS_SINCE = 13


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Hardmax": lambda call: _along(call, _hardmax),
        "LogSoftmax": lambda call: _along(call, _log_softmax),
        "Softmax": lambda call: _along(call, softmax),
    }


def _along(call: Call, function: Callable[[Call, Tensor, int], Tensor]) -> Tensor:
    x = call.tensor(0)
    floats(call, x)
    rank = len(x.shape)
    if call.opset >= _PER_AXIS_SINCE:
        axis = call.axis(-1, rank)
    else:
        axis = rank if call.integer("axis", 1) == rank else call.axis(1, rank)
    if rank >= 2 and (call.opset >= _PER_AXIS_SINCE or axis == rank - 1):
        return function(call, x, axis)
    sizes = call.sizes(x)
    cut = axis if call.opset < _PER_AXIS_SINCE else 0
    flat = call.reshape(x, [call.product(sizes[:cut]), call.product(sizes[cut:])])
    return call.reshape(function(call, flat, 1), sizes)


def softmax(call: Call, x: Tensor, axis: int) -> Tensor:
    """A softmax layer along one axis."""
    layer = call.add("softmax", x)
    layer.axes = 1 << axis
    return layer.get_output(0)


def _log_softmax(call: Call, x: Tensor, axis: int) -> Tensor:
    centred = call.elementwise("SUB", x, call.reduce("MAX", x, [axis]))
    total = call.reduce("SUM", call.unary("EXP", centred), [axis])
    return call.elementwise("SUB", centred, call.unary("LOG", total))


def _hardmax(call: Call, x: Tensor, axis: int) -> Tensor:
    found = call.add("topk", x, call.trt.TopKOperation.MAX, 1, 1 << axis).get_output(1)
    others = [index for index in range(len(x.shape)) if index != axis]
    positions = call.unsqueeze(call.iota(call.sizes(x)[axis], found.dtype), others)
    return call.cast(call.elementwise("EQUAL", positions, found), x.dtype)
