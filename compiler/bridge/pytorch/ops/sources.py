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

from graphpress.bridge.pytorch.call import Call, Kernel, Translation, UntranslatableError
from graphpress.bridge.pytorch.tensors import to_tensor, torch_dtype

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
        "RandomNormal": lambda call: _of_shape(call, _normal(call)),
        "RandomNormalLike": lambda call: _like(call, _normal(call)),
        "RandomUniform": lambda call: _of_shape(call, _uniform(call)),
        "RandomUniformLike": lambda call: _like(call, _uniform(call)),
        "Range": _range,
        "Shape": _shape,
        "Size": lambda call: lambda data: torch.tensor(data.numel(), device=data.device),
    }


def _dtype(call: Call, default: torch.dtype) -> torch.dtype:
    code = call.integer("dtype", 0)
    return torch_dtype(code) if code else default


# -- constants and shapes ---------------------------------------------------------------------------------------


def _constant(call: Call) -> Kernel:
    """Most constants never come here: one whose value the caller of a function gives does."""
    tensor = _constant_tensor(call)
    return lambda: tensor


def _constant_tensor(call: Call) -> Tensor:
    for name, dtype in _LISTED.items():
        if (attribute := call.attributes.get(name)) is not None:
            return torch.tensor(attribute.value, dtype=dtype)
    if (attribute := call.attributes.get("value")) is None:
        raise UntranslatableError("a constant that is no tensor of numbers")
    return to_tensor(attribute.as_tensor().numpy())


def _constant_of_shape(call: Call) -> Kernel:
    attribute, read = call.attributes.get("value"), call.reader(0)
    fill = torch.zeros(()) if attribute is None else to_tensor(attribute.as_tensor().numpy()).reshape(())
    return lambda shape: fill.to(shape.device).expand(read(shape) or ()).clone()


def _shape(call: Call) -> Kernel:
    start = call.integer("start", 0)
    stop = call.integer("end", 0) if "end" in call.attributes else None
    return lambda data: torch.tensor(data.shape[start:stop], dtype=torch.int64, device=data.device)


def _range(call: Call) -> Kernel:
    del call

    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        first, step = start.reshape(()), delta.reshape(())
        count = math.ceil((limit.item() - first.item()) / step.item())
        return first + step * torch.arange(max(count, 0), dtype=first.dtype, device=first.device)

    return run


def _eye_like(call: Call) -> Kernel:
    diagonal = call.integer("k", 0)

    def run(data: Tensor) -> Tensor:
        rows = torch.arange(data.shape[0], device=data.device)[:, None]
        columns = torch.arange(data.shape[1], device=data.device)
        return (columns - rows == diagonal).to(_dtype(call, data.dtype))

    return run


# -- random numbers ---------------------------------------------------------------------------------------------


def _generator(call: Call) -> Callable[[torch.device], torch.Generator | None]:
    """From a device to a new generator with the operator's seed, or None for the global one."""
    if "seed" not in call.attributes:
        return lambda device: None
    (seed,) = struct.unpack("<I", struct.pack("<f", call.number("seed", 0.0)))
    return lambda device: torch.Generator(device).manual_seed(seed)


def _normal(call: Call) -> Draw:
    mean, scale = call.number("mean", 0.0), call.number("scale", 1.0)
    return lambda shape, options: mean + scale * torch.randn(shape, **options)


def _uniform(call: Call) -> Draw:
    low, high = call.number("low", 0.0), call.number("high", 1.0)
    return lambda shape, options: low + (high - low) * torch.rand(shape, **options)


def _of_shape(call: Call, draw: Draw) -> Kernel:
    shape, dtype, generator = call.integers("shape") or (), _dtype(call, torch.float32), _generator(call)
    device = torch.get_default_device()
    return lambda: draw(shape, {"dtype": dtype, "generator": generator(device), "device": device})


def _like(call: Call, draw: Draw) -> Kernel:
    generator = _generator(call)

    def run(data: Tensor) -> Tensor:
        options = {"dtype": _dtype(call, data.dtype), "generator": generator(data.device), "device": data.device}
        return draw(data.shape, options)

    return run


def _bernoulli(call: Call) -> Kernel:
    generator = _generator(call)
    return lambda data: torch.bernoulli(data.detach(), generator=generator(data.device)).to(_dtype(call, data.dtype))


def _multinomial(call: Call) -> Kernel:
    count, dtype, generator = call.integer("sample_size", 1), _dtype(call, torch.int32), _generator(call)

    def run(data: Tensor) -> Tensor:
        chances = torch.softmax(data.detach(), -1)
        return torch.multinomial(chances, count, replacement=True, generator=generator(data.device)).to(dtype)

    return run
