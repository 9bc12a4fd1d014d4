"""Damage curves: what outputs suffer when units of one group go."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from text_models import model_of

from graphpress.cache import ContentCache
from graphpress.coupling import couple, remove, unshare
from graphpress.data import load_dataset
from graphpress.data.feeds import FeedSamples
from graphpress.errors import DataError, UsageError
from graphpress.evaluation.sensitivity import LOST
from graphpress.ir import clone, load, verify
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.cleanup.fold_constants import FoldConstants
from graphpress.passes.prune._masking import damage, mask
from graphpress.passes.prune.criteria import load_criterion
from graphpress.runtime import InputSpec, Session
from graphpress.targets import load_target

DATA = Path(os.environ.get("GRAPHPRESS_DATA", "/nowhere"))

TO_CLASSES = """(float[N,6] x) => (float[N,4] y) {
    h = Gemm<transB=1>(x, w, b)
    s = Sigmoid(h)
    t = Div(s, d)
    y = Gemm<transB=1>(t, v, c)
}"""
TO_NUMBERS = TO_CLASSES.replace("float[N,4] y", "float[N,4,1,1] z, float[N,4,1,1] u").replace(
    "v, c)", "v, c) k = Constant<value_ints=[0,4,1,1]>() z = Reshape(y, k) u = Neg(z)"
)


def weights():
    random = np.random.default_rng(0)
    shapes = {"w": (10, 6), "b": (10,), "d": (10,), "v": (4, 10), "c": (4,)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["v"][:, [3, 7]] *= 1e-4
    return arrays


@pytest.fixture
def mlp():
    model = model_of(TO_CLASSES, **weights())
    inputs = np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)
    return model, couple(model), Context(load_target("cpu"), model, calibration=[{"x": inputs}])


def run(mlp, fractions):
    model, coupling, context = mlp
    scores = load_criterion("l2")().score(model, coupling, context)
    return damage(model, coupling, scores, context, fractions)


def test_nothing_gone_hurts_nothing_and_more_hurts_more(mlp):
    curve = run(mlp, (0, 0.2, 0.5, 1.0))["w[0]"]
    assert curve.shape == (4,)
    assert curve[0] == 0
    assert 0 <= curve[1] < 1e-6  # the two units that hardly anything reads
    assert curve[2] > 1e-3
    assert curve[3] > curve[2]


def test_damage_of_classes_is_their_divergence(mlp):
    model, coupling, context = mlp
    scores = load_criterion("l2")().score(model, coupling, context)["w[0]"]
    gone = np.argsort(scores)[:5]
    array = weights()
    features = 1 / (1 + np.exp(-(context.calibration[0]["x"] @ array["w"].T + array["b"]))) / array["d"]

    def logs(v):
        logits = features.astype(np.float64) @ v.T + array["c"]
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    masked = array["v"].copy()
    masked[:, gone] = 0
    theirs, own = logs(array["v"]), logs(masked)
    wanted = (np.exp(theirs) * (theirs - own)).sum(1).mean()
    np.testing.assert_allclose(run(mlp, (0.5,))["w[0]"], [wanted], rtol=1e-3)


def test_damage_of_numbers_is_their_relative_squared_error(mlp):
    array = weights()
    model = model_of(TO_NUMBERS, **array)
    FoldConstants().run(model, mlp[2])
    curve = run((model, couple(model), mlp[2]), (1.0,))["w[0]"]
    session = Session(mlp[0])
    whole = session.run(mlp[2].calibration[0])["y"]
    np.testing.assert_allclose(curve, [np.square(whole - array["c"]).sum() / np.square(whole).sum()], rtol=1e-4)


def test_divisors_are_left_alone(mlp):
    model, coupling, context = mlp
    copy = clone(model)
    mask(copy, coupling.groups[0], np.arange(10) % 2 == 0)
    np.testing.assert_array_equal(copy.graph.initializers["d"].const_value.numpy(), weights()["d"])
    assert np.isfinite(Session(copy).run(context.calibration[0])["y"]).all()
    np.testing.assert_array_equal(model.graph.initializers["v"].const_value.numpy(), weights()["v"])


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v3", "densenet", "shufflenet", "unet", "vit", "bert"])
def test_masking_a_unit_gives_what_removing_it_gives(family, pruning):
    model = build(family)
    prepare(model, {})
    context = Context(load_target("cpu"), model)
    FoldConstants().run(model, context)
    unshare(model)
    feed = pruning.feed(model, length=8)
    removed, masked = clone(model), clone(model)
    coupling = couple(removed)
    keep = {group.name: np.arange(group.size) % 3 > 0 for group in coupling.groups}
    for group in couple(masked).groups:
        mask(masked, group, ~keep[group.name])
    verify(masked)
    remove(removed, coupling, keep)
    wanted, given = (Session(network).run(feed) for network in (removed, masked))
    for name, array in wanted.items():
        np.testing.assert_allclose(given[name], array, rtol=1e-3, atol=1e-4 * np.abs(array).max())


def test_constants_that_are_nodes_are_masked_too():
    text = TO_CLASSES.replace(
        "h = Gemm", "b = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,10.0]>() h = Gemm"
    )
    model = model_of(text, **{name: array for name, array in weights().items() if name != "b"})
    mask(model, couple(model).groups[0], np.arange(10) < 5)
    verify(model)
    bias = next(node for node in model.graph if node.op_type == "Gemm").inputs[2]
    np.testing.assert_array_equal(bias.const_value.numpy(), [0, 0, 0, 0, 0, 6, 7, 8, 9, 10])


def with_data(prepared, calibration):
    model, coupling, context = prepared
    return model, coupling, replace(context, calibration=calibration)


def test_data_is_asked_for(mlp):
    with pytest.raises(UsageError, match="calibration data"):
        run(with_data(mlp, None), (0.5,))


def test_empty_data_is_refused(mlp):
    with pytest.raises(DataError, match="empty"):
        run(with_data(mlp, []), (0.5,))


def test_data_that_is_no_number_is_refused(mlp):
    with pytest.raises(DataError, match="no numbers"):
        run(with_data(mlp, [{"x": np.full((4, 6), np.nan, np.float32)}]), (0.5,))


def test_outputs_that_are_no_numbers_are_lost(mlp):
    """They are divided by what the units sum to: nothing, when all are gone."""
    text = TO_CLASSES.replace("y = Gemm", "g = Gemm").replace("v, c)", "v, c) n = MatMul(t, o) y = Div(g, n)")
    model = model_of(text, o=np.ones((10, 1), np.float32), **weights())
    curve = run((model, couple(model), mlp[2]), (0.5, 1.0))["w[0]"]
    assert curve[0] < LOST == curve[1]


def test_curves_are_kept_by_content(mlp, tmp_path):
    model, coupling, context = mlp
    samples = FeedSamples(context.calibration, [InputSpec("x", np.dtype(np.float32), ("N", 6))])
    context = replace(context, calibration=samples, cache=ContentCache(tmp_path))
    mlp = model, coupling, context
    run(mlp, (0.25, 0.5))
    entries = list(tmp_path.iterdir())
    assert len(entries) == 1
    entries[0].write_text(json.dumps({"w[0]": [7.0, 8.0]}))
    assert run(mlp, (0.25, 0.5))["w[0]"].tolist() == [7.0, 8.0]  # read, not measured
    run(mlp, (0.25, 0.75))
    other = load_criterion("random")().score(model, coupling, context)
    damage(model, coupling, other, context, (0.25, 0.5))
    assert len(list(tmp_path.iterdir())) == 3  # other fractions and another order are other results


@pytest.mark.skipif(not (DATA / "resnet20_cifar10.onnx").is_file(), reason="GRAPHPRESS_DATA is not set")
def test_a_trained_network_suffers_most_where_its_residual_stream_is_cut():
    model = load(DATA / "resnet20_cifar10.onnx")
    prepare(model, {})
    context = Context(load_target("cpu"), model)
    FoldConstants().run(model, context)
    data = load_dataset(DATA / "cifar10.yaml", Session(model).inputs)
    context = replace(context, calibration=data.calibration.spread(64))
    curves = run((model, couple(model), context), (0.25, 0.5))
    assert len(curves) == 12
    stream = next(iter(curves))
    inner = [curve for name, curve in curves.items() if len(couple(model)[name].constants) == 3]
    assert all(curves[stream][1] > curve[1] for curve in inner)
    assert all((curve >= 0).all() for curve in curves.values())
