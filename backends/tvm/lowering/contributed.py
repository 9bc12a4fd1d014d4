"""Operators of ONNX Runtime's own domain as operators of the standard, which have kernels.

    SkipLayerNormalization(x, y, γ, β, b)   LayerNormalization(x + y + b, γ, β), and the sum
    BiasGelu, FastGelu, Gelu, QuickGelu     Gelu, exact or by tanh, and Swish, of x + b
    FusedConv, FusedGemm, FusedMatMul       the product, what is added, and the activation behind it
    Attention, MultiHeadAttention           Attention, of the product and the bias before it
    EmbedLayerNormalization                 LayerNormalization of the sum of rows of tables

Graph optimizers write them, ONNX Runtime's own and its transformers tools: what they put together is taken apart here,
and put together again in epilogues. A node of which more is asked (a cache, a mask of lengths) stays what it is, and is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from graphpress.analysis.shapes import infer_shapes
from graphpress.ir import (
    DataType,
    Editor,
    Model,
    Node,
    NodeView,
    TensorType,
    Value,
    constant,
    dims_of,
    input_of,
)
from graphpress.ir.encoding import read_encoding
from graphpress.ops import operator_key

NORMALIZATION_EPSILON = 1e-12
"""Of ONNX Runtime's own normalizations."""
OPSET = 24
"""Of the standard in which all of the operators are that nodes become."""
RANK = 3
"""Of queries, keys and values whose heads share an axis."""
QUICK = 1.702
"""Of QuickGelu, by default."""


def is_contributed(node: Node) -> bool:
    """Whether a node may become nodes of the standard: codes are what other rules are for."""
    coded = any(read_encoding(node, index) is not None for index in range(len(node.inputs)))
    return not coded and operator_key(node.op_type, node.domain) in EXPANSIONS


def expand_contributed(model: Model) -> None:
    """Replace what can be replaced, in place: some nodes can be only once others tell the shapes behind them.

    Args:
        model: in ``OPSET`` at least.
    """
    edit = Editor(model)
    infer_shapes(model)
    while sum(_expand(node, edit) for node in list(model.graph) if is_contributed(node)):
        infer_shapes(model)


def _expand(node: Node, edit: Editor) -> bool:
    """Whether a node has become others."""
    writer = _Writer(node, edit)
    results = EXPANSIONS[operator_key(node.op_type, node.domain)](writer)
    if results is not None:
        writer.end(results)
    return results is not None


class _Writer:
    """Writes what a node is in front of it.

    Args:
        node: the node.
        edit: its model.
    """

    def __init__(self, node: Node, edit: Editor) -> None:
        self.node, self.edit, self.view = node, edit, NodeView.of(node)

    def operand(self, index: int) -> Value | None:
        """An input of the node; None where it is left out."""
        return input_of(self.node, index)

    def first(self) -> Value:
        """The first input, which is never left out."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    def is_read(self, *outputs: int) -> bool:
        """Whether somebody reads one of these outputs."""
        values = [self.node.outputs[index] for index in outputs if index < len(self.node.outputs)]
        return any(value.uses() or value.is_graph_output() for value in values)

    def add(self, op_type: str, *inputs: Value | None, dtype: DataType | None = None, **attributes: Any) -> Value:
        """The result of a new node; of the type of its first input, unless one is given."""
        return self.add_many(op_type, inputs, 1, dtype, **attributes)[0]

    def add_many(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        outputs: int,
        dtype: DataType | None = None,
        **attributes: Any,
    ) -> Sequence[Value]:
        """The results of a new node."""
        made = self.edit.add_node(op_type, inputs, attributes, before=self.node, outputs=outputs)
        for value in made.outputs:
            value.type = None if inputs[0] is None else inputs[0].type if dtype is None else TensorType(dtype)
        return made.outputs

    def integers(self, *numbers: int) -> Value:
        """A constant."""
        return self.numbers(np.array(numbers, np.int64))

    def numbers(self, array: np.ndarray | float, like: Value | None = None) -> Value:
        """A constant, of the type of another value if one is given."""
        dtype = None if like is None or like.dtype is None else like.dtype.numpy()
        return self.edit.add_constant(np.asarray(array, dtype), f"{self.node.name}_constant")

    def sum(self, *terms: Value | None) -> Value:
        """Of the terms that there are."""
        total, *rest = (term for term in terms if term is not None)
        for term in rest:
            total = self.add("Add", total, term)
        return total

    def attributes(self, *names: str) -> dict[str, Any]:
        """Those of the node that it has, by name."""
        return {name: self.node.attributes[name].value for name in names if name in self.node.attributes}

    def end(self, results: Mapping[int, Value]) -> None:
        """Let readers of the node's outputs read others, and remove it."""
        for index, value in results.items():
            if index < len(self.node.outputs):
                self.edit.replace(self.node.outputs[index], value)
        self.edit.remove(self.node)


