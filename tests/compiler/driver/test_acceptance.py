"""Nothing is delivered that is not what it must be: checked on what was compiled, whatever came before it."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphpress
from graphpress import ir, plugins
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.driver.job import Job
from graphpress.errors import ModelError
from graphpress.evaluation import score_model
from graphpress.manager import registry
from graphpress.manager.contract import Outcome, Pass

FLOAT = TensorProto.FLOAT


def mlp(*extra_nodes, classes=10, output="y"):
    """A small classifier of rows of eight numbers with an Identity to clean up."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(8, 16)), "v": random.normal(size=(16, classes))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
            helper.make_node("Identity", ["h"], ["i"], "idle"),
            helper.make_node("Relu", ["i"], ["r"], "relu"),
            helper.make_node("MatMul", ["r", "v"], [output], "head"),
            *extra_nodes,
        ],
        "mlp",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 8])],
        [helper.make_tensor_value_info(output, FLOAT, ["n", classes])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def rows():
    return {"x": np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)}


@pytest.fixture
def optimize(tmp_path, rows):
    """Run on a model in memory."""

    def run(model, data=rows, **options):
        options = {"threads": 1, "allow_worse": True, **options}
        return graphpress.optimize(model, data=data, output=tmp_path / f"out{len(list(tmp_path.iterdir()))}", **options)

    return run


def first_line(result):
    return str(result).splitlines()[0]


# -- a backend that breaks what it is given --------------------------------------------------------------------


def negated(model):
    head = next(node for node in model.graph if node.op_type in ("MatMul", "Gemm"))
    ir.Editor(model).own_constant(head, 1, -ir.constant(head.inputs[1]))


def narrowed(model):
    head = list(model.graph)[-1]
    ir.Editor(model).own_constant(head, 1, ir.constant(head.inputs[1])[:, :5])
    model.graph.outputs[0].shape = None


def renamed(model):
    model.graph.outputs[0].name = "z"


def renamed_input(model):
    model.graph.inputs[0].name = "z"


def fixed(model):
    model.graph.inputs[0].shape = ir.Shape([4, 8])


def forgetful(model):
    model.graph.outputs[0].shape = None


def boastful(model):
    model.graph.outputs[0].shape = ir.Shape(["n", 10])
    model.graph.outputs[0].type = None


BREAKS = {"negated": negated, "narrowed": narrowed, "renamed": renamed, "renamed_input": renamed_input, "fixed": fixed,
          "forgetful": forgetful, "boastful": boastful}  # fmt: skip


class BreakingBackend(OnnxRuntimeBackend):
    """Changes what is delivered behind the back of every check of the graph, unless nothing was done to the model."""

    how: ClassVar[str] = "negated"

    def prepare(self, annotated, target):
        prepared = super().prepare(annotated, target)
        if not any(node.op_type == "Identity" for node in annotated.graph):
            BREAKS[self.how](prepared.delivered)
        return prepared


@pytest.fixture
def breaking(monkeypatch):
    """A backend called ``breaking``; returns how to choose what it breaks."""
    reference = f"{BreakingBackend.__module__}:{BreakingBackend.__name__}"
    monkeypatch.setitem(registry.OWN_BACKENDS, "breaking", reference)
    plugins._entries.cache_clear()
    yield lambda how: monkeypatch.setattr(BreakingBackend, "how", how)
    plugins._entries.cache_clear()


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("negated", "output 'y' differs by"),
        ("narrowed", "output 'y' is declared float, not float[n, 10]"),
        ("renamed", "outputs are ['z'], not ['y']"),
        ("renamed_input", "inputs are ['z'], not ['x']"),
        ("fixed", "input 'x' is declared float[4, 8], not float[n, 8]"),
        ("forgetful", "output 'y' is declared float, not float[n, 10]"),
    ],
)
def test_a_lossless_result_that_is_no_more_what_it_was_once_lowered_is_not_delivered(
    optimize, breaking, rows, how, said, data
):
    breaking(how)
    result = optimize(mlp(), rows if data else None, recipe="cleanup", backend="breaking", max_drop=None)
    assert result.status == "kept_original"
    assert said in first_line(result)
    assert result.report.dropped_for_worse == ()
    (dropped,) = result.report.dropped_for_fault
    assert dropped.startswith("clean-up: not what the input model computes")
    assert onnx.load(result.output / "model.onnx") == mlp()
    assert {one.status for one in result.report.passes if one.changes} <= {"rolled_back"}


@pytest.mark.parametrize(
    ("how", "data"),
    [("narrowed", False), ("renamed", False), ("fixed", False), ("narrowed", True), ("forgetful", True)],
)
def test_a_lossy_result_has_the_face_of_the_input_model(optimize, breaking, rows, how, data):
    breaking(how)
    result = optimize(
        mlp(), rows if data else None, passes="cleanup,prune{recover=false}", backend="breaking", max_drop=None
    )
    assert result.status == "kept_original"
    assert any(text.startswith("prune: not what") for text in result.report.dropped_for_fault)


