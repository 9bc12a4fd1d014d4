"""From reals to codes and back, for every kind of encoding.

Affine encodings compute exactly as ONNX's QuantizeLinear and DequantizeLinear define it. What holds for integers holds
for the numbers of an 8-bit float likewise: they are a grid with unequal steps.
"""

from __future__ import annotations

import numpy as np

from graphpress.errors import ModelError
from graphpress.ir.encoding.affine import AffineEncoding
from graphpress.ir.encoding.cast import CastEncoding
from graphpress.ir.encoding.codebook import CodebookEncoding
from graphpress.ir.encoding.grids import FLOAT8, integer_bounds, integer_dtype
from graphpress.ir.encoding.kinds import Encoding

_ROWS_AT_ONCE = 1 << 16


def encode_array(array: np.ndarray, encoding: Encoding) -> np.ndarray:
    """The codes next to an array of reals.

    Raises:
        ModelError: the encoding is dynamic: there are no codes before it runs.
    """
    if isinstance(encoding, AffineEncoding):
        return quantize_array(array, encoding)
    if isinstance(encoding, CastEncoding):
        return _round_to_float(array, encoding.dtype)
    return _nearest_entries(array, encoding)


def decode_array(codes: np.ndarray, encoding: Encoding, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """The reals that codes decode to, in a float type.

    Raises:
        ModelError: the encoding is dynamic.
    """
    if isinstance(encoding, AffineEncoding):
        return dequantize_array(codes, encoding, dtype)
    if isinstance(encoding, CastEncoding):
        reals: np.ndarray = codes.astype(dtype)
        return reals
    looked_up: np.ndarray = _look_up(codes, encoding).astype(dtype)
    return looked_up


def round_trip(array: np.ndarray, encoding: Encoding) -> np.ndarray:
    """The array as whoever reads it in this encoding sees it; same shape and dtype."""
    return decode_array(encode_array(array, encoding), encoding, array.dtype)


def codes_shape(shape: tuple[int, ...], encoding: Encoding) -> tuple[int, ...]:
    """The shape of the codes of a tensor: its own, but where entries of a codebook are vectors."""
    return tuple(size // part for size, part in zip(shape, _tile(encoding, len(shape)), strict=False))


def decoded_shape(shape: tuple[int, ...], encoding: Encoding) -> tuple[int, ...]:
    """The shape of the tensor that codes of a shape decode to: the opposite of ``codes_shape``."""
    return tuple(size * part for size, part in zip(shape, _tile(encoding, len(shape)), strict=False))


def _tile(encoding: Encoding, rank: int) -> tuple[int, ...]:
    """For each axis, how many elements along it one code decodes to."""
    vector = encoding.vector if isinstance(encoding, CodebookEncoding) else ()
    return (*[1] * (rank - len(vector)), *vector)


# -- affine ---------------------------------------------------------------------------------------------------


def quantize_array(array: np.ndarray, encoding: AffineEncoding) -> np.ndarray:
    """Round half to even onto the grid and saturate; same shape, dtype of the codes."""
    _check_static(encoding)
    scale, zero_point = _spread(encoding, encoding.scale, array.shape), _offset(encoding, array.shape)
    wide = np.float64 if encoding.dtype == "int32" else np.float32
    with np.errstate(over="ignore"):  # what overflows saturates
        levels = to_grid(array.astype(wide) / scale.astype(wide), zero_point, encoding)
    whole = levels if encoding.dtype == FLOAT8 else levels.astype(np.int64)
    codes: np.ndarray = whole.astype(integer_dtype(encoding.dtype))
    return codes


def to_grid(steps: np.ndarray, zero_point: np.ndarray | int, encoding: AffineEncoding) -> np.ndarray:
    """The numbers of the grid next to ``steps`` (reals by scale), as floats of the same type."""
    low, high = encoding.bounds
    if encoding.dtype == FLOAT8:
        nearest: np.ndarray = np.clip(steps, low, high).astype(integer_dtype(FLOAT8)).astype(steps.dtype)
        return nearest
    held: np.ndarray = np.clip(np.rint(steps) + zero_point, low, high)
    return held


def dequantize_array(codes: np.ndarray, encoding: AffineEncoding, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """The real numbers that the codes decode to."""
    _check_static(encoding)
    scale, zero_point = _spread(encoding, encoding.scale, codes.shape), _offset(encoding, codes.shape)
    wide = {"int32": np.int64, FLOAT8: np.float32}.get(encoding.dtype, np.int32)
    levels = codes.astype(wide) - zero_point.astype(wide)
    reals: np.ndarray = (levels.astype(np.float32) * scale).astype(dtype)
    return reals


def _check_static(encoding: AffineEncoding) -> None:
    if encoding.is_dynamic:
        raise ModelError(
            f"the encoding {encoding.label} has no numbers: its range is found at run time",
            where="encoding",
            fix="calibrate it, or read the value as float",
        )


def _offset(encoding: AffineEncoding, shape: tuple[int, ...]) -> np.ndarray:
    """The zero-points, shaped to broadcast against a tensor of ``shape``; one number where all are the same."""
    zero = encoding.zero_point
    if zero.size and not any(zero.strides):
        return np.array(zero.flat[0], np.int64)
    return _spread(encoding, zero.astype(np.int64), shape)


def _spread(encoding: AffineEncoding | CodebookEncoding, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One number per scale, shaped to broadcast against a tensor of ``shape``."""
    if encoding.axis is None:
        return numbers.reshape(())
    if encoding.block:
        repeated = np.repeat(numbers, encoding.block, axis=encoding.axis)
        return repeated.take(np.arange(shape[encoding.axis]), axis=encoding.axis)
    aligned = [1] * len(shape)
    aligned[encoding.axis] = -1
    return numbers.reshape(aligned)


# -- codebooks and casts --------------------------------------------------------------------------------------


def _round_to_float(array: np.ndarray, dtype: str) -> np.ndarray:
    bounded = np.clip(array, *integer_bounds(FLOAT8)) if dtype == FLOAT8 else array
    with np.errstate(over="ignore"):
        rounded: np.ndarray = bounded.astype(integer_dtype(dtype))
    return rounded


def _nearest_entries(array: np.ndarray, encoding: CodebookEncoding) -> np.ndarray:
    """The entry with the least squared distance to each number or tile; the first of equals."""
    tiles = _tiles(array.astype(np.float32) / _spread(encoding, encoding.scale, array.shape), encoding.vector)
    flat = tiles.reshape(-1, max(int(np.prod(encoding.vector)), 1))
    table = encoding.table.reshape(len(encoding.table), -1)
    nearest = [
        np.square(flat[start : start + _ROWS_AT_ONCE, None] - table).sum(axis=-1).argmin(axis=1)
        for start in range(0, len(flat), _ROWS_AT_ONCE)
    ]
    codes = np.concatenate(nearest) if nearest else np.zeros(0, np.int64)
    return codes.astype(integer_dtype(encoding.dtype)).reshape(codes_shape(array.shape, encoding))


def _look_up(codes: np.ndarray, encoding: CodebookEncoding) -> np.ndarray:
    entries = encoding.table[codes.astype(np.int64)]
    reals = _untiled(entries, codes.ndim, len(encoding.vector))
    scaled: np.ndarray = reals * _spread(encoding, encoding.scale, reals.shape)
    return scaled


def _tiles(array: np.ndarray, vector: tuple[int, ...]) -> np.ndarray:
    """``[*lead, n1·v1, n2·v2]`` as ``[*lead, n1, n2, v1, v2]``."""
    lead, rank = array.ndim - len(vector), len(vector)
    split = [part for size, own in zip(array.shape[lead:], vector, strict=True) for part in (size // own, own)]
    order = (*range(lead), *range(lead, lead + 2 * rank, 2), *range(lead + 1, lead + 2 * rank, 2))
    return array.reshape(*array.shape[:lead], *split).transpose(order)


def _untiled(tiles: np.ndarray, rank: int, inner: int) -> np.ndarray:
    """The opposite of ``_tiles`` for codes of ``rank`` axes and entries of ``inner`` axes."""
    lead = rank - inner
    order = [*range(lead)]
    for axis in range(inner):
        order += [lead + axis, rank + axis]
    sizes = [tiles.shape[lead + axis] * tiles.shape[rank + axis] for axis in range(inner)]
    return tiles.transpose(order).reshape(*tiles.shape[:lead], *sizes)
