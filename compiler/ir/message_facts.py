"""Facts about a model that its message tells, in a tenth of the time that it takes to make a graph of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from graphpress.ir.import_fixups import PLAIN, Body, bodies
from graphpress.ir.types import DataType
from graphpress.ir.values import STANDARD_DOMAINS

_TYPE_ATTRIBUTES = ("dtype", "output_dtype", "to")
"""Attributes that name the type of a result."""


@dataclass(frozen=True)
class MessageFacts:
    """What whoever runs a model must know beside its file.

    Args:
        half: whether it holds or computes numbers in half precision.
        half_constants: whether constants are among them, such as the scales of quantizers in half precision.
        unranked: names of the inputs that do not even say their rank.
        weight_bytes: bytes of its initializers and of the tensors in attributes, external data included.
        external: how many of them lie elsewhere than in the message.
    """

    half: bool = False
    half_constants: bool = False
    unranked: frozenset[str] = frozenset()
    weight_bytes: int = 0
    external: int = 0

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> MessageFacts:
        """Read them off a message, which stays as it is."""
        unranked = (info.name for info in proto.graph.input if not _tensor_type(info.type).HasField("shape"))
        tensors = [tensor for body in bodies(proto) for tensor in _tensors(body)]
        external = sum(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors)
        constants = any(tensor.data_type == TensorProto.FLOAT16 for tensor in tensors)
        half = constants or _computes_half(proto)
        return cls(half, constants, frozenset(unranked), sum(map(_bytes, tensors)), external)


def _computes_half(proto: onnx.ModelProto) -> bool:
    return any(_tensor_type(info.type).elem_type == TensorProto.FLOAT16 for info in proto.graph.input) or any(
        _makes_half(node) for body in bodies(proto) for node in body.node
    )


def _tensor_type(kind: onnx.TypeProto) -> onnx.TypeProto.Tensor:
    """The type of a tensor, or of the tensors in a sequence; an empty one where there are none."""
    while (field := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
        kind = getattr(kind, field).elem_type
    return kind.tensor_type


def _tensors(body: Body) -> Iterator[TensorProto]:
    if isinstance(body, onnx.GraphProto):
        yield from body.initializer
        yield from (sparse.values for sparse in body.sparse_initializer)
    for node in body.node:
        for attribute in node.attribute:
            if attribute.type not in PLAIN:
                yield from (attribute.t, attribute.sparse_tensor.values, *attribute.tensors)


def _bytes(tensor: TensorProto) -> int:
    """Bytes of a tensor; 0 for strings and types that nobody knows."""
    try:
        return int(math.prod(tensor.dims) * DataType(tensor.data_type).bitwidth) // 8
    except (TypeError, ValueError):
        return 0


def _makes_half(node: onnx.NodeProto) -> bool:
    return node.domain in STANDARD_DOMAINS and any(
        attribute.name in _TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16 for attribute in node.attribute
    )
