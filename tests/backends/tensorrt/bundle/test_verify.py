"""The verifier: alone on a device, with Python 3.8 and numpy; each verdict, and what it ends with."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphpress.backends.tensorrt.device import build_engine, engine, run_engine, verify

ALONE = (verify, run_engine, build_engine, engine)
TARGET = "jetson{jetpack=6.2}"
LAUNCHER = """
import runpy, sys
sys.modules["graphpress"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder: Path, *arguments: str, cwd: Path | None = None):
    """Run ``verify.py`` of a folder where graphpress cannot be imported."""
    command = [sys.executable, "-I", "-c", LAUNCHER, str(folder / "verify.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or folder.parent)


def verdicts(folder: Path, *arguments: str):
    """Exit status and, by kind and name, the items."""
    done = run(folder, "--json", *arguments)
    table = json.loads(done.stdout)
    return done.returncode, {(item["kind"], item["name"]): item for item in table["items"]}


def by_kind(items, kind: str) -> dict[str, str]:
    return {name: item["verdict"] for (of, name), item in items.items() if of == kind}


def layer(node: str, kind: str = "Int8", weights: str = "Int8", **more):
    """A convolution as ``trtexec --exportLayerInfo`` of TensorRT 8.6 and later writes it."""
    form = {"Int8": "Thirty-two wide channel vectorized row major Int8 format.", "FP16": "Row major linear FP16"}
    return {
        "Name": f"{node} + Relu_after",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "a", "Dimensions": [1, 8, 16, 16], "Format/Datatype": form.get(kind, kind)}],
        "Outputs": [{"Name": "b", "Dimensions": [1, 8, 16, 16], "Format/Datatype": form.get(kind, kind)}],
        "ParameterType": "Convolution",
        "Weights": {"Type": weights, "Count": 576},
        "TacticName": "sm80_xmma_fprop_implicit_gemm",
        "Metadata": f"[ONNX Layer: {node}]\u001e[ONNX Layer: Relu_after]",
        **more,
    }


@pytest.fixture
def folder(written):
    return written(TARGET)


@pytest.fixture
def nodes(bundles):
    return [expected.name for expected in bundles(TARGET).layers]


@pytest.fixture
def layers(tmp_path):
    def write(*items, name: str = "recorded.json"):
        file = tmp_path / name
        file.write_text(json.dumps({"Layers": list(items), "Bindings": ["input", "logits"]}))
        return ["--layers", str(file)]

    return write


@pytest.fixture
def outputs(folder, tmp_path):
    """Record outputs: the golden ones, changed."""

    def record(change=lambda array: array):
        arguments = []
        for index in range(4):
            with np.load(folder / "golden" / f"sample-{index}.npz") as golden:
                file = tmp_path / f"outputs-{index}.npz"
                np.savez(file, logits=change(golden["delivered.0"]))
            arguments += ["--outputs", str(file)]
        return arguments

    return record


def test_everything_right_passes(folder, nodes, layers, outputs):
    status, items = verdicts(folder, *layers(*map(layer, nodes)), *outputs())
    assert status == 0
    assert {item["verdict"] for item in items.values()} == {"pass"}
    assert set(by_kind(items, "layer")) == set(nodes)
    assert {"model.onnx", "model-weak.onnx", "build.sh", "README.md"} <= set(by_kind(items, "file"))


def test_what_needs_the_device_is_named_and_never_passes(folder, nodes):
    status, items = verdicts(folder)
    assert status == 2
    assert by_kind(items, "layer") == dict.fromkeys(nodes, "needs_device")
    assert by_kind(items, "output") == {"logits": "needs_device"}
    text = run(folder).stdout
    assert text.count("needs_device") >= len(nodes) + 1
    assert text.endswith("INCOMPLETE: something could not be checked here\n")


@pytest.mark.parametrize("change", [lambda text: text + b" ", None])
def test_a_file_that_changed_or_went_fails(folder, change):
    file = folder / "model.onnx"
    file.write_bytes(change(file.read_bytes())) if change else file.unlink()
    status, items = verdicts(folder)
    assert status == 1
    assert by_kind(items, "file")["model.onnx"] == "fail"