Results = Mapping[int, Value] | None
"""What the outputs of a node become, by index; None where the node stays, and nothing was written."""


# -- normalizations ---------------------------------------------------------------------------------------------------


def _skip_normalization(writer: _Writer) -> Results:
    if writer.is_read(1, 2):
        return None
    centered = writer.node.op_type == "SkipLayerNormalization"
    total = writer.sum(writer.first(), writer.operand(1), writer.operand(4 if centered else 3))
    epsilon = writer.view.number("epsilon", NORMALIZATION_EPSILON)
    operands = [writer.operand(2), writer.operand(3)] if centered else [writer.operand(2)]
    op_type = "LayerNormalization" if centered else "RMSNormalization"
    return {0: writer.add(op_type, total, *operands, axis=-1, epsilon=epsilon), 3: total}


def _simplified_normalization(writer: _Writer) -> Results:
    if writer.is_read(1):
        return None
    attributes = writer.attributes("axis", "epsilon")
    return {0: writer.add("RMSNormalization", writer.first(), writer.operand(1), **attributes)}


def _embedding(writer: _Writer) -> Results:
    """Rows of tables of words, positions and segments, summed and normalized."""
    words, segments, positions = (writer.operand(index) for index in (2, 4, 3))
    ids, segment_ids, place = writer.first(), writer.operand(1), writer.operand(8)
    if words is None or positions is None or writer.is_read(1):
        return None
    if place is None:
        length = writer.add("Shape", ids, dtype=DataType.INT64, start=1, end=2)
        rows = writer.add("Slice", positions, writer.integers(0), length, writer.integers(0))
    else:
        rows = writer.add("Gather", positions, place)
    word = writer.add("Gather", words, ids)
    segment = None if segments is None else writer.add("Gather", segments, segment_ids)
    total = writer.sum(word, rows, segment)
    epsilon = writer.view.number("epsilon", NORMALIZATION_EPSILON)
    operands = (writer.operand(5), writer.operand(6))
    return {0: writer.add("LayerNormalization", total, *operands, axis=-1, epsilon=epsilon), 2: total}


# -- activations ------------------------------------------------------------------------------------------------------


def _gelu(writer: _Writer) -> Results:
    total = writer.sum(writer.first(), writer.operand(1))
    approximate = "tanh" if writer.node.op_type == "FastGelu" else "none"
    return {0: writer.add("Gelu", total, approximate=approximate)}


def _quick_gelu(writer: _Writer) -> Results:
    return {0: writer.add("Swish", writer.first(), alpha=writer.view.number("alpha", QUICK))}


def _activated(writer: _Writer, value: Value, parameters: Sequence[float]) -> Value:
    """A value through the activation that the node names."""
    name = writer.view.text("activation", "")
    if name == "Clip":
        return writer.add("Clip", value, *(writer.numbers(limit, value) for limit in parameters))
    attributes: dict[str, Any] = dict(zip(ACTIVATIONS.get(name, ()), parameters, strict=False))
    return writer.add(name, value, **attributes) if name else value


def _has_activation(writer: _Writer) -> bool:
    name = writer.view.text("activation", "")
    return not name or name in ACTIVATIONS


ACTIVATIONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {"Clip": (), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",), "Relu": (), "Sigmoid": (), "Tanh": ()}
)
"""Activations behind products, and their attributes in the order of their parameters."""

# -- products ---------------------------------------------------------------------------------------------------------


