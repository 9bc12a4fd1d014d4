"""The data of a linear operator as rows of a matrix, so that ``rows @ matrix + bias`` is its result (im2col).

A row of a convolution holds, for one position of the result, what the kernel sees there: features run over (channel of
the group, kernel position). A transposed convolution is a convolution of stride one over the data with zeros between
its elements, kernel turned around. Rows of a Gemm and a MatMul are the rows of the data.

A convolution has as many rows a sample as its result has positions. Few of them say nearly as much as all: a
``RowSampling`` takes some of each sample, evenly spaced, beginning elsewhere in every sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpress.analysis.linear.op import LinearOp
from graphpress.ir import int_attribute, ints_attribute, string_attribute

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class RowSampling:
    """Which rows of each sample are taken.

    Args:
        positions: at most this many rows a sample; None for all.
        start: number of the first sample, so that a stream cut into pieces gives the rows of the whole.
    """

    positions: int | None = None
    start: int = 0

    def chosen(self, samples: int, size: int) -> np.ndarray | None:
        """Positions by sample, ``[samples, taken]``, each below ``size``; None for all of them in order."""
        if self.positions is None or self.positions >= size:
            return None
        even = np.arange(self.positions) * size // self.positions
        shift = np.floor(np.arange(self.start, self.start + samples) * _GOLDEN % 1.0 * size).astype(np.int64)
        chosen: np.ndarray = (even[None, :] + shift[:, None]) % size
        return chosen


ALL = RowSampling()


def rows_of(op: LinearOp, data: np.ndarray, sampling: RowSampling = ALL) -> np.ndarray:
    """What the operator reads, as ``[blocks, rows, features]``; rows run over (sample, position).

    Raises:
        ValueError: the data does not have the shape that the operator reads.
    """
    if op.is_convolution:
        return _windows(op, data, sampling)
    if op.node.op_type == "Gemm":
        return (data.T if int_attribute(op.node, "transA", 0) else data)[None]
    return _product_rows(op, data, sampling)


def result_rows(op: LinearOp, result: np.ndarray, sampling: RowSampling = ALL) -> np.ndarray:
    """What the operator computes, as ``[blocks, rows, outputs]``, row by row as ``rows_of``.

    The number of output channels may differ from that of the weight, as long as the blocks divide it.
    """
    if op.is_convolution:
        samples, channels = result.shape[:2]
        flat = result.reshape(samples, op.groups, channels // op.groups, -1)
        chosen = sampling.chosen(samples, flat.shape[-1])
        if chosen is not None:
            flat = np.take_along_axis(flat, chosen[:, None, None, :], axis=-1)
        return flat.transpose(1, 0, 3, 2).reshape(op.groups, -1, flat.shape[2])
    if op.node.op_type == "Gemm":
        return result[None]
    return _product_rows(op, result, sampling)


def samples_of(op: LinearOp, data: np.ndarray) -> int:
    """How many samples a piece of data holds, as ``RowSampling`` counts them."""
    if op.node.op_type == "Gemm":
        return int(data.shape[int_attribute(op.node, "transA", 0)])
    if op.is_convolution:
        return int(data.shape[0])
    return int(_parted(op, data).shape[1])


def by_channel(array: np.ndarray, axis: int) -> np.ndarray:
    """Any array as rows of what lies along an axis, ``[1, rows, channels]``."""
    return np.moveaxis(array, axis, -1).reshape(1, -1, array.shape[axis])


# -- convolutions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """Where the kernel of a convolution stands: one entry a spatial axis.

    Args:
        kernel: size.
        strides: steps of the kernel over the (spread and padded) data.
        dilations: steps between kernel positions.
        spread: distance of the data's elements, with zeros between them; 1 but for a transposed convolution.
        before: zeros in front of the data; negative cuts.
        sizes: of the result.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    spread: tuple[int, ...]
    before: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, op: LinearOp, shape: Sequence[int]) -> _Frame:
        """From the attributes of the node and the shape of its data."""
        node, kernel, data = op.node, op.weight_shape[2:], tuple(shape[2:])
        if len(data) != len(kernel):
            raise ValueError(f"{node.name} reads data of rank {len(kernel) + 2}, not {len(shape)}")
        ones = (1,) * len(kernel)
        strides = ints_attribute(node, "strides") or ones
        dilations = ints_attribute(node, "dilations") or ones
        reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))
        if node.op_type == "Conv":
            before, sizes = _padding(op, data, reach, strides)
            return cls(kernel, strides, dilations, ones, before, sizes)
        before, sizes = _transposed_padding(op, data, reach, strides)
        begin = tuple(size - 1 - pad for size, pad in zip(reach, before, strict=True))
        return cls(kernel, ones, dilations, strides, begin, sizes)


