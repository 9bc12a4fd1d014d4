"""The user's own functions on graphs of onnx-graphsurgeon, as passes of a pipeline."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

import graphpress
from graphpress.errors import BackendError, DataError, UsageError
from graphpress.ir import Model, from_proto, load, save, serialize
from graphpress.ir.encoding import AffineEncoding, encoding_of, set_encoding
from graphpress.manager.contract import Context
from graphpress.manager.recipe import from_text
from graphpress.passes.surgery.surgery import Surgery
from graphpress.runtime import Session
from graphpress.targets import load_target

pytest.importorskip("onnx_graphsurgeon")

FUNCTIONS = '''
import numpy as np
import onnx_graphsurgeon as gs


def nothing(graph):
    print("nothing to do")


def double(graph):
    """Twice the weight, half the input: the same outputs."""
    x, weight = graph.nodes[0].inputs
    half = gs.Variable("half", np.float32, x.shape)
    graph.nodes[0].inputs[0] = half
    graph.nodes.insert(0, gs.Node("Mul", inputs=[x, gs.Constant("factor", np.array(0.5, np.float32))], outputs=[half]))
    weight.values *= np.float32(2)


def another(graph):
    """Give back a copy without the last node."""
    graph = graph.copy()
    graph.outputs = [graph.nodes[-1].inputs[0]]
    return graph.cleanup()


def triple(graph):
    graph.tensors()["w"].values *= np.float32(3)


def plugin(graph):
    """What TensorRT users do: an operator without a domain."""
    outputs = [gs.Variable("found", np.int32, ["N", 1]), gs.Variable("boxes", np.float32, ["N", 5, 4])]
    graph.layer(op="EfficientNMS_TRT", name="nms", inputs=graph.outputs, outputs=outputs, attrs={"max_output_boxes": 5})
    graph.outputs = outputs


def pairs(graph):
    """Quantize the input by hand."""
    x = graph.nodes[0].inputs[0]
    grid = [gs.Constant("scale", np.array(0.1, np.float32)), gs.Constant("zero", np.array(0, np.int8))]
    q, d = gs.Variable("x_q", np.int8, x.shape), gs.Variable("x_d", np.float32, x.shape)
    graph.nodes[0].inputs[0] = d
    graph.nodes += [gs.Node("QuantizeLinear", inputs=[x, *grid], outputs=[q]),
                    gs.Node("DequantizeLinear", inputs=[q, *grid], outputs=[d])]


def fails(graph):
    raise RuntimeError("no such layer")


def returns_text(graph):
    return "done"


def renames_input(graph):
    graph.inputs[0].name = "image"


def leaves_a_hole(graph):
    graph.nodes[1].inputs[0] = gs.Variable("nowhere")


def wrong_attribute(graph):
    graph.nodes[1].attrs["axis"] = 1
'''
MODULES = itertools.count()
TEXT = '<ir_version: 10, opset_import: ["": 17]> g (float[N,4] x) => (float[N,2] y) { h = MatMul (x, w) y = Relu (h) }'


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module of surgeries in the working directory; its name."""
    name = f"surgeries_{next(MODULES)}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def model() -> Model:
    proto = onnx.parser.parse_model(TEXT)
    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}"
    weight = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return from_proto(proto)


def context(model: Model, calibration=None) -> Context:
    return Context(target=load_target("cpu"), original=model, calibration=calibration)


def op_types(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]


def outputs(model: Model) -> dict:
    return Session(model).run({"x": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)})


# -- the pass alone -----------------------------------------------------------------------------------------


def test_it_operates_in_place_and_computes_the_same(functions, model):
    before = outputs(model)
    graph = model.graph
    outcome = Surgery(function=f"{functions}:double").run(model, context(model))
    assert outcome.changes == 1
    assert model.graph is not graph
    assert op_types(model) == ["Mul", "MatMul", "Relu"]
    assert all(node.name for node in model.graph), "reports need names"
    np.testing.assert_allclose(outputs(model)["y"], before["y"], rtol=1e-6)