def test_a_layer_that_did_not_become_int8_fails(folder, nodes, layers, outputs):
    wrong = [layer(nodes[0], "FP16", "Half"), *map(layer, nodes[1:])]
    status, items = verdicts(folder, *layers(*wrong), *outputs())
    assert status == 1
    assert items["layer", nodes[0]]["detail"] == "asked int8, became float16"
    assert [name for name, verdict in by_kind(items, "layer").items() if verdict == "fail"] == [nodes[0]]


@pytest.mark.parametrize(
    ("item", "verdict"),
    [
        (lambda node: layer(node, "Int8", "Half"), "fail"),
        (lambda node: layer(node, "Int8"), "pass"),
        (lambda node: layer(node, "N/A due to dynamic shapes"), "pass"),
        (lambda node: layer(node, "N/A due to dynamic shapes", "Float"), "fail"),
        (lambda node: layer(node, LayerType="Reformat"), "unknown"),
        (lambda node: layer(node, Name="{ForeignNode[first...last]}", LayerType="Myelin"), "unknown"),
        (lambda node: {**layer(node, Name=f"{node} + PWN(PWN(act), mul)"), "Metadata": ""}, "pass"),
        (lambda node: {**layer(node, Name=f"fc.weight + QuantizeLinear_7 + {node}"), "Metadata": ""}, "pass"),
        (lambda node: {**layer(node, Name="something else"), "Metadata": ""}, "unknown"),
        (lambda node: layer(node, "Half", "Half", Inputs=[{"Datatype": "Int8"}], Weights={}), "pass"),
        (lambda node: f"{node} + Relu", "unknown"),
    ],
)
def test_what_a_layer_became(folder, nodes, layers, outputs, item, verdict):
    """As TensorRT lists it: types, formats, fused blocks, names alone."""
    _, items = verdicts(folder, *layers(item(nodes[0]), *map(layer, nodes[1:])), *outputs())
    assert by_kind(items, "layer")[nodes[0]] == verdict


@pytest.mark.parametrize(("way", "status"), [("strong", 2), ("dla", 0)])
def test_a_list_that_tells_nothing_proves_nothing(folder, outputs, way, status):
    """But for the accelerator, whose layers are one block in any list."""
    edit(folder, lambda table: table.update(ways={way: {"plan": "m.plan"}}))
    (folder / "built.json").write_text(json.dumps({"way": way, "plan": "m.plan", "layers": "layers.json"}))
    (folder / "layers.json").write_text(json.dumps({"Layers": ["conv1 + relu1", "conv2"], "Bindings": []}))
    assert verdicts(folder, *outputs())[0] == status


def test_a_reformat_beside_the_arithmetic_does_not_count(folder, nodes, layers, outputs):
    reformat = layer(nodes[0], "FP16", "Half", LayerType="Reformat")
    _, items = verdicts(folder, *layers(reformat, *map(layer, nodes)), *outputs())
    assert by_kind(items, "layer")[nodes[0]] == "pass"


def edit(folder: Path, change) -> None:
    table = json.loads((folder / "expected.json").read_text())
    change(table)
    (folder / "expected.json").write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("asked", "proxy", "became", "verdict"),
    [
        ("int8", "float16", "FP16", "known"),
        ("int8", "int8", "FP16", "fail"),
        ("float16", None, "Row major linear FP32", "differs"),
        ("float16", None, "Int8", "pass"),
        ("float8e4m3fn", None, "FP16", "fail"),
        ("float8e4m3fn", None, "Row major linear FP8", "pass"),
        ("weight-only", None, "FP16", "unknown"),
    ],
)
def test_expected_precisions_of_every_kind(folder, nodes, layers, asked, proxy, became, verdict):
    edit(folder, lambda table: table.update(layers=[{"name": "n", "op": "Conv", "asked": asked, "proxy": proxy}]))
    _, items = verdicts(folder, *layers(layer("n", became, Weights=None)))
    assert by_kind(items, "layer") == {"n": verdict}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda array: array, 0),
        (lambda array: array * np.float32(1.001), 0),
        (lambda array: array + np.float32(2), 1),
        (lambda array: array[:, ::-1], 1),
        (lambda array: array[:, :3], 1),
        (lambda array: np.full_like(array, np.nan), 1),
    ],
)
def test_outputs_pass_within_their_bound(folder, nodes, layers, outputs, change, status):
    found, items = verdicts(folder, *layers(*map(layer, nodes)), *outputs(change))
    assert found == status
    assert by_kind(items, "output") == {"logits": "pass" if status == 0 else "fail"}


