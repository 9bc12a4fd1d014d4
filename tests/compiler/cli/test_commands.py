"""The commands beside the main one, on a real model and through the real runtime."""

import json
import os
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx.parser
import pytest

from graphpress.backend import Availability
from graphpress.cli.doctor import extra_states
from graphpress.cli.main import main
from graphpress.cli.passes import argument_docs, describe
from graphpress.errors import ModelError
from graphpress.ir import save
from graphpress.manager import registry
from graphpress.manager.contract import Pass
from graphpress.manager.recipe import from_text
from graphpress.report.sentences import plural
from graphpress.targets import target_names


def run(capsys, *words, code=0):
    assert main([str(word) for word in words]) == code
    return capsys.readouterr().out


def run_json(capsys, *words):
    return json.loads(run(capsys, *words, "--json"))


def test_inspect_prints_the_graph(capsys, model_file):
    text = run(capsys, "inspect", model_file)
    for words in ("Conv", "GlobalAveragePool", "Gemm"):
        assert words in text


def test_inspect_tells_what_layers_cost(capsys, model_file):
    text = run(capsys, "inspect", model_file, "--cost")
    conv = next(line for line in text.splitlines() if line.startswith("conv"))
    assert conv.split()[1:] == ["Conv", "55.30", "k", "216", "864", "B"]
    assert "peak activation memory: " in text


def test_inspect_tells_which_channels_go_together(capsys, model_file):
    text = run(capsys, "inspect", model_file, "--groups")
    assert "units" in text
    assert "the graph output" in text
    groups = run_json(capsys, "inspect", model_file, "--groups")
    assert {"groups", "pinned", "notes"} == groups.keys()
    assert all(group["units"] > 1 and group["constants"] for group in groups["groups"])


def test_inspect_counts_the_slices_of_a_group_and_not_whole_weights(capsys, build, tmp_path):
    joined = build("Concat", build.conv("x", 3, 4), build.conv("x", 3, 6), axis=1)
    save(build.model({"x": (2, 3, 6, 6)}, [build.conv(joined, 10, 5)]), tmp_path / "joined.onnx")
    groups = run_json(capsys, "inspect", tmp_path / "joined.onnx", "--groups")["groups"]
    assert [(group["units"], group["parameters"]) for group in groups] == [(4, 12 + 4 + 20), (6, 18 + 6 + 30)]


def test_inspect_tells_what_ranks_keep_and_save(capsys, model_file, tmp_path):
    text = run(capsys, "inspect", model_file, "--ranks")
    assert "energy of the weights" in text
    assert "99.9 %" in text
    survey = run_json(capsys, "inspect", model_file, "--ranks", "--target", "jetson")
    assert survey["norm"] == "weights"
    for layer in survey["layers"]:
        assert layer["seconds"] > 0
        assert len(layer["shares"]) == len(layer["energies"]) == 3


@pytest.mark.parametrize(
    ("words", "says"), [(["--data", "d.yaml"], "--data is for --ranks"), (["--ranks", "--cost"], "two questions")]
)
def test_inspect_takes_no_options_of_another_question(capsys, model_file, words, says):
    assert main(["inspect", str(model_file), *words]) == 2
    assert says in capsys.readouterr().err


def test_inspect_answers_one_question_at_a_time(capsys, model_file):
    assert main(["inspect", str(model_file), "--groups", "--cost"]) == 2
    assert "two questions" in capsys.readouterr().err


def test_inspect_json_is_the_cost(capsys, model_file):
    cost = run_json(capsys, "inspect", model_file)
    assert cost["nodes"] == 5
    assert cost["layers"][0] | {"name": "conv", "op": "Conv", "macs": 8 * 27 * 256} == cost["layers"][0]


def test_compare_a_model_with_itself(capsys, model_file):
    found = run_json(capsys, "compare", model_file, model_file, "--seconds", "0.1")
    assert found["a"] | {"latency_ms": None} == found["b"] | {"latency_ms": None}
    assert found["outputs"][0]["name"] == "y"
    assert found["outputs"][0]["max_abs"] == 0
    assert 0.3 < found["timing"]["ratio"] < 3
    assert found["a"]["bytes"] == model_file.stat().st_size


