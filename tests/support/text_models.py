"""Models from the text of their graphs."""

import numpy as np
import onnx.parser
from onnx import numpy_helper

from graphpress.ir import Model, from_proto
from graphpress.manager.prepare import prepare


def model_of(text: str, opset: int = 17, **weights: np.ndarray) -> Model:
    """A model from the text of its graph; weights are named in the call."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    model = from_proto(proto)
    prepare(model, {})
    return model
