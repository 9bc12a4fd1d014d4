"""Quantization that a model brings along, in the form that TensorRT reads.

    s · (q − 2ⁿ⁻¹), q unsigned of n bits  =  s · q',  q' = q − 2ⁿ⁻¹ signed      (uint8 around 128: int8 around 0)
    s · q, a constant in int32            =  the float that it stands for       (the bias of a convolution)

The first is one grid, written twice. The second rounds once, to the float type of the constant. Whatever else there
is keeps its form, for no other form makes a grid symmetric that is not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphpress.ir import (
    DataType,
    LazyTensor,
    Model,
    Node,
    Tensor,
    TensorProtocol,
    Value,
    graphs,
    is_constant,
    values_of,
)
from graphpress.ir.encoding import (
    FLOAT,
    AffineEncoding,
    EncodedTensor,
    Encoding,
    encoding_of,
    integer_bounds,
    integer_dtype,
    override_use,
    overrides_of,
    set_encoding,
    static_affine,
)

ACCUMULATED = "int32"
"""What a bias is stored in, to be added to a sum of products of integers."""


def canonicalize(model: Model) -> int:
    """Write the encodings of values and uses in TensorRT's form, in place.

    Returns:
        How many of them had another form before.
    """
    count = 0
    for graph in graphs(model):
        for value in values_of(graph):
            count += _canonicalize_value(value)
        for node in graph:
            count += _canonicalize_uses(node)
    return count


def canonical_encoding(encoding: Encoding, value: Value) -> Encoding | None:
    """An encoding of a value in TensorRT's form, or as it is where there are none; None for plain float."""
    if encoding.dtype == ACCUMULATED and is_constant(value):
        return None
    affine = static_affine(encoding)
    if affine is None or not affine.dtype.startswith("uint") or np.any(affine.zero_point != _middle(affine)):
        return encoding
    zero_point = np.zeros_like(affine.zero_point)
    return replace(affine, dtype=affine.dtype.removeprefix("u"), zero_point=zero_point)


def _middle(encoding: Encoding) -> int:
    """The number of an unsigned grid that is 0 of the signed one."""
    return (integer_bounds(encoding.dtype)[1] + 1) // 2


def _canonicalize_value(value: Value) -> int:
    encoding = encoding_of(value)
    canonical_form = None if encoding is None else canonical_encoding(encoding, value)
    if canonical_form == encoding:
        return 0
    if isinstance(canonical_form, AffineEncoding) and isinstance(value.const_value, EncodedTensor):
        value.const_value = _moved(value.const_value, canonical_form)
    set_encoding(value, canonical_form)
    return 1


def _canonicalize_uses(node: Node) -> int:
    count = 0
    for index, encoding in list(overrides_of(node).items()):
        value = node.inputs[index]
        if value is None or isinstance(encoding, str):
            continue
        canonical_form = canonical_encoding(encoding, value)
        if canonical_form != encoding:
            override_use(node, index, canonical_form or FLOAT)
            count += 1
    return count


def _moved(tensor: EncodedTensor, canonical_form: AffineEncoding) -> EncodedTensor:
    """The same constant with its integers around 0."""
    codes, zero = tensor.codes, _middle(tensor.encoding)

    def move() -> TensorProtocol:
        return Tensor((codes.numpy().astype(np.int32) - zero).astype(integer_dtype(canonical_form.dtype)))

    signed = LazyTensor(move, dtype=DataType[canonical_form.dtype.upper()], shape=codes.shape)  # type: ignore[arg-type]
    return EncodedTensor(signed, canonical_form, tensor.dtype, tensor.name)