def test_verification_may_be_waived_but_not_the_face(optimize, breaking):
    breaking("negated")
    result = optimize(mlp(), recipe="cleanup", backend="breaking", max_drop=None, verify="none")
    assert result.status == "delivered"
    breaking("narrowed")
    result = optimize(mlp(), recipe="cleanup", backend="breaking", max_drop=None, verify="none")
    assert result.status == "kept_original"


def test_a_replay_is_held_to_the_same(optimize, breaking):
    breaking("none")
    BREAKS["none"] = lambda model: None
    first = optimize(mlp(), recipe="cleanup", backend="breaking")
    assert first.status == "delivered"
    breaking("negated")
    again = optimize(mlp(), recipe=str(first.output / "manifest.json"), backend="breaking")
    assert again.status == "kept_original"
    assert "output 'y' differs by" in first_line(again)


def test_an_input_model_that_the_backend_cannot_leave_as_it_is_is_an_error(optimize, monkeypatch, breaking):
    monkeypatch.setattr(BreakingBackend, "prepare", _always_narrowed)
    with pytest.raises(
        ModelError, match=r"compiled as it is, it is not what it was: output 'y' is declared float, not"
    ):
        optimize(mlp(), recipe="cleanup", backend="breaking")


def _always_narrowed(self, annotated, target):
    prepared = OnnxRuntimeBackend.prepare(self, annotated, target)
    narrowed(prepared.delivered)
    return prepared


# -- the budget ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shift(Pass):
    """Lossy: shuffles the classes, which rows of zeros do not show."""

    name: ClassVar[str] = "shift"
    lossless: ClassVar[bool] = False

    def run(self, model, context):
        head = next(node for node in model.graph if node.name == "head")
        ir.Editor(model).own_constant(head, 1, np.roll(ir.constant(head.inputs[1]), 1, axis=1))
        return Outcome(1)


@pytest.fixture
def blind(rows):
    """Data on whose part for choosing nothing is ever lost."""
    return {"selection": {"x": np.zeros((32, 8), np.float32)}, "evaluation": rows}


@pytest.mark.parametrize("passes", [[Shift()], ["cleanup", Shift()], ["cleanup", Shift(), "cleanup"]])
def test_a_miss_on_the_data_of_the_final_figure_is_not_delivered(optimize, blind, passes):
    result = optimize(mlp(), blind, passes=passes, max_drop=0.01)
    assert result.status == "budget_not_met"
    assert "shift: beyond the budget (the metric fell by" in first_line(result)
    assert "more than the 1.00 points allowed" in first_line(result)
    assert next(one for one in result.report.passes if one.name == "shift").status == "rolled_back"
    assert result.report.verdict.drop == 0
    assert result.report.result.metric == 1
    nodes = [node.op_type for node in onnx.load(result.output / "model.onnx").graph.node]
    assert ("Identity" in nodes) == (len(passes) == 1)  # the next state down is delivered, which is the clean-up


def test_a_recorded_choice_that_misses_the_budget_is_not_delivered(optimize, blind):
    first = optimize(mlp(), blind, passes=["cleanup", Shift()], max_drop=None)
    assert first.status == "delivered"
    assert (
        optimize(mlp(), blind, recipe=first.output / "manifest.json", max_drop=0.02, allow_code=True).status
        == "budget_not_met"
    )


def test_a_clean_up_that_costs_more_than_the_budget_is_not_delivered_either(optimize, monkeypatch):
    """Whatever came before: the figure of the report decides."""
    real = Job.score

    def halved(self, prepared, gated=None):
        score = real(self, prepared, gated)
        return replace(score, value=score.value / 2, per_sample=score.per_sample / 2)

    monkeypatch.setattr(Job, "score", halved)
    result = optimize(mlp(), recipe="cleanup", max_drop=0.01)
    assert result.status == "budget_not_met"
    assert "clean-up: beyond the budget (the metric fell by 50.00 points, more than the 1.00" in first_line(result)
    assert onnx.load(result.output / "model.onnx") == mlp()
    assert optimize(mlp(), recipe="cleanup", max_drop=None).status == "delivered"


def test_no_sample_is_scored_twice(optimize, monkeypatch, rows):
    scored = []
    monkeypatch.setattr("graphpress.driver.job.score_model", _counting(score_model, scored))
    optimize(mlp(), rows, recipe="cleanup")
    assert len(scored) == 1
    optimize(mlp(), rows, passes=[Shift()], max_drop=None)
    assert len(scored) == 1  # the gate's own figure, of the same samples, stands


def _counting(call, calls):
    def counted(*arguments):
        calls.append(arguments)
        return call(*arguments)

    return counted
