"""Placement: which nodes compute in integers, decided use by use from the target's policy before anything measures.

    region = compute_ops ∪ { quantizable_neighbors and data movers with an integer input and an integer reader }

grown to its greatest fixed point: start from every candidate, strike out each neighbor or mover that has no
member before it or none behind it, until nothing changes. Each strike looks again only at the neighbors, so
the whole is linear in the graph. A Relu or Clip that only the saturating quantizer behind it needs belongs to
the node before it. An addition that a product's kernel does before it rounds is no member of its own: it reads its
skip in integers where that exists in integers anyway, and its sum is encoded where an integer node reads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from graphpress.ir import (
    DataType,
    Graph,
    Node,
    Refusal,
    Value,
    constant,
    float_attribute,
    has_one_use,
    input_of,
    int_attribute,
    is_constant,
    is_standard,
    label,
    rank_of,
    static_shape,
)
from graphpress.ir.encoding import FLOAT8, AffineEncoding, encoding_of, overrides_of, read_encoding, static_affine
from graphpress.manager.contract import Context
from graphpress.ops import lookup
from graphpress.passes.quantize._left_float import arranged_constant
from graphpress.passes.quantize._ranges import has_weight_scale
from graphpress.passes.quantize._residual import accumulations
from graphpress.passes.quantize._weights import is_weight, weight_use
from graphpress.targets import QuantizationPolicy

ABSORBED = ("Relu", "Clip")


class Reason(NamedTuple):
    """Why a value cannot be encoded, and what to do about it."""

    why: str
    fix: str


@dataclass
class Placement:
    """The nodes that compute in integers and the activations that are therefore encoded.

    Args:
        nodes: the integer region, in graph order.
        activations: values to encode, each with the encoded uses; a value that an integer node computes is read
            encoded by everybody, one that a float node computes only by the integer nodes.
        range_of: the value whose range each of them shares (itself, mostly).
        refusals: compute operators that stay float, with the reason.
        skips: for additions inside the kernel of a product, the index of the operand that they read from memory.
    """

    nodes: list[Node]
    activations: list[Value] = field(default_factory=list)
    range_of: dict[Value, Value] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    skips: dict[Node, int] = field(default_factory=dict)

    def reads(self, node: Node, index: int) -> bool:
        """Whether the node reads its input at ``index`` in integers, if that is encoded."""
        return node in self._members or self.skips.get(node) == index

    def computes(self, value: Value) -> bool:
        """Whether an integer node computes the value, absorbed activation included."""
        node = result_node(value)
        return node is not None and node in self._members

    def is_result(self, value: Value, operators: tuple[str, ...]) -> bool:
        """Whether an integer node of one of these operators computes the value, absorbed activation included."""
        node = result_node(value)
        return node is not None and node in self._members and node.op_type in operators

    @cached_property
    def _members(self) -> frozenset[Node]:
        return frozenset(self.nodes)

    def __contains__(self, node: object) -> bool:
        return node in self._members


def place(
    graph: Graph, policy: QuantizationPolicy, context: Context, unusable: Mapping[Value, Reason] | None = None
) -> Placement:
    """Decide the integer region of one graph; values that are ``unusable`` stay float, each for its reason."""
    unusable = unusable or {}
    candidates: dict[Node, str] = {}
    refusals: list[Refusal] = []
    inside_kernels = accumulations(graph, policy.compute_ops) if policy.residual_adds else {}
    for node in graph:
        kind = None if node in inside_kernels else _kind(node, policy)
        if kind == "compute" and (refusal := _refusal(node, policy, context)):
            refusals.append(refusal)
        elif kind is not None and (value := _first_unusable(node, unusable)) is not None:
            refusals.append(Refusal.at(value, *unusable[value]))
        elif kind is not None and not context.excluded(node) and _is_plain(node, policy):
            candidates[node] = kind
    carried = {
        node: addition.skip
        for node, addition in inside_kernels.items()
        if addition.product in candidates and not context.excluded(node) and not _is_encoded(node, policy)
    }
    placement = Placement(_settle(candidates, carried), refusals=refusals)
    placement.skips = {node: skip for node, skip in carried.items() if skip is not None}
    placement.activations = list(dict.fromkeys(_encoded_values(placement, policy)))
    placement.range_of = _shared_ranges(placement, policy)
    return placement


def _first_unusable(node: Node, unusable: Container[Value]) -> Value | None:
    values = [value for _, value in activation_inputs(node)] + [result_of(node)]
    return next((value for value in values if value in unusable), None)


def activation_inputs(node: Node) -> Iterator[tuple[int, Value]]:
    """Index and value of the float inputs that are computed at run time."""
    for index, value in enumerate(node.inputs):
        if (
            value is not None
            and not is_constant(value)
            and not is_weight(node, index)
            and value.dtype in (DataType.FLOAT, None)
            and (index == 0 or not _is_control_input(node))
        ):
            yield index, value


def result_of(node: Node) -> Value:
    """The value that leaves the integer kernel: behind the absorbed activation where there is one."""
    value: Value = node.outputs[0]
    if has_one_use(value):
        (use,) = value.uses()
        if is_standard(use.node, *ABSORBED) and use.node.graph is node.graph and use.idx == 0:
            return use.node.outputs[0]
    return value


def result_node(value: Value) -> Node | None:
    """The node before ``value``, seen through an absorbed activation."""
    node = value.producer()
    if node is not None and is_standard(node, *ABSORBED) and node.inputs[0] is not None:
        before = node.inputs[0].producer()
        if before is not None and result_of(before) is value:
            return before
    return node


def _kind(node: Node, policy: QuantizationPolicy) -> str | None:
    if not is_standard(node):
        return None
    for kind, operators in (
        ("compute", policy.compute_ops),
        ("neighbor", policy.quantizable_neighbors),
        ("pass_through", policy.pass_through_ops),
    ):
        if node.op_type in operators:
            return kind
    return None


def _refusal(node: Node, policy: QuantizationPolicy, context: Context) -> Refusal | None:
    """Why a compute operator stays float."""
    if exclusion := context.exclusion(node):
        return exclusion
    if not _is_float(node):
        return _not_float(node)
    spec = lookup(node.op_type)
    if spec is None or spec.quantization.weight is None:
        return Refusal.at(node, "the operator table knows no weight of it", "leave it float")
    use = weight_use(node, spec.quantization.weight)
    if use is None or (use.node is not node and use.has_float_readers(policy)):
        computed = _computed(input_of(node, spec.quantization.weight))
        return Refusal.at(node, f"{computed}; this target has no fast kernel for that", "leave it float")
    weight = constant(use.constant)
    if weight is not None and not has_weight_scale(weight, policy):
        why = f"its weights are so small that {policy.scales} holds no scale for them"
        return Refusal.at(node, why, "scale the weights, or leave it float")
    if policy.weights == FLOAT8 and policy.float8_positions and node.op_type == "Conv":
        positions = 1 if weight is None else prod(weight.shape[2:])
        if positions > policy.float8_positions:
            why = f"its kernel has {positions} positions, those in float8 at most {policy.float8_positions}"
            return Refusal.at(node, why, "leave it float")
    if _is_encoded(node, policy) or (use.node is not node and use.encoding is not None):
        return Refusal.at(node, "it is quantized already", "start from the float model to quantize it anew")
    if node.op_type == "Gemm" and not _plain_gemm(node):
        return Refusal.at(node, "alpha, beta, transA or the shape of C have no integer kernel", "leave it float")
    bias = input_of(node, spec.quantization.bias) if spec.quantization.bias is not None else None
    if bias is not None and not is_constant(bias):
        return Refusal.at(bias, "the bias is computed at run time", "leave it float")
    return None


def _computed(weight: Value | None) -> str:
    """That a weight is no constant; of one that is another arrangement of a constant, of which."""
    source = arranged_constant(weight)
    if source is None:
        return "its weight is computed at run time"
    others = " and other nodes read it as it is" if len(source.uses()) > 1 else ""
    return f"its weight is another arrangement of {label(source)}, made at run time{others}"


def _plain_gemm(node: Node) -> bool:
    unit = float_attribute(node, "alpha", 1.0) == 1.0 and float_attribute(node, "beta", 1.0) == 1.0
    weight, bias = static_shape(input_of(node, 1)), static_shape(input_of(node, 2))
    if not unit or int_attribute(node, "transA", 0) or weight is None:
        return False
    width = weight[0] if int_attribute(node, "transB", 0) else weight[1]
    return input_of(node, 2) is None or (bias is not None and bias[-1:] == (width,) and prod(bias) == width)


def _is_float(node: Node) -> bool:
    data = node.inputs[0] if node.inputs else None
    return (
        data is not None
        and data.dtype == DataType.FLOAT
        and rank_of(data) is not None
        and (node.outputs[0].dtype in (DataType.FLOAT, None))
    )


def _not_float(node: Node) -> Refusal:
    """Why the node is not known to compute in float32."""
    data = node.inputs[0] if node.inputs else None
    if data is not None and (data.dtype is None or (data.dtype == DataType.FLOAT and rank_of(data) is None)):
        return Refusal.at(data, "its type and rank are not known", "export the model with the shapes of its values")
    return Refusal.at(node, "does not compute in float32", "run to_float32 first")


def _is_plain(node: Node, policy: QuantizationPolicy) -> bool:
    return _is_float(node) and not _is_encoded(node, policy)


def _is_encoded(node: Node, policy: QuantizationPolicy) -> bool:
    """Whether a value around it has an encoding already; a weight in codes that the target's kernels read is none."""
    return any(
        value is not None and encoding_of(value) is not None and not has_kernel_weight(node, value, policy)
        for value in (*node.inputs, *node.outputs)
    ) or any(isinstance(encoding, AffineEncoding) and encoding.is_dynamic for encoding in overrides_of(node).values())


