"""Linear operators in line as one: the product of their weights.

    s(f(x)) = (W_f x + b_f) W_s + b_s = (W_f W_s) x + (W_s b_f + b_s)

Of convolutions the kernel of the product has the axes of both, as long as along each axis only one of them slides:

    W[i, o, h, w] = Σ_m W_f[i, m, h] · W_s[m, o, w]      stride σ_f σ_s, padding p_f + p_s σ_f, dilation δ_f or δ_s σ_f

With groups g_f and g_s, gcd(g_f, g_s) are left. Exact but at the border: zeros that s pads with stand where f would
have computed b_f, or more than zero. So s pads only along axes where f neither slides nor pads, and if b_f is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpress.analysis.linear.op import LinearOp
from graphpress.ir import Refusal, int_attribute, ints_attribute, string_attribute


@dataclass(frozen=True)
class SlidingAxis:
    """How a convolution moves along one axis.

    Args:
        size: of the kernel.
        stride: of its places.
        dilation: between its positions.
        pads: zeros before and behind the data.
    """

    size: int
    stride: int
    dilation: int
    pads: tuple[int, int]

    def then(self, other: SlidingAxis, *, adds: bool) -> SlidingAxis | str:
        """Both as one, or why they are not one.

        Args:
            other: of the convolution behind this one.
            adds: whether this one has a bias.
        """
        if min(self.size, other.size) > 1:
            return "both slide along the same axis"
        if any(other.pads) and (self.size > 1 or any(self.pads) or adds):
            return "the second pads with zeros what is not zero at the border of the first"
        return SlidingAxis(
            max(self.size, other.size),
            self.stride * other.stride,
            self.dilation if self.size > 1 else other.dilation * self.stride,
            (self.pads[0] + other.pads[0] * self.stride, self.pads[1] + other.pads[1] * self.stride),
        )


@dataclass(frozen=True)
class Composition:
    """What operators in line compute.

    Args:
        kernel: ``[blocks, inputs, outputs, *kernel]``, float64.
        bias: ``[blocks, outputs]``, float64.
        axes: of a convolution; empty for products.
    """

    kernel: np.ndarray
    bias: np.ndarray
    axes: tuple[SlidingAxis, ...] = ()

    @staticmethod
    def of(op: LinearOp) -> Composition | Refusal:
        """A single operator; refused where its bias or its padding is not known, or it turns its data."""
        bias = op.bias_rows()
        if bias is None:
            return Refusal.at(op.node, "its bias is not one constant for each output")
        if int_attribute(op.node, "transA", 0):
            return Refusal.at(op.node, "it transposes its data")
        if string_attribute(op.node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return Refusal.at(op.node, "its padding depends on the size of its data", "write pads in place of auto_pad")
        kernel = op.as_kernel(op.stored_weight()).astype(np.float64) * op.alpha
        return Composition(kernel, bias, _axes(op))

    def then(self, other: Composition) -> Composition | str:
        """Both as one, or why they are not one.

        Args:
            other: what reads the results of this one.
        """
        axes = []
        for first, second in zip(self.axes, other.axes, strict=True):
            axis = first.then(second, adds=bool(np.any(self.bias)))
            if isinstance(axis, str):
                return axis
            axes.append(axis)
        blocks = math.gcd(len(self.kernel), len(other.kernel))
        (ours, held), (theirs, added) = _in_blocks(self, blocks), _in_blocks(other, blocks)
        kernel = np.einsum(_product(ours.shape[3:], theirs.shape[3:]), *_squeezed(ours, theirs), optimize=True)
        sums = theirs.sum(axis=tuple(range(3, theirs.ndim)))
        shape = (blocks, ours.shape[1], theirs.shape[2], *(axis.size for axis in axes))
        return Composition(kernel.reshape(shape), np.einsum("bm,bmo->bo", held, sums) + added, tuple(axes))

    @property
    def size(self) -> int:
        """Elements of the weight."""
        return int(self.kernel.size)

    @property
    def attributes(self) -> dict[str, Any]:
        """Of a Conv that computes it."""
        return {
            "kernel_shape": [axis.size for axis in self.axes],
            "strides": [axis.stride for axis in self.axes],
            "dilations": [axis.dilation for axis in self.axes],
            "pads": [axis.pads[side] for side in (0, 1) for axis in self.axes],
            "group": len(self.kernel),
        }


def composed(ops: Sequence[LinearOp]) -> Composition | Refusal:
    """Operators, each of which reads nothing but the result of the one before, as one.

    Args:
        ops: two at least, all convolutions (no transposed ones) or all products; in the order in which they run.
    """
    whole = Composition.of(ops[0])
    for op in ops[1:]:
        single = Composition.of(op)
        if isinstance(whole, Refusal) or isinstance(single, Refusal):
            return whole if isinstance(whole, Refusal) else single
        both = whole.then(single)
        if isinstance(both, str):
            return Refusal.at(op.node, both)
        whole = both
    return whole


def _axes(op: LinearOp) -> tuple[SlidingAxis, ...]:
    sizes = op.kernel_shape[3:]
    ones, zeros = (1,) * len(sizes), (0,) * (2 * len(sizes))
    strides, dilations = (ints_attribute(op.node, name) or ones for name in ("strides", "dilations"))
    pads = ints_attribute(op.node, "pads") or zeros
    pairs = zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)
    return tuple(SlidingAxis(*axis) for axis in zip(sizes, strides, dilations, pairs, strict=True))


def _in_blocks(whole: Composition, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and bias with fewer blocks, each of which holds some of the present ones along its diagonal."""
    present, inputs, outputs, *sizes = whole.kernel.shape
    few = present // blocks
    kernel = np.zeros((blocks, few, inputs, few, outputs, *sizes))
    for place in range(few):
        kernel[:, place, :, place] = whole.kernel[place::few]
    return kernel.reshape(blocks, few * inputs, few * outputs, *sizes), whole.bias.reshape(blocks, few * outputs)


def _squeezed(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both kernels without axes of one position."""
    drop = [tuple(axis for axis in range(3, kernel.ndim) if kernel.shape[axis] == 1) for kernel in (first, second)]
    return np.squeeze(first, drop[0]), np.squeeze(second, drop[1])


def _product(first: Sequence[int], second: Sequence[int]) -> str:
    """Subscripts of the product of two kernels without axes of one position."""
    ours, theirs, both = (
        "".join(letter for letter, size in zip("xyzuvw", sizes, strict=False) if size > 1)
        for sizes in (first, second, [max(pair) for pair in zip(first, second, strict=True)])
    )
    return f"bim{ours},bmo{theirs}->bio{both}"