def test_the_graph_that_is_returned_counts(functions, model):
    outcome = Surgery(function=f"{functions}:another").run(model, context(model))
    assert op_types(model) == ["MatMul"]
    assert outcome.notes == ["the outputs are now ['h'], no longer ['y']"]


def test_a_function_that_changes_nothing(functions, model, capsys):
    before = serialize(model)
    outcome = Surgery(function=f"{functions}:nothing").run(model, context(model))
    assert (outcome.changes, outcome.notes) == (0, [f"{functions}:nothing changed nothing"])
    assert serialize(model) == before
    assert capsys.readouterr() == ("", "nothing to do\n"), "the standard output belongs to --json"


def test_lost_annotations_are_said(functions, model):
    set_encoding(model.graph.initializers["w"], AffineEncoding("int8", (0.1,), (0,)))
    outcome = Surgery(function=f"{functions}:triple").run(model, context(model))
    assert encoding_of(model.graph.initializers["w"]) is None
    assert outcome.notes == ["annotations were lost with values that were removed, renamed or changed: w"]


def test_quantizers_become_encodings(functions, model):
    Surgery(function=f"{functions}:pairs").run(model, context(model))
    assert op_types(model) == ["MatMul", "Relu"]
    encoding = encoding_of(model.graph.inputs[0])
    assert encoding is not None
    assert (encoding.dtype, encoding.imported) == ("int8", True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", "raised RuntimeError: no such layer"),
        ("returns_text", "returned str"),
        ("renames_input", r"changed the inputs of the model from \['x'\] to \['image'\]"),
        ("leaves_a_hole", "n1 reads nowhere, which nothing before it computes"),
        ("wrong_attribute", "not valid ONNX: Unrecognized attribute: axis"),
    ],
)
def test_a_surgery_that_fails_names_the_function_and_changes_nothing(functions, model, function, message):
    before = serialize(model)
    with pytest.raises(DataError, match=message) as error:
        Surgery(function=f"{functions}:{function}").run(model, context(model))
    assert error.value.where == f"{functions}:{function}"
    assert serialize(model) == before


@pytest.mark.parametrize(
    ("function", "message"),
    [("double", "names no function"), ("nowhere_at_all:f", "cannot import module"), ("surgeries:tripel", "has no")],
)
def test_a_function_that_is_not_there_is_found_before_any_work(functions, model, function, message):
    with pytest.raises(UsageError, match=message):
        Surgery(function=function.replace("surgeries", functions)).check(context(model))