def has_kernel_weight(node: Node, value: Value, policy: QuantizationPolicy) -> bool:
    """Whether the value is the weight of the node, in codes that the target's kernels read as they are."""
    spec = lookup(node.op_type)
    quantization = None if spec is None else spec.quantization
    if quantization is None or quantization.weight is None or input_of(node, quantization.weight) is not value:
        return False
    encoding, rank = static_affine(read_encoding(node, quantization.weight)), rank_of(value)
    if encoding is None or encoding.dtype != policy.weights or policy.reduced_range or rank is None:
        return False
    along = None if quantization.channel_axis is None else quantization.channel_axis(node, rank)
    return not encoding.block and not np.any(encoding.zero_point) and encoding.axis in (None, along)


def _is_control_input(node: Node) -> bool:
    """Whether inputs behind the first are parameters of a movement (indices, sizes) instead of data."""
    spec = lookup(node.op_type)
    return spec is not None and spec.quantization.moves_data and spec.quantization.shared is not None


def _settle(candidates: dict[Node, str], carried: dict[Node, int | None]) -> list[Node]:
    """The greatest region in which every member that is no compute operator stands between two members.

    Additions that are ``carried`` inside a compute operator's kernel write what it writes, and read their skip.
    """
    inside = dict(candidates)
    waiting = deque(inside)
    while waiting:
        node = waiting.popleft()
        if node not in inside or inside[node] == "compute":
            continue
        before = [maker for _, value in activation_inputs(node) if (maker := result_node(value)) is not None]
        behind = [use.node for use in result_of(node).uses()]
        is_fed = any(maker in inside or maker in carried for maker in before)
        if is_fed and _read_in_integers(result_of(node), inside, carried):
            continue
        del inside[node]
        waiting.extend(neighbor for neighbor in (*before, *behind) if neighbor in inside)
    return [node for node in candidates if node in inside]


