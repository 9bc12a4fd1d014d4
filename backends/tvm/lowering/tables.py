"""Functions between two grids of codes as tables: what ONNX Runtime computes of each code.

Behind a quantizer a value is one of 256 numbers, and so is what functions make of it, up to the next quantizer. ONNX
Runtime computes them when the model is compiled, from the graph that it would run: table and graph give the same codes,
whatever it computes in floats and whatever it looks up itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphpress.backends.tvm.codegen.lookup import ENTRIES
from graphpress.backends.tvm.lowering.chain import CLAMPS, Link
from graphpress.backends.tvm.lowering.codes import Codes
from graphpress.backends.tvm.lowering.node_model import attributes_of
from graphpress.errors import GraphpressError
from graphpress.ir import Node, Value, constant, from_proto, opset_of
from graphpress.ir.encoding import AffineEncoding, Encoding, integer_bounds, read_encoding
from graphpress.runtime import Session

QUANTIZED_OPSET, IR_VERSION = 13, 10


def lookup_start(links: Sequence[Link], grids: Sequence[Codes | None]) -> int:
    """From which link on a chain is a function of one code; the number of links where it nowhere is.

    Args:
        links: of the chain.
        grids: codes that each link reads, and those of the result; None for floats.
    """
    start = len(links)
    if grids[-1] is None:
        return start
    while start and links[start - 1].is_pointwise:
        start -= 1
    coded = next((place for place in range(start, len(links)) if grids[place] is not None), len(links))
    computes = any(link.node.op_type not in CLAMPS for link in links[coded:])
    return coded if computes else len(links)


def code_table(
    links: Sequence[Link], ends: tuple[Encoding | None, Encoding | None], shifts: tuple[int, int]
) -> np.ndarray | None:
    """The codes that links make of each code; None where ONNX Runtime cannot compute them.

    Args:
        links: each a function of what comes before.
        ends: encodings of what the first reads and of the result.
        shifts: by how much the instruction set's codes are more than the model's, of both.

    Returns:
        uint8, by the bits of a code of the instruction set.
    """
    before, after = ends
    assert isinstance(before, AffineEncoding)
    assert isinstance(after, AffineEncoding)
    low, high = integer_bounds(before.dtype)
    codes = np.arange(low, high + 1)
    numbers = (codes - int(before.zero_point)).astype(np.float32) * np.float32(before.scale)
    try:
        session = Session(from_proto(_ChainModel().build(links, after)))
    except GraphpressError:
        return None
    result = session.run({"source": numbers})["result"].astype(np.int64) + shifts[1]
    table = np.zeros(ENTRIES, np.uint8)
    table[(codes + shifts[0]) & (ENTRIES - 1)] = (result & (ENTRIES - 1)).astype(np.uint8)
    return table


def requantized(table: np.ndarray, before: Codes | None, after: Codes | None) -> np.ndarray:
    """A table whose codes are brought onto another grid, as a quantizer does.

    Args:
        table: uint8, bits of codes by bits of codes.
        before: the grid of its codes.
        after: that of the result.
    """
    assert before is not None
    assert after is not None
    codes = table.astype(np.int16) if before.low >= 0 else table.view(np.int8).astype(np.int16)
    numbers = (codes - before.zero_point).astype(np.float32) * np.float32(before.scale)
    result = np.rint(numbers / np.float32(after.scale)) + after.zero_point
    bits: np.ndarray = np.clip(result, after.low, after.high).astype(np.int16).astype(np.uint8)
    return bits


class _ChainModel:
    """Writes links as an ONNX model."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[Value, str] = {}

    def build(self, links: Sequence[Link], after: AffineEncoding) -> onnx.ModelProto:
        """From all values of a grid to codes of another."""
        nodes = [node for link in links for node in link.nodes]
        first = next(value for value in nodes[0].inputs if value is not None and constant(value) is None)
        self.names[first] = "source"
        for node in nodes:
            self._append(node)
        self._quantize(self.names[nodes[-1].outputs[0]], after, "result")
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(after.dtype))
        source = helper.make_tensor_value_info("source", TensorProto.FLOAT, [ENTRIES])
        result = helper.make_tensor_value_info("result", dtype, [ENTRIES])
        graph = helper.make_graph(self.nodes, "codes", [source], [result], self.constants)
        opsets = {"": QUANTIZED_OPSET} | {node.domain: opset_of(node) or 1 for node in nodes}
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)

    def _append(self, node: Node) -> None:
        inputs = ["" if value is None else self._read(node, index) for index, value in enumerate(node.inputs)]
        self.names[node.outputs[0]] = name = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(node.op_type, inputs, [name], domain=node.domain, **attributes_of(node)))

    def _read(self, node: Node, index: int) -> str:
        value, encoding = node.inputs[index], read_encoding(node, index)
        assert value is not None
        if (known := constant(value)) is not None:
            return self._constant(known)
        if not isinstance(encoding, AffineEncoding):
            return self.names[value]
        codes = self._quantize(self.names[value], encoding, f"codes_{len(self.nodes)}")
        decoded = f"{codes}_decoded"
        self.nodes.append(helper.make_node("DequantizeLinear", [codes, *self._grid(encoding)], [decoded]))
        return decoded

    def _quantize(self, name: str, encoding: AffineEncoding, result: str) -> str:
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *self._grid(encoding)], [result]))
        return result

    def _grid(self, encoding: AffineEncoding) -> tuple[str, str]:
        scale = np.asarray(encoding.scale, np.float32).reshape(())
        zero_point = np.asarray(encoding.zero_point).astype(encoding.dtype).reshape(())
        return self._constant(scale), self._constant(zero_point)

    def _constant(self, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, f"constant_{len(self.constants)}"))
        return self.constants[-1].name
