"""Scales that the float type of a target's kernels holds exactly."""

from __future__ import annotations

import numpy as np

SMALLEST_HALF_SCALE = np.float32(2.0**-20)


def representable(scales: np.ndarray, dtype: str) -> np.ndarray:
    """Positive scales as float32 numbers that ``dtype`` holds exactly; no grid becomes smaller than asked for.

    Args:
        scales: any shape.
        dtype: ``float32``, or ``float16``, whose scales lie between 2⁻²⁰ (four bits are left there) and 65504.
    """
    single = np.maximum(scales.astype(np.float32), np.finfo(np.float32).tiny)
    if dtype == "float32":
        return single
    largest = np.finfo(np.float16).max
    bounded = np.clip(single, SMALLEST_HALF_SCALE, largest)
    half = bounded.astype(np.float16)
    return np.where(half < bounded, np.nextafter(half, largest), half).astype(np.float32)


def holds_scale(scale: float, dtype: str) -> bool:
    """Whether a float type holds a scale up to a factor of 2, of which a grid loses one bit; 0 takes any."""
    return not scale or 0.5 < float(representable(np.array(scale), dtype)) / scale < 2


def representable_like(scales: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Scales that take the place of ``old`` ones: those of half precision stay in half precision."""
    with np.errstate(over="ignore"):
        is_half = bool(np.all(old.astype(np.float16) == old))
    return representable(scales, "float16" if is_half else "float32")