def _read_in_integers(value: Value, members: Container[Node], skips: Mapping[Node, int | None]) -> bool:
    """Whether a member reads the value, or nobody but additions whose skip it is (beside a float reader: float)."""
    uses = value.uses()
    only_skips = uses and not value.is_graph_output() and all(skips.get(use.node) == use.idx for use in uses)
    return any(use.node in members for use in uses) or bool(only_skips)


def _encoded_values(placement: Placement, policy: QuantizationPolicy) -> Iterator[Value]:
    members = frozenset(placement.nodes)
    for node in placement.nodes:
        for _, value in activation_inputs(node):
            yield value
        result = result_of(node)
        if node.op_type not in policy.float_results or _read_in_integers(result, members, placement.skips):
            yield result
        for extra in node.outputs[1:]:
            if extra.dtype == DataType.FLOAT:
                yield extra


def _shared_ranges(placement: Placement, policy: QuantizationPolicy) -> dict[Value, Value]:
    """Follow data movers back to the value whose range theirs is."""
    range_of: dict[Value, Value] = {value: value for value in placement.activations}

    def find(value: Value) -> Value:
        while range_of[value] is not value:
            range_of[value] = range_of[range_of[value]]
            value = range_of[value]
        return value

    for node in placement.nodes:
        if node.op_type in policy.pass_through_ops:
            sources = [value for _, value in activation_inputs(node)]
            for value in (*sources[1:], *(output for output in node.outputs if output in range_of)):
                if value in range_of and sources[0] in range_of:
                    range_of[find(value)] = find(sources[0])
    return {value: find(value) for value in placement.activations}
