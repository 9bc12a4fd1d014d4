"""Normalizations. Statistics of short floats are taken in single precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.tensors import torch_dtype


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "BatchNormalization": _batch_norm,
        "GroupNormalization": _group_norm,
        "InstanceNormalization": _instance_norm,
        "LRN": _local_response,
        "LayerNormalization": _layer_norm,
        "LpNormalization": _lp_norm,
        "MeanVarianceNormalization": _mean_variance,
        "RMSNormalization": _rms_norm,
    }


# -- statistics along the last axes ---------------------------------------------------------------------------


def _layer_norm(ctx: TranslationContext) -> Kernel:
    axis, epsilon, stash = ctx.node.integer("axis", -1), ctx.node.number("epsilon", 1e-5), _stash(ctx)
    outputs = ctx.node.output_count

    def simple(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        if scale.dim() == (-axis if axis < 0 else x.dim() - axis) and scale.shape == x.shape[axis:]:
            return functional.layer_norm(x, scale.shape, scale, bias, epsilon)
        return whole(x, scale, bias)[0]

    def whole(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, stash))
        axes = tuple(range(axis % x.dim(), x.dim()))
        spread, center = torch.var_mean(wide, axes, correction=0, keepdim=True)
        inverse = torch.rsqrt(spread + epsilon)
        y = ((wide - center) * inverse).to(x.dtype) * scale
        return y if bias is None else y + bias, center, inverse

    return simple if outputs == 1 else whole


def _rms_norm(ctx: TranslationContext) -> Kernel:
    axis, epsilon, stash = ctx.node.integer("axis", -1), ctx.node.number("epsilon", 1e-5), _stash(ctx)

    def kernel(x: Tensor, scale: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, stash))
        axes = tuple(range(axis % x.dim(), x.dim()))
        return (wide * torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale

    return kernel


def _stash(ctx: TranslationContext) -> torch.dtype:
    return torch_dtype(ctx.node.integer("stash_type", 1))


# -- statistics per channel or group of channels --------------------------------------------------------------


def _instance_norm(ctx: TranslationContext) -> Kernel:
    epsilon = ctx.node.number("epsilon", 1e-5)
    return lambda x, scale, bias: _of_groups(x, x.shape[1], epsilon) * _channels(scale, x) + _channels(bias, x)


def _group_norm(ctx: TranslationContext) -> Kernel:
    """Scale and bias hold one number per channel, or (operator set 18) per group."""
    groups, epsilon = ctx.node.integer("num_groups", 1), ctx.node.number("epsilon", 1e-5)

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
    spread, center = torch.var_mean(wide, 2, correction=0, keepdim=True)
    return ((wide - center) * torch.rsqrt(spread + epsilon)).to(x.dtype).reshape(x.shape)


def _channels(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.reshape(-1, *(1,) * (x.dim() - 2))


def _local_response(ctx: TranslationContext) -> Kernel:
    """Divided by (bias + alpha / size · sum of squares over neighboring channels) ** beta."""
    size, bias = ctx.node.integer("size", 1), ctx.node.number("bias", 1.0)
    factor, beta = ctx.node.number("alpha", 1e-4) / size, ctx.node.number("beta", 0.75)
    before = (size - 1) // 2

    def kernel(x: Tensor) -> Tensor:
        squares = x.square().reshape(*x.shape[:2], -1)
        padded = functional.pad(squares, (0, 0, before, size - 1 - before))
        sums = padded.unfold(1, size, 1).sum(-1).reshape(x.shape)
        return x / (bias + factor * sums) ** beta

    return kernel


# -- others ---------------------------------------------------------------------------------------------------


def _lp_norm(ctx: TranslationContext) -> Kernel:
    """What is all zero stays so."""
    axis, order = ctx.node.integer("axis", -1), ctx.node.integer("p", 2)

    def kernel(x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, order, axis, keepdim=True)
        return x / torch.where(size == 0, torch.ones_like(size), size)

    return kernel


def _mean_variance(ctx: TranslationContext) -> Kernel:
    axes = ctx.node.integers("axes") or (0, 2, 3)

    def kernel(x: Tensor) -> Tensor:
        centered = x - x.mean(axes, keepdim=True)
        return centered / (centered.square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return kernel


def _batch_norm(ctx: TranslationContext) -> Kernel:
    """Normalizes by the stored statistics, or (attribute ``training_mode``) by those of the batch."""
    ctx.require(ctx.node.integer("spatial", 1) == 1, "statistics per position went with operator set 9")
    epsilon, momentum = ctx.node.number("epsilon", 1e-5), ctx.node.number("momentum", 0.9)
    if ctx.node.integer("training_mode", 0):
        return lambda *operands: _by_batch(*operands, epsilon=epsilon, momentum=momentum)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if mean.requires_grad or variance.requires_grad:
            shape = (-1, *(1,) * (x.dim() - 2))
            factor = scale * torch.rsqrt(variance + epsilon)
            return ((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)).to(x.dtype)
        if scale.dtype == x.dtype == mean.dtype:
            return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)
        statistics, affine = (mean.float(), variance.float()), (scale.float(), bias.float())
        return functional.batch_norm(x.float(), *statistics, *affine, eps=epsilon).to(x.dtype)

    return kernel


def _by_batch(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float, momentum: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    spread, center = torch.var_mean(x, axes, correction=0)
    y = functional.batch_norm(x, None, None, scale, bias, True, eps=epsilon)
    blended = (momentum * old + (1 - momentum) * new for old, new in ((mean, center), (variance, spread)))
    return (y, *blended)  # type: ignore[return-value]
