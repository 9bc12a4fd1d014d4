"""Where a Resize reads along one axis, and with which weights: tables of a few taps for each place of the result.

    nearest    one tap at the rounded coordinate
    linear     two, at the coordinate rounded down and the one behind it
    cubic      four, by the piecewise cubic of the coefficient a (Keys, 1981)

Coordinates are computed in float32, so that ties fall as they do in ONNX Runtime. TapTable beyond an end read the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpress.ops.semantics.resize import ResizeAttributes


class TapTable(NamedTuple):
    """A table.

    Args:
        places: int32, ``[results, taps]``: what is read.
        weights: float32, likewise.
    """

    places: np.ndarray
    weights: np.ndarray


def taps_of(attributes: ResizeAttributes, size: int, results: int, factor: float) -> TapTable | None:
    """The taps along an axis; None where there is no such table.

    Args:
        attributes: of the node.
        size: of what is read.
        results: how many there are.
        factor: by which the axis grows.
    """
    if attributes.antialias and factor < 1 and attributes.mode != "nearest":
        return None
    coordinates = _coordinates(attributes.coordinates, size, results, np.float32(factor))
    if coordinates is None:
        return None
    if attributes.mode == "nearest":
        return _nearest(attributes, coordinates, size, factor)
    if attributes.mode == "linear":
        return _linear(coordinates, size)
    return _cubic(attributes, coordinates, size)


def _coordinates(mode: str, size: int, results: int, factor: np.float32) -> np.ndarray | None:
    """Where each result lies in the source."""
    index, half = np.arange(results, dtype=np.float32), np.float32(0.5)
    if mode == "asymmetric":
        return index / factor
    if mode == "tf_half_pixel_for_nn":
        return (index + half) / factor
    if mode == "align_corners":
        return index * np.float32(size - 1) / np.float32(max(results - 1, 1))
    centers = (index + half) / factor - half
    if mode == "pytorch_half_pixel":
        return centers if results > 1 else np.zeros_like(index)
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(results) / (factor * np.float32(size))
        return np.float32(size / 2) * (1 - adjustment) + (index + half) / factor - half
    return centers if mode == "half_pixel" else None


def _nearest(attributes: ResizeAttributes, coordinates: np.ndarray, size: int, factor: float) -> TapTable:
    rounding = attributes.nearest
    if rounding == "simple":
        rounding = "ceil" if factor < 1 else "floor"
    half = np.float32(0.5)
    if rounding.startswith("round"):
        coordinates = coordinates + (-half if rounding == "round_prefer_floor" else half)
    rounded = np.ceil(coordinates) if rounding in ("ceil", "round_prefer_floor") else np.floor(coordinates)
    places = np.clip(rounded, 0, size - 1).astype(np.int32)[:, None]
    return TapTable(places, np.ones(places.shape, np.float32))


def _linear(coordinates: np.ndarray, size: int) -> TapTable:
    inside = np.clip(coordinates, 0, size - 1)
    first = np.floor(inside)
    places = np.minimum(np.stack([first, first + 1], axis=1), size - 1).astype(np.int32)
    behind = (inside - first).astype(np.float32)
    return TapTable(places, np.stack([1 - behind, behind], axis=1))


def _cubic(attributes: ResizeAttributes, coordinates: np.ndarray, size: int) -> TapTable:
    a, first = attributes.cubic_coeff, np.floor(coordinates)
    places = first[:, None] + np.arange(-1, 3)
    distance = np.abs(coordinates[:, None] - places)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    weights = np.where(distance <= 1, near, far)
    if attributes.exclude_outside:
        weights = np.where((places < 0) | (places >= size), 0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return TapTable(np.clip(places, 0, size - 1).astype(np.int32), weights.astype(np.float32))
