"""Whole architectures in half precision: how near float32 they stay, and how few Casts that takes."""

import re

import numpy as np
import pytest

from graphpress.ir import clone, graphs
from graphpress.ir.encoding import compute_request, float_type
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.prepare import prepare
from graphpress.manager.recipe import from_name
from graphpress.models import build as build_family
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import Session
from graphpress.targets import load_target

WORST = {
    "bert": 3e-3,
    "conformer": 3e-3,
    "convnext": 2e-3,
    "detector": 6e-3,
    "detr": 2e-3,
    "gpt": 2e-3,
    "llama": 2e-3,
    "lstm": 2e-3,
    "mobilenet_v2": 8e-3,
    "mobilenet_v3": 4e-3,
    "resnet": 4e-3,
    "swin": 4e-3,
    "unet": 6e-3,
    "vit": 3e-3,
    "yolo": 3e-3,
}
"""Largest difference in float16, relative to the largest output; about twice what was measured."""

EVERYTHING = re.compile("")

BORDERS = {"bert": 3, "detr": 6, "llama": 5}
"""Casts inside a model beyond those of its inputs and outputs: masks and positions made of sizes."""


def casts(model):
    return sum(node.op_type == "Cast" for graph in graphs(model) for node in graph)


@pytest.mark.parametrize("family", WORST)
def test_float16_stays_near_float32(cleaned, reduce, family):
    model = cleaned(family)
    done = reduce(model)
    assert done.error() < WORST[family]
    assert done.error(simulate=True) < 2 * WORST[family]
    public = [value for value in (*model.graph.inputs, *model.graph.outputs) if value.dtype.is_floating_point()]
    assert casts(done.legal()) - casts(model) <= len(public) + BORDERS.get(family, 1)
    assert len(done.typed) >= 0.6 * len(model.graph)


@pytest.mark.parametrize("family", ["bert", "resnet", "vit", "yolo"])
def test_bfloat16_stays_within_its_eight_bits(cleaned, reduce, family):
    model = cleaned(family)
    target = load_target("dgpu{tensorrt=11.4}")
    RaiseOpset(to=22).run(model, Context(target=target, original=model))
    done = reduce(model, target="dgpu{tensorrt=11.4}", to="bfloat16")
    assert {node.op_type for node in model.graph if node.op_type in ("Conv", "MatMul", "Gemm")} <= {
        node.op_type for node in done.model.graph if float_type(node) == "bfloat16"
    }
    done.legal()
    assert done.error(simulate=True) < 0.04


@pytest.mark.parametrize("family", ["bert", "resnet", "unet", "vit", "yolo", "mobilenet_v2"])
@pytest.mark.parametrize("order", ["after", "before"])
def test_integers_and_float16(cleaned, feeds, reduce, family, order):
    """Either order gives the same annotations; Q/DQ nodes carry float16 scales and no Casts."""
    model = cleaned(family)
    data = feeds(model)
    context = Context(target=load_target("jetson"), original=model, calibration=data)
    RaiseOpset(to=19).run(model, context)
    quantized = clone(model)
    Quantize().run(quantized, context)
    if order == "after":
        done = reduce(quantized, data)
    else:
        done = reduce(model, data)
        Quantize().run(done.model, context)
    integer = [node for node in done.model.graph if compute_request(node) == "int8"]
    assert all(float_type(node) == "float16" for node in integer)
    assert {node.op_type for node in integer} >= {"Conv"} & {node.op_type for node in model.graph}
    legal = done.legal()
    for node in legal.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            around = (node.inputs[0].producer(), *(use.node for use in node.outputs[0].uses()))
            assert all(one is None or one.op_type != "Cast" for one in around)
    floats, halves = (one.legal() for one in (reduce(quantized, data, exclude=EVERYTHING), done))
    for feed in data[:2]:
        expected, actual, simulated = (Session(one).run(feed) for one in (floats, halves, done.legal(simulate=True)))
        for name, one in expected.items():
            largest = np.abs(one).max()
            assert np.abs(actual[name] - one).max() < 0.1 * largest
            assert np.abs(simulated[name] - one).max() < 0.1 * largest


@pytest.mark.parametrize("recipe", ["float16", "bfloat16"])
def test_recipes_run_from_the_raw_model(feeds, recipe):
    model = build_family("resnet")
    prepare(model, {})
    context = Context(target=load_target("dgpu{tensorrt=11.4}"), original=clone(model), calibration=feeds(model))
    run = Manager(context, NoEvaluator(), feeds(model, 1), verification="none").run(model, from_name(recipe))
    done = run.checkpoints[-1].model
    assert {float_type(node) for node in done.graph} == {recipe}


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        ("dgpu", "run raise_opset{to=22} first"),
        ("jetson", "choose a newer runtime: jetson-orin{jetpack=7.2}"),
        ("dgpu{tensorrt=10.3}", "choose a newer runtime: dgpu"),
    ],
)
def test_old_operator_sets_have_a_remedy(build, reduce, target, fix):
    model = build("(float[1,2,4] x, float[1,2,1] w) => (float[1,1,4] y) { y = Conv (x, w) }")
    (refusal,) = reduce(model, target=target, to="bfloat16").outcome.refusals
    assert refusal.fix == fix


def test_old_operator_sets_say_what_would_help(cleaned, reduce):
    done = reduce(cleaned("resnet"), to="bfloat16")
    reasons = [why for where, why in done.refused.items() if "Conv" in where]
    assert len(reasons) == 20
    assert set(reasons) == {"the operator does not take bfloat16 at opset 17, but from 22 on"}
    assert done.error(simulate=True) < 0.04
