"""Models of one linear operator, from text."""

import re

import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.ir import from_proto


def build_model(text, **constants):
    """A model from the text of its graph; constants are named in the call."""
    text = re.sub(r"\bfloat (?=\w)", "float[] ", text)
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return from_proto(proto)


@pytest.fixture(scope="session")
def build():
    """``build_model``."""
    return build_model
