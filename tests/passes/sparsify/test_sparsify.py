"""Sparse weights: the pattern holds, the criteria are the papers', compensation compensates."""

import re

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphpress.analysis.linear import changeable_linear_op, linear_op_of
from graphpress.analysis.linear.rows import rows_of
from graphpress.errors import UsageError
from graphpress.ir import clone, constant, from_proto, label, verify
from graphpress.ir.sparsity import sparsity_of, sparsity_problems
from graphpress.manager.contract import Context
from graphpress.models import build
from graphpress.observation import Moments
from graphpress.passes.quantize.quantize import Quantize
from graphpress.passes.sparsify._criterion import SparsityRule
from graphpress.passes.sparsify._patterns import keep_globally, keep_in_blocks, lowest
from graphpress.passes.sparsify.sparsegpt import DAMPING, SparseGpt, _pruned
from graphpress.passes.sparsify.sparsify import Sparsify
from graphpress.passes.sparsify.wanda import WandaSparsity
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
CRITERIA = ["magnitude", "wanda", "sparsegpt"]


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=8, image=8, classes=4)


@pytest.fixture(scope="module")
def feeds():
    return [{"input": RANDOM.normal(size=(32, 3, 8, 8)).astype(np.float32)} for _ in range(2)]


def sparsified(network, feeds, one, **settings):
    model = clone(network)
    context = Context(load_target("cpu"), network, calibration=feeds, **settings)
    refusal = one.refuse(model, context)
    assert refusal is None
    outcome = one.run(model, context)
    verify(model)
    return model, outcome


def layers_of(model):
    return [found for node in model.graph if (found := linear_op_of(node)) is not None]


@pytest.mark.parametrize(
    ("target", "pattern", "said"),
    [
        ("cpu", "2:4", "ONNX Runtime has no kernels"),
        ("jetson", "2:4", "has kernels for 2:4 sparse weights: TensorRT may take"),
        ("jetson", "4:8", "save no time: TensorRT has kernels for the pattern 2:4 alone"),
        ("jetson-xavier", "2:4", "before Ampere"),
    ],
)
def test_what_zeros_are_worth_is_what_the_target_says(network, target, pattern, said):
    outcome = Sparsify(pattern=pattern).run(clone(network), Context(load_target(target), network))
    assert said in outcome.notes[-1]
    assert ("ONNX Runtime" in outcome.notes[-1]) is (target == "cpu")


def error(network, model, feeds):
    one, other = Session(network), Session(model)
    wrong = [
        np.square(a - b).sum()
        for feed in feeds
        for a, b in zip(one.run(feed).values(), other.run(feed).values(), strict=True)
    ]
    return float(np.sum(wrong))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8", "1:2"])
def test_the_pattern_holds_and_is_annotated(network, feeds, criterion, pattern):
    model, outcome = sparsified(network, feeds, Sparsify(pattern=pattern, criterion=criterion))
    assert outcome.changes == len(layers_of(model)) - (pattern != "unstructured")
    assert any("save no time: ONNX Runtime has no kernels for sparse weights" in note for note in outcome.notes)
    assert not sparsity_problems(model)
    for layer in layers_of(model):
        found = sparsity_of(layer.weight)
        if found is None:
            assert layer.weight_shape[1] == 3
            continue
        zeros = 1 - np.count_nonzero(constant(layer.weight)) / constant(layer.weight).size
        assert zeros == pytest.approx(0.5, abs=0.02)
        assert (found.pattern, found.axis) == (pattern, layer.in_axis)
    if pattern != "unstructured":
        assert [refusal.why for refusal in outcome.refusals] == [
            f"{pattern[-1]} does not divide the 3 input channels that an output reads"
        ]


@pytest.mark.parametrize("criterion", ["magnitude", "wanda"])
def test_all_layers_at_once(network, feeds, criterion):
    model, _ = sparsified(network, feeds, Sparsify(sparsity=0.6, criterion=criterion, scope="global"))
    weights = [constant(layer.weight) for layer in layers_of(model)]
    shares = [1 - np.count_nonzero(weight) / weight.size for weight in weights]
    whole = 1 - sum(map(np.count_nonzero, weights)) / sum(weight.size for weight in weights)
    assert whole == pytest.approx(0.6, abs=1e-3)
    assert max(shares) - min(shares) > 0.05
    assert not sparsity_problems(model)


