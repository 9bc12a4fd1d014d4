"""Reductions, running sums and orderings along axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphpress.ops.semantics.axes import reduced_axes
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext

_UNSORTED = (torch.uint16, torch.uint32, torch.uint64)
"""Types that torch does not sort."""

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""From a tensor, axes (at least one) and whether they are kept with size one."""


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {
        **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
        "ArgMax": lambda ctx: _arg(ctx, torch.argmax),
        "ArgMin": lambda ctx: _arg(ctx, torch.argmin),
        "CumProd": lambda ctx: _cumulative(ctx, torch.cumprod, 1),
        "CumSum": lambda ctx: _cumulative(ctx, torch.cumsum, 0),
        "TopK": _top_k,
    }


# -- reductions -----------------------------------------------------------------------------------------------


def _extreme(largest: bool) -> Reduction:
    """Over nothing it is what any other value replaces."""

    def reduction(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return x.any(axes, keep) if largest else x.all(axes, keep)
        if all(x.shape[axis] for axis in axes):
            return x.amax(axes, keep) if largest else x.amin(axes, keep)
        return x.sum(axes, keep, dtype=x.dtype).fill_(_neutral(x.dtype, largest))

    return reduction


def _neutral(dtype: torch.dtype, largest: bool) -> float:
    if dtype.is_floating_point:
        return float("-inf") if largest else float("inf")
    limits = torch.iinfo(dtype)
    return limits.min if largest else limits.max


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keep)
    count = x.numel() // max(x.sum(axes).numel(), 1)
    return torch.div(x.sum(axes, keep), count, rounding_mode="trunc").to(x.dtype)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: _root(x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
    "ReduceMax": _extreme(True),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(False),
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep, dtype=x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep, dtype=x.dtype),
}


def _root(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    wide = x if x.is_floating_point() else x.double()
    root: Tensor = torch.linalg.vector_norm(wide, 2, axes, keep)
    return root.to(x.dtype)


def _reduction(reduce: Reduction) -> Translation:
    """Without axes everything is reduced, or nothing if ``noop_with_empty_axes`` is set."""

    def translate(ctx: TranslationContext) -> Kernel:
        read, keep = ctx.reader(1, "axes"), ctx.node.flag("keepdims", True)

        def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = tuple(reduced_axes(ctx.node, read(axes), x.dim()))
            if not chosen:  # each element is reduced alone
                return reduce(x.unsqueeze(0), (0,), False)
            return reduce(x, chosen, keep)

        return kernel

    return translate


# -- positions ------------------------------------------------------------------------------------------------


def _arg(ctx: TranslationContext, find: Callable[[Tensor, int, bool], Tensor]) -> Kernel:
    """Torch does not define which of several equal ones it finds; the first is the least of their positions."""
    axis, keep = ctx.node.integer("axis", 0), ctx.node.flag("keepdims", True)
    largest, last = find is torch.argmax, ctx.node.flag("select_last_index")

    def kernel(x: Tensor) -> Tensor:
        best = x.amax(axis, True) if largest else x.amin(axis, True)
        places = torch.arange(x.shape[axis], device=x.device)
        places = places.reshape([-1 if index == axis % x.dim() else 1 for index in range(x.dim())])
        missing = torch.full_like(places, -1 if last else x.shape[axis])
        positions = torch.where(x == best, places, missing)
        return positions.amax(axis, keep) if last else positions.amin(axis, keep)

    return kernel


def _top_k(ctx: TranslationContext) -> Kernel:
    """The lower position wins among equals, as a stable sort has it."""
    read, axis, largest = ctx.reader(1), ctx.node.integer("axis", -1), ctx.node.flag("largest", True)
    count = ctx.node.attributes.get("k")

    def kernel(x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
        number = count.as_int() if count is not None else (read(k) or (0,))[0]
        values, places = torch.sort(x.long() if x.dtype in _UNSORTED else x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, number).to(x.dtype), places.narrow(axis, 0, number)

    return kernel


# -- running --------------------------------------------------------------------------------------------------


def _cumulative(ctx: TranslationContext, run: Callable[[Tensor, int], Tensor], neutral: int) -> Kernel:
    read = ctx.reader(1, "axis")
    exclusive, reverse = ctx.node.integer("exclusive", 0), ctx.node.integer("reverse", 0)

    def kernel(x: Tensor, axis: Tensor | None = None) -> Tensor:
        along = (read(axis) or (0,))[0]
        y = x.flip(along) if reverse else x
        if exclusive:
            first = torch.full_like(y.narrow(along, 0, 1), neutral)
            y = torch.cat([first, y.narrow(along, 0, y.shape[along] - 1)], along)
        y = run(y, along).to(x.dtype)
        return y.flip(along) if reverse else y

    return kernel