def test_compare_in_words(capsys, model_file):
    text = run(capsys, "compare", model_file, model_file, "--seconds", "0.1")
    for words in ("latency", "file size", "same", "time ratio", "SQNR", "cosine"):
        assert words in text
    assert f"batch 1, {words_of_threads()})" in text
    assert "same top-1 class: 100.00 % of the samples" in text


def words_of_threads():
    return plural(os.cpu_count() or 1, "thread")


@pytest.fixture
def regression_model(tmp_path):
    """Any batch, and an output that tells no classes."""
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu (x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "regression.onnx")
    return tmp_path / "regression.onnx"


def test_compare_times_one_sample_of_a_larger_batch(capsys, regression_model, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((5, 3, 4), np.float32))
    words = ["compare", regression_model, regression_model, "--data", tmp_path / "d.npz", "--seconds", "0.1"]
    found = run_json(capsys, *words, "--threads", "1")
    assert (found["batch"], found["threads"], found["agreement"]) == (1, 1, None)
    assert "top-1" not in run(capsys, *words)


def test_compare_on_data(capsys, model_file, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((5, 3, 16, 16), np.float32))
    found = run_json(capsys, "compare", model_file, model_file, "--data", tmp_path / "d.npz", "--seconds", "0.1")
    assert found["outputs"][0]["cosine"] == pytest.approx(1)


def test_compare_refuses_models_with_different_inputs(capsys, model_file, tmp_path):
    other = onnx.load(model_file)
    other.graph.input[0].name = other.graph.node[0].input[0] = "z"
    onnx.save(other, tmp_path / "other.onnx")
    assert main(["compare", str(model_file), str(tmp_path / "other.onnx")]) == 2
    assert "different inputs: x and z" in capsys.readouterr().err


def test_bench_measures_on_onnx_runtime(capsys, model_file):
    found = run_json(capsys, "bench", model_file, "--backend", "onnxruntime", "--seconds", "0.1")
    assert [one["backend"] for one in found] == ["onnxruntime"]
    assert found[0]["latency_ms"] > 0
    assert found[0]["low"] <= found[0]["ratio"] <= found[0]["high"]


def test_bench_for_another_device_says_where_it_measured(capsys, model_file):
    text = run(capsys, "bench", model_file, "--target", "raspberrypi4", "--seconds", "0.1")
    assert text.startswith("measured on this machine, not on raspberrypi4: ")
    assert "measured on" not in run(capsys, "bench", model_file, "--seconds", "0.1")


class Absent:
    def available(self):
        return Availability(False, "no device here", "pip install absent")


@pytest.fixture
def with_absent_backend(monkeypatch):
    real = registry.load_backend
    monkeypatch.setattr(registry, "backend_names", lambda: ["absent", "onnxruntime"])
    monkeypatch.setattr(registry, "load_backend", lambda name: Absent() if name == "absent" else real(name))


@pytest.mark.usefixtures("with_absent_backend")
def test_bench_names_backends_that_are_not_here(capsys, model_file):
    text = run(capsys, "bench", model_file, "--seconds", "0.1")
    assert "no device here" in text
    assert "ms" in text


def test_bench_goes_on_where_one_backend_refuses_the_model(capsys, model_file, monkeypatch):
    class Refusing:
        def available(self):
            return Availability(True, "picky 1.0")

        def prepare(self, annotated, target):
            raise ModelError("no kernel for it", where="conv")

    real = registry.load_backend
    monkeypatch.setattr(registry, "backend_names", lambda: ["onnxruntime", "picky"])
    monkeypatch.setattr(registry, "load_backend", lambda name: Refusing() if name == "picky" else real(name))
    measured, refused = run_json(capsys, "bench", model_file, "--seconds", "0.1")
    assert measured["latency_ms"] > 0
    assert (refused["detail"], refused["latency_ms"]) == ("picky 1.0; no kernel for it", None)
    assert main(["bench", str(model_file), "--backend", "picky"]) == 3