def test_an_output_that_is_missing_fails(folder, nodes, layers, outputs, tmp_path):
    arguments = outputs()
    np.savez(tmp_path / "outputs-0.npz", other=np.zeros(3))
    status, items = verdicts(folder, *layers(*map(layer, nodes)), *arguments)
    assert status == 1
    assert items["output", "logits"]["detail"] == "the engine has no such output"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "expected.json").unlink(), "cannot be read"),
        (lambda folder: edit(folder, lambda table: table.update(bundle_version=9)), "is not of version 1"),
        (lambda folder: (folder / "golden" / "sample-0.npz").write_bytes(b"no archive"), "copy the folder again"),
        (lambda folder: (folder / "built.json").write_text("{"), "cannot be read"),
    ],
)
def test_a_folder_that_makes_no_sense_is_answered_in_a_sentence(folder, spoil, sentence):
    spoil(folder)
    done = run(folder)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_without_numpy_it_says_how_to_get_it(folder):
    done = subprocess.run([sys.executable, "-I", "-S", str(folder / "verify.py")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "verify.py: needs numpy: sudo apt install python3-numpy\n"


def test_a_list_of_layers_that_is_none_is_named(folder, tmp_path):
    (tmp_path / "layers.json").write_text("[]")
    done = run(folder, "--layers", str(tmp_path / "layers.json"))
    assert done.returncode == 2
    assert "no list of layers" in done.stderr


def test_too_few_outputs_are_refused(folder, outputs):
    done = run(folder, *outputs()[:2])
    assert done.returncode == 2
    assert "once for each of the 4 golden samples" in done.stderr


def test_after_a_build_the_tool_runs_the_engine(folder, tool, shell, tmp_path, monkeypatch):
    """``build.sh`` and ``verify.py`` together, with a fake that answers with what it is given."""
    trtexec = tool("10.3")
    assert shell(folder, trtexec=trtexec).returncode == 0
    with np.load(folder / "golden" / "sample-0.npz") as golden:
        answer, said = golden["delivered.0"], golden["input.0"]
    table = [{"name": "logits", "dimensions": "x".join(map(str, answer.shape)), "values": answer.ravel().tolist()}]
    (tmp_path / "answer.json").write_text(json.dumps(table, indent=1))
    monkeypatch.setenv("TRTEXEC_OUTPUT", str(tmp_path / "answer.json"))
    monkeypatch.setenv("TRTEXEC_LOG", str(tmp_path / "trtexec.log"))
    edit(folder, lambda table: table.update(golden=table["golden"][:1]))
    status, items = verdicts(folder)
    assert status == 2
    assert by_kind(items, "output") == {"logits": "pass"}
    assert set(by_kind(items, "layer").values()) == {"unknown", "incomplete"}
    asked = (tmp_path / "trtexec.log").read_text().splitlines()[-1]
    assert f"--loadEngine={folder / 'model.plan'}" in asked
    assert f"--shapes=input:{'x'.join(map(str, said.shape))}" in asked


def test_a_tool_that_cannot_run_the_engine_is_no_failure_of_the_engine(folder, tool, monkeypatch, tmp_path):
    (folder / "model.plan").write_text("engine")
    monkeypatch.setenv("TRTEXEC_FAILS", "yes")
    monkeypatch.setenv("TRTEXEC_OUTPUT", str(tmp_path / "nothing"))
    status, items = verdicts(folder, "--trtexec", str(tool("10.3")))
    assert status == 2
    assert "Engine could not be created" in items["output", "logits"]["detail"]


@pytest.mark.parametrize("module", ALONE)
def test_the_scripts_are_python_3_8(module):
    """The syntax, and names that came later."""
    text = Path(module.__file__).read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    assert not re.search(
        r"removeprefix|removesuffix|strict=|\bmatch \w+:|from typing import .*\b(Self|TypeAlias)\b", text
    )
    if "from __future__ import annotations" not in text:
        assert [ast.unparse(annotation) for annotation in annotations(tree) if is_later_than_3_8(annotation)] == []


def annotations(tree):
    for node in ast.walk(tree):
        yield from (getattr(node, name) for name in ("annotation", "returns") if getattr(node, name, None))


def is_later_than_3_8(annotation):
    """Whether it has a union with ``|`` or a built-in type with parameters."""
    builtin = {"dict", "frozenset", "list", "set", "tuple", "type"}
    return any(
        isinstance(node, ast.BinOp) or (isinstance(node, ast.Subscript) and ast.unparse(node.value) in builtin)
        for node in ast.walk(annotation)
    )


@pytest.mark.parametrize("module", ALONE)
def test_the_scripts_need_nothing_of_ours(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert outside <= {"numpy", "engine", "run_engine"}


# -- which engine it is ---------------------------------------------------------------------------------------

RUNNER = """
from typing import NamedTuple, Any

class CannotRunError(Exception):
    pass

class EngineFile(NamedTuple):
    file: Any
    open_inputs: Any
    version: str
    product: str

def layers(plan):
    if plan.file.name == "broken.plan":
        raise CannotRunError("no driver")
    print(plan.product, plan.file.name)
    return [{{"Name": name, "Inputs": [{{"Format/Datatype": "Row major Int8 format"}}]}} for name in {nodes}]

def run(*_):
    raise CannotRunError("not this time")
"""


@pytest.fixture
def asked(folder, nodes):
    """Verdicts of layers where engines can be asked for them; every one of these computes in int8."""
    (folder / "run_engine.py").write_text(RUNNER.format(nodes=nodes))
    recorded = [layer(node, "FP16", "Half") for node in nodes]
    (folder / "layers.json").write_text(json.dumps({"Layers": recorded, "Bindings": []}))

    def ask(*arguments: str) -> str:
        text = run(folder, *arguments).stdout
        return re.search(r"layers: \d+ (\w+)", text)[1]

    return ask


@pytest.mark.parametrize(
    ("plans", "built", "arguments", "verdict"),
    [
        (["model.plan"], "model.plan", [], "fail"),
        (["model.plan"], "", [], "pass"),
        (["model-weak.plan"], "", [], "pass"),
        (["model.plan", "other.plan"], "model.plan", ["--engine", "a folder/other.plan"], "pass"),
        (["model.plan"], "model.plan", ["--engine", "a folder/model.plan"], "fail"),
        (["broken.plan"], "", ["--engine", "a folder/broken.plan"], "needs_device"),
        ([], "", [], "needs_device"),
    ],
)
def test_layers_are_those_of_the_engine_that_is_checked(folder, asked, plans, built, arguments, verdict):
    """The recorded list is of the engine that was built last; any other is asked itself."""
    for name in plans:
        (folder / name).write_bytes(b"engine")
    if built:
        (folder / "built.json").write_text(json.dumps({"way": "strong", "plan": built, "layers": "layers.json"}))
    assert asked(*arguments) == verdict


def test_integers_of_which_there_are_none_agree():
    none = np.zeros((0, 4), np.int64)
    assert verify.share(none, none) == 0.0
    assert verify.share(np.arange(4), np.array([0, 1, 2, 9])) == 0.25
