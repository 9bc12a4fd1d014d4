"""Convolutions and matrix products.

    Conv           correlation; the kernel as weights where it is constant, else as a tensor (Q/DQ weights)
    ConvTranspose  what the padding at the end takes off is made good by ``output_padding``; beyond the last place that
                   a tap reaches stands the bias alone
    Gemm           α·A'B' + β·C
    MatMul         ranks made equal, vectors as TensorRT's vectors
    Einsum         an ellipsis spelt out as letters, the result's axes always named

TensorRT multiplies floats only (and integers behind Q/DQ as floats): integer products are refused.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.types import is_float
from graphpress.backends.tensorrt.network.windows import Window, configure, halves, narrowed, taps, widened

Operand = np.ndarray | Tensor
"""What is known before the model runs, or a tensor of the network."""


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Einsum": _einsum,
        "Gemm": _gemm,
        "MatMul": _matmul,
    }


def floats(call: Call, *tensors: Tensor) -> None:
    """Refuse operands that TensorRT does not multiply.

    Raises:
        ModelError: one of them is no float.
    """
    for tensor in tensors:
        if not is_float(tensor.dtype):
            kind = tensor.dtype.name.lower()
            raise call.refuse(f"TensorRT computes this in floats only, not in {kind}", "cast the operands to float")


# -- convolutions ---------------------------------------------------------------------------------------------


def _conv(call: Call) -> Tensor:
    x = call.tensor(0)
    floats(call, x)
    return convolve(call, x, _either(call, 1, "the kernel"), _bias(call))


def convolve(call: Call, x: Tensor, kernel: Operand, bias: Operand | None) -> Tensor:
    """The convolution that the node's attributes describe, over these operands."""
    window = Window.of(call, tuple(kernel.shape)[2:], tuple(x.shape)[2:])
    layer = _with_kernel(call, "convolution_nd", x, kernel, int(kernel.shape[0]), bias)
    configure(call, layer, window)
    layer.num_groups = call.integer("group", 1)
    return narrowed(call, layer.get_output(0), len(x.shape))


def _either(call: Call, index: int, role: str) -> Operand:
    """An input of known shape: an array where it is constant, else a tensor."""
    call.static_shape(index, role)
    array = call.constant(index)
    return call.tensor(index) if array is None else array


def _with_kernel(call: Call, kind: str, x: Tensor, kernel: Operand, maps: int, bias: Operand | None) -> Any:
    """The layer, its kernel and bias weights where they are constant and tensors where they are computed."""
    fixed = [one if isinstance(one, np.ndarray) else None for one in (kernel, bias)]
    size = taps(tuple(kernel.shape)[2:])
    layer = call.add(kind, widened(call, x), maps, size, *(call.weights(one) for one in fixed))
    if fixed[0] is None:
        layer.set_input(1, widened(call, kernel))
    if bias is not None and fixed[1] is None:
        layer.set_input(2, bias)
    return layer


def _bias(call: Call) -> Operand | None:
    return _either(call, 2, "the bias") if call.has(2) else None


def _conv_transpose(call: Call) -> Tensor:
    x, kernel = call.tensor(0), _either(call, 1, "the kernel")
    floats(call, x)
    groups = call.integer("group", 1)
    window, missing = _transposed(call, kernel.shape, tuple(x.shape)[2:])
    if isinstance(kernel, np.ndarray) and max(window.strides) > 1 and max(window.dilations) > 1:
        kernel, window = _inflated(kernel, window)
    bias = None if any(missing) else _bias(call)
    layer = _with_kernel(call, "deconvolution_nd", x, kernel, int(kernel.shape[1]) * groups, bias)
    configure(call, layer, window)
    layer.num_groups = groups
    result = narrowed(call, layer.get_output(0), len(x.shape))
    return _extended(call, result, missing) if any(missing) else result


def _inflated(kernel: np.ndarray, window: Window) -> tuple[np.ndarray, Window]:
    """A kernel without dilations, zeros between its taps: TensorRT has strides or dilations here, not both."""
    whole = np.zeros((*kernel.shape[:2], *window.extent), kernel.dtype)
    whole[(slice(None), slice(None), *(slice(None, None, step) for step in window.dilations))] = kernel
    return whole, replace(window, kernel=window.extent, dilations=(1,) * len(window.kernel))


def _transposed(call: Call, shape: Sequence[int], size: Sequence[int]) -> tuple[Window, list[int]]:
    """The window with what TensorRT can cut off, and per axis the elements that are missing at the end."""
    kernel = tuple(shape[2:])
    window = Window.of(call, kernel, [-1] * len(kernel))
    extra = call.integers("output_padding") or (0,) * len(kernel)
    pads, missing = [], []
    for axis, (before, after) in enumerate(_rim(call, window, extra, size)):
        missing.append(max(extra[axis] - after, 0))
        pads.append((before, max(after - extra[axis], 0)))
    return window.padded(tuple(pads)), missing