@pytest.mark.usefixtures("with_absent_backend")
def test_bench_on_a_backend_that_is_not_here_exits_5(capsys, model_file):
    assert main(["bench", str(model_file), "--backend", "absent"]) == 5
    assert capsys.readouterr().err == (
        "error: backend 'absent' does not work here: no device here\nfix: pip install absent\n"
    )


@pytest.mark.parametrize("command", [["inspect"], ["compare"], ["bench"]])
def test_a_missing_model_exits_3(capsys, tmp_path, command):
    paths = [str(tmp_path / "nowhere.onnx")] * (2 if command == ["compare"] else 1)
    assert main([*command, *paths]) == 3
    assert "nowhere.onnx" in capsys.readouterr().err


def test_targets_lists_them_all(capsys):
    text = run(capsys, "targets")
    assert [name for name in target_names() if name not in text] == []
    targets = {target["name"]: target for target in run_json(capsys, "targets")}
    assert set(targets) <= set(target_names())
    assert targets["cpu"]["options"] == {}
    assert {target["origin"] for target in targets.values()} == {"graphpress"}
    assert targets["jetson-orin"]["options"]["dla"] == {"default": "off", "words": ["off", "on"]}
    assert "jetpack=6.2|5.1|6.0|6.1|7.2, dla=off|on" in text


def test_one_target_in_full(capsys):
    text = run(capsys, "targets", "cpu")
    for words in ("onnxruntime", "opset_max", "quantization.weights", "per_channel", "sparsity.patterns"):
        assert words in text
    assert run_json(capsys, "targets", "cpu")["quantization"]["weights"] == "int8"


def test_one_target_with_a_choice(capsys):
    text = run(capsys, "targets", "jetson{jetpack=5.1}")
    for words in ("jetpack 5.1", "dla off", "settings.tensorrt", "8.5", "jetpack=6.2|5.1|6.0|6.1|7.2", "dla=off|on"):
        assert words in text
    fields = run_json(capsys, "targets", "jetson{jetpack=5.1}")
    assert fields["chosen"] == {"jetpack": "5.1", "dla": "off", "route": "parser"}
    assert fields["options"]["jetpack"]["default"] == "6.2"
    assert main(["targets", "jetson{jetpack=9}"]) == 2
    assert "choose one of: 5.1, 6.0, 6.1, 6.2, 7.2" in capsys.readouterr().err


def test_a_recipe_is_shown_as_its_passes(capsys):
    assert "- reduce_precision" in run(capsys, "passes", "int8-float16")
    assert "cleanup" in run_json(capsys, "passes", "int8-float16")["passes"]


def test_passes_lists_them_all_with_what_they_do(capsys):
    text = run(capsys, "passes")
    listed = {doc["name"]: doc for doc in run_json(capsys, "passes")}
    assert sorted(listed) == registry.pass_names()
    for name, doc in listed.items():
        assert name in text
        assert doc["summary"], f"{name} has no docstring"
        undocumented = [field["name"] for field in doc["fields"] if not field["help"]]
        assert undocumented == [], f"{name}: fields without a word in Args"


@dataclass(frozen=True)
class Trim(Pass):
    """Trims things.

    It goes on and on.

    Args:
        ratio: how much of it,
            a fraction.
        low, high: the two ends.
    """

    name: ClassVar[str] = "trim"
    lossless: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    ratio: float = 0.5
    low: int = 0
    high: int | None = None


@pytest.fixture
def with_trim(monkeypatch):
    monkeypatch.setattr(registry, "load_pass", lambda name: Trim)


@pytest.mark.usefixtures("with_trim")
def test_one_pass_in_full(capsys):
    text = run(capsys, "passes", "trim")
    for words in ("trim (lossy, needs data)", "Trims things.", "how much of it, a fraction.", "int | None"):
        assert words in text
    assert "--passes 'trim{ratio=0.5}'" in text


