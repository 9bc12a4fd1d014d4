"""Normalisations and the Softmax family. Statistics of short floats are taken in single precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.bridge.pytorch.call import Call, Kernel, Translation
from graphpress.bridge.pytorch.tensors import torch_dtype

_PER_AXIS_SINCE = 13
"""Before this operator set, Softmax took all axes from ``axis`` on as one."""


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "GroupNormalization": _group_norm,
        "Hardmax": lambda call: _along(call, _hardmax),
        "InstanceNormalization": _instance_norm,
        "LRN": _local_response,
        "LayerNormalization": _layer_norm,
        "LogSoftmax": lambda call: _along(call, torch.log_softmax),
        "LpNormalization": _lp_norm,
        "MeanVarianceNormalization": _mean_variance,
        "RMSNormalization": _rms_norm,
        "Softmax": lambda call: _along(call, torch.softmax),
    }


# -- softmax --------------------------------------------------------------------------------------------------


def _along(call: Call, function: Callable[[Tensor, int], Tensor]) -> Kernel:
    """Along one axis, or in older operator sets along all from ``axis`` on, taken as one."""
    if call.opset >= _PER_AXIS_SINCE:
        axis = call.integer("axis", -1)
        return lambda x: function(x, axis)
    first = call.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        cut = first if first >= 0 else first + x.dim()
        if cut == x.dim() - 1:
            return function(x, -1)
        return function(x.reshape(math.prod(x.shape[:cut]), -1), 1).reshape(x.shape)

    return kernel


def _hardmax(x: Tensor, axis: int) -> Tensor:
    """One where the first of the largest values is, zero elsewhere."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


# -- statistics along the last axes ---------------------------------------------------------------------------


def _layer_norm(call: Call) -> Kernel:
    axis, epsilon, stash = call.integer("axis", -1), call.number("epsilon", 1e-5), _stash(call)
    outputs = call.outputs

    def simple(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        if scale.dim() == (-axis if axis < 0 else x.dim() - axis) and scale.shape == x.shape[axis:]:
            return functional.layer_norm(x, scale.shape, scale, bias, epsilon)
        return whole(x, scale, bias)[0]

    def whole(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, stash))
        axes = tuple(range(axis % x.dim(), x.dim()))
        spread, centre = torch.var_mean(wide, axes, correction=0, keepdim=True)
        inverse = torch.rsqrt(spread + epsilon)
        y = ((wide - centre) * inverse).to(x.dtype) * scale
        return y if bias is None else y + bias, centre, inverse

    return simple if outputs == 1 else whole


def _rms_norm(call: Call) -> Kernel:
    axis, epsilon, stash = call.integer("axis", -1), call.number("epsilon", 1e-5), _stash(call)

    def kernel(x: Tensor, scale: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, stash))
        axes = tuple(range(axis % x.dim(), x.dim()))
        return (wide * torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale

    return kernel


def _stash(call: Call) -> torch.dtype:
    return torch_dtype(call.integer("stash_type", 1))


# -- statistics per channel or group of channels --------------------------------------------------------------


def _instance_norm(call: Call) -> Kernel:
    epsilon = call.number("epsilon", 1e-5)
    return lambda x, scale, bias: _of_groups(x, x.shape[1], epsilon) * _channels(scale, x) + _channels(bias, x)


def _group_norm(call: Call) -> Kernel:
    """Scale and bias hold one number per channel, or (operator set 18) per group."""
    groups, epsilon = call.integer("num_groups", 1), call.number("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        times = x.shape[1] // scale.shape[0]
        if times > 1:
            scale, bias = scale.repeat_interleave(times), bias.repeat_interleave(times)
        if scale.dtype == x.dtype:
            return functional.group_norm(x, groups, scale, bias, epsilon)
        return _of_groups(x, groups, epsilon) * _channels(scale, x) + _channels(bias, x)

    return kernel


def _of_groups(x: Tensor, groups: int, epsilon: float) -> Tensor:
    """Each group of channels of each sample with mean 0 and variance 1; one element a group is no error."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(x.shape[0], groups, -1)
    spread, centre = torch.var_mean(wide, 2, correction=0, keepdim=True)
    return ((wide - centre) * torch.rsqrt(spread + epsilon)).to(x.dtype).reshape(x.shape)


def _channels(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.reshape(-1, *(1,) * (x.dim() - 2))


def _local_response(call: Call) -> Kernel:
    """Divided by (bias + alpha / size · sum of squares over neighbouring channels) ** beta."""
    size, bias = call.integer("size", 1), call.number("bias", 1.0)
    factor, beta = call.number("alpha", 1e-4) / size, call.number("beta", 0.75)
    before = (size - 1) // 2

    def kernel(x: Tensor) -> Tensor:
        squares = x.square().reshape(*x.shape[:2], -1)
        padded = functional.pad(squares, (0, 0, before, size - 1 - before))
        sums = padded.unfold(1, size, 1).sum(-1).reshape(x.shape)
        return x / (bias + factor * sums) ** beta

    return kernel


# -- others ---------------------------------------------------------------------------------------------------


def _lp_norm(call: Call) -> Kernel:
    """What is all zero stays so."""
    axis, order = call.integer("axis", -1), call.integer("p", 2)

    def kernel(x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, order, axis, keepdim=True)
        return x / torch.where(size == 0, torch.ones_like(size), size)

    return kernel


def _mean_variance(call: Call) -> Kernel:
    axes = call.integers("axes") or (0, 2, 3)

    def kernel(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return kernel
