"""Whole models as modules: what they compute, what they return, what they refuse."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest

from graphpress import models
from graphpress.ir import load
from graphpress.runtime import Session
from graphpress.torch_bridge import BridgeError

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

DATA = Path(os.environ.get("GRAPHPRESS_DATA", "/nowhere"))

QUICK = {
    "bert", "conformer", "control_flow", "crnn", "densenet", "gpt", "llama", "lstm", "mobilenet_v3", "shufflenet",
    "swin", "unet", "wavenet",
}  # fmt: skip

REAL = {
    "resnet20_cifar10": 1e-5,
    "mobilenet_v1_0.25_224": 1e-5,
    "yunet_n_320_320": 1e-5,
    "basic_pitch_nmp": 1e-4,  # logarithms of a spectrum: two levels of ONNX Runtime's own rewriting differ as much
    "mnist_opt": 1e-5,
}
"""Models and to what they agree."""

REACHED = {"branches": 0.25}
"""What part of the parameters one run trains, where it is not nearly all: an If computes one of its bodies."""


# -- what they compute ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in models.names()]
)
def test_every_family_computes_the_same_and_trains(bridge, made_up, run, deviation, shaken, name):
    model = models.build(name)
    check_there_and_back(bridge, made_up, run, deviation, shaken, model, reached=REACHED.get(name, 0.9))


@pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="needs the models that GRAPHPRESS_DATA points to")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "basic_pitch_nmp" else ()) for name in REAL]
)
def test_real_models_compute_the_same_and_train(bridge, made_up, run, deviation, shaken, name):
    check_there_and_back(bridge, made_up, run, deviation, shaken, load(DATA / f"{name}.onnx"), REAL[name])


def check_there_and_back(bridge, made_up, run, deviation, shaken, model, tolerance=1e-5, reached=0.9):
    feed, trained = made_up(model), bridge.to_module(model)
    assert deviation(run(trained.module, feed), Session(model, optimization="none").run(feed)) < tolerance
    outputs = trained.module({name: torch.from_numpy(array) for name, array in feed.items()})
    sum(output.float().square().sum() for output in outputs.values()).backward()
    assert (
        sum(parameter.grad is not None for parameter in trained.parameters.values())
        >= reached * len(trained.parameters) - 1
    )
    shaken(trained)
    assert bridge.write_back(trained, model) > 0
    assert deviation(run(trained.module, feed), Session(model, optimization="none").run(feed)) < tolerance


def test_the_batch_is_free(bridge, made_up, run, deviation):
    model = models.build("mobilenet_v3")
    module = bridge.to_module(model).module
    for batch in (1, 3):
        feed = made_up(model, batch)
        assert deviation(run(module, feed), Session(model).run(feed)) < 1e-5


def test_shapes_that_are_computed(build, bridge, made_up, run, deviation):
    model = build(
        """(float[N,2,6] x) => (float[M,K] y) {
            s = Shape (x) n = Gather <axis = 0> (s, zero) n1 = Unsqueeze (n, zeros) t = Concat <axis = 0> (n1, minus)
            y = Reshape (x, t) }""",
        zero=np.array(0), zeros=np.array([0]), minus=np.array([-1]),
    )  # fmt: skip
    feed = made_up(model, 3)
    assert deviation(run(bridge.to_module(model).module, feed), Session(model).run(feed)) == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("double", 1e-14)])
def test_other_floats_run_in_their_type(build, bridge, made_up, run, deviation, dtype, tolerance):
    array = np.random.default_rng(0).normal(size=(5, 3)).astype("float16" if dtype == "float16" else "float64")
    model = build(f"({dtype}[2,5] x) => ({dtype}[2,3] y) {{ z = Gemm (x, w) e = Exp (z) y = Sqrt (e) }}", w=array)
    feed, trained = made_up(model), bridge.to_module(model)
    got = run(trained.module, feed)
    assert got["y"].dtype == array.dtype == trained.parameters["w"].detach().numpy().dtype
    assert deviation(got, Session(model).run(feed)) < tolerance


def test_statistics_are_stored_ones_and_nothing_is_dropped(build, bridge, made_up, run, deviation):
    model = build(
        """(float[4,2,3] x) => (float[4,2,3] y) {
            n = BatchNormalization (x, s, b, m, v) y = Dropout (n, r) }""",
        s=np.float32([1, 2]), b=np.float32([0, 1]), m=np.float32([3, 4]), v=np.float32([1, 9]), r=np.float32(0.5),
    )  # fmt: skip
    feed, module = made_up(model), bridge.to_module(model).module
    for mode in (True, False):
        assert deviation(run(module.train(mode), feed), Session(model).run(feed)) < 1e-6


def test_functions_and_what_they_are_given(build, bridge, made_up, run, deviation):
    model = build(
        "(float[2,3] x) => (float[2,3] y) { z = local.scaled <factor = 2.0> (x, w) y = local.scaled (z) }",
        functions="""<domain: "local", opset_import: ["" : 17]>
            scaled <factor: float = 3.0> (a, b) => (c) {
                f = Constant <value_float: float = @factor> () d = Mul (a, f) c = Sum (d, d) }""",
        w=np.ones((2, 3), np.float32),
    )
    feed = made_up(model)
    got = run(bridge.to_module(model).module, feed)
    np.testing.assert_allclose(got["y"], feed["x"] * 4 * 6, rtol=1e-6)


def test_calls_of_a_function_do_not_share_what_depends_on_the_call(build, bridge, made_up, run):
    model = build(
        "(float[3] x) => (float[3] y, float[3] z) { y = local.f <slope = 0.5> (x) z = local.f <slope = 0.25> (x) }",
        functions="""<domain: "local", opset_import: ["" : 17]> f <slope> (a) => (c) {
            k = Constant <value = float[3] {-1, -2, -4}> ()
            d = LeakyRelu <alpha: float = @slope> (k)
            c = Add (a, d) }""",
    )
    got = run(bridge.to_module(model).module, {"x": np.zeros(3, np.float32)})
    assert (got["y"].tolist(), got["z"].tolist()) == ([-0.5, -1, -2], [-0.25, -0.5, -1])


# -- what they return -------------------------------------------------------------------------------------------


def two_layers(build):
    random = np.random.default_rng(0)
    return build(
        "(float[N,3] x) => (float[N,2] y) { a = MatMul (x, w1) b = Relu (a) y = MatMul (b, w2) }",
        w1=random.normal(size=(3, 4)).astype(np.float32), w2=random.normal(size=(4, 2)).astype(np.float32),
    )  # fmt: skip


def test_taps_are_returned_beside_the_outputs(build, bridge, made_up, run, deviation):
    model = two_layers(build)
    feed = made_up(model)
    got = run(bridge.to_module(model, taps=["a", "b", "x", "w1", "y"]).module, feed)
    assert set(got) == {"y", "a", "b", "x", "w1"}
    assert deviation(got, Session(model, extra_outputs=["a", "b"], optimization="none").run(feed)) < 1e-6


def test_a_tap_that_is_no_value(build, bridge):
    with pytest.raises(BridgeError, match="no value 'nowhere'"):
        bridge.to_module(two_layers(build), taps=["nowhere"])


def test_parameters_are_those_of_the_module(build, bridge):
    trained = bridge.to_module(two_layers(build))
    assert set(trained.parameters) == {"w1", "w2"} == set(trained.module.state_dict())
    assert all(parameter is trained.parameters[name] for name, parameter in trained.module.named_parameters())


def test_names_with_dots_are_kept(bridge):
    model = models.build("resnet")
    names = set(bridge.to_module(model).parameters)
    assert names <= set(model.graph.initializers)
    assert any("." in name for name in names)


def test_a_shared_initializer_is_one_parameter(build, bridge):
    model = build(
        "(float[2,3] x) => (float[2,3] y) { a = MatMul (x, w) y = MatMul (a, w) }", w=np.eye(3, dtype=np.float32)
    )
    trained = bridge.to_module(model)
    trained.module({"x": torch.ones(2, 3)})["y"].sum().backward()
    assert len(list(trained.module.parameters())) == 1
    assert trained.parameters["w"].grad.abs().sum() > 0


def test_state_is_saved_and_loaded(build, bridge, shaken):
    model = two_layers(build)
    first, second = bridge.to_module(model), bridge.to_module(model)
    shaken(first)
    second.module.load_state_dict(first.module.state_dict())
    feed = {"x": torch.ones(1, 3)}
    assert torch.equal(first.module(feed)["y"], second.module(feed)["y"])


def test_copies_are_independent(build, bridge, shaken):
    trained = bridge.to_module(two_layers(build))
    feed = {"x": torch.ones(1, 3)}
    before = trained.module(feed)["y"]
    copied = copy.deepcopy(trained.module)
    shaken(trained)
    assert torch.equal(copied(feed)["y"], before)
    assert not torch.equal(trained.module(feed)["y"], before)


def test_the_model_may_change_afterwards(build, bridge):
    model = two_layers(build)
    trained = bridge.to_module(model)
    with torch.no_grad():
        trained.parameters["w1"].zero_()
    assert model.graph.initializers["w1"].const_value.numpy().any()


def test_an_input_with_a_default_may_be_left_out(bridge, find):
    import onnx.parser

    from graphpress.ir import from_proto

    text = '<ir_version: 10, opset_import: ["": 17]> g (float[2] x, float[2] d) => (float[2] y) <float[2] d = {1, 2}>'
    module = bridge.to_module(from_proto(onnx.parser.parse_model(text + "{ y = Add (x, d) }"))).module
    x = torch.zeros(2)
    assert module({"x": x})["y"].tolist() == [1, 2]
    assert module({"x": x, "d": x})["y"].tolist() == [0, 0]


def test_results_are_let_go_after_their_last_reader(build, bridge):
    import weakref

    nodes = " ".join(f"a{i + 1} = Abs (a{i})" for i in range(20))
    module = bridge.to_module(build(f"(float[4] a0) => (float[4] a20) {{ {nodes} }}")).module
    alive, most = [], 0

    def counted(kernel):
        def run(*operands):
            nonlocal most
            result = kernel(*operands)
            alive.append(weakref.ref(result))
            most = max(most, sum(reference() is not None for reference in alive))
            return result

        return run

    from dataclasses import replace

    module._steps = tuple(replace(step, kernel=counted(step.kernel)) for step in module._steps)
    with torch.no_grad():
        module({"a0": torch.ones(4)})
    assert most <= 2


# -- what they refuse -------------------------------------------------------------------------------------------


def test_all_nodes_without_a_translation_are_named_at_once(build, bridge):
    model = build("(float[2] x) => (float[2] y) { a = custom.One (x) b = Relu (a) c = custom.Two (b) y = Abs (c) }")
    with pytest.raises(BridgeError) as caught:
        bridge.to_module(model)
    said = str(caught.value)
    assert [word in said for word in ("2 nodes", "One", "Two", "Relu")] == [True, True, True, False]


def test_a_form_that_cannot_be_expressed_is_refused_with_the_reason(build, bridge):
    model = build("(float[2] x) => (string[2] y) { y = Cast <to = 8> (x) }")
    with pytest.raises(BridgeError, match="a cast to strings"):
        bridge.to_module(model)


def test_a_missing_input_is_named(build, bridge):
    with pytest.raises(BridgeError, match="input 'x' is missing"):
        bridge.to_module(two_layers(build)).module({})


def test_a_node_that_fails_is_named(build, bridge):
    model = build("(float[N,3] x) => (float[N,2] y) { y = MatMul (x, w) }", w=np.ones((3, 2), np.float32))
    model.graph[0].name = "the_product"
    with pytest.raises(BridgeError, match="the_product") as caught:
        bridge.to_module(model).module({"x": torch.ones(2, 5)})
    assert isinstance(caught.value.__cause__, RuntimeError)
