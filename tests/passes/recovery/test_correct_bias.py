"""Bias correction: means (and deviations) of every layer are those of the start again."""

import numpy as np
import pytest

from graphpress.errors import UsageError
from graphpress.ir import clone, constant, label
from graphpress.ir.encoding import encoding_of
from graphpress.ir.sparsity import sparsity_problems
from graphpress.manager.contract import Context
from graphpress.manager.transaction import Transaction
from graphpress.passes.quantize.quantize import Quantize
from graphpress.passes.recovery.correct_bias import CorrectBias
from graphpress.passes.sparsify.sparsify import Sparsify
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32) * 0.3


def statistics(model, feeds, names):
    session = Session(model, extra_outputs=names)
    values = [session.run(feed) for feed in feeds]
    found = {}
    for name in names:
        whole = np.concatenate([value[name] for value in values])
        axes = (0, *range(2, whole.ndim))
        found[name] = whole.mean(axis=axes), whole.std(axis=axes)
    return found


@pytest.mark.parametrize("deviations", [False, True])
@pytest.mark.parametrize("sizes", [{"depth": 8, "stem": "cifar", "width": 8, "image": 8, "classes": 4}])
def test_every_layer_has_its_mean_again(pruned, sizes, deviations):
    damaged = pruned("resnet", **sizes)
    outcome = damaged.repair(CorrectBias(deviations=deviations))
    layers = [label(node.outputs[0]) for node in damaged.model.graph if node.op_type in ("Conv", "Gemm")]
    assert outcome.changes
    wanted, found = (statistics(model, damaged.feeds, layers) for model in (damaged.start, damaged.model))
    for name in layers:
        kept = damaged.kept.get(name, (None, None))[1]
        mean, deviation = (array if kept is None else array[kept] for array in wanted[name])
        np.testing.assert_allclose(found[name][0], mean, atol=2e-3)
        if deviations:
            np.testing.assert_allclose(found[name][1], deviation, rtol=2e-2, atol=1e-3)


def test_the_shift_is_that_of_the_formula(of_text, case):
    text = "(float[n,4] x) => (float[n,3] y) { y = Gemm(x, w, b) }"
    weight, bias = normal(4, 3), normal(3)
    spoilt = weight + normal(4, 3)
    x = normal(100, 4) + np.float32(1)
    damaged = case(of_text(text, w=weight, b=bias), of_text(text, w=spoilt, b=bias), [{"x": x}])
    damaged.repair(CorrectBias(deviations=False))
    expected = bias + (x @ weight - x @ spoilt).mean(axis=0)
    np.testing.assert_allclose(constant(damaged.weight("b")), expected, atol=1e-5)
    np.testing.assert_array_equal(constant(damaged.weight("w")), spoilt)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = Conv(x, w)", (3, 4, 1, 1)),
        ("y = Gemm(x, w)", (4, 3)),
        ("y = MatMul(x, w)", (4, 3)),
        ("h = MatMul(x, w)  y = Add(h, c)", (4, 3)),
        ("h = MatMul(x, w)  y = Relu(h)", (4, 3)),
    ],
)
def test_a_layer_without_a_bias_gets_one(of_text, case, body, shape):
    sizes = "float[n,4,5,5] x) => (float[n,3,5,5] y" if len(shape) == 4 else "float[n,4] x) => (float[n,3] y"
    weight, others = normal(*shape), {"c": normal(3)} if "c)" in body else {}
    x = normal(64, 4, *([5, 5] if len(shape) == 4 else [])) + np.float32(1)
    models = [of_text(f"({sizes}) {{ {body} }}", w=array, **others) for array in (weight, weight * np.float32(0.7))]
    damaged = case(*models, [{"x": x}])
    nodes, before = len(damaged.model.graph), damaged.error()
    assert damaged.repair(CorrectBias()).changes == 1
    assert damaged.error() < 0.01 < before
    assert len(damaged.model.graph) == nodes + (body in ("y = MatMul(x, w)", "h = MatMul(x, w)  y = Relu(h)"))
    assert [value.name for value in damaged.model.graph.outputs] == ["y"]


def test_what_is_in_order_stays(pruned, case):
    whole = pruned("resnet", depth=8, stem="cifar", width=8, image=8, classes=4)
    assert case(whole.start, whole.start, whole.feeds).repair(CorrectBias()).changes == 0


def test_behind_quantize_and_behind_sparsify(pruned):
    start = pruned("resnet", depth=8, stem="cifar", width=8, image=8, classes=4)
    about = Context(load_target("cpu"), start.start, calibration=start.feeds)
    for one in (Quantize(per_channel=False), Sparsify(pattern="2:4")):
        start.model, start.kept = clone(start.start), {}
        one.run(start.model, about)
        weight = next(node for node in start.model.graph if node.op_type == "Conv").inputs[1]
        before, encoded = start.error(), encoding_of(weight)
        start.repair(CorrectBias())
        if one.name == "sparsify":
            assert start.error() < before
        assert (encoding_of(start.weight(weight.name)) is None) == (encoded is None)
        assert not sparsity_problems(start.model)


@pytest.mark.parametrize(("name", "encoded"), [("cpu", True), ("jetson", False)])
def test_biases_are_what_the_target_wants_and_scales_fit_its_type(pruned, name, encoded):
    case = pruned("resnet", depth=8, stem="cifar", width=8, image=8, classes=4, opset=19)
    model = clone(case.start)
    about = Context(load_target(name), case.start, calibration=case.feeds, transaction=Transaction(case.start))
    Quantize().run(model, about)
    assert CorrectBias().run(model, about).changes > 0
    layers = [node for node in model.graph if node.op_type == "Conv"]
    assert {encoding_of(node.inputs[2]) is not None for node in layers} == {encoded}
    scales = np.concatenate([encoding_of(node.inputs[1]).scale.reshape(-1) for node in layers])
    assert np.all(scales.astype(np.float16) == scales) == (not encoded)


def test_a_product_with_several_weights_is_refused(of_text, case):
    text = "(float[n,2,5,4] x) => (float[n,2,5,3] y) { y = MatMul(x, w) }"
    weight = normal(2, 4, 3)
    damaged = case(of_text(text, w=weight), of_text(text, w=weight * np.float32(0.5)), [{"x": normal(8, 2, 5, 4)}])
    outcome = damaged.repair(CorrectBias())
    assert outcome.changes == 0
    assert "batch of weights" in outcome.refusals[0].why


def test_no_samples_make_no_sense():
    with pytest.raises(UsageError, match="samples"):
        CorrectBias(samples=0)
