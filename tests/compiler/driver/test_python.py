"""The Python door: models in memory, typed keywords, errors as good as the command line's, results that show."""

import inspect
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphpress
from graphpress import ModelError, UsageError
from graphpress.driver.options import Options
from graphpress.errors import GraphpressError
from graphpress.ir import load, save, serialize
from graphpress.manager.recipe import from_passes
from graphpress.models import build
from graphpress.passes import DeadCodeElimination, Distill, Prune, Quantize, QuantizeWeights, ReducePrecision, Sparsify
from graphpress.report.html import render_html
from graphpress.targets import load_target
from graphpress.targets.load import target_text


@pytest.fixture
def file(tmp_path):
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def of_file(file):
    return file


def of_text(file):
    return str(file)


def of_proto(file):
    return onnx.load(file)


def of_ir(file):
    return load(file)


@pytest.mark.parametrize("form", [of_text, of_proto, of_ir])
def test_a_model_in_memory_gives_what_its_file_gives(file, tmp_path, form):
    model = form(file)
    before = model if form is of_text else serialize(model) if form is of_ir else model.SerializeToString()
    results = [
        graphpress.optimize(given, passes="cleanup,fuse", output=tmp_path / name, allow_worse=True)
        for name, given in (("a", file), ("b", model))
    ]
    assert results[0].status == results[1].status == "delivered"
    outputs = [(result.output / "model.onnx").read_bytes() for result in results]
    assert outputs[0] == outputs[1]
    assert before == (model if form is of_text else serialize(model) if form is of_ir else model.SerializeToString())
    name = "net.onnx" if form is of_text else "in memory"
    assert results[1].report.model == name
    manifest = json.loads((results[1].output / "manifest.json").read_text())
    assert manifest["inputs"][0]["name"] == name


def test_a_run_of_a_model_in_memory_is_replayed(file, tmp_path):
    proto = onnx.load(file)
    first = graphpress.optimize(proto, passes="cleanup,fuse", output=tmp_path / "a")
    again = graphpress.optimize(proto, recipe=first.output / "manifest.json", output=tmp_path / "b")
    assert (first.output / "model.onnx").read_bytes() == (again.output / "model.onnx").read_bytes()


def test_what_is_kept_of_a_model_in_memory_is_written(file, tmp_path):
    result = graphpress.optimize(onnx.load(file), passes="merge_clips", output=tmp_path / "a")
    assert result.status == "kept_original"
    assert (result.output / "model.onnx").is_file()


def test_a_message_that_does_not_hold_its_weights_is_refused(file, tmp_path):
    onnx.save(onnx.load(file), tmp_path / "big.onnx", save_as_external_data=True, size_threshold=0)
    proto = onnx.load(tmp_path / "big.onnx", load_external_data=False)
    with pytest.raises(ModelError, match="weights lie in files") as raised:
        graphpress.optimize(proto, passes="cleanup", output=tmp_path / "out")
    assert "onnx.load(path)" in raised.value.fix


def test_an_ir_model_whose_weights_lie_in_files_is_taken(file, tmp_path):
    onnx.save(onnx.load(file), tmp_path / "big.onnx", save_as_external_data=True, size_threshold=0)
    result = graphpress.optimize(load(tmp_path / "big.onnx"), passes="cleanup,fuse", output=tmp_path / "out")
    assert result.status == "delivered"


def test_the_default_folder_of_a_model_in_memory(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert graphpress.optimize(onnx.load(file), passes="cleanup").output == Path("model-cpu")


# -- keywords --------------------------------------------------------------------------------------------------


def test_the_keywords_are_the_options_with_their_types_defaults_and_words():
    parameters = dict(inspect.signature(graphpress.optimize).parameters)
    given = {name: parameters.pop(name) for name in ("model", "hooks", "progress")}
    assert given["model"].default is inspect.Parameter.empty
    assert [(name, one.annotation, one.default) for name, one in parameters.items()] == [
        (field.name, field.type, field.default) for field in fields(Options)
    ]
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in parameters.values())
    arguments = inspect.getdoc(Options).partition("Args:\n")[2].partition("\n\n")[0]
    assert arguments in inspect.getdoc(graphpress.optimize)


