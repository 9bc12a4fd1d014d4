"""What a delivered file tells viewers: none of the exporter's words, but shapes if the input had them."""

import onnx
import pytest

import graphpress

SECRET = "/home/somebody/model.py"


@pytest.fixture
def optimize(images, tmp_path):

    def run(model, **options):
        options = {"data": images, "max_drop": None, "force": True, "threads": 1, **options}
        result = graphpress.optimize(model, output=tmp_path / "out", **options)
        return result, onnx.load(tmp_path / "out" / "model.onnx")

    return run


@pytest.fixture
def documented(network_file):
    """The small network with shapes of all values and the exporter's words on every node."""
    model = onnx.shape_inference.infer_shapes(onnx.load(network_file))
    for node in model.graph.node:
        node.doc_string = SECRET
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=SECRET)
    return model


@pytest.mark.parametrize("options", [{"recipe": "cleanup"}, {"allow_worse": True}, {"target": "jetson"}])
def test_docs_go_and_shapes_stay(optimize, documented, options):
    result, model = optimize(documented, **options)
    for file in result.output.glob("*.onnx"):
        assert SECRET.encode() not in file.read_bytes()
    values = {name for node in model.graph.node for name in node.output} - {value.name for value in model.graph.output}
    declared = {info.name for info in model.graph.value_info if info.type.tensor_type.HasField("shape")}
    assert values <= declared
    assert any("--keep-docs" in note for note in result.report.notes)
    assert result.status == "delivered"  # also where nothing else was to be done


def test_docs_are_kept_on_request(optimize, documented):
    result, model = optimize(documented, recipe="cleanup", keep_docs=True)
    assert all(node.doc_string == SECRET for node in model.graph.node)
    assert all(node.metadata_props[0].value == SECRET for node in model.graph.node)
    assert not any("--keep-docs" in note for note in result.report.notes)
    assert result.status == "kept_original"


def test_a_file_without_inner_shapes_is_not_burdened_with_them(optimize, network_file):
    bare = onnx.load(network_file)
    bare.graph.ClearField("value_info")
    result, model = optimize(bare, allow_worse=True)
    assert not model.graph.value_info
    assert not any("--keep-docs" in note for note in result.report.notes)
