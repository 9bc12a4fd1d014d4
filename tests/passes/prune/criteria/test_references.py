"""Scores against what the papers' formulas give when written down naively."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.data.feeds import FeedSamples
from graphpress.errors import UsageError
from graphpress.passes.prune.criteria import Reduction, load_criterion
from graphpress.runtime import InputSpec, Session

MLP = "(float[N,6] x) => (float[N,4] y) { h = Gemm<transB=1>(x, w, b) r = Relu(h) y = Gemm<transB=1>(r, v, c) }"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def mlp(of_text, case):
    """Two layers with twenty rows of data, one feed."""
    random = np.random.default_rng(5)
    shapes = {"w": (7, 6), "b": (7,), "v": (4, 7), "c": (4,)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    network = case()
    network.model, network.weights = of_text(MLP, **weights), weights
    network.feeds = [{"x": random.normal(size=(20, 6)).astype(np.float32)}]
    return network


def hidden(network):
    return np.maximum(network.feeds[0]["x"] @ network.weights["w"].T + network.weights["b"], 0).astype(np.float64)


# -- weights --------------------------------------------------------------------------------------------------


def test_l1_and_l2_are_norms_of_the_slices(case):
    small = case()
    w1, w2 = small.weights["w1"], small.weights["w2"]
    both = Reduction(roles=("writes", "reads"))
    l1, l2 = (small.score(load_criterion(name)(both))["w1[0]"] for name in ("l1", "l2"))
    np.testing.assert_allclose(l1, np.abs(w1).sum((1, 2, 3)) + np.abs(w2).sum((0, 2, 3)), rtol=1e-5)
    squares = np.square(w1).sum((1, 2, 3)), np.square(w2).sum((0, 2, 3))
    np.testing.assert_allclose(l2, np.sqrt(squares[0]) + np.sqrt(squares[1]), rtol=1e-5)


def test_fpgm_is_the_sum_of_distances(case):
    small = case()
    filters = small.weights["w2"].transpose(1, 0, 2, 3).reshape(8, -1)
    wanted = [sum(np.linalg.norm(kernel - other) for other in filters) for kernel in filters]
    np.testing.assert_allclose(small.score(load_criterion("fpgm")())["w1[0]"], wanted, rtol=1e-4)


def test_random_depends_on_seed_and_group_alone(case):
    small = case()
    first = small.score(load_criterion("random")())
    assert not np.array_equal(first["w1[0]"], small.score(load_criterion("random")(), seed=1)["w1[0]"])
    fewer = replace(small.coupling, groups=small.coupling.groups[1:])
    alone = load_criterion("random")().score(small.model, fewer, small.context)
    np.testing.assert_array_equal(alone["w2[0]"], first["w2[0]"])


def test_folded_normalizations_are_refused(case):
    with pytest.raises(UsageError, match="folded"):
        case().score(load_criterion("batch_norm")())


# -- data -----------------------------------------------------------------------------------------------------


def test_activation_statistics(mlp):
    features = hidden(mlp)
    for statistic, wanted in {
        "mean": np.abs(features).mean(0),
        "rms": np.sqrt(np.square(features).mean(0)),
        "apoz": (features != 0).mean(0),
    }.items():
        scores = mlp.score(load_criterion("activation")(statistic=statistic))["w[0]"]
        np.testing.assert_allclose(scores, wanted, rtol=1e-5)


def test_activation_does_not_depend_on_the_cut_of_the_data(case):
    small = case()
    whole = np.concatenate([feed["x"] for feed in small.feeds])
    pieces = [{"x": whole[start : start + 5]} for start in range(0, len(whole), 5)]
    first, second = (small.score(load_criterion("activation")(), calibration=data) for data in (small.feeds, pieces))
    np.testing.assert_allclose(first["w1[0]"], second["w1[0]"], rtol=1e-6)


def test_wanda(mlp):
    norms = np.sqrt(np.square(hidden(mlp)).mean(0))
    wanted = np.abs(mlp.weights["v"]).sum(0) * norms
    np.testing.assert_allclose(mlp.score(load_criterion("wanda")())["w[0]"], wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ["l1", "wanda"])
def test_a_grouped_convolution_scores_as_the_dense_one_with_zeros(name, of_text, case):
    random = np.random.default_rng(0)
    first, grouped = (random.normal(size=shape).astype(np.float32) for shape in ((8, 3, 3, 3), (6, 4, 3, 3)))
    dense = np.zeros((6, 8, 3, 3), np.float32)
    dense[:3, :4], dense[3:, 4:] = grouped[:3], grouped[3:]
    text = """(float[N,3,8,8] x) => (float[N,6,6,6] y) {
        h = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w) r = Relu(h) y = Conv<kernel_shape=[3,3], group=GROUPS>(r, v)
    }"""
    network = case()
    network.model = of_text(text.replace("GROUPS", "1"), w=first, v=dense)
    channels = network.score(load_criterion(name)())["w[0]"]
    network.model = of_text(text.replace("GROUPS", "2"), w=first, v=grouped)
    units = next(place.units for place in network.first.constants if place.value.name == "w")
    scores = network.score(load_criterion(name)())[network.first.name]
    np.testing.assert_allclose(scores, np.bincount(units, weights=channels), rtol=1e-5)


def test_obs_is_the_error_after_least_squares(mlp):
    features = hidden(mlp)
    target = features @ mlp.weights["v"].T
    wanted = []
    for unit in range(features.shape[1]):
        left = np.column_stack([np.delete(features, unit, 1), np.ones(len(features))])  # the bias is refitted too
        solution = np.linalg.lstsq(left, target, rcond=None)[0]
        wanted.append(np.square(left @ solution - target).sum() / len(features))
    np.testing.assert_allclose(mlp.score(load_criterion("obs")(damping=1e-9))["w[0]"], wanted, rtol=1e-3)


def test_relative_errors_are_fractions_of_the_power(mlp):
    centered = hidden(mlp) - hidden(mlp).mean(0)
    power = np.square(centered @ mlp.weights["v"].T).sum() / len(centered)
    absolute, relative = (
        mlp.score(load_criterion("obs")(damping=1e-9, relative=relative))["w[0]"] for relative in (False, True)
    )
    np.testing.assert_allclose(relative, absolute / power, rtol=1e-5)


# -- gradients ------------------------------------------------------------------------------------------------


def gate_derivatives(network, labels, gate=1e-3):
    """By sample and unit, the derivative of cross-entropy by a factor on what reads the unit: finite differences."""

    def losses(factors):
        logits = hidden(network) * factors @ network.weights["v"].T + network.weights["c"]
        logits = logits - logits.max(1, keepdims=True)
        return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]

    units = np.eye(7) * gate
    return np.stack([(losses(1 + unit) - losses(1 - unit)) / (2 * gate) for unit in units], axis=1)


@pytest.mark.parametrize("batch", [1, 4, 20])
def test_taylor_is_the_squared_change_of_the_loss(mlp, batch):
    labels = np.random.default_rng(2).integers(0, 4, 20)
    spec = InputSpec("x", np.dtype(np.float32), (None, 6))
    data = FeedSamples([({"x": mlp.feeds[0]["x"]}, labels)], [spec])
    changes = gate_derivatives(mlp, labels).reshape(-1, batch, 7).mean(1)
    scores = mlp.score(load_criterion("taylor")(batch=batch), calibration=data)["w[0]"]
    np.testing.assert_allclose(scores, np.square(changes).mean(0), rtol=1e-3)


def test_joint_fisher_is_that_of_a_gate_wherever_it_stands(mlp):
    """Relu passes a factor through, so that a gate behind the bias and one before the next layer are the same."""
    before = mlp.score(load_criterion("fisher")(Reduction(roles=("writes", "elementwise")), joint=True))
    after = mlp.score(load_criterion("fisher")(Reduction(roles=("reads",)), joint=True))
    np.testing.assert_allclose(before["w[0]"], after["w[0]"], rtol=1e-4)


def many(mlp, count=4000):
    mlp.feeds = [{"x": np.random.default_rng(8).normal(size=(count, 6)).astype(np.float32)}]
    return hidden(mlp), mlp.weights["v"].astype(np.float64)


def test_fisher_of_outputs_is_half_the_squared_change_of_the_outputs(mlp):
    features, v = many(mlp, 1500)
    power = np.square(features @ v.T + mlp.weights["c"])[:32].mean()  # of the first samples
    wanted = np.square(features).mean(0) * np.square(v).sum(0) / power / 2
    for joint in (False, True):
        scores = mlp.score(load_criterion("fisher")(samples=1500, batch=1, joint=joint))["w[0]"]
        np.testing.assert_allclose(scores, wanted, rtol=0.2)


def test_sampled_fisher_is_that_of_the_predicted_classes(mlp, of_text):
    mlp.weights["v"] *= 0.3  # else confident predictions leave the estimate to few samples
    mlp.model = of_text(MLP, **mlp.weights)
    features, v = many(mlp, 1500)
    logits = features @ v.T + mlp.weights["c"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    variance = (p @ np.square(v)) - np.square(p @ v)  # of v_o over the predicted distribution, by sample and unit
    wanted = (np.square(features) * variance).mean(0) / 2
    scores = mlp.score(load_criterion("fisher")(samples=1500, batch=1, joint=True, targets="sampled"))["w[0]"]
    np.testing.assert_allclose(scores, wanted, rtol=0.35, atol=5e-4)


def test_micro_batches_estimate_the_fisher_of_single_samples(mlp):
    many(mlp, 1500)
    singly, by_four = (mlp.score(load_criterion("fisher")(samples=1500, batch=batch))["w[0]"] for batch in (1, 4))
    np.testing.assert_allclose(by_four, singly, rtol=0.2)


def test_a_model_without_differentiable_outputs_is_refused(mlp, of_text):
    text = MLP.replace("float[N,4] y", "int64[N,1] z").replace("c) }", "c) z = ArgMax<axis=1>(y) }")
    mlp.model = of_text(text, **mlp.weights)
    with pytest.raises(UsageError, match="no output of the model can be differentiated"):
        mlp.score(load_criterion("taylor")())


def test_probabilities_score_as_their_logits(mlp, of_text):
    plain = mlp.score(load_criterion("fisher")(targets="sampled"))["w[0]"]
    mlp.model = of_text(MLP.replace("y = Gemm", "l = Gemm").replace("c) }", "c) y = Softmax(l) }"), **mlp.weights)
    np.testing.assert_allclose(mlp.score(load_criterion("fisher")(targets="sampled"))["w[0]"], plain, rtol=1e-3)


def test_outputs_that_tell_no_classes_are_plain_numbers(of_text, case):
    """A network from images to images."""
    network = case()
    random = np.random.default_rng(0)
    weights = {"w1": random.normal(size=(8, 3, 3, 3)), "w2": random.normal(size=(3, 8, 3, 3))}
    weights["w1"][[2, 5]] *= 1e-3
    text = """(float[N,3,H,W] x) => (float[N,3,H,W] y) {
        h = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1) r = Relu(h)
        y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, w2)
    }"""
    network.model = of_text(text, **{name: array.astype(np.float32) for name, array in weights.items()})
    network.feeds = network.feeds[:1]
    for name in ("taylor", "fisher"):
        scores = network.score(load_criterion(name)())["w1[0]"]
        assert sorted(np.argsort(scores)[:2].tolist()) == [2, 5]


def test_the_first_order_change_foretells_the_real_one(mlp):
    """Joint Fisher of the outputs against really taking each unit out, in ONNX Runtime."""
    features = hidden(mlp)
    session = Session(mlp.model)
    np.testing.assert_allclose(
        session.run(mlp.feeds[0])["y"], features @ mlp.weights["v"].T + mlp.weights["c"], rtol=1e-3, atol=1e-4
    )
    real = np.square(features).mean(0) * np.square(mlp.weights["v"]).sum(0)
    order = mlp.score(load_criterion("fisher")(joint=True))["w[0]"].argsort().argsort()
    assert np.corrcoef(order, real.argsort().argsort())[0, 1] > 0.6
