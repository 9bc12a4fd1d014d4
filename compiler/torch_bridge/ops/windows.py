"""Padding of windows: what torch pads alike on both sides is left to its kernels, the rest is padded before."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.window import Pads


def even(pads: Pads) -> tuple[int, ...] | None:
    """Padding per axis where it is the same on both sides and not negative, else None."""
    return tuple(before for before, _ in pads) if all(before == after >= 0 for before, after in pads) else None


def pad(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad the last axes with a number."""
    flat = [number for pair in reversed(pads) for number in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x