def test_a_pass_is_described_by_its_dataclass():
    doc = describe("trim", Trim)
    assert [(one.name, one.default, one.help) for one in doc.fields] == [
        ("ratio", "0.5", "how much of it, a fraction."),
        ("low", "0", "the two ends."),
        ("high", "None", "the two ends."),
    ]
    assert (doc.summary, doc.lossless, doc.needs_data) == ("Trims things.", False, True)


def test_choices_are_written_out(capsys):
    types = {name: {field["name"]: field["type"] for field in run_json(capsys, "passes", name)["fields"]}
             for name in ("quantize", "prune")}  # fmt: skip
    assert types["quantize"]["calibration_method"] == "minmax | percentile | mse"
    assert types["prune"]["allocation"] == "auto | uniform | global | sensitivity | latency"
    assert types["prune"]["roles"] == "tuple[writes | reads | elementwise, ...] | None"
    assert types["prune"]["multiple"] == "int | None"


@pytest.mark.parametrize("name", registry.pass_names())
def test_the_example_of_a_pass_can_be_read(capsys, name):
    text = run(capsys, "passes", name)
    example = re.search("--passes '(.*)'", text)
    if example is None:
        assert "It has no options" in text
    else:
        assert "null" not in example[1]
        assert from_text(example[1]).explicit == {name}


def test_a_pass_with_a_file_of_its_own_is_described_by_the_file():
    doc = describe("fold_batch_norm", registry.load_pass("fold_batch_norm"))
    assert doc.summary.startswith("Fold a BatchNormalization into")


def test_a_docstring_without_arguments_has_no_help():
    assert argument_docs("Does it.\n\nRaises:\n    Error: oh.") == {}


def test_doctor_tells_versions_machine_backends_and_extras(capsys):
    text = run(capsys, "doctor")
    for words in ("Versions", "onnx-ir", "Machine", "features", "Backends", "onnxruntime", "Extras", "tensorrt"):
        assert words in text


def test_doctor_json(capsys):
    found = run_json(capsys, "doctor")
    states = {state["name"]: state for state in found["backends"]}
    assert states["onnxruntime"]["works"]
    for state in [*found["backends"], *found["extras"]]:
        assert state["works"] or state["fix"] or "not built yet" in state["detail"]


def test_doctor_tells_what_compilers_and_emulators_there_are(capsys):
    tools = run_json(capsys, "doctor")["tools"]["tvm"]
    assert {"C compiler", "C compiler for boards", "zig", "huge pages"} <= tools.keys()
    assert "Tools of the backend tvm" in run(capsys, "doctor")


@pytest.mark.usefixtures("with_absent_backend")
def test_doctor_says_how_to_get_what_is_missing(capsys):
    assert "no device here; get it with: pip install absent" in run(capsys, "doctor")


def test_extras_are_read_off_the_requirements():
    requirements = [
        "numpy>=1.26",
        'nonesuch>=2; extra == "torch"',
        'onnx>=1; extra == "demo"',
        'elsewhere>=1; platform_machine == "pdp11" and extra == "tvm"',
        'graphpress[demo]; extra == "test"',
    ]
    states = {state.name: state for state in extra_states(requirements)}
    assert set(states) == {"torch", "demo"}
    assert states["torch"].detail == "missing nonesuch"
    assert states["torch"].fix == 'pip install "graphpress[torch]"'
    assert states["demo"].works


def test_an_extra_for_a_backend_that_is_not_built_yet_is_not_advised(monkeypatch):
    monkeypatch.setattr("graphpress.cli.doctor.BACKEND_EXTRAS", ("future",))
    (state,) = extra_states(['nonesuch>=2; extra == "future"'])
    assert state.detail == "missing nonesuch (for a backend that is not built yet)"
    assert state.fix == ""


@pytest.mark.usefixtures("with_absent_backend")
def test_an_extra_for_a_backend_that_is_there_is_advised(monkeypatch):
    monkeypatch.setattr("graphpress.cli.doctor.BACKEND_EXTRAS", ("absent",))
    (state,) = extra_states(['nonesuch>=2; extra == "absent"'])
    assert state.fix == 'pip install "graphpress[absent]"'
