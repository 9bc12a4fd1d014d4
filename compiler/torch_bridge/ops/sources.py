"""Operators whose results depend on shapes or on nothing: constants, shapes, ranges, random numbers.

Random numbers come from PyTorch's generators: an operator with a seed has one of its own, made anew at every run so
that its numbers repeat; the others share the global one, which the caller seeds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext, UntranslatableError
from graphpress.torch_bridge.tensors import to_tensor, torch_dtype

_LISTED = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}

Draw = Callable[[Sequence[int], dict[str, Any]], Tensor]
"""Random numbers of a shape; further arguments are those of PyTorch's own functions (dtype, device, generator)."""


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        "Bernoulli": _bernoulli,
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "EyeLike": _eye_like,
        "Multinomial": _multinomial,
        "RandomNormal": lambda ctx: _of_shape(ctx, _normal(ctx)),
        "RandomNormalLike": lambda ctx: _like(ctx, _normal(ctx)),
        "RandomUniform": lambda ctx: _of_shape(ctx, _uniform(ctx)),
        "RandomUniformLike": lambda ctx: _like(ctx, _uniform(ctx)),
        "Range": _range,
        "Shape": _shape,
        "Size": lambda ctx: lambda data: torch.tensor(data.numel(), device=data.device),
    }


def _dtype(ctx: TranslationContext, default: torch.dtype) -> torch.dtype:
    code = ctx.node.integer("dtype", 0)
    return torch_dtype(code) if code else default


# -- constants and shapes ---------------------------------------------------------------------------------------


def _constant(ctx: TranslationContext) -> Kernel:
    """Most constants never come here: one whose value the caller of a function gives does."""
    tensor = _constant_tensor(ctx)
    return lambda: tensor


def _constant_tensor(ctx: TranslationContext) -> Tensor:
    for name, dtype in _LISTED.items():
        if (attribute := ctx.node.attributes.get(name)) is not None:
            return torch.tensor(attribute.value, dtype=dtype)
    if (attribute := ctx.node.attributes.get("value")) is None:
        raise UntranslatableError("a constant that is no tensor of numbers")
    return to_tensor(attribute.as_tensor().numpy())


def _constant_of_shape(ctx: TranslationContext) -> Kernel:
    attribute, read = ctx.node.attributes.get("value"), ctx.reader(0)
    fill = torch.zeros(()) if attribute is None else to_tensor(attribute.as_tensor().numpy()).reshape(())
    return lambda shape: fill.to(shape.device).expand(read(shape) or ()).clone()


def _shape(ctx: TranslationContext) -> Kernel:
    start = ctx.node.integer("start", 0)
    stop = ctx.node.integer("end", 0) if "end" in ctx.node.attributes else None
    return lambda data: torch.tensor(data.shape[start:stop], dtype=torch.int64, device=data.device)


def _range(ctx: TranslationContext) -> Kernel:
    del ctx

    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        first, step = start.reshape(()), delta.reshape(())
        count = math.ceil((limit.item() - first.item()) / step.item())
        return first + step * torch.arange(max(count, 0), dtype=first.dtype, device=first.device)

    return run


def _eye_like(ctx: TranslationContext) -> Kernel:
    diagonal = ctx.node.integer("k", 0)

    def run(data: Tensor) -> Tensor:
        rows = torch.arange(data.shape[0], device=data.device)[:, None]
        columns = torch.arange(data.shape[1], device=data.device)
        return (columns - rows == diagonal).to(_dtype(ctx, data.dtype))

    return run


# -- random numbers ---------------------------------------------------------------------------------------------


def _generator(ctx: TranslationContext) -> Callable[[torch.device], torch.Generator | None]:
    """From a device to a new generator with the operator's seed, or None for the global one."""
    if "seed" not in ctx.node.attributes:
        return lambda device: None
    (seed,) = struct.unpack("<I", struct.pack("<f", ctx.node.number("seed", 0.0)))
    return lambda device: torch.Generator(device).manual_seed(seed)


def _normal(ctx: TranslationContext) -> Draw:
    mean, scale = ctx.node.number("mean", 0.0), ctx.node.number("scale", 1.0)
    return lambda shape, options: mean + scale * torch.randn(shape, **options)


def _uniform(ctx: TranslationContext) -> Draw:
    low, high = ctx.node.number("low", 0.0), ctx.node.number("high", 1.0)
    return lambda shape, options: low + (high - low) * torch.rand(shape, **options)


def _of_shape(ctx: TranslationContext, draw: Draw) -> Kernel:
    shape, dtype, generator = ctx.node.integers("shape") or (), _dtype(ctx, torch.float32), _generator(ctx)
    device = torch.get_default_device()
    return lambda: draw(shape, {"dtype": dtype, "generator": generator(device), "device": device})


def _like(ctx: TranslationContext, draw: Draw) -> Kernel:
    generator = _generator(ctx)

    def run(data: Tensor) -> Tensor:
        options = {"dtype": _dtype(ctx, data.dtype), "generator": generator(data.device), "device": data.device}
        return draw(data.shape, options)

    return run


def _bernoulli(ctx: TranslationContext) -> Kernel:
    generator = _generator(ctx)
    return lambda data: torch.bernoulli(data.detach(), generator=generator(data.device)).to(_dtype(ctx, data.dtype))


def _multinomial(ctx: TranslationContext) -> Kernel:
    count, dtype, generator = ctx.node.integer("sample_size", 1), _dtype(ctx, torch.int32), _generator(ctx)

    def run(data: Tensor) -> Tensor:
        chances = torch.softmax(data.detach(), -1)
        return torch.multinomial(chances, count, replacement=True, generator=generator(data.device)).to(dtype)

    return run
