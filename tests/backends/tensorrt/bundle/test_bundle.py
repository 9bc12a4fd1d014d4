"""The folder as a whole: what is in it, what it says of itself, the same bytes twice."""

import hashlib
import json
import os
import re
import shlex
from dataclasses import replace

import numpy as np
import onnx
import pytest

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.bundle.bundle import expected_precisions, write_models
from graphpress.backends.tensorrt.bundle.commands import Needs, ways_of
from graphpress.backends.tensorrt.bundle.expected import readme
from graphpress.backends.tensorrt.bundle.expected_precisions import is_sparse, types_of
from graphpress.backends.tensorrt.platform import platform_of
from graphpress.errors import DataError
from graphpress.ir import clone
from graphpress.ir.encoding import set_float_type
from graphpress.ir.sparsity import Sparsity, set_sparsity
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.runtime import Session
from graphpress.targets import load_target

COMMON = {"build.sh", "build_engine.py", "run_engine.py", "verify.py", "engine.py", "README.md", "expected.json"}
SAMPLES = {f"golden/sample-{index}.npz" for index in range(4)}


def names(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("target", "models"),
    [
        ("jetson{jetpack=5.1}", {"model.onnx"}),
        ("jetson{jetpack=6.2}", {"model.onnx", "model-weak.onnx"}),
        ("jetson{jetpack=7.2}", {"model.onnx"}),
        ("jetson{dla=on}", {"model.onnx", "model-float.onnx", "calibration.cache"}),
        ("rtx", {"model.onnx"}),
    ],
)
def test_each_platform_gets_the_forms_it_can_use(written, target, models):
    folder = written(target)
    assert names(folder) == models | COMMON | SAMPLES
    for model in folder.glob("*.onnx"):
        onnx.checker.check_model(str(model), full_check=True)


def test_the_files_are_returned_with_the_model_first(bundles, tmp_path, write_bundle):
    files = write_bundle(tmp_path, bundles("jetson"))
    assert files[0] == tmp_path / "model.onnx"
    assert sorted(files) == sorted(file for file in tmp_path.rglob("*") if file.is_file())
    assert os.access(tmp_path / "build.sh", os.X_OK)


@pytest.mark.parametrize("target", ["jetson", "jetson{dla=on}"])
def test_the_same_bundle_gives_the_same_bytes(bundles, tmp_path, target, write_bundle):
    contents = []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        files = write_bundle(tmp_path / place, bundles(target))
        contents.append({file.name: file.read_bytes() for file in files})
    assert contents[0] == contents[1]


