"""Products as trains of cores: the graph computes them, whatever its leading axes and its bias."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.cost import model_cost
from graphpress.ir import clone, verify
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.lowrank.tensor_train import TensorTrain
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
INPUTS, OUTPUTS = 60, 64
LAYERS = {
    "product": ("(float[N,60] x) => (float[N,64] y) { y = MatMul(x, w) }", (), ()),
    "tokens": ("(float[N,T,60] x) => (float[N,T,64] y) { m = MatMul(x, w) y = Add(m, b) }", (), ()),
    "stack": ("(float[2,N,60] x) => (float[2,N,64] y) { y = MatMul(x, w) }", (2,), ()),
    "Gemm": ("(float[N,60] x) => (float[N,64] y) { y = Gemm<alpha=2.0, beta=0.5>(x, w, b) }", (), ()),
    "turned": ("(float[60,4] x) => (float[4,64] y) { y = Gemm<transA=1, transB=1>(x, w) }", (), (1, 0)),
}


def weight_of_a_train(blocks, ranks):
    form, shape = TensorTrain(), LayerProblem(RANDOM.normal(size=(max(1, sum(blocks)), INPUTS, OUTPUTS)))
    matrix = form.matrix(form.start(shape, ranks), shape)
    return (matrix if blocks else matrix[0]).astype(np.float32)


@pytest.fixture(params=LAYERS.values(), ids=LAYERS.keys())
def layer(request):
    """A model whose weight is a train of low ranks already."""
    text, blocks, order = request.param
    weight = weight_of_a_train(blocks, (3, 5))
    constants = {"b": RANDOM.normal(size=OUTPUTS).astype(np.float32)} if "b)" in text else {}
    return model_of(text, w=np.ascontiguousarray(weight.transpose(order)) if order else weight, **constants)


def decomposed(model, **fields):
    changed = clone(model)
    context = Context(target=load_target("cpu"), original=model)
    outcome = LowRank(method="tt", rank=0.25, multiple=1, **fields).run(changed, context)
    verify(changed)
    return changed, outcome


def test_the_chain_computes_the_train(layer):
    changed, outcome = decomposed(layer)
    assert outcome.changes == 1, outcome.refusals
    shape = [dim if isinstance(dim, int) else 3 for dim in layer.graph.inputs[0].shape]
    feed = {"x": RANDOM.normal(size=shape).astype(np.float32)}
    expected, result = (Session(model).run(feed)["y"] for model in (layer, changed))
    np.testing.assert_allclose(result, expected, atol=1e-3 * np.abs(expected).max())
    assert model_cost(changed).parameters < 0.5 * model_cost(layer).parameters
    assert [value.name for value in changed.graph.outputs] == ["y"]


def test_cores_are_not_decomposed_again(layer):
    changed, _ = decomposed(layer)
    again, outcome = decomposed(changed)
    assert outcome.changes == 0
    assert len(list(again.graph)) == len(list(changed.graph))


def test_layers_behind_it_are_decomposed_on_what_it_computes():
    text = "(float[N,60] x) => (float[N,64] y) { a = MatMul(x, w) c = Relu(a) y = MatMul(c, v) }"
    weights = {"w": weight_of_a_train((), (8, 8)), "v": RANDOM.normal(size=(64, 64)).astype(np.float32)}
    model = model_of(text, **weights)
    feeds = [{"x": RANDOM.normal(size=(64, 60)).astype(np.float32)} for _ in range(4)]
    changed = clone(model)
    context = Context(target=load_target("cpu"), original=model, calibration=feeds)
    outcome = LowRank(method="tt", rank=0.5, multiple=1).run(changed, context)
    assert outcome.changes == 2, outcome.refusals
    expected, result = (Session(one).run(feeds[0])["y"] for one in (model, changed))
    assert np.linalg.norm(result - expected) < 0.7 * np.linalg.norm(expected)


def test_a_convolution_becomes_a_singular_value_decomposition():
    weight = RANDOM.normal(size=(16, 16, 3, 3)).astype(np.float32)
    model = model_of("(float[1,16,8,8] x) => (float[1,16,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w) }", w=weight)
    changed, outcome = decomposed(model)
    assert outcome.changes == 1
    assert [node.op_type for node in changed.graph] == ["Conv", "Conv"]


def test_sizes_that_do_not_divide_become_a_singular_value_decomposition():
    weight = RANDOM.normal(size=(13, 17)).astype(np.float32)
    model = model_of("(float[N,13] x) => (float[N,17] y) { y = MatMul(x, w) }", w=weight)
    changed, outcome = decomposed(model)
    assert outcome.changes == 1
    assert [node.op_type for node in changed.graph] == ["MatMul", "MatMul"]


@pytest.mark.parametrize("method", ["tt", "monarch"])
@pytest.mark.parametrize(("data", "stack"), [((6, 24), (5,)), ((6, 24), (1,)), ((5, 6, 24), (2, 1))])
def test_data_of_fewer_axes_than_a_stack_of_weights_is_not_regrouped(method, data, stack):
    weight = RANDOM.normal(size=(*stack, 24, 30)).astype(np.float32)
    size = ",".join(map(str, data))
    model = model_of(f"(float[{size}] x) => (float y) {{ y = MatMul(x, w) }}", w=weight)
    changed = clone(model)
    context = Context(target=load_target("cpu"), original=model)
    LowRank(method=method, rank=1.0, multiple=1).run(changed, context)
    LowRank(method=method, rank=0.3, multiple=1).run(changed, context)
    feed = {"x": RANDOM.normal(size=data).astype(np.float32)}
    assert Session(changed).run(feed)["y"].shape == Session(model).run(feed)["y"].shape
