"""Without labels and telling names, the numbers of the input model tell whether they are scores of classes."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import graphpress

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 8)).astype(np.float32)


def model_file(folder, weight, batch):
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> g (float[{batch},8] x) => (float[{batch},8] y) {{ y = MatMul(x, w) }}'
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "w"))
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize(("kind", "metric"), [("classifier", "agreement"), ("regression", "closeness")])
def test_the_metric_is_chosen_by_what_the_numbers_look_like(tmp_path, kind, metric, batch):
    weight = 9 * np.eye(8) if kind == "classifier" else RNG.standard_normal((8, 8))
    winners = np.eye(8, dtype=np.float32)[np.arange(40) % 7]
    data = {"x": winners + X / 10 if kind == "classifier" else X / 10}
    result = graphpress.optimize(
        model_file(tmp_path, weight, batch), data=data, recipe="cleanup", output=tmp_path / "out"
    )
    assert result.report.metric_name == metric