def test_magnitude_takes_the_smallest(network, feeds):
    model, _ = sparsified(network, feeds, Sparsify(sparsity=0.3))
    for before, after in zip(layers_of(network), layers_of(model), strict=True):
        old, new = constant(before.weight), constant(after.weight)
        np.testing.assert_array_equal(new[new != 0], old[new != 0])
        assert np.abs(old[new == 0]).max() <= np.abs(old[new != 0]).min()
        assert not np.signbit(new[new == 0]).any()


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**16))
def test_exactly_the_share_with_the_lowest_scores_goes(size, share, seed):
    scores = np.random.default_rng(seed).integers(0, 5, size).astype(float)
    gone = lowest(scores, share)
    assert gone.sum() == round(share * size)
    assert not gone.any() or gone.all() or scores[gone].max() <= scores[~gone].min()


def test_patterns_by_hand():
    scores = np.array([[1.0, 5, 2, 4, 9, 8, 7, 6]])
    np.testing.assert_array_equal(keep_in_blocks(scores, 1, (2, 4)), [[0, 1, 0, 1, 1, 1, 0, 0]])
    kept = keep_globally({"a": np.array([1.0, 9]), "b": np.array([[2.0], [8]])}, 0.5)
    np.testing.assert_array_equal(kept["a"], [False, True])
    np.testing.assert_array_equal(kept["b"], [[False], [True]])


def linear(of, rows, weight):
    layer = changeable_linear_op(of(weight).graph[0])
    seen = Moments()
    seen.add(rows_of(layer, rows))
    return layer, seen


@pytest.fixture
def gemm():
    def make(weight):
        node = helper.make_node("Gemm", ["x", "w"], ["y"], name="fc", transB=1)
        x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy")
        graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(weight, "w")])
        return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))

    return make


def test_wanda_is_its_equation(gemm):
    weight, rows = RANDOM.normal(size=(5, 12)).astype(np.float32), RANDOM.normal(size=(64, 12)).astype(np.float32)
    rows *= np.arange(1, 13, dtype=np.float32)
    layer, seen = linear(gemm, rows, weight)
    found = WandaSparsity().sparse(layer, weight, seen, SparsityRule(0.5))
    scores = np.abs(weight) * np.linalg.norm(rows, axis=0)
    for row, score in zip(found, scores, strict=True):
        assert set(np.flatnonzero(row == 0)) == set(np.argsort(score)[:6])


def sparsegpt_by_the_book(weight, rows, share):
    """Algorithm 1 of the paper in one run of features, one at a time."""
    gram = rows.T @ rows / len(rows)
    gram += DAMPING * np.diag(gram).mean() * np.eye(len(gram))
    upper = np.linalg.cholesky(np.linalg.inv(gram)).T
    weight = weight.astype(np.float64).copy()
    scores = np.square(weight / np.diag(upper))
    mask = scores > np.sort(scores.reshape(-1))[round(share * scores.size) - 1]
    for column in range(weight.shape[1]):
        wrong = np.where(mask[:, column], 0, weight[:, column]) / upper[column, column]
        weight[:, column:] -= np.outer(wrong, upper[column, column:])
    return weight * mask