def test_the_manifest_says_what_is_expected(bundles, written):
    folder, bundle = written("jetson"), bundles("jetson")
    table = json.loads((folder / "expected.json").read_text())
    assert table["bundle_version"] == 1
    assert (table["target"], table["tensorrt"], table["options"]["jetpack"]) == ("jetson-orin", "10.3", "6.2")
    assert list(table["ways"]) == ["strong", "weak"]
    assert table["profile"] == {"input": {"min": [1, 3, 16, 16], "opt": [1, 3, 16, 16], "max": [16, 3, 16, 16]}}
    assert [layer["name"] for layer in table["layers"]] == [expected.name for expected in bundle.layers]
    assert {layer["asked"] for layer in table["layers"]} == {"int8"}
    assert {layer["proxy"] for layer in table["layers"]} == {None}
    for name, digest in table["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert set(table["files"]) == names(folder) - {"expected.json"}


def test_the_golden_samples_are_of_the_optimum_batch_and_of_both_models(bundles, written):
    folder, bundle = written("jetson"), bundles("jetson")
    with np.load(folder / "golden" / "sample-2.npz") as sample:
        feed = {"input": sample["input.0"]}
        np.testing.assert_array_equal(feed["input"], bundle.samples[0]["input"][2:3])
        np.testing.assert_array_equal(sample["delivered.0"], Session(bundle.simulated).run(feed)["logits"])
        np.testing.assert_array_equal(sample["original.0"], Session(bundle.annotated).run(feed)["logits"])


def test_the_bound_is_twice_what_compression_moved(written):
    output = json.loads((written("jetson") / "expected.json").read_text())["outputs"][0]
    assert output["name"] == "logits"
    assert output["classes"]
    assert output["bound"] == pytest.approx(max(2 * output["moved"], 0.01))


def test_without_samples_nothing_is_said_of_outputs(bundles, tmp_path, write_bundle):
    write_bundle(tmp_path, replace(bundles("jetson"), samples=()))
    table = json.loads((tmp_path / "expected.json").read_text())
    assert table["outputs"] == table["golden"] == []
    assert not (tmp_path / "golden").exists()


def test_a_sample_that_does_not_fit_is_an_error_of_the_data(bundles, tmp_path, write_bundle):
    with pytest.raises(DataError, match="cannot run on this input"):
        write_bundle(tmp_path, replace(bundles("jetson"), samples=[{"input": np.zeros((1, 1, 1, 1), np.float32)}]))


def test_the_page_has_the_four_commands(written):
    page = (written("jetson") / "README.md").read_text()
    assert [line[0] for line in page.splitlines() if line[:2] in {"1.", "2.", "3.", "4."}] == list("1234")
    for command in (
        "scp -r",
        "bash build.sh",
        "python3 verify.py",
        "trtexec --loadEngine=model.plan --shapes=input:1x3",
    ):
        assert command in page
    assert "trtexec --onnx=model.onnx --stronglyTyped" in page
    assert "| `model-weak.onnx` |" in page


def test_sparse_weights_switch_sparse_kernels_on(bundles, tmp_path, write_bundle):
    bundle = bundles("jetson")
    annotated = clone(bundle.annotated)
    weight = next(value for value in annotated.graph.initializers.values() if len(value.shape) == 4)
    set_sparsity(weight, Sparsity("2:4", 1, 0.5))
    assert is_sparse(annotated)
    write_bundle(tmp_path, replace(bundle, annotated=annotated))
    assert "give optional --sparsity=enable" in (tmp_path / "build.sh").read_text()
    assert json.loads((tmp_path / "expected.json").read_text())["sparse"]


def test_expected_precisions_are_of_what_was_asked(bundles):
    annotated = clone(bundles("jetson").annotated)
    relu = next(node for node in annotated.graph if node.op_type == "Relu")
    set_float_type(relu, "float16")
    conv = next(node for node in annotated.graph if node.op_type == "Conv")
    found = {one.name: one for one in expected_precisions(annotated, {conv.name: "int8"})}
    assert (found[relu.name].asked, found[relu.name].proxy) == ("float16", None)
    assert (found[conv.name].asked, found[conv.name].proxy, found[conv.name].op) == ("int8", "int8", "Conv")
    assert types_of(annotated) == ["float16", "int8"]


def test_weights_alone_name_the_type_they_are_stored_in():
    """A weakly typed network must be allowed it."""
    network = build("bert")
    prepare(network, {})
    target = load_target("jetson")
    QuantizeWeights(dtype="int4", block_size=32).run(network, Context(target=target, original=network))
    assert "int4" in types_of(network)
    weak = ways_of(platform_of(target), Needs(types_of(network)))[1]
    assert "--int4" in [flag.text for flag in weak.flags]


def test_the_page_can_be_pasted_into_a_shell(bundles):
    """Whatever an input is called."""
    shapes = ShapeRange((1, 3), (2, 3), (4, 3))
    page = readme(replace(bundles("jetson"), profile={"a b": shapes, "$(x):0": shapes}), ["model.onnx"])
    (command,) = re.findall(r"`(trtexec --loadEngine.*)`", page)
    assert shlex.split(command)[-1] == "--shapes=a b:2x3,'$(x):0':2x3"


def test_engines_that_lie_ready_are_what_the_page_speaks_of(bundles):
    page = readme(bundles("rtx"), ["model.onnx", "data/weights.bin", "model-sm86.plan", "golden/sample-0.npz"])
    assert "python3 verify.py --engine model-sm86.plan" in page
    assert "tensorrt_rtx --loadEngine=model-sm86.plan" in page
    assert "| `model-sm86.plan` | an engine, built ahead of time for GPUs of SM86 |" in page
    assert "| `data/weights.bin` | weights of the model |" in page
    assert "on the device that runs it" not in page


def test_the_files_are_told_by_form(bundles, tmp_path):
    files = write_models(tmp_path, bundles("jetson{dla=on}"))
    assert {form: [file.name for file in group] for form, group in files.items()} == {
        "weak": ["model.onnx"],
        "float": ["model-float.onnx", "calibration.cache"],
    }
