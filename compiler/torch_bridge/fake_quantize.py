"""Fake quantization: the numbers that an encoding can hold, with gradients that pass straight through.

    q = clamp(round(x / s) + z, low, high)        x̂ = (q − z) · s
    ∂x̂/∂x = 1 where round(x / s) + z lies in [low, high], else 0

In an 8-bit float q is the number of the format next to x / s, and z = 0.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, eq. 12, with the straight-through gradient of Bengio et al. 2013.

Scales of activations are constants. The scale of a weight follows its largest magnitude in proportion,

    s(w) = s₀ · max|w| / max|w₀|        (per tensor, per index of the axis, or per block)

so that a grid which left room, or cut off, at the start does so for the trained weight too. A bias whose scale is
derived follows the scale of its weight. Encodings that came with the model stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpress.ir import Node, Value, input_of, is_constant, label
from graphpress.ir.encoding import FLOAT8, AffineEncoding, Encoding, read_encoding, representable_like, static_affine
from graphpress.ops import lookup
from graphpress.torch_bridge.context import Kernel
from graphpress.torch_bridge.errors import BridgeError
from graphpress.torch_bridge.tensors import to_tensor


def as_affine(encoding: Encoding, value: Value) -> AffineEncoding:
    """The encoding as one that can be fake-quantized.

    Raises:
        BridgeError: it is a codebook, a cast, or dynamic.
    """
    affine = static_affine(encoding)
    if affine is None:
        raise BridgeError(
            f"the encoding {encoding.label} has no fake quantization",
            where=label(value),
            fix="recover before it is encoded so, or without training",
        )
    return affine


def fixed_grid(encoding: AffineEncoding) -> Kernel:
    """Fake quantization with the scales as they are."""
    scale, zero = _numbers(encoding)
    return lambda x: _snap(x, encoding, scale, zero)


def _numbers(encoding: AffineEncoding) -> tuple[Tensor, Tensor]:
    """Scales, and zero-points, each in a tensor of its own."""
    return torch.tensor(encoding.scale), torch.tensor(encoding.zero_point)


def following_grid(encoding: AffineEncoding, leader: AffineEncoding, start: np.ndarray) -> Kernel:
    """Fake quantization of ``x`` with scales that follow a weight's magnitude: the kernel takes ``x`` and the weight.

    Args:
        encoding: of what is quantized.
        leader: the encoding of the weight, whose groups have one magnitude each. It is ``encoding`` for the weight.
        start: the weight for which the scales of ``encoding`` hold.
    """
    scale, zero = _numbers(encoding)
    before = magnitudes(to_tensor(start), leader)

    def kernel(x: Tensor, weight: Tensor) -> Tensor:
        return _snap(x, encoding, scale.to(x.device) * _growth(weight, leader, before.to(x.device)), zero)

    return kernel


def renewed(encoding: AffineEncoding, leader: AffineEncoding, start: np.ndarray, weight: np.ndarray) -> AffineEncoding:
    """The encoding with the scales that ``following_grid`` has reached when the weight came from ``start`` to this."""
    before = magnitudes(to_tensor(start), leader)
    grown = _numbers(encoding)[0] * _growth(to_tensor(weight), leader, before)
    return replace(encoding, scale=representable_like(grown.numpy(), encoding.scale))


def leader_of(value: Value, encoding: AffineEncoding, reader: Node | None) -> tuple[Value, AffineEncoding] | None:
    """The weight whose magnitude the scales follow: the value itself, or for a derived scale the reader's weight."""
    if not encoding.derived:
        return (value, encoding) if _follows(encoding, encoding) else None
    spec = None if reader is None else lookup(reader.op_type, reader.domain)
    if reader is None or spec is None or spec.quantization.weight is None:
        return None
    weight = input_of(reader, spec.quantization.weight)
    if weight is None or not is_constant(weight):
        return None
    leader = static_affine(read_encoding(reader, spec.quantization.weight))
    return (weight, leader) if leader is not None and _follows(encoding, leader) else None


def _follows(encoding: AffineEncoding, leader: AffineEncoding) -> bool:
    """Whether scales of ``encoding`` can follow those of ``leader``: neither is imported, and they pair up."""
    return (
        not encoding.imported
        and not leader.imported
        and (leader.scale.size == 1 or leader.scale.shape == encoding.scale.shape)
    )


def magnitudes(weight: Tensor, encoding: AffineEncoding) -> Tensor:
    """Largest magnitude of each group of numbers that share a scale, in the shape of the scales."""
    size = weight.detach().abs().float()
    if encoding.axis is None:
        return size.amax()
    if not encoding.block:
        return size.movedim(encoding.axis, 0).flatten(1).amax(1) if size.dim() > 1 else size
    axis = encoding.axis % size.dim()
    starts = list(range(encoding.block, size.shape[axis], encoding.block))
    return torch.stack([part.amax(axis) for part in torch.tensor_split(size, starts, axis)], axis)


def _growth(weight: Tensor, leader: AffineEncoding, before: Tensor) -> Tensor:
    """By how much each group has grown; one that is or was all zero keeps its scale."""
    now = magnitudes(weight, leader)
    growth = torch.where((now > 0) & (before > 0), now / before, torch.ones_like(now))
    return growth.reshape(()) if growth.numel() == 1 else growth


def _snap(x: Tensor, encoding: AffineEncoding, scale: Tensor, zero: Tensor) -> Tensor:
    wide = torch.float64 if encoding.dtype == "int32" or x.dtype == torch.float64 else torch.float32
    spread = _spread(scale.to(x.device, wide), encoding, x.shape)
    offset = _spread(zero.to(x.device, wide), encoding, x.shape)
    whole = encoding.dtype != FLOAT8
    result: Tensor = _StraightThrough.apply(x.to(wide), spread, offset, encoding.bounds, whole)  # type: ignore[no-untyped-call]
    return result.to(x.dtype)


def _spread(numbers: Tensor, encoding: AffineEncoding, shape: torch.Size) -> Tensor:
    """One number per scale, shaped to broadcast against a tensor of ``shape``."""
    if encoding.axis is None:
        return numbers.reshape(())
    axis = encoding.axis % len(shape)
    if not encoding.block:
        return numbers.reshape([-1 if index == axis else 1 for index in range(len(shape))])
    blocks = numbers.repeat_interleave(encoding.block, axis)
    return blocks.narrow(axis, 0, shape[axis])


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, bounds: tuple[int, int], whole: bool) -> Tensor:
        steps = torch.div(x, scale)
        levels = steps.round_().add_(zero) if whole else steps
        held = levels.clamp(*bounds)
        ctx.save_for_backward(held == levels)
        if not whole:
            held = held.to(torch.float8_e4m3fn).to(x.dtype)
        return held.sub_(zero).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None
