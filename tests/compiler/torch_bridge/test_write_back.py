"""Trained weights back into the model: what is written, what is not, and what is refused."""

import numpy as np
import pytest

from graphpress import models
from graphpress.ir import clone, load, save, serialize, verify
from graphpress.torch_bridge import BridgeError

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")


@pytest.fixture
def model(build):
    random = np.random.default_rng(0)
    return build(
        "(float[N,3] x) => (float[N,2] y) { a = MatMul (x, w1) b = Relu (a) y = MatMul (b, w2) }",
        w1=random.normal(size=(3, 4)).astype(np.float32), w2=random.normal(size=(4, 2)).astype(np.float32),
    )  # fmt: skip


def test_only_what_changed_is_written(model, bridge):
    trained = bridge.to_module(model)
    untouched = model.graph.initializers["w1"].const_value
    assert bridge.write_back(trained, model) == 0
    with torch.no_grad():
        trained.parameters["w2"].mul_(2)
    assert bridge.write_back(trained, model) == 1
    assert model.graph.initializers["w1"].const_value is untouched


def test_it_goes_into_a_clone_too_and_leaves_the_original(model, bridge, shaken):
    before, copied, trained = serialize(model), clone(model), bridge.to_module(model)
    shaken(trained)
    assert bridge.write_back(trained, copied) == 2
    assert serialize(model) == before != serialize(copied)
    verify(copied)


def test_later_steps_do_not_reach_the_model(model, bridge, shaken):
    trained = bridge.to_module(model)
    shaken(trained)
    bridge.write_back(trained, model)
    written = serialize(model)
    shaken(trained)
    assert serialize(model) == written


def test_types_stay_when_the_module_trained_in_another(model, bridge, shaken):
    trained = bridge.to_module(model)
    trained.module.double()
    shaken(trained)
    bridge.write_back(trained, model)
    assert model.graph.initializers["w1"].const_value.numpy().dtype == np.float32


def test_the_result_is_saved_and_loaded(bridge, shaken, run, made_up, deviation, tmp_path):
    from graphpress.runtime import Session

    model = models.build("resnet")
    trained = bridge.to_module(model)
    shaken(trained)
    bridge.write_back(trained, model)
    save(model, tmp_path / "model.onnx")
    feed = made_up(model)
    again = load(tmp_path / "model.onnx")
    verify(again)
    assert deviation(run(trained.module, feed), Session(again).run(feed)) < 1e-5


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_and_nothing_written(model, bridge, number):
    before, trained = serialize(model), bridge.to_module(model)
    with torch.no_grad():
        trained.parameters["w1"].mul_(2)
        trained.parameters["w2"][0, 0] = number
    with pytest.raises(BridgeError, match="w2: it is not finite"):
        bridge.write_back(trained, model)
    assert serialize(model) == before


def test_another_model_is_refused(model, bridge, build):
    trained = bridge.to_module(model)
    other = build("(float[N,3] x) => (float[N,4] y) { y = MatMul (x, w1) }", w1=np.zeros((3, 5), np.float32))
    with pytest.raises(BridgeError, match=r"w1: it is \(3, 5\) in the model and \(3, 4\) in PyTorch"):
        bridge.write_back(trained, other)
    nameless = build("(float[N,3] x) => (float[N,3] y) { y = Relu (x) }")
    with pytest.raises(BridgeError, match="w1: the model has no initializer"):
        bridge.write_back(trained, nameless)