def _rim(call: Call, window: Window, extra: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    """Padding as given, or such that the result has the size that is asked for."""
    wanted = call.integers("output_shape")
    if wanted is None:
        if window.pads is not None:
            return list(window.pads)
        # The size of the data cancels: stride·(n - 1) + extent + extra - stride·n.
        totals = zip(window.extent, extra, window.strides, strict=True)
        return [halves(max(reach + more - stride, 0), window.upper) for reach, more, stride in totals]
    if -1 in size:
        raise call.refuse("output_shape with open spatial dimensions", "give the input fixed dimensions")
    rims = []
    for axis, want in enumerate(wanted[-len(size) :]):
        full = window.strides[axis] * (size[axis] - 1) + extra[axis] + window.extent[axis]
        rims.append(halves(full - want, window.upper) if full >= want else (0, full - want))
    return rims


def _extended(call: Call, result: Tensor, missing: Sequence[int]) -> Tensor:
    """Zeros at the end of the spatial axes, and the bias on all."""
    more = (0, 0, *missing)
    sizes = [call.calculate("SUM", size, one) for size, one in zip(call.sizes(result), more, strict=True)]
    layer = call.slice(result, [0] * len(more), sizes, [1] * len(more))
    layer.mode = call.trt.SampleMode.FILL
    layer.set_input(4, call.like(0, result, 0))
    return biased(call, layer.get_output(0), call.optional(2))


def biased(call: Call, data: Tensor, bias: Tensor | None) -> Tensor:
    """Data [batch, channels, ...] plus a bias [channels]."""
    if bias is None:
        return data
    return call.elementwise("SUM", data, call.reshape(bias, [1, -1, *(1,) * (len(data.shape) - 2)]))


# -- matrix products ------------------------------------------------------------------------------------------


def _gemm(call: Call) -> Tensor:
    a, b = call.tensor(0), call.tensor(1)
    floats(call, a, b)
    flips = [bool(call.integer(name, 0)) for name in ("transA", "transB")]
    product = multiply(call, a, b, *flips)
    product = _scaled(call, product, call.number("alpha", 1.0))
    c, beta = call.optional(2), call.number("beta", 1.0)
    return product if c is None or beta == 0 else call.elementwise("SUM", product, _scaled(call, c, beta))


def _scaled(call: Call, tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else call.elementwise("PROD", tensor, call.like(factor, tensor))


def multiply(call: Call, a: Tensor, b: Tensor, flip_a: bool = False, flip_b: bool = False) -> Tensor:
    """The product of matrices of equal rank, each transposed where it says so."""
    operation = call.trt.MatrixOperation
    flips = [operation.TRANSPOSE if flip else operation.NONE for flip in (flip_a, flip_b)]
    return call.out("matrix_multiply", a, flips[0], b, flips[1])


def _matmul(call: Call) -> Tensor:
    a, b = call.tensor(0), call.tensor(1)
    floats(call, a, b)
    return product(call, a, b)


def product(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The product as numpy's ``matmul`` has it: vectors at the ends, leading axes broadcast."""
    operation = call.trt.MatrixOperation
    kinds = [operation.VECTOR if len(one.shape) == 1 else operation.NONE for one in (a, b)]
    batch = max(len(one.shape) - 2 for one in (a, b))
    sides = []
    for one, kind in zip((a, b), kinds, strict=True):
        rank = max(batch, 0) + (1 if kind == operation.VECTOR else 2)
        sides.append(call.unsqueeze(one, range(rank - len(one.shape))))
    return call.out("matrix_multiply", sides[0], kinds[0], sides[1], kinds[1])


def _einsum(call: Call) -> Tensor:
    operands = call.tensors()
    floats(call, *operands)
    ranks = [len(operand.shape) for operand in operands]
    return call.out("einsum", operands, spelt_out(call.text("equation", ""), ranks))


def spelt_out(equation: str, ranks: Sequence[int]) -> str:
    """An equation in TensorRT's words: lower-case letters, no ellipsis, the result's axes named.

    >>> spelt_out("...Ij, ...jk", [4, 3])
    'bace,bed->bacd'
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        counts = {letter: left.count(letter) for letter in left if letter.isalpha()}
        right = ("..." if "..." in left else "") + "".join(sorted(one for one, count in counts.items() if count == 1))
    broadcast = max((rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)), default=0)
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    axes = spare[:broadcast]
    spelt = []
    for term, rank in zip(terms, ranks, strict=True):
        own = rank - len(term.replace("...", ""))
        spelt.append(term.replace("...", "".join(axes[len(axes) - own :])))
    joined = ",".join(spelt) + "->" + right.replace("...", "".join(axes))
    letters = "".join(sorted({letter for letter in joined if letter.isalpha()}))
    return joined.translate(str.maketrans(letters, string.ascii_lowercase[: len(letters)]))
