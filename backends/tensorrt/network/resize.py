"""Resize and Upsample: one resize layer, told the scales where they are known and the sizes otherwise.

Nearest, linear and cubic; coordinates by half pixels, by corners, or asymmetric. PyTorch's half pixels differ in one
place only: an axis of one pixel reads position 0, which TensorRT calls the upper selector. TensorFlow's nearest pixel
⌊(x + 1/2) / scale⌋ is that of half pixels, rounded half up. Refused: crops, antialiasing, symmetric half pixels,
corners of sizes that are no whole numbers, scales that are known at run time only.
"""

from __future__ import annotations

import math

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import is_float

_MODES = {"nearest": "NEAREST", "linear": "LINEAR", "bilinear": "LINEAR", "cubic": "CUBIC"}
_COORDINATES = {
    "align_corners": "ALIGN_CORNERS",
    "asymmetric": "ASYMMETRIC",
    "half_pixel": "HALF_PIXEL",
    "pytorch_half_pixel": "HALF_PIXEL",
}
_ROUNDING = {"round_prefer_floor": "HALF_DOWN", "round_prefer_ceil": "HALF_UP", "floor": "FLOOR", "ceil": "CEIL"}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"Resize": _resize, "Upsample": _upsample}


def _upsample(call: Call) -> Tensor:
    """Resize of old: asymmetric coordinates, rounded down."""
    layer = _layer(call, call.text("mode", "nearest"), "asymmetric", "floor")
    scales = call.numbers("scales") or tuple(float(one) for one in call.known(1, "the scales"))
    layer.scales = list(scales)
    return layer.get_output(0)


def _resize(call: Call) -> Tensor:
    if call.opset < 11:
        layer = _layer(call, call.text("mode", "nearest"), "asymmetric", "floor")
        layer.scales = [float(one) for one in call.known(1, "the scales")]
        return layer.get_output(0)
    _check(call)
    coordinates = call.text("coordinate_transformation_mode", "half_pixel")
    rounding = call.text("nearest_mode", "round_prefer_floor")
    if (coordinates, rounding) == ("tf_half_pixel_for_nn", "floor"):
        coordinates, rounding = "half_pixel", "round_prefer_ceil"
    layer = _layer(call, call.text("mode", "nearest"), coordinates, rounding)
    layer.cubic_coeff = call.number("cubic_coeff_a", -0.75)
    layer.exclude_outside = bool(call.integer("exclude_outside", 0))
    if coordinates == "pytorch_half_pixel":
        layer.selector_for_single_pixel = call.trt.ResizeSelector.UPPER
    _set_size(call, layer)
    return layer.get_output(0)


def _check(call: Call) -> None:
    if call.integer("antialias", 0):
        raise call.refuse("TensorRT resizes without antialiasing", "set antialias to 0, or resize ahead of the model")
    aspect = call.text("keep_aspect_ratio_policy", "stretch")
    if aspect != "stretch" and (call.constant(3) is None or -1 in call.shape(0)):
        raise call.refuse(f"it keeps the aspect ratio ({aspect}) of sizes that are open", "give it fixed shapes")


def _layer(call: Call, mode: str, coordinates: str, rounding: str) -> Tensor:
    if mode not in _MODES or coordinates not in _COORDINATES or rounding not in _ROUNDING:
        raise call.refuse(
            f"TensorRT does not resize by {mode}, {coordinates}, {rounding}", "use half_pixel coordinates"
        )
    tensor = call.tensor(0)
    if not is_float(tensor.dtype):
        raise call.refuse("TensorRT resizes floats only", "cast the operand to float32")
    trt, layer = call.trt, call.add("resize", tensor)
    layer.resize_mode = getattr(trt.InterpolationMode, _MODES[mode])
    layer.coordinate_transformation = getattr(trt.ResizeCoordinateTransformation, _COORDINATES[coordinates])
    layer.nearest_rounding = getattr(trt.ResizeRoundMode, _ROUNDING[rounding])
    return layer


def _set_size(call: Call, layer: Tensor) -> None:
    shape = call.shape(0)
    axes = [call.from_front(axis, len(shape)) for axis in call.integers("axes") or range(len(shape))]
    scales = call.constant(2) if call.has(2) else None
    if scales is not None and scales.size:
        whole = np.ones(len(shape))
        whole[axes] = scales
        _check_corners(call, shape, whole)
        layer.scales = [float(one) for one in whole]
        return
    if call.has(2) and scales is None:
        raise call.refuse("its scales are not constant", "fold constants, or give sizes instead")
    sizes: list[Size] = call.sizes(call.tensor(0))
    for axis, size in zip(axes, _sizes(call, shape, axes), strict=True):
        sizes[axis] = size
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        layer.shape = known
    else:
        layer.set_input(1, call.stack(sizes))


def _check_corners(call: Call, shape: tuple[int, ...], scales: np.ndarray) -> None:
    """The standard aligns the corners of a size that is not rounded; there is no telling what a runtime does."""
    sizes = np.where(np.array(shape) < 0, 1, shape) * scales
    if call.text("coordinate_transformation_mode", "") == "align_corners" and not np.all(sizes == np.round(sizes)):
        raise call.refuse("it aligns the corners of sizes that are no whole numbers", "give sizes instead of scales")


def _sizes(call: Call, shape: tuple[int, ...], axes: list[int]) -> list[Size]:
    """The sizes asked for; where the aspect ratio stays, the scale of the tightest (or widest) axis holds for all."""
    aspect = call.text("keep_aspect_ratio_policy", "stretch")
    if aspect == "stretch":
        return call.vector(3)
    wanted = call.known(3, "the sizes")
    choose = min if aspect == "not_larger" else max
    scale = choose(int(size) / shape[axis] for size, axis in zip(wanted, axes, strict=True))
    return [math.floor(scale * shape[axis] + 0.5) for axis in axes]