def _padding(
    op: LinearOp, data: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros in front, and sizes of the result."""
    kind = string_attribute(op.node, "auto_pad", "NOTSET")
    axes = range(len(data))
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        sizes = tuple(-(-data[axis] // strides[axis]) for axis in axes)
        totals = [max(0, (sizes[axis] - 1) * strides[axis] + reach[axis] - data[axis]) for axis in axes]
        return tuple((total + (kind == "SAME_LOWER")) // 2 for total in totals), sizes
    pads = (ints_attribute(op.node, "pads") if kind == "NOTSET" else None) or (0,) * (2 * len(data))
    before, after = pads[: len(data)], pads[len(data) :]
    return tuple(before), tuple(
        (data[axis] + before[axis] + after[axis] - reach[axis]) // strides[axis] + 1 for axis in axes
    )


def _transposed_padding(
    op: LinearOp, data: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is cut off in front of the whole result, and sizes of what is left."""
    node, axes = op.node, range(len(data))
    kind = string_attribute(node, "auto_pad", "NOTSET")
    extra = ints_attribute(node, "output_padding") or (0,) * len(data)
    whole = [strides[axis] * (data[axis] - 1) + reach[axis] + extra[axis] for axis in axes]
    wanted = ints_attribute(node, "output_shape")
    if wanted is None and kind in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(data[axis] * strides[axis] for axis in axes)
    if wanted is not None:
        sizes = tuple(wanted[-len(data) :])
        totals = [max(0, whole[axis] - sizes[axis]) for axis in axes]
        return tuple((total + (kind != "SAME_UPPER")) // 2 for total in totals), sizes
    pads = (ints_attribute(node, "pads") if kind == "NOTSET" else None) or (0,) * (2 * len(data))
    return tuple(pads[: len(data)]), tuple(whole[axis] - pads[axis] - pads[axis + len(data)] for axis in axes)


def _windows(op: LinearOp, data: np.ndarray, sampling: RowSampling) -> np.ndarray:
    """im2col: ``[groups, samples · positions, channels of the group · kernel positions]``."""
    frame = _Frame.of(op, data.shape)
    samples = data.shape[0]
    rank, size = len(frame.kernel), math.prod(frame.sizes)
    view = _sliding(_framed(data, frame), frame)
    chosen = sampling.chosen(samples, size)
    if chosen is None:
        seen = np.moveaxis(view, 1, 1 + rank)
    else:
        places = np.unravel_index(chosen, frame.sizes)
        where: tuple[Any, ...] = (np.arange(samples)[:, None], slice(None), *places)
        seen = view[where]
    if op.node.op_type == "ConvTranspose":
        seen = np.flip(seen, tuple(range(-rank, 0)))
    groups = op.groups
    seen = seen.reshape(samples * (size if chosen is None else chosen.shape[1]), groups, -1)
    return seen.transpose(1, 0, 2)


def _framed(data: np.ndarray, frame: _Frame) -> np.ndarray:
    """The data spread and padded, exactly as large as the kernel's places need."""
    needed = [
        (size - 1) * stride + (kernel - 1) * dilation + 1
        for size, stride, kernel, dilation in zip(
            frame.sizes, frame.strides, frame.kernel, frame.dilations, strict=True
        )
    ]
    framed = np.zeros((*data.shape[:2], *needed), data.dtype)
    target, source = [slice(None), slice(None)], [slice(None), slice(None)]
    for before, spread, length, space in zip(frame.before, frame.spread, data.shape[2:], needed, strict=True):
        first = max(0, -(before // spread)) if before < 0 else 0
        last = min(length, max(first, -(-(space - before) // spread)))
        begin = before + first * spread
        target.append(slice(begin, begin + max(0, (last - first - 1) * spread + 1) if last > first else begin, spread))
        source.append(slice(first, last))
    framed[tuple(target)] = data[tuple(source)]
    return framed


def _sliding(framed: np.ndarray, frame: _Frame) -> np.ndarray:
    """A view ``[samples, channels, *sizes, *kernel]``; nothing is copied."""
    steps = framed.strides[2:]
    return np.lib.stride_tricks.as_strided(
        framed,
        (*framed.shape[:2], *frame.sizes, *frame.kernel),
        (
            *framed.strides[:2],
            *(step * stride for step, stride in zip(steps, frame.strides, strict=True)),
            *(step * dilation for step, dilation in zip(steps, frame.dilations, strict=True)),
        ),
        writeable=False,
    )


# -- matrix products ------------------------------------------------------------------------------------------


def _product_rows(op: LinearOp, array: np.ndarray, sampling: RowSampling) -> np.ndarray:
    """Rows of the last axis of a MatMul's data or result; axes along which the weight differs become blocks."""
    rows = _parted(op, array)
    chosen = sampling.chosen(rows.shape[1], rows.shape[2])
    if chosen is not None:
        rows = np.take_along_axis(rows, chosen[None, :, :, None], axis=2)
    return rows.reshape(rows.shape[0], -1, rows.shape[-1])


def _parted(op: LinearOp, array: np.ndarray) -> np.ndarray:
    """The data or result of a MatMul as ``[blocks, samples, positions, features or outputs]``."""
    batch = op.weight_shape[:-2]
    array = array[None] if array.ndim == 1 else array
    lead = np.broadcast_shapes(array.shape[:-2], batch)
    array = np.broadcast_to(array, (*lead, *array.shape[-2:]))
    blocked = [axis for axis in range(len(lead)) if axis >= len(lead) - len(batch) and batch[axis - len(lead)] > 1]
    others = [axis for axis in range(array.ndim - 1) if axis not in blocked]
    ordered = array.transpose(*blocked, *others, array.ndim - 1)
    blocks = math.prod(lead[axis] for axis in blocked)
    samples = array.shape[others[0]]
    return ordered.reshape(blocks, samples, -1, array.shape[-1])