def test_sparsegpt_is_its_algorithm(gemm):
    weight = RANDOM.normal(size=(5, 12)).astype(np.float32)
    rows = (RANDOM.normal(size=(256, 12)) @ RANDOM.normal(size=(12, 12))).astype(np.float32)
    layer, seen = linear(gemm, rows, weight)
    found = SparseGpt().sparse(layer, weight, seen, SparsityRule(0.5))
    expected = sparsegpt_by_the_book(weight, rows.astype(np.float64), 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("rule", [SparsityRule(0.5), SparsityRule(0.5, (2, 4)), SparsityRule(0.25, (3, 4))], ids=str)
def test_compensation_lowers_the_error(rule):
    """Not of every matrix, for later columns may lose what they took over, but clearly of twenty."""
    ratios = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        rows = random.normal(size=(300, 16)) @ random.normal(size=(16, 16))
        weight, gram = random.normal(size=(6, 16)), rows.T @ rows / 300
        found = _pruned(weight.copy(), gram, rule)
        cut = np.where(found == 0, 0, weight)
        ratios.append(np.square(rows @ (found - weight).T).sum() / np.square(rows @ (cut - weight).T).sum())
    assert np.median(ratios) < 0.7


def test_features_that_are_never_seen_go_first(gemm):
    weight, rows = RANDOM.normal(size=(4, 8)).astype(np.float32), RANDOM.normal(size=(64, 8)).astype(np.float32)
    rows[:, 3] = 0
    layer, seen = linear(gemm, rows, weight)
    found = SparseGpt().sparse(layer, weight, seen, SparsityRule(0.5))
    assert not found[:, 3].any()
    assert np.isfinite(found).all()


def test_compensation_shows_in_the_network(network, feeds):
    errors = {one: error(network, sparsified(network, feeds, Sparsify(criterion=one))[0], feeds) for one in CRITERIA}
    assert errors["sparsegpt"] < min(errors["magnitude"], errors["wanda"])


@pytest.mark.parametrize("family", ["shufflenet", "mobilenet_v2", "unet", "bert"])
def test_grouped_transposed_and_batched_layers(family):
    network = build(family)
    random = np.random.default_rng(0)
    feeds = []
    for _ in range(3):
        feed = {}
        for spec in Session(network).inputs:
            dims = [dim if isinstance(dim, int) else 2 for dim in spec.dims]
            whole = spec.dtype.kind in "iu"
            feed[spec.name] = (random.integers(0, 2, dims) if whole else random.normal(size=dims)).astype(spec.dtype)
        feeds.append(feed)
    for criterion in CRITERIA:
        model, outcome = sparsified(network, feeds, Sparsify(criterion=criterion, pattern="2:4"))
        assert outcome.changes
        assert not sparsity_problems(model)


def test_quantized_weights_are_refused_and_zeros_survive_quantizing(network, feeds):
    model, _ = sparsified(network, feeds, Sparsify())
    context = Context(load_target("cpu"), network, calibration=feeds)
    Quantize().run(model, context)
    assert not sparsity_problems(model)
    outcome = Sparsify().run(model, context)
    assert outcome.changes == 0
    assert all("quantized already" in refusal.why for refusal in outcome.refusals)


def test_excluded_layers_stay(network, feeds):
    model, outcome = sparsified(network, feeds, Sparsify(), exclude=re.compile("."))
    assert outcome.changes == 0
    assert all(sparsity_of(layer.weight) is None for layer in layers_of(model))


def test_criteria_that_look_at_activations_need_data(network):
    context = Context(load_target("cpu"), network)
    assert "needs calibration data" in Sparsify(criterion="wanda").refuse(network, context).why
    assert Sparsify().refuse(network, context) is None


def test_infinities_leave_the_layer_dense(network, feeds):
    spoilt = [{"input": feed["input"].copy()} for feed in feeds]
    spoilt[0]["input"][0] = np.inf
    model, outcome = sparsified(network, spoilt, Sparsify(criterion="sparsegpt"))
    assert outcome.changes == 0
    assert {refusal.where for refusal in outcome.refusals} == {label(layer.node) for layer in layers_of(model)}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sparsity": 0.0}, "between 0 and 1"),
        ({"sparsity": 1.0}, "between 0 and 1"),
        ({"pattern": "2:4", "sparsity": 0.7}, "makes 0.5"),
        ({"pattern": "4:2"}, "unknown pattern"),
        ({"pattern": "2:4", "scope": "global"}, "scope=global"),
        ({"criterion": "sparsegpt", "scope": "global"}, "scope=global"),
        ({"samples": 0}, "at least 1"),
    ],
)
def test_options_that_make_no_sense(options, reason):
    with pytest.raises(UsageError, match=reason):
        Sparsify(**options)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_reads_infinities_stays_dense(scope):
    graph = onnx.parser.parse_graph(
        "g (float[n,8] x) => (float[n,4] y, float[n,4] z) { l = Log(x)  y = MatMul(l, v)  z = MatMul(x, w) }"
    )
    weights = {name: RANDOM.normal(size=(8, 4)).astype(np.float32) for name in ("v", "w")}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    feeds = [{"x": np.zeros((4, 8), np.float32)}]
    sparse, outcome = sparsified(model, feeds, Sparsify(criterion="wanda", scope=scope))
    assert outcome.changes == 1
    assert [(refusal.where, "infinite" in refusal.why) for refusal in outcome.refusals] == [("MatMul -> y", True)]
    for name, share in (("v", 0.0), ("w", 0.5)):
        assert np.mean(constant(sparse.graph.initializers[name]) == 0) == share
