"""Quantisation that a model brings along, in the spelling that TensorRT reads.

    s · (q − 2ⁿ⁻¹), q unsigned of n bits  =  s · q',  q' = q − 2ⁿ⁻¹ signed      (uint8 around 128: int8 around 0)
    s · q, a constant in int32            =  the float that it stands for       (the bias of a convolution)

The first is one grid, written twice. The second rounds once, to the float type of the constant. Whatever else there
is keeps its spelling, for no choice of words makes a grid symmetric that is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graphpress.ir import DataType, Graph, LazyTensor, Model, Node, Tensor, TensorProtocol, Value, graphs, is_constant
from graphpress.ir.encoding import (
    FLOAT,
    USE_KEY,
    Quantized,
    encoding_of,
    integer_bounds,
    override_use,
    read_encoding,
    set_encoding,
)
from graphpress.ir.quantized import EncodedTensor, integer_dtype

ACCUMULATED = "int32"
"""What a bias is stored in, to be added to a sum of products of integers."""


def respell(model: Model) -> int:
    """Write the encodings of values and uses in TensorRT's words, in place.

    Returns:
        How many of them had other words before.
    """
    count = 0
    for graph in graphs(model):
        for value in _values(graph) if isinstance(graph, Graph) else ():
            count += _respell_value(value)
        for node in graph:
            count += _respell_uses(node)
    return count


def respelt(encoding: Quantized, value: Value) -> Quantized | None:
    """An encoding of a value in TensorRT's words, or as it is where there are none; None for plain float."""
    if encoding.dtype == ACCUMULATED and is_constant(value):
        return None
    if not encoding.dtype.startswith("uint") or set(encoding.zero_point) != {_middle(encoding)}:
        return encoding
    return replace(encoding, dtype=encoding.dtype.removeprefix("u"), zero_point=(0,) * len(encoding.zero_point))


def _middle(encoding: Quantized) -> int:
    """The number of an unsigned grid that is 0 of the signed one."""
    return (integer_bounds(encoding.dtype)[1] + 1) // 2


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _respell_value(value: Value) -> int:
    encoding = encoding_of(value)
    told = None if encoding is None else respelt(encoding, value)
    if told == encoding:
        return 0
    if told is not None and isinstance(value.const_value, EncodedTensor):
        value.const_value = _moved(value.const_value, told)
    set_encoding(value, told)
    return 1


def _respell_uses(node: Node) -> int:
    count = 0
    for index, value in enumerate(node.inputs):
        if value is None or node.metadata_props.get(f"{USE_KEY}{index}", FLOAT) == FLOAT:
            continue
        encoding = read_encoding(node, index)
        told = None if encoding is None else respelt(encoding, value)
        if told != encoding:
            override_use(node, index, told or FLOAT)
            count += 1
    return count


def _moved(tensor: EncodedTensor, told: Quantized) -> EncodedTensor:
    """The same constant with its integers around 0."""
    integers, zero = tensor.integers, _middle(tensor.encoding)

    def move() -> TensorProtocol:
        return Tensor((integers.numpy().astype(np.int32) - zero).astype(integer_dtype(told.dtype)))

    signed = LazyTensor(move, dtype=DataType[told.dtype.upper()], shape=integers.shape)  # type: ignore[arg-type]
    return EncodedTensor(signed, told, tensor.dtype, tensor.name)
