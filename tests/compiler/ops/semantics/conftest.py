"""Nodes with attributes and nothing else."""

import pytest

from graphpress.ir import Attr, AttributeType, Graph, Node, NodeView, Value

KINDS = {str: AttributeType.STRING, float: AttributeType.FLOAT, int: AttributeType.INT}
LISTS = {str: AttributeType.STRINGS, float: AttributeType.FLOATS, int: AttributeType.INTS}


@pytest.fixture
def node():
    def make(op_type, opset=21, **attributes):
        given = [
            Attr(name, LISTS[type(value[0])] if isinstance(value, list) else KINDS[type(value)], value)
            for name, value in attributes.items()
        ]
        made = Node("", op_type, [], given, outputs=[Value(name="y")])
        Graph([], [], nodes=[made], opset_imports={"": opset})
        return NodeView.of(made)

    return make