def test_without_graphsurgeon_the_remedy_is_named(functions, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(BackendError, match="onnx-graphsurgeon is not available") as error:
        Surgery(function=f"{functions}:double").check(context(model))
    assert error.value.fix == "pip install 'graphpress[graphsurgeon]'"


# -- plugins ------------------------------------------------------------------------------------------------


def test_a_plugin_is_inserted_where_nobody_asks_for_a_score(functions, model):
    outcome = Surgery(function=f"{functions}:plugin").run(model, context(model))
    assert op_types(model) == ["MatMul", "Relu", "EfficientNMS_TRT"]
    assert outcome.notes == [
        "the outputs are now ['found', 'boxes'], no longer ['y']",
        "EfficientNMS_TRT (nms) can only run on the device: the model was neither run nor scored with it",
    ]


def test_a_plugin_is_refused_where_there_is_data(functions, model):
    outcome = Surgery(function=f"{functions}:plugin").run(model, context(model, calibration=[outputs(model)]))
    assert (outcome.changes, op_types(model)) == (0, ["MatMul", "Relu"])
    assert [refusal.where for refusal in outcome.refusals] == ["nms"]
    assert "hold the model to its data" in outcome.refusals[0].why


DETECTOR = """<ir_version: 10, opset_import: ["": 17]> g (float[N,8,4] x, float[N,8,3] s) => (int64[M,3] kept) {
    boxes = Relu (x) scores = Sigmoid (s) columns = Transpose <perm = [0, 2, 1]> (scores)
    kept = NonMaxSuppression (boxes, columns)
}"""


def test_the_documented_example(tmp_path, monkeypatch):
    text = (Path(__file__).resolve().parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (tmp_path / "surgeries.py").write_text(text.split("```python\n# surgeries.py\n")[1].split("```")[0])
    monkeypatch.chdir(tmp_path)
    model = from_proto(onnx.parser.parse_model(DETECTOR))
    outcome = Surgery(function="surgeries:efficient_nms").run(model, context(model))
    assert op_types(model) == ["Relu", "Sigmoid", "EfficientNMS_TRT"]
    assert outcome.notes[-1].startswith("EfficientNMS_TRT (nms) can only run on the device")


# -- in a pipeline ------------------------------------------------------------------------------------------


@pytest.fixture
def optimize(model, tmp_path):
    save(model, tmp_path / "model.onnx")
    x = np.random.default_rng(2).normal(size=(64, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=outputs_of(model, x).argmax(1))

    def run(passes, **options):
        options = {"allow_worse": True, "threads": 1, "force": True, **options}
        return graphpress.optimize(tmp_path / "model.onnx", passes=passes, output=tmp_path / "out", **options)

    return run


def outputs_of(model: Model, x: np.ndarray) -> np.ndarray:
    return Session(model).run({"x": x})["y"]


def test_it_is_judged_on_the_metric(optimize, functions, tmp_path):
    result = optimize(f"surgery{{function='{functions}:double'}}", data=tmp_path / "data.npz")
    assert result.status == "delivered"
    assert op_types(load(tmp_path / "out" / "model.onnx")) == ["Mul", "MatMul", "Relu"]
    assert result.report.passes[0].metric == 1.0


def test_one_that_says_it_is_lossless_is_checked_and_runs_once(optimize, functions, tmp_path):
    result = optimize(f"surgery{{function='{functions}:double',lossless=true}},cse")
    assert result.status == "delivered"
    assert op_types(load(tmp_path / "out" / "model.onnx")) == ["Mul", "MatMul", "Relu"]
    result = optimize(f"surgery{{function='{functions}:triple',lossless=true}}")
    assert result.status == "kept_original"
    assert "differs by" in result.report.passes[0].notes[-1]


def test_a_replay_with_other_code_says_so(optimize, functions, tmp_path):
    optimize(f"surgery{{function='{functions}:double'}}")
    manifest = shutil.copy(tmp_path / "out" / "manifest.json", tmp_path / "manifest.json")
    with pytest.raises(UsageError, match=f"code that only the manifest names: {functions}:double"):
        optimize(None, recipe=str(manifest))
    result = optimize(None, recipe=str(manifest), allow_code=True)
    assert result.report.passes[0].notes == ()
    module = Path(f"{functions}.py")
    module.write_text(module.read_text() + "\n# another version\n")
    result = optimize(None, recipe=str(manifest), allow_code=True)
    assert result.report.passes[0].notes == (f"the code of {functions}:double is not that of the recorded run",)


def test_its_failure_ends_the_run_with_its_name(optimize, functions):
    with pytest.raises(DataError, match="raised RuntimeError: no such layer"):
        optimize(f"surgery{{function='{functions}:fails'}}")


def test_the_report_says_why_a_plugin_was_refused(optimize, functions, tmp_path):
    result = optimize(f"surgery{{function='{functions}:plugin'}}", data=tmp_path / "data.npz")
    assert result.status == "kept_original"
    table = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [refusal["where"] for refusal in table["refusals"]] == ["nms"]


def test_a_bundle_with_a_plugin_says_what_nobody_checked(optimize, functions, tmp_path):
    result = optimize(f"surgery{{function='{functions}:plugin'}}", target="jetson")
    assert result.status == "delivered"
    assert op_types(load(tmp_path / "out" / "model.onnx"))[-1] == "EfficientNMS_TRT"
    assert not (tmp_path / "out" / "golden").exists()
    assert "not built and not run here, because of plugins: EfficientNMS_TRT (nms)" in result.report.unverified


def test_its_text_is_canonical():
    text = 'surgery{lossless=true,function="ops:cut"}'
    assert from_text(text).passes == (Surgery(function="ops:cut", lossless=True),)
    assert from_text(text).text() == text


def test_without_a_function_it_is_a_usage_error(optimize):
    with pytest.raises(UsageError, match="function is missing"):
        optimize("surgery")
