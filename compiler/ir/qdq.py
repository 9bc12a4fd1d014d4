"""QuantizeLinear/DequantizeLinear pairs and annotations are two forms of the same thing.

``import_qdq`` turns the pairs of an incoming model into pinned encodings; ``materialize_qdq`` writes encodings out:

    x ─ Q ─ DQ ─ conv      ⇄      x ─ conv,  with  encoding(x) = (scale, zero-point, …)
    integers ─ DQ ─ conv   ⇄      float constant that carries the integers as its payload

A pair is left as nodes, with a reason, when its scale is computed at run time, when something else reads the
integers, when the two halves disagree, or when what it quantizes was quantized before.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeGuard

import numpy as np

from graphpress.errors import ModelError
from graphpress.ir.edit import Editor
from graphpress.ir.encoding import (
    FLOAT,
    FLOAT8,
    AffineEncoding,
    EncodedTensor,
    Encoding,
    clear_annotations,
    codes_of,
    encoding_of,
    fits,
    float_type,
    invalidation_of,
    is_annotated,
    output_encoding,
    override_output,
    override_use,
    overrides_of,
    read_encoding,
    set_encoding,
    set_float_type,
    static_affine,
)
from graphpress.ir.encoding.content import content_of
from graphpress.ir.encoding.text import zero_points
from graphpress.ir.hand_made import spell_dequantization
from graphpress.ir.pattern import Refusal, Rewrites
from graphpress.ir.types import DataType, Graph, Model, Node, Shape, TensorProtocol, TensorType, Value
from graphpress.ir.values import (
    constant,
    graphs,
    input_of,
    int_attribute,
    is_constant,
    is_standard,
    producer,
    rank_of,
    readers,
    values_of,
)

_STAYS = "nothing: it stays as it is"
_EXPRESSIBLE = "give it an affine encoding with known numbers, or leave the value float"
_STATIC = "choose another backend, or quantize with calibration data"
_EXPRESSED = {"axis", "block_size", "output_dtype", "saturate"}
OUTPUT_TYPE_OPSET = 21
"""From here on QuantizeLinear can name the type of its result."""

# -- raising ----------------------------------------------------------------------------------------------


def import_qdq(model: Model) -> Rewrites:
    """Turn Q/DQ pairs and dequantized constants, those by hand too, into pinned encodings, in place; what stays has
    its reason.
    """
    spell_dequantization(model)
    edit, done = Editor(model), Rewrites()
    for graph in graphs(model):
        if not isinstance(graph, Graph):
            continue
        for node in list(graph):
            if not is_standard(node, "DequantizeLinear"):
                continue
            refusal = _import_dequantize(node, edit)
            if refusal is None:
                done.count += 1
            else:
                done.refusals.append(refusal)
    return done


def _import_dequantize(dequantize: Node, edit: Editor) -> Refusal | None:
    encoding = encoding_of_node(dequantize)
    if isinstance(encoding, Refusal):
        return encoding
    integers = dequantize.inputs[0]
    assert integers is not None
    if is_constant(integers):
        return _import_constant(dequantize, integers, encoding, edit)
    quantize = producer(integers, "QuantizeLinear")
    if quantize is None:
        return Refusal.at(dequantize, "its integers come from a computation", _STAYS)
    if not all(is_standard(reader, "DequantizeLinear") for reader in readers(integers)) or integers.is_graph_output():
        return Refusal.at(quantize, "its integers have another reader", _STAYS)
    if encoding_of_node(quantize) != encoding:
        return Refusal.at(quantize, "it and its DequantizeLinear differ in scale, zero-point or axis", _STAYS)
    return _import_pair(quantize, dequantize, encoding, edit)


def _import_constant(dequantize: Node, integers: Value, encoding: AffineEncoding, edit: Editor) -> Refusal | None:
    result, tensor = dequantize.outputs[0], _tensor_of(integers)
    if result.is_graph_output():
        return Refusal.at(dequantize, "its result is a graph output", _STAYS)
    if tensor is None or not fits(encoding, tuple(tensor.shape.numpy())):
        return Refusal.at(dequantize, "its scales do not fit the shape of its integers", _STAYS)
    decoded = EncodedTensor(tensor, encoding, _result_type(dequantize))
    value = edit.add_constant_for(dequantize, decoded, result.name or "weight")
    set_encoding(value, encoding)
    edit.replace(result, value)
    edit.remove(dequantize)
    return None


def _import_pair(quantize: Node, dequantize: Node, encoding: AffineEncoding, edit: Editor) -> Refusal | None:
    source, result = quantize.inputs[0], dequantize.outputs[0]
    assert source is not None
    if read_encoding(quantize, 0) is not None:
        return Refusal.at(quantize, "it quantizes again what is quantized already", _STAYS)
    if not edit.can_replace(result, source) or (result.is_graph_output() and len(source.uses()) > 1):
        return Refusal.at(dequantize, "its result is a graph output with another reader before it", _STAYS)
    default = encoding_of(source)
    if result.is_graph_output() and default not in (None, encoding):
        return Refusal.at(dequantize, "its result is a graph output, and others read it in another encoding", _STAYS)
    if default is None:
        for use in source.uses():
            override_use(use.node, use.idx, FLOAT)
        if source.is_graph_output():
            override_output(source, FLOAT)
        set_encoding(source, encoding)
    for use in result.uses():
        override_use(use.node, use.idx, None if default in (None, encoding) else encoding)
    edit.replace(result, source)
    edit.remove(dequantize)
    if not quantize.outputs[0].uses():
        edit.remove(quantize)
    return None


def encoding_of_node(node: Node) -> AffineEncoding | Refusal:
    """The encoding of a Q or DQ node, or why it cannot be an annotation."""
    scale = constant(input_of(node, 1))
    if scale is None:
        return Refusal.at(node, "its scale is computed at run time", _STAYS)
    zero_value = input_of(node, 2)
    zero = constant(zero_value)
    if zero_value is not None and zero is None:
        return Refusal.at(node, "its zero-point is computed at run time", _STAYS)
    dtype = _integer_type(node, zero_value)
    if dtype is None or scale.dtype != np.float32:
        return Refusal.at(node, "its integer or scale type is not supported as an annotation", _STAYS)
    if extra := sorted(set(node.attributes) - _EXPRESSED):
        return Refusal.at(node, f"its attribute {extra[0]!r} has no place in an annotation", _STAYS)
    zero = np.zeros(scale.shape, np.int64) if zero is None else zero
    if dtype == FLOAT8 and (np.any(zero.astype(np.float32)) or not int_attribute(node, "saturate", 1)):
        return Refusal.at(node, "its 8-bit floats have a zero-point or do not saturate", _STAYS)
    block = int_attribute(node, "block_size", 0)
    axis = _axis(node) if scale.size > 1 or block else None
    shape = scale.shape if block else (() if axis is None else (-1,))
    encoding = AffineEncoding(
        dtype, scale.reshape(shape), zero.astype(np.int64).reshape(shape), axis, block, imported=True
    )
    if encoding.fault is not None:
        return Refusal.at(node, f"it {encoding.fault}", _STAYS)
    return encoding


def _axis(node: Node) -> int:
    axis, rank = int_attribute(node, "axis", 1), rank_of(input_of(node, 0))
    return axis + rank if axis < 0 and rank is not None else axis


def _tensor_of(integers: Value) -> TensorProtocol | None:
    node = integers.producer()
    attribute = None if node is None else node.attributes.get("value")
    return attribute.as_tensor() if attribute is not None and is_constant(integers) else integers.const_value


def _integer_type(node: Node, zero: Value | None) -> str | None:
    typed = zero if zero is not None else (node.inputs[0] if node.op_type == "DequantizeLinear" else None)
    dtype = DataType.UINT8 if typed is None else typed.dtype
    if typed is None and (output := int_attribute(node, "output_dtype", 0)):
        dtype = DataType(output)
    if typed is not None and dtype is None and (tensor := _tensor_of(typed)) is not None:
        dtype = tensor.dtype
    name = "" if dtype is None else dtype.name.lower()
    return name if name == FLOAT8 or name.lstrip("u").startswith("int") else None


def _result_type(dequantize: Node) -> DataType:
    scale = dequantize.inputs[1]
    assert scale is not None
    return scale.dtype or DataType.FLOAT


# -- materializing ---------------------------------------------------------------------------------------------


def materialize_qdq(model: Model) -> int:
    """Write every encoding as Q/DQ nodes, in place, and clear the annotations, float types apart.

    Those stay for ``materialize_float_types``: a QuantizeLinear takes that of the node before it, a DequantizeLinear of
    its readers, of which each type has its own.

    Returns:
        How many values were written out.

    Raises:
        ModelError: a value lost its encoding to an edit after it was quantized, or is in ``unmaterializable``.
    """
    edit, count = Editor(model), 0
    overridden = any(overrides_of(node) for graph in graphs(model) for node in graph)
    for graph in graphs(model):
        if isinstance(graph, Graph):
            parameters = _Parameters(edit, graph)
            for value in list(values_of(graph)):
                if overridden or is_annotated(value):
                    count += _materialize_value(value, parameters)
            for node in graph:
                kept = float_type(node)
                clear_annotations(node)
                set_float_type(node, kept)
    return count


def is_plain(model: Model) -> bool:
    """Whether there is nothing for ``materialize_qdq`` to write out, or to say."""
    return not any(
        any(is_annotated(value) for value in values_of(graph)) or any(overrides_of(node) for node in graph)
        for graph in graphs(model)
    )


def unmaterializable(model: Model, *, dynamic: bool = False) -> list[Refusal]:
    """Values that are read in an encoding that Q/DQ nodes do not express: a codebook, a cast, a dynamic range of rows.

    Args:
        model: with annotations.
        dynamic: whether the backend has kernels for ranges that are found at run time.
    """
    return [
        Refusal(value.name or "", f"no backend materializes its encoding {encoding.label}", _EXPRESSIBLE)
        if static_affine(encoding) is None and not _is_dynamic(encoding, value)
        else Refusal(value.name or "", f"no kernel finds the range of its encoding {encoding.label}", _STATIC)
        for graph in graphs(model)
        for value in values_of(graph)
        for encoding in _encodings_of(value)
        if static_affine(encoding) is None and not (dynamic and _is_dynamic(encoding, value))
    ]


def _encodings_of(value: Value) -> list[Encoding]:
    """Those in which anything reads the value, each once."""
    read = [read_encoding(use.node, use.idx) for use in value.uses()]
    outside = output_encoding(value) if value.is_graph_output() else None
    return list(dict.fromkeys(encoding for encoding in (*read, outside) if encoding is not None))


class _Parameters:
    """Scales and zero-points as constants of one graph, each content stored once."""

    def __init__(self, edit: Editor, graph: Graph) -> None:
        self.edit, self.graph = edit, graph
        self._known: dict[Hashable, Value] = {}

    def of(self, encoding: AffineEncoding, stem: str) -> list[Value]:
        """The constants for scale and zero-point of an encoding; no zero-point where an attribute names its type."""
        constants = [self._constant(encoding.scale, f"{stem}_scale")]
        if not self.names_type(encoding):
            constants.append(self._constant(zero_points(encoding), f"{stem}_zero_point"))
        return constants

    def names_type(self, encoding: AffineEncoding) -> bool:
        """Whether a quantizer names its type instead of giving a zero-point of it.

        It can from opset 21 on, and for floats it has to: ONNX Runtime 1.32 takes a zero-point of 0 for the lower
        end of the grid, and drops a Relu before it.
        """
        return encoding.dtype == FLOAT8 and (self.graph.opset_imports.get("") or 0) >= OUTPUT_TYPE_OPSET

    def _constant(self, array: np.ndarray, name: str) -> Value:
        key = (array.dtype.name, content_of(array))
        if key not in self._known:
            self._known[key] = self.edit.add_constant(array, name, self.graph)
        return self._known[key]


def _materialize_value(value: Value, parameters: _Parameters) -> int:
    if reason := invalidation_of(value):
        raise ModelError(
            f"{value.name!r} was quantized and then changed ({reason})",
            where="encoding",
            fix="quantize after the pass that changes it",
        )
    uses: dict[Encoding, dict[str | None, list[tuple[Node, int]]]] = {}
    for use in value.uses():
        encoding = read_encoding(use.node, use.idx)
        if encoding is not None:
            uses.setdefault(encoding, {}).setdefault(float_type(use.node), []).append((use.node, use.idx))
    # A graph input that is an output too has one name for both: only the nodes that read it can read it encoded.
    outside = output_encoding(value) if value.is_graph_output() and not value.is_graph_input() else None
    if outside is not None:
        uses.setdefault(outside, {}).setdefault(None, [])
    clear_annotations(value)
    for encoding, by_type in uses.items():
        for dtype, decoded in _materialize(value, _materializable(encoding, value), list(by_type), parameters).items():
            for node, index in by_type[dtype]:
                node.replace_input_with(index, decoded)
            if encoding == outside and dtype is None:
                parameters.edit.replace_output(value, decoded)
    if uses:
        parameters.edit.drop_if_unused(value)
    return len(uses)


def _materializable(encoding: Encoding, value: Value) -> AffineEncoding:
    """The encoding as one that Q/DQ nodes can express.

    Raises:
        ModelError: it is a codebook, a cast, or dynamic along an axis.
    """
    affine = encoding if _is_dynamic(encoding, value) else static_affine(encoding)
    if affine is None:
        raise ModelError(
            f"no backend materializes the encoding {encoding.label} of {value.name!r}",
            where="encoding",
            fix=_EXPRESSIBLE,
        )
    return affine


def _is_dynamic(encoding: Encoding, value: Value) -> TypeGuard[AffineEncoding]:
    """Whether DynamicQuantizeLinear expresses it: one range for the whole tensor, in uint8."""
    return (
        isinstance(encoding, AffineEncoding)
        and encoding.is_dynamic
        and (encoding.dtype, encoding.axis) == ("uint8", None)
        and not is_constant(value)
    )


def _materialize(
    value: Value, encoding: AffineEncoding, dtypes: Sequence[str | None], parameters: _Parameters
) -> dict[str | None, Value]:
    """Insert Q and DQ (for a constant: its integers and DQ) and return the decoded value for readers of each type."""
    edit, graph = parameters.edit, parameters.graph
    stem = value.name or "value"
    grid = [] if encoding.is_dynamic else parameters.of(encoding, stem)
    attributes = {"axis": encoding.axis, "block_size": encoding.block or None}
    after = value.producer()
    before = graph[0] if after is None else None
    if is_constant(value) and value.const_value is not None:
        integers = edit.add_constant(codes_of(value.const_value, encoding), f"{stem}_quantized", graph)
    else:
        maker, kind = after, DataType[encoding.dtype.upper()]
        if encoding.is_dynamic:
            after = edit.add_node(
                "DynamicQuantizeLinear", [value], before=before, after=after, name=f"{stem}_Q", outputs=3
            )
            grid = _range_of(after)
        else:
            named = {"output_dtype": int(kind) if parameters.names_type(encoding) else None, **attributes}
            after = edit.add_node("QuantizeLinear", [value, *grid], named, before=before, after=after, name=f"{stem}_Q")
        before, integers = None, after.outputs[0]
        integers.shape, integers.type = value.shape, TensorType(kind)
        set_float_type(after, None if maker is None else float_type(maker))
    decoded = {}
    for dtype in dtypes:
        inputs = [integers, *grid]
        node = edit.add_node("DequantizeLinear", inputs, attributes, before=before, after=after, name=f"{stem}_DQ")
        edit.copy_type(value, node.outputs[0])
        set_float_type(node, dtype)
        decoded[dtype] = node.outputs[0]
    return decoded


def _range_of(quantize: Node) -> list[Value]:
    """Scale and zero-point that a DynamicQuantizeLinear finds."""
    _, scale, zero = quantize.outputs
    for value, kind in ((scale, DataType.FLOAT), (zero, DataType.UINT8)):
        value.shape, value.type = Shape([]), TensorType(kind)
    return [scale, zero]
