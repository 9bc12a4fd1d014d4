"""Movers among nodes in another type that touch none that computes in it."""

import onnx.parser
import pytest

from graphpress.analysis.islands import islands
from graphpress.ir import from_proto

TEXT = """<ir_version: 8, opset_import: ["": 17]> g (float[2,3] x) => (float[3,2] y, float[3,2] z) {
    a = Exp (x)
    t = Transpose (a)
    u = Identity (t)
    y = Log (u)
    v = Transpose (x)
    z = Identity (v)
}"""


@pytest.mark.parametrize(
    ("typed", "alone"),
    [
        ("atuyvz", "vz"),  # between public values only
        ("tu", "tu"),  # both neighbors compute in the other type
        ("atu", ""),  # the results of one that computes
        ("tuy", ""),  # across a mover, to one that reads
        ("ay", ""),
        ("", ""),
    ],
)
def test_movers_beside_no_node_of_the_type_that_computes(typed, alone):
    graph = from_proto(onnx.parser.parse_model(TEXT)).graph
    nodes = {node: None for node in graph if node.outputs[0].name in typed}
    assert "".join(node.outputs[0].name for node in islands(nodes)) == alone
