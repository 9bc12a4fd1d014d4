"""What the recipe ``cleanup`` does not do twice: walk, copy and infer."""

from __future__ import annotations

import pytest

import graphpress.ir.index
import graphpress.manager.manager
import graphpress.passes.cleanup.shape_arithmetic
from graphpress.analysis.shapes import infer_shapes
from graphpress.ir import Model, digest
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_name
from graphpress.targets import load_target


@pytest.fixture(name="count")
def _count(monkeypatch):
    """Count the calls of a function that a module knows by its name."""

    def count(module, name):
        function, calls = getattr(module, name), []

        def counted(*arguments):
            calls.append(arguments)
            return function(*arguments)

        monkeypatch.setattr(module, name, counted)
        return calls

    return count


def cleanup(model: Model, **hooks):
    """The checkpoints of a run of the recipe."""
    recipe = from_name("cleanup")
    recipe.hooks.update(hooks)
    context = Context(load_target("cpu"), model)
    return Manager(context, NoEvaluator(), (), verification="none").run(model, recipe).checkpoints


def network(build, batch="2"):
    return build(
        f"(float[{batch},3] x) => (float[{batch},3] y) {{ "
        "i = Identity(x) a = Relu(i) b = Relu(a) c = Neg(b) d = Neg(b) e = Add(c, d) y = Abs(e) }"
    )


def test_the_input_model_is_the_first_checkpoint_and_is_copied_once(build, count):
    model = network(build)
    before, clones = digest(model), count(graphpress.manager.manager, "clone")
    first, last = cleanup(model)
    assert first.model is model
    assert digest(model) == before
    assert [node.op_type for node in last.model.graph] == ["Relu", "Neg", "Add", "Abs"]
    assert len(clones) == 1


def test_rules_walk_anew_only_after_a_change(build, count):
    walks = count(graphpress.ir.index, "_walk")
    _, last = cleanup(network(build))
    changing = 3  # eliminate_identity, cse, fold_idempotent
    assert last.changes == changing
    assert len(walks) <= 1 + changing


def test_a_hook_may_change_the_model_between_two_passes(build):
    """After the last pass that changes something, so that nothing but the hook tells the rules to walk anew."""

    def insert_identity(step, model, outcome):
        for node in model.graph if step.name == "merge_concats" else ():
            if node.op_type == "Add":
                node.op_type = "Identity"

    _, last = cleanup(network(build), after_pass=insert_identity)
    assert [node.op_type for node in last.model.graph] == ["Relu", "Neg", "Abs"]


@pytest.mark.parametrize("batch", ["2", "N"])
def test_shapes_are_not_inferred_where_all_are_known(build, count, batch):
    model = network(build, batch)
    assert infer_shapes(model) == []
    inferences = count(graphpress.passes.cleanup.shape_arithmetic, "infer_shapes")
    cleanup(model)
    assert inferences == []


@pytest.mark.parametrize(
    "text",
    [
        "(float[2] x) => (float[2] y) { s = Shape(x) f = Cast<to=1>(s) y = Add(x, f) }",
        "(float[2] x, int64[1] t) => (float[2] y) { r = Reshape(x, t) y = Abs(r) }",
        "(float[2] x) => (float[1,n] y) { z = NonZero(x) n = Cast<to=1>(z) y = Abs(n) }",
    ],
)
def test_shapes_are_inferred_where_one_is_computed_or_open(build, count, text):
    model = build(text)
    infer_shapes(model)
    inferences = count(graphpress.passes.cleanup.shape_arithmetic, "infer_shapes")
    cleanup(model)
    assert inferences
