"""Scaling and shifting the channels that a linear operator computes or reads, by its constants alone.

    layer(x, W, b)·s + t = layer(x, W·s, b·s + t)          per output channel
    layer(x·s + t, W, b) = layer(x, W·s, b + Σ W·t)        per input channel

Whatever the operator, its weight is seen as [blocks, inputs, outputs, *kernel], and the two lines are written once.
Products are of float32 at least, so that one rounding to the weight's type follows the exact result.
"""

from __future__ import annotations

import numpy as np

from graphpress.analysis.linear.op import LinearOp
from graphpress.analysis.linear.parameters import ChannelAffine
from graphpress.analysis.linear.update import LinearUpdate
from graphpress.ir import Refusal, constant, int_attribute, ints_attribute, string_attribute


def scale_outputs(op: LinearOp, affine: ChannelAffine) -> LinearUpdate | Refusal:
    """Constants with which the operator computes what ``affine`` makes of its result.

    Args:
        op: with a float weight and bias that are not encoded.
        affine: of its output channels.
    """
    bias = channel_bias(op)
    if isinstance(bias, Refusal):
        return bias
    kernel = op.as_kernel(op.stored_weight())
    scale = np.broadcast_to(affine.scale, (op.channels_out,)).reshape(len(kernel), -1)
    with np.errstate(invalid="ignore"):
        bias = bias * affine.scale + affine.shift
    return _update(op, _times(kernel, _along(scale, kernel, axis=2)), bias)


def scale_inputs(op: LinearOp, affine: ChannelAffine) -> LinearUpdate | Refusal:
    """Constants with which the operator computes from x what it computes from what ``affine`` makes of x.

    Exact only where no padding hides the shift, and refused elsewhere.

    Args:
        op: with a float weight and bias that are not encoded.
        affine: of its input channels.
    """
    node, shifts = op.node, bool(np.any(affine.shift != 0))
    if int_attribute(node, "transA", 0):
        return Refusal.at(node, "it reads its input transposed, so that the channels are not where they seem")
    if shifts and not _sees_every_input_alike(op):
        return Refusal.at(node, "its padding is zero, not the shift, so that the border would change")
    if shifts and op.bias_index is None:
        return Refusal.at(node, "it has no bias that could take the shift")
    bias = channel_bias(op)
    if isinstance(bias, Refusal):
        return bias
    kernel = op.as_kernel(op.stored_weight())
    scale, shift = (
        np.broadcast_to(array, (op.channels_in,)).reshape(len(kernel), -1) for array in (affine.scale, affine.shift)
    )
    if shifts:
        flat = kernel.reshape(*kernel.shape[:3], -1)
        bias = bias + np.einsum("giok,gi->go", flat, shift).reshape(-1) * op.alpha
    return _update(op, _times(kernel, _along(scale, kernel, axis=1)), bias)


def channel_bias(op: LinearOp) -> np.ndarray | Refusal:
    """The bias as one float64 a channel, zero where there is none, or why it is no such thing."""
    rows, stored = op.bias_rows(), op.bias
    if rows is not None:
        return rows.reshape(-1)
    array = constant(stored)
    if array is None:
        return Refusal.at(stored, "the bias is not constant", "run fold_constants first")
    return Refusal.at(stored, f"the bias of shape {list(array.shape)} is not one number for each channel")


def _along(numbers: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Numbers ``[blocks, channels]`` so that they broadcast along an axis of the kernel."""
    shape = [1] * kernel.ndim
    shape[0], shape[axis] = numbers.shape
    return numbers.reshape(shape)


def _times(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The product in float32, or in float64 for a float64 weight: one rounding more than the exact result."""
    wide = np.float64 if kernel.dtype == np.float64 else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        product: np.ndarray = kernel.astype(wide, copy=False) * scale.astype(wide)
    return product


def _update(op: LinearOp, kernel: np.ndarray, bias: np.ndarray) -> LinearUpdate | Refusal:
    """The new constants in the weight's type, or a refusal where they leave its range."""
    dtype = op.stored_weight().dtype
    with np.errstate(over="ignore"):
        weight, rounded = op.from_kernel(kernel).astype(dtype, copy=False), bias.astype(dtype)
    if not (np.isfinite(weight).all() and np.isfinite(rounded).all()):
        return Refusal.at(op.node, f"the folded weights leave the range of {dtype}")
    if op.bias is None and not np.any(rounded != 0):
        return LinearUpdate(op, weight)
    return LinearUpdate(op, weight, rounded.astype(np.float64).reshape(len(kernel), -1))


def _sees_every_input_alike(op: LinearOp) -> bool:
    """Whether each result is a sum over the same weights: no zero padding, no partial overlap."""
    node = op.node
    if not op.is_convolution:
        return True
    if node.op_type == "ConvTranspose":
        return False
    return string_attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(
        ints_attribute(node, "pads") or ()
    )
