"""Layers become chains: they compute the product of the factors, cost what was asked for, and say why some stay."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.cost import model_cost
from graphpress.analysis.linear import linear_op_of
from graphpress.errors import UsageError
from graphpress.ir import clone, constant, load, save, verify
from graphpress.manager.contract import Context
from graphpress.manager.transaction import Transaction
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._regrouping import even_factors
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32) * 0.3


def apply(lowrank, model, feeds=None, *, target=None, **context):
    """A copy with the pass run on it, and what it says."""
    target = target or load_target("cpu")
    changed = clone(model)
    outcome = lowrank.run(changed, Context(target=target, original=model, calibration=feeds, **context))
    verify(changed)
    return changed, outcome


def outputs(model, feed):
    return Session(model).run(feed)["y"]


CONV = "(float[2,8,9,9] x) => (float[2,16,?,?] y) {{ y = Conv<{}>(x, w, b) }}"
PLACES = [
    "pads=[1,1,1,1]",
    "pads=[0,1,2,1], strides=[2,1]",
    "strides=[1,3], dilations=[2,1]",
    'auto_pad="SAME_UPPER", strides=[2,2]',
    'auto_pad="SAME_LOWER"',
    "group=2, pads=[1,0,1,0]",
]
TRANSPOSED = "(float[2,8,5,6] x) => (float[2,16,?,?] y) {{ y = ConvTranspose<{}>(x, w, b) }}"
SPREADS = [
    "pads=[1,1,1,1]",
    "pads=[0,1,2,1], strides=[2,1]",
    "strides=[2,2], output_padding=[1,1], dilations=[2,1]",
    'auto_pad="SAME_UPPER", strides=[2,2]',
    "group=2, strides=[2,2], pads=[1,0,1,0], output_padding=[1,0]",
]
LAYERS = {
    **{place: (CONV.format(place), {"w": normal(16, 4 if "group" in place else 8, 3, 3), "b": normal(16)})
       for place in PLACES},
    **{f"transposed {place}": (TRANSPOSED.format(place), {"w": normal(8, 8 if "group" in place else 16, 3, 3),
                                                          "b": normal(16)}) for place in SPREADS},
    "1x1": ("(float[2,8,9,9] x) => (float[2,16,?,?] y) { y = Conv<strides=[2,2]>(x, w) }", {"w": normal(16, 8, 1, 1)}),
    "1-d": ("(float[2,8,9] x) => (float[2,16,?] y) { y = Conv<strides=[2]>(x, w) }", {"w": normal(16, 8, 3)}),
    "matmul": ("(float[2,5,12] x) => (float[2,5,10] y) { y = MatMul(x, w) }", {"w": normal(12, 10)}),
    "batched": ("(float[2,3,5,12] x) => (float[2,3,5,10] y) { y = MatMul(x, w) }", {"w": normal(3, 12, 10)}),
    "added": (
        "(float[2,5,12] x) => (float[2,5,10] y) { h = MatMul(x, w)  y = Add(h, b) }",
        {"w": normal(12, 10), "b": normal(10)},
    ),
    "gemm": (
        "(float[4,12] x) => (float[4,10] y) { y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b) }",
        {"w": normal(10, 12), "b": normal(10)},
    ),
    "turned": ("(float[12,4] x) => (float[4,10] y) { y = Gemm<transA=1>(x, w) }", {"w": normal(12, 10)}),
}  # fmt: skip


def feed_of(model, samples=None):
    shape = [dim if isinstance(dim, int) else samples or 1 for dim in model.graph.inputs[0].shape]
    return {"x": RANDOM.normal(size=shape).astype(np.float32)}


@pytest.mark.parametrize("method", [name for name in FORMS if name != "tt"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_chain_computes_the_product_of_its_factors(name, method):
    """A weight that is of low rank already is decomposed without loss; the graph shows it."""
    text, weights = LAYERS[name]
    low = {"w": _of_rank_one(weights["w"], grouped="group" in name)} | {k: v for k, v in weights.items() if k != "w"}
    model = model_of(text, **low)
    changed, outcome = apply(LowRank(method=method, rank=0.1, multiple=1), model)
    assert outcome.changes == 1, outcome.refusals
    feed = feed_of(model)
    np.testing.assert_allclose(outputs(changed, feed), outputs(model, feed), atol=1e-4)
    assert model_cost(changed).macs < model_cost(model).macs
    assert model_cost(changed).parameters < model_cost(model).parameters
    again, second = apply(LowRank(method=method, rank=0.1, multiple=1), changed)
    assert second.changes == 0
    assert second.refusals
    assert [node.op_type for node in again.graph] == [node.op_type for node in changed.graph]


def _of_rank_one(weight, *, grouped):
    """A weight of the same shape and energy whose every unfolding has rank one (by group), halves of axes included."""
    factors = [np.kron(*(RANDOM.normal(size=half) for half in even_factors(size))) for size in weight.shape]
    if grouped:
        return (
            np.einsum("gi,j,k,l->gijkl", RANDOM.normal(size=(2, len(weight) // 2)), *factors[1:])
            .reshape(weight.shape)
            .astype(np.float32)
        )
    whole = factors[0]
    for factor in factors[1:]:
        whole = np.multiply.outer(whole, factor)
    return whole.astype(np.float32)


NET = """(float[N,6,8,8] x) => (float[N,10] y) {
    a = Conv<pads=[1,1,1,1]>(x, w0, b0)  c = Relu(a)
    d = Conv<pads=[1,1,1,1]>(c, w1, b1)  e = Relu(d)
    f = Conv<pads=[1,1,1,1], group=12>(e, w2)  g = Relu(f)
    h = GlobalAveragePool(g)  i = Flatten(h)  y = Gemm<transB=1>(i, w3, b3) }"""


@pytest.fixture(scope="module")
def net():
    return model_of(
        NET, w0=normal(12, 6, 3, 3), b0=normal(12), w1=normal(12, 12, 3, 3), b1=normal(12), w2=normal(12, 1, 3, 3),
        w3=normal(10, 12), b3=normal(10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def feeds():
    return [{"x": RANDOM.normal(size=(8, 6, 8, 8)).astype(np.float32)} for _ in range(3)]


@pytest.mark.parametrize("goal", ["macs_kept", "params_kept"])
def test_a_goal_is_met_and_named_layers_say_why_they_stay(net, feeds, goal):
    changed, outcome = apply(LowRank(**{goal: 0.6}), net, feeds)
    before, after = model_cost(net), model_cost(changed)
    resource = {"macs_kept": "macs", "params_kept": "parameters"}[goal]
    assert getattr(after, resource) <= 0.6 * getattr(before, resource)
    assert any("depthwise" in refusal.why for refusal in outcome.refusals)
    assert f"{after.macs / before.macs:.1%}" in outcome.notes[0]


PRODUCT = "(float[8,512] x) => (float[8,512] y) { y = MatMul(x, w) }"


def test_a_speed_up_for_another_target_is_modelled():
    model = model_of(PRODUCT, w=normal(512, 512))
    changed, outcome = apply(LowRank(speedup=1.5), model, target=load_target("jetson"))
    assert outcome.changes == 1
    assert any("speedup" in note and "not measured" in note for note in outcome.notes)
    assert model_cost(changed).macs < model_cost(model).macs / 1.5


def test_a_speed_up_is_measured_here():
    """Reached or not, which a busy machine decides, what was measured is said."""
    _, outcome = apply(LowRank(speedup=1.5), model_of(PRODUCT, w=normal(512, 512)))
    said = [*outcome.notes, *(refusal.why for refusal in outcome.refusals)]
    assert any("measured" in text and "speedup" in text for text in said)


def test_a_goal_out_of_reach_is_said(net, feeds):
    _, outcome = apply(LowRank(macs_kept=0.01), net, feeds)
    assert any("cannot be reached" in refusal.why for refusal in outcome.refusals)


def test_the_norm_of_the_data_does_less_damage_than_that_of_the_weights(net):
    """On data that varies in few directions."""
    mix = RANDOM.normal(size=(6, 6)).astype(np.float32) * np.array([2, 1, 0.1, 0.1, 0.05, 0.05], np.float32)
    seen = [{"x": np.einsum("nchw,dc->ndhw", RANDOM.normal(size=(16, 6, 8, 8)), mix).astype(np.float32)} for _ in "abc"]
    errors = {}
    for norm in ("data", "weights"):
        changed, _ = apply(LowRank(method="svd", rank=0.3, multiple=1, norm=norm), net, seen)
        wanted = outputs(net, seen[0])
        errors[norm] = np.square(outputs(changed, seen[0]) - wanted).sum()
    assert errors["data"] < 0.7 * errors["weights"]


def test_energy_keeps_what_it_says(net, feeds):
    """Of a layer whose input is what it was."""
    changed, outcome = apply(LowRank(energy=0.8, multiple=1, layers="Conv_d"), net, feeds)
    assert outcome.changes == len(outcome.decomposed) >= 1
    assert all(layer.error <= 0.205 and layer.energy >= 0.795 for layer in outcome.decomposed)
    assert model_cost(changed).macs < model_cost(net).macs


def test_what_is_above_noise_stays():
    signal = np.einsum("ir,ro->io", RANDOM.normal(size=(64, 5)), RANDOM.normal(size=(5, 48)))
    noisy = (signal + 0.1 * RANDOM.normal(size=signal.shape)).astype(np.float32)
    model = model_of("(float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }", w=noisy)
    changed, _ = apply(LowRank(vbmf=True), model)
    assert linear_op_of(changed.graph[0]).matrix_shape == (1, 64, 5)


def test_the_choice_is_recorded_and_followed(net, feeds):
    decisions = {}
    changed, _ = apply(LowRank(macs_kept=0.6), net, feeds, decisions=decisions)
    replayed, _ = apply(LowRank(macs_kept=0.6), net, feeds, decisions=dict(decisions))
    for node, other in zip(changed.graph, replayed.graph, strict=True):
        assert [value.shape for value in node.inputs] == [value.shape for value in other.inputs]
    feed = feeds[0]
    np.testing.assert_array_equal(outputs(changed, feed), outputs(replayed, feed))


@pytest.mark.parametrize("change", [{"form": "lu"}, {"ranks": [10_000]}, {"ranks": [1, 1, 1]}, {"ranks": [0]}])
def test_a_recorded_choice_that_cannot_be_is_made_anew(net, feeds, change):
    decisions = {}
    changed, _ = apply(LowRank(method="svd", macs_kept=0.6), net, feeds, decisions=decisions)
    (key,) = decisions
    chosen = {name: choice | change for name, choice in decisions[key]["chosen"].items()}
    wrong = {key: {"chosen": chosen, "missing": []}}
    again, _ = apply(LowRank(method="svd", macs_kept=0.6), net, feeds, decisions=wrong)
    assert model_cost(again).macs == model_cost(changed).macs


def test_layers_that_cannot_be_decomposed_are_named():
    model = model_of(
        "(float[N,8,6,6] x) => (float[N,4,7,7] y) { a = ConvTranspose<output_shape=[7,7]>(x, t)  b = Relu(a) "
        "c = Conv(b, s)  d = Relu(c) "
        "y = Conv<pads=[1,1,1,1]>(d, s2) }",
        t=normal(8, 8, 2, 2), s=normal(1, 8, 1, 1), s2=normal(4, 1, 3, 3),
    )  # fmt: skip
    _, outcome = apply(LowRank(rank=0.3), model)
    whys = " ".join(refusal.why for refusal in outcome.refusals)
    assert outcome.changes == 0
    assert "output_shape" in whys
    assert "single input or output" in whys


def test_where_nothing_can_be_decomposed_the_pass_says_so_first():
    model = model_of("(float[N,8,6,6] x) => (float[N,8,4,4] y) { y = Conv<group=8>(x, w) }", w=normal(8, 1, 3, 3))
    _, outcome = apply(LowRank(), model)
    assert outcome.changes == 0
    assert outcome.refusals[0].where == "lowrank"
    assert "no layer was decomposed: a depthwise" in outcome.refusals[0].why
    _, outcome = apply(LowRank(), model_of("(float[N,8] x) => (float[N,8] y) { y = Relu(x) }"))
    assert "none multiplies" in outcome.refusals[0].why


@pytest.mark.parametrize("rows", [1, 16])
def test_data_that_does_not_vary_gives_errors_that_can_be_read(net, rows):
    same = [{"x": np.ones((rows, 6, 8, 8), np.float32)}]
    _, outcome = apply(LowRank(rank=0.3, multiple=1), net, same)
    assert all(0 <= layer.error < 2 for layer in outcome.decomposed)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"rank": 1.5}, "fraction"),
        ({"rank": 0.0}, "fraction"),
        ({"macs_kept": 0.5, "rank": 0.5}, "two goals"),
        ({"layers": "("}, "regular expression"),
        ({"multiple": 0}, "at least 1"),
        ({"method": "lu"}, "lu"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, word):
    with pytest.raises(UsageError, match=word):
        LowRank(**fields)


@pytest.mark.parametrize("layers", ["nowhere", "Relu", "Conv_dd"])
def test_an_expression_that_matches_no_layer_is_a_slip(net, layers):
    with pytest.raises(UsageError, match="no layer matches") as error:
        apply(LowRank(rank=0.3, layers=layers), net)
    assert "Relu" not in error.value.fix
    assert layers != "Conv_dd" or "Conv_d" in error.value.fix


def test_an_undefined_weight_leaves_its_layer_whole():
    broken = normal(12, 12)
    broken[0, 0] = np.nan
    model = model_of("(float[N,12] x) => (float[N,12] y) { y = MatMul(x, w) }", w=broken)
    _, outcome = apply(LowRank(macs_kept=0.5), model)
    assert outcome.changes == 0
    assert any("its weight holds" in refusal.why for refusal in outcome.refusals)


def test_layers_in_line_without_an_activation_are_no_factors():
    """A separable convolution as exporters write it: the pointwise layer is decomposed."""
    model = model_of(
        "(float[1,16,8,8] x) => (float[1,32,8,8] y) { h = Conv<group=16, pads=[1,1,1,1]>(x, d)  y = Conv(h, w, b) }",
        d=normal(16, 1, 3, 3), w=normal(32, 16, 1, 1), b=normal(32),
    )  # fmt: skip
    changed, outcome = apply(LowRank(rank=0.25, multiple=1), model)
    assert [node.op_type for node in changed.graph] == ["Conv", "Conv", "Conv"]
    assert outcome.changes == 1


def test_a_bias_that_a_chain_gets_is_priced(feeds):
    """Small layers without one: the goal on parameters holds with it."""
    text = "(float[N,6,8,8] x) => (float[N,8,8,8] y) { a = Conv(x, w0)  b = Relu(a)  y = Conv(b, w1) }"
    model = model_of(text, w0=normal(8, 6, 1, 1), w1=normal(8, 8, 1, 1))
    changed, outcome = apply(LowRank(params_kept=0.75, multiple=1), model, feeds)
    assert outcome.changes
    assert model_cost(changed).parameters <= 0.75 * model_cost(model).parameters


def test_the_loss_that_is_reported_is_that_of_the_layers_result(net, feeds):
    changed, outcome = apply(LowRank(method="svd", rank=0.2, multiple=1, positions=1000), net, feeds)
    (told,) = [layer for layer in outcome.decomposed if layer.name == "Conv_d"]
    names = {"d": "d"}
    wanted, given = (
        np.concatenate([Session(model, extra_outputs=list(names)).run(feed)["d"] for feed in feeds])
        for model in (net, changed)
    )
    lost = np.square(wanted - given).sum() / np.square(wanted - wanted.mean(axis=(0, 2, 3), keepdims=True)).sum()
    assert told.error == pytest.approx(lost, rel=0.05)


def test_each_decomposed_layer_is_told_with_its_ranks_and_costs(net, feeds):
    before = model_cost(net)
    changed, outcome = apply(LowRank(method="tucker", rank=0.25, multiple=1, layers="Conv_d"), net, feeds)
    (told,) = outcome.decomposed
    assert (told.name, told.op, told.form, told.ranks, told.full_ranks) == (
        "Conv_d",
        "Conv",
        "tucker",
        (3, 3),
        (12, 12),
    )
    assert 0 < told.energy < 1
    after = model_cost(changed)
    assert before.macs - told.macs_before + told.macs == after.macs
    assert before.parameters - told.parameters_before + told.parameters == after.parameters
    assert told.seconds is told.seconds_before is None
    assert len(outcome.notes) == 1
    assert "1 layer decomposed (1 tucker)" in outcome.notes[0]


def test_where_time_was_the_goal_the_times_of_layers_are_told():
    _, outcome = apply(LowRank(speedup=1.5), model_of(PRODUCT, w=normal(512, 512)), target=load_target("jetson"))
    (told,) = outcome.decomposed
    assert told.seconds < told.seconds_before


def test_what_a_transposed_convolution_loses_on_data_is_what_is_said():
    model = model_of(
        "(float[N,6,5,5] x) => (float[N,8,?,?] y) { y = ConvTranspose<strides=[2,2], output_padding=[1,1]>(x, w, b) }",
        w=normal(6, 8, 3, 3), b=normal(8),
    )  # fmt: skip
    seen = [{"x": RANDOM.normal(size=(40, 6, 5, 5)).astype(np.float32)}]
    changed, outcome = apply(LowRank(method="svd", rank=0.3, multiple=1, positions=1000), model, seen)
    assert [node.op_type for node in changed.graph] == ["ConvTranspose", "Conv"]
    wanted = outputs(model, seen[0])
    lost = np.square(wanted - outputs(changed, seen[0])).sum()
    share = lost / np.square(wanted - wanted.mean(axis=(0, 2, 3), keepdims=True)).sum()
    (told,) = outcome.decomposed
    assert told.error == pytest.approx(share, rel=0.05)


OPEN = {
    "tokens": ("(float[N,S,12] x) => (float[N,S,10] y) { h = MatMul(x, w)  y = Add(h, b) }", (12, 10), (3, 40, 12)),
    "rows": ("(float[N,12] x) => (float[N,10] y) { y = Gemm<beta=2.0>(x, w, b) }", (12, 10), (90, 12)),
    "image": ("(float[N,12,H,V] x) => (float[N,10,H,V] y) { y = Conv(x, w, b) }", (10, 12, 1, 1), (3, 12, 5, 6)),
}


@pytest.mark.parametrize("method", ["svd", "monarch"])
@pytest.mark.parametrize("name", OPEN)
def test_axes_that_are_open_stay_open_and_the_loss_is_what_is_said(name, method):
    text, weight, shape = OPEN[name]
    model = model_of(text, opset=13, w=normal(*weight), b=normal(10))
    seen = [{"x": RANDOM.normal(size=shape).astype(np.float32)}]
    changed, outcome = apply(LowRank(method=method, rank=0.2, multiple=1, positions=1000), model, seen)
    assert outcome.changes == 1, outcome.refusals
    wanted, given = outputs(model, seen[0]), outputs(changed, seen[0])
    axes = tuple(axis for axis in range(wanted.ndim) if axis != (1 if name == "image" else wanted.ndim - 1))
    share = np.square(wanted - given).sum() / np.square(wanted - wanted.mean(axis=axes, keepdims=True)).sum()
    (told,) = outcome.decomposed
    assert told.error == pytest.approx(share, rel=1e-3)
    other = tuple(size if size == 12 else size + 2 for size in shape)
    x = RANDOM.normal(size=other).astype(np.float32)
    assert outputs(changed, {"x": x}).shape == outputs(model, {"x": x}).shape


def test_sizes_that_cannot_be_split_become_singular_value_decompositions():
    model = model_of("(float[N,13] x) => (float[N,12] y) { y = MatMul(x, w) }", w=normal(13, 12))
    _, outcome = apply(LowRank(method="monarch", rank=0.2, multiple=1), model)
    assert [layer.form for layer in outcome.decomposed] == ["svd"]


def test_two_layers_of_one_name_are_two_layers():
    model = model_of(
        "(float[N,16] x) => (float[N,16] y) { a = MatMul(x, w0)  b = Relu(a)  y = MatMul(b, w1) }",
        w0=normal(16, 16), w1=normal(16, 16),
    )  # fmt: skip
    for node in model.graph:
        node.name = "same"
    changed, outcome = apply(LowRank(macs_kept=0.5, multiple=1), model)
    assert model_cost(changed).macs <= 0.5 * model_cost(model).macs
    assert not any("cannot be reached" in refusal.why for refusal in outcome.refusals)


def test_few_samples_are_said_with_how_many_would_do(net):
    few = [{"x": RANDOM.normal(size=(1, 6, 8, 8)).astype(np.float32)}]
    _, outcome = apply(LowRank(rank=0.3), net, few)
    (note,) = [note for note in outcome.notes if "few samples" in note]
    assert "Gemm_y has 12 inputs and saw 1 rows of data in 1 samples; 48 samples" in note
    enough = [{"x": RANDOM.normal(size=(48, 6, 8, 8)).astype(np.float32)}]
    _, outcome = apply(LowRank(rank=0.3), net, enough)
    assert not any("few samples" in note for note in outcome.notes)


def test_of_few_samples_the_directions_that_they_do_not_show_are_kept():
    """A layer of many inputs, seen in fewer rows: at the same rank it is nearer to what it was on others."""
    model = model_of("(float[N,256] x) => (float[N,256] y) { y = MatMul(x, w) }", w=normal(256, 256))
    shown, others = RANDOM.normal(size=(2, 64, 256)).astype(np.float32)
    changed, _ = apply(LowRank(rank=0.25, multiple=1), model, [{"x": shown}])
    wanted = outputs(model, {"x": others})
    assert np.square(outputs(changed, {"x": others}) - wanted).sum() < 0.65 * np.square(wanted).sum()


@pytest.mark.parametrize("goal", [{"rank": 0.3}, {"macs_kept": 0.6}, {"energy": 0.8}])
def test_undefined_activations_leave_the_layer_whole(net, goal):
    strange = [{"x": np.full((4, 6, 8, 8), np.nan, np.float32)}]
    changed, outcome = apply(LowRank(**goal), net, strange)
    assert outcome.changes == 0
    assert any("undefined" in refusal.why for refusal in outcome.refusals)
    assert len(list(changed.graph)) == len(list(net.graph))


def test_factors_are_known_again_after_a_file(tmp_path):
    model = model_of("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=normal(64, 64))
    changed, _ = apply(LowRank(rank=0.25, multiple=1), model)
    save(changed, tmp_path / "decomposed.onnx")
    again, outcome = apply(LowRank(rank=0.25, multiple=1), load(tmp_path / "decomposed.onnx"))
    assert outcome.changes == 0
    assert [node.op_type for node in again.graph] == ["MatMul", "MatMul"]


def test_what_goes_through_a_chain_in_half_precision_does_not_overflow():
    """Sixteen outputs of 20,000 are 80,000 together, which one orthonormal factor would leave to the other."""
    weight = np.multiply.outer(normal(32) / 6, np.full(16, 20_000)).astype(np.float16)
    model = model_of("(float16[N,32] x) => (float16[N,16] y) { y = MatMul(x, w) }", w=weight)
    feed = {"x": RANDOM.normal(size=(8, 32)).astype(np.float16)}
    changed, outcome = apply(LowRank(rank=0.1, multiple=1), model, [feed])
    assert outcome.changes == 1
    thin = constant(next(iter(changed.graph)).inputs[1])
    assert np.abs(feed["x"].astype(float) @ thin.astype(float)).max() < 100
    whole = outputs(model, feed)
    np.testing.assert_allclose(outputs(changed, feed), whole, rtol=0.02, atol=0.02 * np.abs(whole).max())


def test_new_factors_are_no_layers_that_least_squares_has_to_refuse(net, feeds):
    changed, _ = apply(LowRank(macs_kept=0.6), net, feeds)
    context = Context(target=load_target("cpu"), original=net, calibration=feeds, transaction=Transaction(net))
    outcome = Reconstruct().run(changed, context)
    assert not [refusal for refusal in outcome.refusals if "no such layer" in refusal.why]
