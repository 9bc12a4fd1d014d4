"""Encodings, and constants held in them, that lose positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphpress.ir.encoding.affine import AffineEncoding
from graphpress.ir.encoding.cast import CastEncoding
from graphpress.ir.encoding.encoded_tensor import EncodedTensor, packed
from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.types import ExternalTensor, LazyTensor, Shape, TensorProtocol

Masks = Sequence[np.ndarray | None]
"""For each axis which positions stay, boolean; None for all."""


def compress(array: np.ndarray, masks: Masks) -> np.ndarray:
    """The positions that stay, as an array of its own."""
    whole = (np.arange(size) if mask is None else mask for size, mask in zip(array.shape, masks, strict=True))
    return np.array(array[np.ix_(*whole)])


def sliced_encoding(encoding: Encoding, masks: Masks) -> Encoding:
    """One scale per position goes with it; blocks lie along an axis that stays whole, and go with the other axes."""
    if isinstance(encoding, CastEncoding) or encoding.axis is None or not encoding.scale.size:
        return encoding
    along = masks if encoding.block else (masks[encoding.axis],)
    scale = compress(encoding.scale, along)
    if isinstance(encoding, AffineEncoding):
        return replace(encoding, scale=scale, zero_point=compress(encoding.zero_point, along))
    return replace(encoding, scale=scale)


def sliced_tensor(tensor: TensorProtocol, masks: Masks) -> TensorProtocol:
    """A constant without the positions that go, an encoded one with the codes of those that stay.

    One that lies in a file is cut when it is read.
    """
    if isinstance(tensor, EncodedTensor):
        codes = sliced_tensor(tensor.codes, masks)
        return EncodedTensor(codes, sliced_encoding(tensor.encoding, masks), tensor.dtype, tensor.name)
    shape = [size if mask is None else int(mask.sum()) for size, mask in zip(tensor.shape.numpy(), masks, strict=True)]

    def cut() -> TensorProtocol:
        return packed(compress(tensor.numpy(), masks), tensor.dtype)

    return LazyTensor(cut, dtype=tensor.dtype, shape=Shape(shape)) if isinstance(tensor, ExternalTensor) else cut()