@pytest.mark.parametrize(
    ("options", "said", "fix"),
    [
        ({"threads": "two"}, "threads: cannot be 'two'", "give a whole number"),
        ({"max_drop": "1%"}, "max_drop: cannot be '1%'", "give a number"),
        ({"target": 3}, "target: cannot be 3", "give a text"),
        ({"data": 5}, "data: cannot be 5", "give a text or a path"),
        ({"verify": "eech"}, "verify: cannot be 'eech'", "did you mean 'each'?"),
        ({"passes": [3]}, "passes", "a list, each item a text or Pass"),
        ({"force": "no"}, "force: cannot be 'no'", "give true or false"),
        ({"outptu": "x"}, "unknown option 'outptu'", "did you mean 'output'?"),
        ({"recipe": "clean-up"}, "no recipe 'clean-up'", "did you mean 'cleanup'?"),
        ({"target": "./no.toml"}, "no such target file", "check the path"),
        ({"model": 3}, "cannot be int", "give the path"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(file, tmp_path, options, said, fix):
    with pytest.raises(UsageError) as raised:
        graphpress.optimize(**{"model": file, "output": tmp_path / "out", **options})
    assert said in str(raised.value)
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("make", "said", "fix"),
    [
        (lambda: Quantize(calibration_method="foo"), "calibration_method cannot be 'foo'", "minmax, mse, percentile"),
        (lambda: Quantize(calibration_method="percentil"), "calibration_method", "did you mean 'percentile'?"),
        (lambda: Quantize(percentile="99"), "percentile cannot be '99'", "give a number"),
        (lambda: Quantize(per_channel="yes"), "per_channel cannot be 'yes'", "true or false"),
        (lambda: Prune(ratio="half"), "ratio cannot be 'half'", "give a number"),
        (lambda: Prune(steps=1.5), "steps cannot be 1.5", "give a whole number"),
        (lambda: Prune(roles="writes"), "roles cannot be 'writes'", "give a list"),
        (lambda: Prune(roles=("writes", "red")), "roles[1] cannot be 'red'", "did you mean 'reads'?"),
        (lambda: Distill(teachers=[3]), "teachers[0] cannot be 3", "give a text"),
        (lambda: Sparsify(criterion="wandb"), "criterion cannot be 'wandb'", "did you mean 'wanda'?"),
        (lambda: ReducePrecision(to="fp16"), "to cannot be 'fp16'", "choose one of: bfloat16, float16"),
        (lambda: QuantizeWeights(block_size=None), "block_size cannot be None", "give a whole number"),
    ],
)
def test_a_pass_that_cannot_be_is_refused_when_it_is_made(make, said, fix):
    with pytest.raises(UsageError) as raised:
        make()
    assert said in raised.value.what
    assert fix in raised.value.fix
    assert "optimize passes " in raised.value.fix


def test_a_pass_converts_what_it_takes():
    assert Prune(ratio=np.float32(0.5), roles=["writes"]) == Prune(ratio=0.5, roles=("writes",))
    assert hash(Distill(teachers=["a.onnx"]))


@pytest.mark.parametrize("value", [5, object(), b"x", [], {}, (), "x", 0.5, None, True, print])
@pytest.mark.parametrize("field", [field.name for field in fields(Options)])
def test_whatever_is_given_is_taken_or_refused_as_usage(field, value):
    try:
        Options(**{field: value})
    except Exception as error:
        assert isinstance(error, UsageError)  # noqa: PT017


# -- results ---------------------------------------------------------------------------------------------------


def test_every_pass_that_ran_tells_how_large_it_left_the_model(file, tmp_path):
    result = graphpress.optimize(
        file, passes="cleanup,fuse,prune{ratio=0.5}", allow_worse=True, output=tmp_path / "out"
    )
    ran = [record for record in result.report.passes if record.status == "applied"]
    assert all(None not in (record.nodes, record.parameters, record.macs, record.bytes) for record in ran)
    assert (ran[0].macs, ran[-1].macs) == (result.report.baseline.macs, result.report.result.macs)
    assert ran[-1].macs < 0.6 * ran[0].macs
    assert ran[-1].parameters == result.report.result.parameters


def test_a_result_prints_in_a_few_lines(file, tmp_path):
    result = graphpress.optimize(file, passes="cleanup,fuse", output=tmp_path / "out")
    lines = str(result).splitlines()
    assert lines[0].startswith("Delivered: the optimized model")
    assert [line.split("  ")[1] for line in lines[1:-1]] == ["latency", "file size", "parameters", "MACs", "nodes"]
    assert lines[-1] == f"  in {result.output}"
    assert "\x1b" not in str(result)


def test_a_result_shows_as_a_table_whose_names_are_text(file, tmp_path):
    result = graphpress.optimize(file, passes="cleanup,fuse", output=tmp_path / "<b>")
    page = result._repr_html_()
    assert page.count("<tr>") == 6
    assert "&lt;b&gt;" in page
    assert "<b>/" not in page
    assert "report.html" in page
    assert render_html(result.report)


def test_errors_say_what_where_and_how_to_fix_it(file):
    with pytest.raises(GraphpressError) as raised:
        graphpress.optimize(file, threads=0)
    assert (raised.value.what, raised.value.where, raised.value.fix) == ("cannot be 0", "threads", "give 1 or more")


# -- targets and pipelines as Python objects ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        (["cse", DeadCodeElimination()], ["cse", "dce"]),
        ([DeadCodeElimination, "cse,fuse_gelu"], ["dce", "cse", "fuse_gelu"]),
        (DeadCodeElimination(), ["dce"]),
        (DeadCodeElimination, ["dce"]),
    ],
)
def test_a_pipeline_mixes_names_and_passes(given, passes):
    recipe = from_passes(Options(passes=given).passes)
    assert [pass_.name for pass_ in recipe.passes] == passes
    assert recipe.explicit == set(passes)


def test_a_required_pass_that_stands_in_another_item_is_not_repeated():
    mixed, text = from_passes(["cleanup", "quantize"]), from_passes("cleanup,quantize")
    assert mixed == text


@pytest.mark.parametrize(
    ("given", "says"), [(["gelu"], "it is called fuse_gelu now"), ([int], "int is no pass"), ([], "names no pass")]
)
def test_a_pipeline_of_something_else(given, says):
    with pytest.raises(UsageError) as raised:
        from_passes(given)
    assert says in str(raised.value)


def test_a_target_is_a_name_a_path_or_an_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("board.toml").write_text('like = "cpu"\n')
    assert target_text(load_target("jetson{jetpack=5.1}")) == "jetson-orin{jetpack=5.1}"
    assert load_target(Path("board.toml")) == load_target("board.toml")
    assert target_text(load_target("board.toml")) == "board.toml"
    with pytest.raises(UsageError, match="differs from what 'cpu' stands for"):
        target_text(replace(load_target("cpu"), opset_max=13))
    with pytest.raises(UsageError, match="cannot be 3"):
        load_target(3)


def test_an_error_about_a_model_in_memory_names_no_file():
    with pytest.raises(ModelError) as raised:
        graphpress.optimize(onnx.ModelProto())
    assert raised.value.where == "in memory"
    assert "graphpress-" not in str(raised.value)
