"""The committed demo model: its file, its accuracy on the held-out digits, its data."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from graphpress.errors import DataError
from graphpress.ir import load, to_proto
from graphpress.models.demo import data, network

FOLDER = Path(network.__file__).parent
MODEL = FOLDER / "digits.onnx"


def top1(model: Path) -> float:
    images, labels = data.evaluation()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images})
    return float(np.mean(logits.argmax(1) == labels))


def test_the_file_is_small_and_valid():
    proto = onnx.load(MODEL)
    onnx.checker.check_model(proto, full_check=True)
    assert MODEL.stat().st_size < 500_000
    assert proto.ir_version <= 10
    assert proto.opset_import[0].version == 17


def test_fusion_has_something_to_do():
    operators = [node.op_type for node in load(MODEL).graph]
    assert operators.count("BatchNormalization") == operators.count("Conv") == 6
    assert len(operators) == 22


def test_top1_on_the_held_out_images():
    assert top1(MODEL) == pytest.approx(0.9933, abs=0.002)


def test_the_committed_graph_is_what_the_script_builds():
    proto = onnx.load(MODEL)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    rebuilt = to_proto(network.build(weights)).graph
    assert list(rebuilt.node) == list(proto.graph.node)
    assert list(rebuilt.initializer) == list(proto.graph.initializer)


def test_the_splits_do_not_overlap():
    train, labels = data.training()
    held_out, held_out_labels = data.evaluation()
    assert train.shape == (1197, 1, 8, 8)
    assert held_out.shape == (600, 1, 8, 8)
    assert train.dtype == held_out.dtype == np.float32
    assert labels.dtype == held_out_labels.dtype == np.int64
    assert 0.0 <= train.min() < train.max() <= 1.0
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in held_out}
    np.testing.assert_array_equal(data.calibration(), train)


def test_the_data_file_names_functions_that_exist():
    for part in yaml.safe_load((FOLDER / "digits.yaml").read_text()).values():
        module, function = part["source"].split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install graphpress\[demo\]"):
        data.evaluation()


def test_the_demo_does_not_load_torch():
    code = "import sys, graphpress.models.demo.data, graphpress.models.demo.network; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_training_reaches_the_stated_accuracy(tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs the extra 'torch'")
    from graphpress.models.demo import train

    train.main(tmp_path / "digits.onnx")
    assert top1(tmp_path / "digits.onnx") >= 0.98
    assert "held-out top-1" in capsys.readouterr().out
