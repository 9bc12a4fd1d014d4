"""What to try after a missed budget is computed from the run."""

import re
from functools import partial

import numpy as np
import pytest

import graphpress
from graphpress.driver.advice import costly_layers
from graphpress.evaluation import DamageMeasure
from graphpress.ir.encoding import AffineEncoding, override_use, request_compute
from graphpress.manager.evaluator import EvaluationResult
from graphpress.manager.recipe import from_text
from graphpress.models import build
from graphpress.runtime import Session


@pytest.fixture
def optimize(network_file, tmp_path, images):
    options = {"data": images, "metric": "cosine", "max_drop": 0.0, "output": tmp_path / "out", "force": True}
    return partial(graphpress.optimize, network_file, **options)


def test_the_limit_that_is_named_would_have_been_met(optimize):
    missed = optimize(passes="cleanup,quantize")
    assert missed.status == "budget_not_met"
    (limit,) = re.findall(r"--max-drop ([\d.e-]+) would take it", missed.report.advice[0])
    assert optimize(passes="cleanup,quantize", max_drop=float(limit)).status != "budget_not_met"


def test_what_is_named_is_what_was_not_tried_and_what_this_target_has(optimize):
    advice = optimize(passes="quantize,correct_bias").report.advice
    assert any(step.startswith("reconstruct behind quantize") for step in advice)
    (other,) = [step for step in advice if "in place of mse" in step]
    from_text(other.split(" in place")[0])
    assert not any("float16" in step for step in advice), "this target has no such kernels"
    assert any("prune{macs_kept=0.7}" in step for step in optimize(passes="prune{macs_kept=0.4}").report.advice)


def test_recovery_that_is_weaker_than_what_was_tried_is_no_advice(optimize):
    assert any("distill behind prune" in step for step in optimize(passes="prune{macs_kept=0.4}").report.advice)
    unrepaired = optimize(passes="prune{macs_kept=0.4,recover=false}").report.advice
    assert any("correct_bias behind prune" in step for step in unrepaired)


def test_a_budget_that_is_met_needs_no_advice(optimize):
    assert optimize(passes="cleanup").report.advice == ()


def test_layers_that_cost_most_are_found_by_giving_them_their_floats_back(images):
    model = build("resnet", depth=20, stem="cifar", width=16, image=16)
    measure = DamageMeasure.of(Session(model), [{"input": images["input"][:8]}], simulate=simulated)
    convs = [node for node in model.graph if node.op_type == "Conv"]
    for node, scale in ((convs[3], 0.01), (convs[7], 0.5), (convs[9], 0.01)):
        override_use(node, 1, AffineEncoding("int8", np.float32(scale), np.int8(0)))
        request_compute(node, "int8")
    shares = costly_layers(model, measure, 60)
    assert next(iter(shares)) == convs[7].name
    assert 0.5 < shares[convs[7].name] <= 1


def test_layers_of_which_only_the_weights_were_rounded_are_found_too(images):
    model = build("resnet", depth=20, stem="cifar", width=16, image=16)
    measure = DamageMeasure.of(Session(model), [{"input": images["input"][:8]}], simulate=simulated)
    conv = [node for node in model.graph if node.op_type == "Conv"][7]
    override_use(conv, 1, AffineEncoding("int8", np.float32(0.5), np.int8(0)))
    assert list(costly_layers(model, measure, 60)) == [conv.name]


def test_layers_are_named_with_their_share_of_the_damage_wherever_the_budget_is_missed(optimize, monkeypatch):
    """At the gate of the pass, and at the final figure of what it led to."""
    named = re.compile(r"--exclude '(.*)' leaves out what costs most: (\S+ \d+ %(, )?)+ of the damage")
    at_the_gate = optimize(passes="quantize").report
    assert any(named.match(step) for step in at_the_gate.advice)
    monkeypatch.setattr("graphpress.manager.manager.Manager._evaluation", lambda *_: EvaluationResult(passed=True))
    monkeypatch.setattr("graphpress.driver.choice.Comparison.worse", "")
    at_the_end = optimize(passes="quantize").report
    assert at_the_end.status == "budget_not_met"
    assert any(named.match(step) for step in at_the_end.advice)


def test_another_arithmetic_is_named_only_where_the_target_takes_it(optimize):
    weights_only = "quantize_weights{dtype=int8}"
    assert any(weights_only in step for step in optimize(passes="quantize").report.advice)
    assert optimize(passes=f"cleanup,fuse,{weights_only}", max_drop=None).status == "delivered"


def simulated(model):
    from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
    from graphpress.targets import load_target

    return OnnxRuntimeBackend().prepare(model, load_target("cpu")).simulation
