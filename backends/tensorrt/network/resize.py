"""Resize and Upsample: one resize layer, given the scales where they are known and the sizes otherwise.

Nearest, linear and cubic; coordinates by half pixels, by corners, or asymmetric. PyTorch's half pixels differ in one
place only: an axis of one pixel reads position 0, which TensorRT calls the upper selector. TensorFlow's nearest pixel
⌊(x + 1/2) / scale⌋ is that of half pixels, rounded half up. Refused: crops, antialiasing, symmetric half pixels,
corners of sizes that are no whole numbers, scales that are known at run time only.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.types import is_float
from graphpress.ir import normalize_axis
from graphpress.ops.semantics.resize import ResizeAttributes, has_coordinates, resized

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


def _upsample(ctx: LoweringContext) -> Tensor:
    """Resize of old: asymmetric coordinates, rounded down."""
    layer = _layer(ctx, ctx.node.text("mode", "nearest"), "asymmetric", "floor")
    scales = ctx.node.numbers("scales") or tuple(float(scale) for scale in ctx.known(1, "the scales"))
    layer.scales = list(scales)
    return layer.get_output(0)


def _resize(ctx: LoweringContext) -> Tensor:
    if not has_coordinates(ctx.node):
        return _upsample(ctx)
    attributes = ResizeAttributes.of(ctx.node)
    _check(ctx, attributes)
    coordinates, rounding = attributes.coordinates, attributes.nearest
    if (coordinates, rounding) == ("tf_half_pixel_for_nn", "floor"):
        coordinates, rounding = "half_pixel", "round_prefer_ceil"
    layer = _layer(ctx, attributes.mode, coordinates, rounding)
    layer.cubic_coeff, layer.exclude_outside = attributes.cubic_coeff, attributes.exclude_outside
    if coordinates == "pytorch_half_pixel":
        layer.selector_for_single_pixel = ctx.trt.ResizeSelector.UPPER
    _set_size(ctx, layer, attributes)
    return layer.get_output(0)


def _check(ctx: LoweringContext, attributes: ResizeAttributes) -> None:
    if attributes.antialias:
        raise ctx.refuse("TensorRT resizes without antialiasing", "set antialias to 0, or resize ahead of the model")
    aspect = attributes.aspect
    if aspect != "stretch" and (ctx.node.constant(3) is None or -1 in ctx.shape(0)):
        raise ctx.refuse(f"it keeps the aspect ratio ({aspect}) of sizes that are open", "give it fixed shapes")


def _layer(ctx: LoweringContext, mode: str, coordinates: str, rounding: str) -> Tensor:
    if mode not in _MODES or coordinates not in _COORDINATES or rounding not in _ROUNDING:
        raise ctx.refuse(f"TensorRT does not resize by {mode}, {coordinates}, {rounding}", "use half_pixel coordinates")
    tensor = ctx.tensor(0)
    if not is_float(tensor.dtype):
        raise ctx.refuse("TensorRT resizes floats only", "cast the operand to float32")
    trt, layer = ctx.trt, ctx.add("resize", tensor)
    layer.resize_mode = getattr(trt.InterpolationMode, _MODES[mode])
    layer.coordinate_transformation = getattr(trt.ResizeCoordinateTransformation, _COORDINATES[coordinates])
    layer.nearest_rounding = getattr(trt.ResizeRoundMode, _ROUNDING[rounding])
    return layer


def _set_size(ctx: LoweringContext, layer: Tensor, attributes: ResizeAttributes) -> None:
    shape = ctx.shape(0)
    axes = [normalize_axis(axis, len(shape)) for axis in ctx.node.integers("axes") or range(len(shape))]
    scales = ctx.node.constant(2) if ctx.node.has(2) else None
    if scales is not None and scales.size:
        whole = np.ones(len(shape))
        whole[axes] = scales
        if attributes.coordinates == "align_corners":
            _check_corners(ctx, shape, whole)
        layer.scales = [float(scale) for scale in whole]
        return
    if ctx.node.has(2) and scales is None:
        raise ctx.refuse("its scales are not constant", "fold constants, or give sizes instead")
    sizes: list[Size] = ctx.sizes(ctx.tensor(0))
    for axis, size in zip(axes, _sizes(ctx, shape, axes, attributes.aspect), strict=True):
        sizes[axis] = size
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        layer.shape = known
    else:
        layer.set_input(1, ctx.stack(sizes))


def _check_corners(ctx: LoweringContext, shape: tuple[int, ...], scales: np.ndarray) -> None:
    """The standard aligns the corners of a size that is not rounded; there is no telling what a runtime does."""
    sizes = np.where(np.array(shape) < 0, 1, shape) * scales
    if not np.all(sizes == np.round(sizes)):
        raise ctx.refuse("it aligns the corners of sizes that are no whole numbers", "give sizes instead of scales")


def _sizes(ctx: LoweringContext, shape: tuple[int, ...], axes: list[int], aspect: str) -> list[Size]:
    """The requested sizes; where the aspect ratio stays, the scale of the tightest (or widest) axis holds for all."""
    if aspect == "stretch":
        return ctx.vector(3)
    wanted = ctx.known(3, "the sizes")
    return list(resized([int(size) for size in wanted], [shape[axis] for axis in axes], aspect)[0])
