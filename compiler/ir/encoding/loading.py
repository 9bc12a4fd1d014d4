"""From encodings in a file to those in memory: what ``saving`` wrote, taken out of the graph and attached again.

A file is untrusted: whatever cannot be what ``saving`` writes is an error of the model. The verifier checks
whether the encodings are sound and fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from graphpress.errors import ModelError
from graphpress.ir.annotation_text import START_OVER, check_fields, facts_of
from graphpress.ir.encoding.annotations import (
    FLOAT,
    INVALIDATED_KEY,
    OUTPUT_KEY,
    copy_annotations,
    encoding_of,
    invalidate_encoding,
    override_use,
    set_encoding,
    texts_of,
)
from graphpress.ir.encoding.decoders import decoder_of
from graphpress.ir.encoding.encoded_tensor import EncodedTensor
from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.encoding.requests import COMPUTE_KEY, FLOAT_TYPE_KEY
from graphpress.ir.encoding.text import CODES_KEY, ENCODING_KEY, STORED_KEY, USE_KEY, VERSION_1, Find, from_text
from graphpress.ir.factors import FACTOR_KEY
from graphpress.ir.meta import texts
from graphpress.ir.sparsity import SPARSITY_KEY
from graphpress.ir.types import Attr, DataType, Graph, Model, Node, TensorProtocol, Value
from graphpress.ir.values import graphs, input_of, label, opset_of, values_of

_OF_VALUES = (OUTPUT_KEY, INVALIDATED_KEY, SPARSITY_KEY, CODES_KEY)
_OF_NODES = (COMPUTE_KEY, FLOAT_TYPE_KEY, STORED_KEY, FACTOR_KEY)
_MAX_DIGITS = 6


def read_encodings(model: Model, find: Find | None = None) -> None:
    """Attach the encodings of the file, in place, and make constants of the nodes that decode them.

    Args:
        model: as it was deserialized.
        find: where the arrays are, when they are not initializers of the model (``graphpress.ir.skeleton``).

    Raises:
        ModelError: an annotation cannot be read, or its tensors are missing or of another type.
    """
    numbers = _Numbers(model)
    _read_annotations(model, numbers.find if find is None else find)
    for graph in graphs(model):
        if isinstance(graph, Graph):
            _restore_constants(graph, numbers)
    numbers.release()


def _read_annotations(model: Model, find: Find) -> None:
    known: dict[str, Encoding] = {}

    def read(text: str) -> Encoding:
        if text not in known:
            known[text] = from_text(text, find)
        return known[text]

    for graph in graphs(model):
        for value in values_of(graph):
            for key, text in texts_of(value):
                _read_value(value, key, text, read)
        for node in graph:
            for key, text in texts_of(node):
                _read_node(node, key, text, read)


def _read_value(value: Value, key: str, text: str, read: Callable[[str], Encoding]) -> None:
    if VERSION_1.get(key, key) == ENCODING_KEY:
        del value.metadata_props[key]
        set_encoding(value, _parsed(text, read, value))
    elif key not in _OF_VALUES or (key == OUTPUT_KEY and text != FLOAT):
        raise _unreadable(f"{key}: {text}", "unknown", value)
    elif key == CODES_KEY and not value.is_initializer():
        raise _unreadable(f"{key}: {text}", "it is not on a constant", value)


def _read_node(node: Node, key: str, text: str, read: Callable[[str], Encoding]) -> None:
    stem, dot, index = key.rpartition(".")
    if VERSION_1.get(stem + dot, stem + dot) == USE_KEY and index.isascii() and index.isdigit():
        if len(index) > _MAX_DIGITS:
            raise _unreadable(key, "no input has this number", node)
        del node.metadata_props[key]
        override_use(node, int(index), FLOAT if text == FLOAT else _parsed(text, read, node))
    elif key not in _OF_NODES:
        raise _unreadable(f"{key}: {text}", "unknown", node)


def _parsed(text: str, read: Callable[[str], Encoding], item: Node | Value) -> Encoding:
    try:
        return read(text)
    except ValueError as error:
        raise _unreadable(text, str(error), item) from error


def _unreadable(text: str, why: str, item: Node | Value) -> ModelError:
    return ModelError(f"unreadable encoding {text[:120]!r} ({why})", where=label(item), fix=START_OVER)


class _Numbers:
    """The tensors of the main graph to which annotations refer."""

    def __init__(self, model: Model) -> None:
        self._graph = model.graph
        self._used: set[str] = set()

    def tensor(self, name: str) -> TensorProtocol:
        """The tensor of a name; ValueError where there is none of numbers."""
        value = self._graph.initializers.get(name)
        tensor = None if value is None or value.is_graph_input() else value.const_value
        if tensor is None or tensor.dtype == DataType.STRING:
            raise ValueError(f"there is no tensor {name!r}")
        self._used.add(name)
        return tensor

    def find(self, name: str) -> np.ndarray:
        """The array of a name."""
        return self.tensor(name).numpy()

    def release(self) -> None:
        """Take the tensors out of the graph; what a node reads stays."""
        for name in self._used:
            value = self._graph.initializers.get(name)
            if value is not None and not value.uses() and not value.is_graph_output():
                del self._graph.initializers[name]


# -- constants held as codes ----------------------------------------------------------------------------------


def _restore_constants(graph: Graph, numbers: _Numbers) -> None:
    """Constants in the places of their codes, in place: the order of initializers stays."""
    restored: dict[Value, list[Value]] = {}
    for node in [node for node in graph if STORED_KEY in texts(node)]:
        constant = _decoded(node, graph, numbers)
        codes = node.inputs[0]
        assert codes is not None
        restored.setdefault(codes, []).append(constant)
        node.outputs[0].replace_all_uses_with(constant, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    for value in list(graph.initializers.values()) if restored else ():
        if value not in restored or value.uses():
            graph.initializers.add(graph.initializers.pop(value.name or ""))  # behind those that came in before it
        else:
            del graph.initializers[value.name or ""]
        for constant in restored.pop(value, ()):
            graph.register_initializer(constant)
    for value in graph.initializers.values():
        if CODES_KEY in texts(value):
            _take_codes(value, numbers)


def _decoded(node: Node, graph: Graph, numbers: _Numbers) -> Value:
    """The constant that a node decodes."""
    text, codes = node.metadata_props[STORED_KEY], input_of(node, 0)
    if not node.outputs:
        raise _unreadable(text, "the node has no result", node)
    result = node.outputs[0]
    encoding = _parsed(text, lambda content: from_text(content, numbers.find), node)
    tensor = None if codes is None or codes.graph is not graph or codes.is_graph_input() else codes.const_value
    if tensor is None or encoding.fault is not None or not _decodes(node, encoding, text, numbers):
        raise _unreadable(text, encoding.fault or "the node does not decode it so", node)
    kind = result.dtype or DataType.FLOAT
    held = EncodedTensor(tensor, encoding, DataType.FLOAT, result.name)
    if held.fault is not None or kind != held.dtype:
        raise _unreadable(text, held.fault or f"it decodes to {kind}", node)
    constant = Value(name=result.name, shape=held.shape, type=result.type, const_value=held)
    constant.doc_string = result.doc_string
    copy_annotations(result, constant)
    return constant


def _decodes(node: Node, encoding: Encoding, text: str, numbers: _Numbers) -> bool:
    """Whether the node computes what its text declares, from the very tensors that it names."""
    facts, decoder = json.loads(text), decoder_of(encoding, DataType.FLOAT, opset_of(node) or 0)
    operands = [numbers.tensor(facts[name]) for name in ("scale", "zero_point") if name in facts]
    return (
        decoder is not None
        and (node.domain, node.op_type) == ("", decoder.op_type)
        and len(node.inputs) == 1 + len(operands)
        and all(
            value is not None and value.const_value is tensor
            for value, tensor in zip(node.inputs[1:], operands, strict=True)
        )
        and {name: _number(attribute) for name, attribute in node.attributes.items()} == decoder.attributes
    )


def _number(attribute: Attr) -> object:
    return None if attribute.is_ref() else attribute.value


def _take_codes(value: Value, numbers: _Numbers) -> None:
    """Hold a constant as the codes that are kept beside its floats, unless the floats were changed since."""
    text = value.metadata_props.pop(CODES_KEY)
    floats = value.const_value
    try:
        facts = facts_of(text)
        check_fields(facts, "codes", "encoding")
        if not all(isinstance(fact, str) for fact in facts.values()):
            raise ValueError("its codes or its encoding are no text")
        codes, encoding = numbers.tensor(facts["codes"]), from_text(facts["encoding"], numbers.find)
    except ValueError as error:
        raise _unreadable(text, str(error), value) from error
    if floats is None or encoding.fault is not None:
        raise _unreadable(text, encoding.fault or "it is not on a constant", value)
    held = EncodedTensor(codes, encoding, floats.dtype, value.name)
    if held.fault is not None:
        raise _unreadable(text, held.fault, value)
    if held.shape == floats.shape and np.array_equal(held.numpy(), floats.numpy()):
        value.const_value = held
    elif encoding_of(value) is not None:
        invalidate_encoding(value, "its contents were changed in the file")
