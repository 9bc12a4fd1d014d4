"""What a node multiplies: which of its operands stand as narrow integers, and along which axis their scales run.

An operand is narrow when it comes out of a dequantizer, directly or through nodes that only move values or change
their float type. Its axes are followed through those nodes as far as they are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphpress.ir import (
    Node,
    Value,
    constant,
    input_of,
    int_attribute,
    ints_attribute,
    is_constant,
    is_standard,
    producer,
    rank_of,
)
from graphpress.lint import type_name
from graphpress.ops import OpSpec, Role, lookup

Q, DQ = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Operand:
    """One side of a multiplication.

    Args:
        value: as the node reads it.
        decoder: the DQ node that it comes out of, if any.
        axis: axis of the operand that its scales run along; None for one scale, or where it is lost on the way.
        stored: it is a weight: known before the model runs.
    """

    value: Value
    decoder: Node | None
    axis: int | None
    stored: bool

    @property
    def dtype(self) -> str:
        """Type of the stored integers; "" for an operand that is float."""
        return "" if self.decoder is None else stored_type(self.decoder)

    @property
    def blocked(self) -> bool:
        """Whether scales come in blocks."""
        return self.decoder is not None and int_attribute(self.decoder, "block_size", 0) > 0


def spec_of(node: Node) -> OpSpec | None:
    """The entry of a standard node in the table of operators."""
    return lookup(node.op_type) if is_standard(node) else None


def operands_of(node: Node) -> Iterator[tuple[int, Operand]]:
    """The inputs that a node computes with, by index; the bias of a product is added afterwards."""
    spec = spec_of(node)
    bias = None if spec is None else spec.quantization.bias
    for index, value in enumerate(node.inputs):
        if value is not None and index != bias and (value.dtype is None or value.dtype.is_floating_point()):
            yield index, operand_of(value)


def operand_of(value: Value) -> Operand:
    """Follow a value back through what only moves data or changes its float type, and its axes with it."""
    rank, here = rank_of(value), value
    axes = None if rank is None else list(range(rank))  # axes[i]: where axis i of `here` lies in the operand
    while (node := here.producer()) is not None and not is_standard(node, DQ, Q) and _is_passed_through(node):
        source = node.inputs[0]
        assert source is not None
        axes = _before(node, axes)
        here = source
    decoder = producer(here, DQ)
    if decoder is None:
        return Operand(value, None, None, is_constant(here))
    source, scale = decoder.inputs[0], constant(input_of(decoder, 1))
    encoder = producer(source, Q)
    stored = is_constant(source) or (encoder is not None and is_constant(encoder.inputs[0]))
    per_axis = scale is not None and scale.size > 1 and not int_attribute(decoder, "block_size", 0)
    axis = axes[int_attribute(decoder, "axis", 1) % len(axes)] if per_axis and axes else None
    return Operand(value, decoder, axis, stored)


def stored_type(node: Node) -> str:
    """Type of the integers of a Q or DQ node; "" where it is unknown."""
    typed = input_of(node, 2) or (node.inputs[0] if node.op_type == DQ else node.outputs[0])
    if typed is None or not type_name(typed):
        return "uint8" if input_of(node, 2) is None and "output_dtype" not in node.attributes else ""
    return type_name(typed)


def is_product(node: Node) -> bool:
    """Whether it multiplies by weights, or two activations."""
    spec = spec_of(node)
    return spec is not None and spec.quantization.role is Role.COMPUTE


def moves_data(node: Node) -> bool:
    """Whether it only moves values."""
    spec = spec_of(node)
    return spec is not None and spec.quantization.moves_data


def _is_passed_through(node: Node) -> bool:
    return bool(node.inputs) and node.inputs[0] is not None and (moves_data(node) or is_standard(node, "Cast"))


def _before(node: Node, axes: list[int] | None) -> list[int] | None:
    """The map of axes in front of a node, where it is known."""
    if axes is None:
        return None
    if is_standard(node, "Transpose"):
        order = ints_attribute(node, "perm") or tuple(reversed(range(len(axes))))
        return [axes[order.index(axis)] for axis in range(len(axes))]
    same_rank = rank_of(node.inputs[0]) == len(axes)
    return axes if same_rank and not is_standard(node, "Reshape", "DepthToSpace", "SpaceToDepth") else None
