"""From encodings in memory to those of a file: text beside nodes and values, numbers as tensors, constants as codes.

Arrays become initializers of the main graph, each content once, under reserved names. A constant that is held as codes
becomes the codes and the operator that decodes them, where the operator set has one: the file holds what the model
holds, and means the same to every reader. One that nobody reads in an encoding is a float constant like any other.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from itertools import count

import numpy as np
import onnx_ir

from graphpress.ir.encoding.affine import AffineEncoding
from graphpress.ir.encoding.annotations import encoding_of, is_encoded, overrides_of
from graphpress.ir.encoding.content import content_of
from graphpress.ir.encoding.decoders import Decoder, decoder_of
from graphpress.ir.encoding.encoded_tensor import EncodedTensor, packed
from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.encoding.text import CODES_KEY, ENCODING_KEY, STORED_KEY, USE_KEY, Keep, to_text, zero_points
from graphpress.ir.types import DataType, Graph, Model, Node, TensorProtocol, TensorType, Value
from graphpress.ir.values import graphs, values_of

NUMBERS = "graphpress.numbers/"
"""Names of the initializers that hold scales, zero-points, tables and codes begin so."""


def holds_encodings(model: Model) -> bool:
    """Whether a value or a use is annotated with an encoding."""
    return any(
        any(encoding_of(value) for value in values_of(graph)) or any(overrides_of(node) for node in graph)
        for graph in graphs(model)
    )


def write_encodings(model: Model) -> None:
    """Turn the encodings of a model into those of a file, in place: give it a clone."""
    numbers = _Numbers(model)
    write_annotations(model, numbers.keep)
    for graph in graphs(model):
        if isinstance(graph, Graph):
            _store_constants(graph, numbers)


def write_annotations(model: Model, keep: Keep) -> None:
    """Write the encodings of values and uses beside them as text, in place."""
    texts: dict[Encoding, str] = {}

    def text_of(encoding: Encoding | str) -> str:
        if isinstance(encoding, str):
            return encoding
        if encoding not in texts:
            texts[encoding] = to_text(encoding, keep)
        return texts[encoding]

    for graph in graphs(model):
        for value in list(values_of(graph)):  # the numbers come in while we walk
            if (encoding := encoding_of(value)) is not None:
                value.metadata_props[ENCODING_KEY] = text_of(encoding)
        for node in graph:
            for index, override in overrides_of(node).items():
                node.metadata_props[f"{USE_KEY}{index}"] = text_of(override)


class _Numbers:
    """The arrays of encodings as initializers of the main graph."""

    def __init__(self, model: Model) -> None:
        self.main_graph = model.graph
        self._taken = {value.name for graph in graphs(model) for value in values_of(graph)}
        self._names: dict[Hashable, str] = {}
        self._counter = count()

    def keep(self, array: np.ndarray) -> str:
        """The name of the initializer that holds this content."""
        key = (array.dtype.name, content_of(array))
        if key not in self._names:
            value = self.add(packed(array, DataType.from_numpy(array.dtype)), self.main_graph)
            self._names[key] = value.name or ""
        return self._names[key]

    def value(self, array: np.ndarray) -> Value:
        """The initializer that holds this content."""
        return self.main_graph.initializers[self.keep(array)]

    def add(self, tensor: TensorProtocol, graph: Graph) -> Value:
        """A new initializer of a graph."""
        value = Value(name=self.fresh_name(), shape=tensor.shape, type=TensorType(tensor.dtype), const_value=tensor)  # type: ignore[arg-type]
        graph.register_initializer(value)
        return value

    def fresh_name(self) -> str:
        """A reserved name that nothing in the model has."""
        while (name := f"{NUMBERS}{next(self._counter)}") in self._taken:
            pass
        return name


def _store_constants(graph: Graph, numbers: _Numbers) -> None:
    """Put codes in the places of constants that are held so, in place: the order of initializers stays."""
    encoded = {value for value in graph.initializers.values() if _is_held_as_codes(value)}
    if not encoded:
        return
    opset, values, decoding = graph.opset_imports.get("", 0), list(graph.initializers.values()), []
    for value in values:
        tensor = value.const_value
        if isinstance(tensor, EncodedTensor) and value in encoded:
            decoder = None if value.is_graph_input() else decoder_of(tensor.encoding, tensor.dtype, opset)
            if decoder is not None:
                del graph.initializers[value.name or ""]
                decoding.append(_decoding_node(value, tensor, decoder, graph, numbers))
                continue
            _store_beside(value, tensor, numbers)
        graph.initializers.add(graph.initializers.pop(value.name or ""))  # behind those that came in before it
    for node in reversed(decoding):
        _prepend(graph, node)


def _is_held_as_codes(value: Value) -> bool:
    return isinstance(value.const_value, EncodedTensor) and is_encoded(value)


def _decoding_node(value: Value, tensor: EncodedTensor, decoder: Decoder, graph: Graph, numbers: _Numbers) -> Node:
    """The node that computes the constant from its codes."""
    encoding = tensor.encoding
    inputs = [numbers.add(tensor.codes, graph)]
    if isinstance(encoding, AffineEncoding):
        inputs.append(numbers.value(encoding.scale))
        if encoding.zero_point.any():
            inputs.append(numbers.value(zero_points(encoding)))
    value.const_value = None
    attributes = onnx_ir.convenience.convert_attributes(decoder.attributes)
    node = Node("", decoder.op_type, inputs, attributes, outputs=[value], name=numbers.fresh_name())
    node.metadata_props[STORED_KEY] = to_text(encoding, numbers.keep)
    return node


def _store_beside(value: Value, tensor: EncodedTensor, numbers: _Numbers) -> None:
    """Keep the codes of a constant whose floats are in the file."""
    codes = numbers.add(tensor.codes, numbers.main_graph).name
    text = {"codes": codes, "encoding": to_text(tensor.encoding, numbers.keep)}
    value.metadata_props[CODES_KEY] = json.dumps(text, separators=(",", ":"))


def _prepend(graph: Graph, node: Node) -> None:
    if len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
