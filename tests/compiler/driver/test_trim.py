"""Of lossless passes those that make the result worse are left out, and only those."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphpress
from graphpress.driver.trim import MOST_CULPRITS, culprits
from graphpress.ir import Editor
from graphpress.manager.contract import Outcome, Pass
from graphpress.runtime.pairs import LEAST_LARGE

WIDTH = 192


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_is_not_worse_and_what_is_left_out_makes_it_worse(seed):
    random = np.random.default_rng(seed)
    guilty = set(random.choice(12, random.integers(1, MOST_CULPRITS + 1), replace=False).tolist())
    asked = []

    def is_worse(kept):
        asked.append(kept)
        return bool(guilty & set(kept))

    assert set(culprits(range(12), is_worse)) == guilty
    assert len(asked) <= 5 * len(guilty)


def test_two_that_are_worse_only_together_lose_one():
    assert culprits("abcd", lambda kept: {"b", "d"} <= set(kept)) == ["d"]


def test_what_was_not_cleared_within_the_bounds_is_left_out_too():
    assert culprits(range(8), lambda kept: bool(kept)) == [*range(MOST_CULPRITS), *range(MOST_CULPRITS, 8)]
    assert culprits("abcd", lambda kept: "b" in kept, end=0.0) == list("abcd")


@dataclass(frozen=True)
class Detour(Pass):
    """Products with the identity behind the first product: the same numbers, later."""

    name: ClassVar[str] = "detour"

    def run(self, model, context):
        edit = Editor(model)
        first = next(node for node in model.graph if node.op_type == "MatMul")
        if any(name.startswith("eye") for name in model.graph.initializers):
            return Outcome()
        value = first.outputs[0]
        for _ in range(12):
            eye = edit.add_constant(np.eye(WIDTH, dtype=np.float32), "eye")
            value = edit.put_behind(value, "MatMul", [eye], after=value.producer(), name="detour")
        return Outcome(1)


@pytest.fixture
def model():
    """A product with an Identity and a dead branch to clean up."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32) / 14, "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Identity", ["h"], ["i"], "idle"),
        helper.make_node("Exp", ["h"], ["dead"], "dead"),
        helper.make_node("Relu", ["i"], ["y"], "relu"),
    ]
    graph = helper.make_graph(
        nodes, "g", *([helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, WIDTH])] for name in "xy"), [weight]
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def optimize(model, tmp_path, monkeypatch):
    for name in ("LEAST_PAIRS", "MOST_PAIRS"):
        monkeypatch.setattr(f"graphpress.runtime.pairs.{name}", LEAST_LARGE)

    def run(passes=None, **options):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        return graphpress.optimize(model, passes=passes, output=out, threads=1, **options)

    return run


def operators(result):
    return [node.op_type for node in onnx.load(result.output / "model.onnx").graph.node]


def test_a_slower_lossless_pass_is_left_out_by_name_with_its_ratio_and_the_others_stay(optimize):
    result = optimize(["eliminate_identity", Detour(), "dce"])
    assert result.status == "delivered"
    assert operators(result) == ["MatMul", "Relu"]
    records = {record.name: record for record in result.report.passes}
    assert {name: record.status for name, record in records.items()} == {
        "eliminate_identity": "applied", "detour": "rolled_back", "dce": "applied"
    }  # fmt: skip
    assert "times as slow (at least" in records["detour"].notes[-1]
    assert "left out detour: " in str(result).splitlines()[0]
    assert result.report.speed.low <= 1.03
    replayed = optimize(recipe=result.output / "manifest.json", allow_code=True)
    assert replayed.report.changed_outputs == ()


def test_what_is_slower_stays_where_it_is_asked_for(optimize):
    assert operators(optimize(["eliminate_identity", Detour(), "dce"], allow_worse=True)).count("MatMul") > 1


def test_where_all_is_slower_the_original_stays(optimize):
    result = optimize([Detour()])
    assert result.status == "kept_original"
    assert "left out detour: " in str(result).splitlines()[0]
