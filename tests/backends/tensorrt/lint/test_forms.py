"""The forms that the compiler itself makes of real architectures: the linter has nothing to say of them."""

import numpy as np
import pytest

from graphpress.backends.tensorrt.legalize import strong_form, weak_form
from graphpress.backends.tensorrt.lint import lint, unsupported
from graphpress.backends.tensorrt.platform import platform_of
from graphpress.ir import graphs
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_name
from graphpress.models import build, names
from graphpress.runtime import Session
from graphpress.targets import load_target


def feeds(model, count=2):
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        feed = {}
        for spec in Session(model).inputs:
            dims = [dim if isinstance(dim, int) else 2 for dim in spec.dims]
            feed[spec.name] = (
                random.normal(size=dims) if "float" in str(spec.dtype) else random.integers(0, 2, dims)
            ).astype(spec.dtype)
        made.append(feed)
    return made


def legal(name, target, recipe):
    """What the target gets of a model after a recipe, and how many DequantizeLinear stand in it."""
    model = build(name)
    prepare(model, {})
    assert unsupported(model, target) == []
    manager = Manager(Context(target, model, calibration=feeds(model)), NoEvaluator(), (), "none")
    result = manager.run(model, from_name(recipe)).checkpoints[-1].model
    form = strong_form(result) if platform_of(target).strong else weak_form(result)
    return form, sum(node.op_type == "DequantizeLinear" for graph in graphs(form) for node in graph)


@pytest.mark.parametrize("name", ["resnet", "bert", "vit", "unet", "yolo", "lstm"])
@pytest.mark.parametrize(
    ("target", "recipe"), [("jetson", "int8-float16"), ("rtx", "float16"), ("jetson-xavier", "int8")]
)
def test_silent_on_what_the_compiler_makes(name, target, recipe):
    form, integers = legal(name, load_target(target), recipe)
    assert lint(form, load_target(target)) == []
    assert (integers == 0) is (recipe == "float16")


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_silent_on_float8(name):
    form, integers = legal(name, load_target("rtx-ada"), "float8")
    assert integers
    assert lint(form, load_target("rtx-ada")) == []
    assert lint(form, load_target("rtx")) != []


def test_most_of_a_convolutional_network_runs_on_the_accelerator():
    form, _ = legal("resnet", load_target("jetson{dla=on}"), "int8")
    refusals = lint(form, load_target("jetson{dla=on}"))
    assert {refusal.where for refusal in refusals} == {"input", "/fc/GlobalAveragePool", "/fc/Flatten"}


@pytest.mark.parametrize("name", names())
def test_every_architecture_can_be_read(name):
    assert unsupported(build(name), load_target("jetson")) == []