def _conv(writer: _Writer) -> Results:
    if not _has_activation(writer):
        return None
    attributes = writer.attributes("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    value = writer.add("Conv", writer.first(), writer.operand(1), writer.operand(2), **attributes)
    parameters = writer.view.numbers("activation_params") or ()
    return {0: _activated(writer, writer.sum(value, writer.operand(3)), parameters)}


def _gemm(writer: _Writer) -> Results:
    names = [name for name in ("activation_alpha", "activation_beta") if name in writer.node.attributes]
    if not _has_activation(writer) or names == ["activation_beta"]:
        return None
    attributes = writer.attributes("alpha", "beta", "transA", "transB")
    value = writer.add("Gemm", writer.first(), writer.operand(1), writer.operand(2), **attributes)
    return {0: _activated(writer, value, [writer.view.number(name, 0.0) for name in names])}


def _matmul(writer: _Writer) -> Results:
    turned = (writer.view.flag("transA"), writer.view.flag("transB"))
    ranks = [rank_of(writer.operand(index)) for index in (0, 1)]
    swaps = writer.view.flag("transBatchA") or writer.view.flag("transBatchB")
    if swaps or any(turn and rank < 2 for turn, rank in zip(turned, ranks, strict=True)):
        return None
    factors = [
        writer.add("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2]) if turn else value
        for value, turn, rank in zip(writer.node.inputs, turned, ranks, strict=True)
    ]
    result = writer.add("MatMul", *factors)
    alpha = writer.view.number("alpha", 1.0)
    return {0: result if alpha == 1.0 else writer.add("Mul", result, writer.numbers(alpha, result))}


# -- attention --------------------------------------------------------------------------------------------------------


def _packed_attention(writer: _Writer) -> Results:
    """Queries, keys and values of one product."""
    weights, sizes = writer.operand(1), writer.view.integers("qkv_hidden_sizes")
    width = last_extent(weights)
    more = writer.operand(4) is not None or writer.is_read(1) or writer.view.flag("do_rotary")
    if more or weights is None or not (width or sizes) or not _has_mask(writer, 3, 5):
        return None
    product = writer.sum(writer.add("MatMul", writer.first(), weights), writer.operand(2))
    parts = writer.integers(*(sizes or [width // 3] * 3))
    return _attention(writer, writer.add_many("Split", [product, parts], 3, axis=-1), _mask(writer, 3, 5))


def _multi_head_attention(writer: _Writer) -> Results:
    """Queries, keys and values that are there, each with a bias."""
    values = [value for index in range(3) if (value := writer.operand(index)) is not None]
    widths, bias = [last_extent(value) for value in values], constant(writer.operand(3))
    more = any(writer.operand(index) is not None for index in (6, 7)) or writer.is_read(1, 2)
    if more or [rank_of(value) for value in values] != [RANK] * 3 or not _has_mask(writer, 4, 5):
        return None
    if writer.operand(3) is not None:
        if bias is None or bias.size != sum(widths):
            return None
        parts = np.split(bias, np.cumsum(widths)[:-1])
        values = [writer.sum(value, writer.numbers(part)) for value, part in zip(values, parts, strict=True)]
    return _attention(writer, values, _mask(writer, 4, 5))


def _attention(writer: _Writer, heads: Sequence[Value], mask: Value | None) -> Results:
    number = writer.view.integer("num_heads", 1)
    attributes: dict[str, Any] = {"q_num_heads": number, "kv_num_heads": number}
    attributes["is_causal"] = writer.view.integer("unidirectional", 0)
    if scale := writer.view.number("scale", 0.0):
        attributes["scale"] = scale
    return {0: writer.add("Attention", *heads, *([] if mask is None else [mask]), **attributes)}


def _has_mask(writer: _Writer, seen: int, added: int) -> bool:
    """Whether the standard's operator has such a mask."""
    keys = writer.operand(seen)
    return keys is None or (writer.operand(added) is None and rank_of(keys) == 2)


def _mask(writer: _Writer, seen: int, added: int) -> Value | None:
    """The mask of the standard's operator: of which keys are seen, or what is added to scores.

    Args:
        writer: of the node.
        seen: index of the input that is 0 for keys that are hidden.
        added: index of the input that is added.
    """
    if (keys := writer.operand(seen)) is None:
        return writer.operand(added)
    truth = writer.add("Cast", keys, dtype=DataType.BOOL, to=int(DataType.BOOL))
    return writer.add("Unsqueeze", truth, writer.integers(1, 2))


def rank_of(value: Value | None) -> int:
    """How many axes a value has; 0 where nobody knows."""
    return 0 if value is None else len(dims_of(value) or ())


def last_extent(value: Value | None) -> int:
    """The extent of the last axis; 0 where nobody knows."""
    dims = None if value is None else dims_of(value)
    return (dims[-1] or 0) if dims else 0


EXPANSIONS: Mapping[str, Callable[[_Writer], Results]] = MappingProxyType(
    {
        "SimplifiedLayerNormalization": _simplified_normalization,
        **{
            f"com.microsoft:{name}": expand
            for name, expand in {
                "Attention": _packed_attention,
                "BiasGelu": _gelu,
                "EmbedLayerNormalization": _embedding,
                "FastGelu": _gelu,
                "FusedConv": _conv,
                "FusedGemm": _gemm,
                "FusedMatMul": _matmul,
                "Gelu": _gelu,
                "MultiHeadAttention": _multi_head_attention,
                "QuickGelu": _quick_gelu,
                "SkipLayerNormalization": _skip_normalization,
                "SkipSimplifiedLayerNormalization": _skip_normalization,
            }.items()
        },
    }
)
"""By operator what it becomes."""
