"""Where half precision goes, where it does not and why, on small graphs."""

import re

import numpy as np
import pytest

from graphpress.errors import UsageError
from graphpress.ir import clone
from graphpress.ir.encoding import compute_request, float_type, request_compute, set_float_type
from graphpress.ir.printer import print_model
from graphpress.manager.contract import Context
from graphpress.manager.recipe import from_name
from graphpress.passes.precision.reduce_precision import ReducePrecision
from graphpress.runtime import Session
from graphpress.targets import load_target

W = np.eye(4, dtype=np.float32) * 0.5
TOLERANCE = 2e-3
LAYER = "(float[N,4] x) => (float[N,4] y) { m = MatMul (x, w)\n r = Relu (m)\n y = Exp (r) }"


def test_every_node_gets_the_type_and_a_request(build, reduce):
    done = reduce(build(LAYER, w=W))
    assert done.typed == {"m", "r", "y"}
    assert {compute_request(node) for node in done.model.graph} == {"float16"}
    assert done.outcome.changes == 3
    assert done.outcome.notes == ["3 nodes in float16"]
    assert done.error() < TOLERANCE


def test_requests_for_other_arithmetic_stay(build, reduce):
    model = build(LAYER, w=W)
    request_compute(model.graph[0], "int8")
    done = reduce(model)
    assert [compute_request(node) for node in done.model.graph] == ["int8", "float16", "float16"]
    assert float_type(done.model.graph[0]) == "float16"


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_a_second_run_changes_nothing(build, reduce, to):
    once = reduce(build(LAYER, w=W), to=to)
    again = reduce(once.model, to=to)
    assert again.outcome.changes == 0
    assert print_model(again.model) == print_model(once.model)


def test_nodes_of_another_type_keep_it(build, reduce):
    model = build(LAYER, w=W)
    set_float_type(model.graph[0], "bfloat16")
    done = reduce(model)
    assert [float_type(node) for node in done.model.graph] == ["bfloat16", "float16", "float16"]


def test_data_can_take_back_what_was_asked_without(build, reduce):
    model = build(LAYER, w=W)
    blind = reduce(model, data=False)
    seeing = reduce(blind.model, [{"x": np.full((1, 4), 30, np.float32)}])
    assert seeing.typed == {"m", "r"}
    assert compute_request(seeing.model.graph[2]) is None
    assert "1 nodes that had it are back in float32" in seeing.outcome.notes


# -- refusals -----------------------------------------------------------------------------------------------------


def test_a_target_without_the_type_is_refused(build):
    model = build(LAYER, w=W)
    context = Context(target=load_target("cpu"), original=model)
    assert "does not compute in float16" in ReducePrecision().refuse(model, context).why


def test_headroom_below_one_makes_no_sense():
    with pytest.raises(UsageError, match="headroom"):
        ReducePrecision(headroom=0.5)


def test_excluded_and_kept_nodes(build, reduce):
    model = build(LAYER, w=W)
    done = reduce(model, exclude=re.compile("MatMul"), keep=("Exp",))
    assert done.typed == {"r"}
    assert sorted(done.refused.values()) == ["Exp is kept in float32", "excluded by the user"]
    assert done.error() < TOLERANCE


def test_operators_without_the_type_are_named(build, reduce):
    done = reduce(
        build(
            "(float[1,2,4] x, float[1,1,2] s) => (int64[K,3] y, float[1,2,4] z) {"
            " y = NonMaxSuppression (x, s)\n z = custom.Own (x) }"
        ),
        feeds=[],
        data=False,
    )
    assert done.typed == set()
    assert sorted(done.refused.values()) == [
        "its operator is not of the ONNX standard",
        "the operator does not take float16 at opset 17",
    ]


def test_values_that_overflow_keep_float32(build, reduce):
    model = build("(float[N,4] x) => (float[N,4] y) { e = Mul (x, x)\n s = Sqrt (e)\n y = MatMul (s, w) }", w=W)
    feeds = [{"x": np.full((1, 4), 300, np.float32)}]
    done = reduce(model, feeds)
    assert done.typed == {"y"}
    assert all("e reaches 9e+04, and float16 ends at 6.55e+04" in why for why in done.refused.values())
    assert done.error() < TOLERANCE


def test_headroom_widens_what_was_seen(build, reduce):
    model = build(LAYER, w=W)
    feeds = [{"x": np.full((1, 4), 2 * np.log(40000), np.float32)}]
    assert "y" not in reduce(model, feeds).typed
    assert "y" in reduce(model, feeds, headroom=1).typed


def test_bfloat16_does_not_overflow(build, reduce):
    model = build("(float[N,4] x) => (float[N,4] y) { e = Mul (x, x)\n y = Sqrt (e) }")
    assert reduce(model, [{"x": np.full((1, 4), 300, np.float32)}], to="bfloat16").typed == {"e", "y"}


def test_a_norm_squares_inside(build, reduce):
    model = build("(float[N,4] x) => (float[N,1] y) { r = Relu (x)\n y = ReduceL2 <axes: ints = [1]> (r) }")
    done = reduce(model, [{"x": np.full((1, 4), 200, np.float32)}])
    assert done.typed == {"r"}
    assert "sums up" in next(iter(done.refused.values()))


SUMS = {
    "ReduceMean": "ReduceMean <axes: ints = [1]> (x)",
    "ReduceSum": "ReduceSum (x, axes)",
    "ReduceL1": "ReduceL1 <axes: ints = [1]> (x)",
    "ReduceL2": "ReduceL2 <axes: ints = [1]> (x)",
    "ReduceLogSumExp": "ReduceLogSumExp <axes: ints = [1]> (x)",
    "LpNormalization": "LpNormalization <axis: int = 1> (x)",
}


def sums(build, operator, size, dim=None):
    text = f"(float[N,{dim or size}] x) => (float y) {{ r = {operator} y = Relu (r) }}"
    return build(text, axes=np.array([1])) if "axes)" in operator else build(text)


@pytest.mark.parametrize("operator", SUMS.values(), ids=SUMS)
@pytest.mark.parametrize("dim", [None, "T"], ids=["fixed", "open"])
@pytest.mark.parametrize(("size", "level"), [(2048, 1e-3), (64, 2000)], ids=["many", "large"])
def test_a_sum_that_may_overflow_or_hide_a_term_keeps_float32(build, reduce, operator, dim, size, level):
    fits, fails = (
        reduce(sums(build, operator, many, dim), [{"x": np.full((1, many), top, np.float32)}])
        for many, top in ((64, 1.0), (size, level))
    )
    assert fits.typed == {"r", "y"}
    assert "r" not in fails.typed
    assert any("sums up" in why or "r reaches" in why for why in fails.refused.values())


@pytest.mark.parametrize(
    ("operator", "why"),
    [
        ("GlobalAveragePool (x)", "GlobalAveragePool sums up 4096 values"),
        ("InstanceNormalization (x, s, s)", "InstanceNormalization sums up 4096 values"),
        ("AveragePool <kernel_shape: ints = [48, 48]> (x)", "AveragePool sums up 2304 values"),
        ("MeanVarianceNormalization (x)", "over how many values MeanVarianceNormalization goes is not known"),
        ("AveragePool <kernel_shape: ints = [3, 3]> (x)", None),
    ],
)
def test_without_data_the_number_of_terms_decides(build, reduce, operator, why):
    text = f"(float[N,3,64,64] x) => (float y) {{ a = Relu (x) y = {operator} }}"
    done = reduce(build(text, s=np.ones(3, np.float32)) if "s," in operator else build(text), data=False)
    assert ("y" in done.typed) == (why is None)
    assert why is None or any(why in refused for refused in done.refused.values())


def test_the_axes_of_a_softmax_may_be_long_but_not_endless(build, reduce):
    for size, typed in ((4096, {"y"}), (100_000, set())):
        done = reduce(build(f"(float[N,{size}] x) => (float[N,{size}] y) {{ y = Softmax (x) }}"), data=False)
        assert done.typed == typed


def test_bfloat16_hides_terms_sooner(build, reduce):
    model = sums(build, SUMS["ReduceMean"], 512)
    assert "r" in reduce(model).typed
    assert "r" not in reduce(model, to="bfloat16").typed


def test_constants_that_do_not_fit_keep_their_reader(build, reduce):
    done = reduce(build("(float[4] x) => (float[4] y) { y = Mul (x, c) }", c=np.float32(1e6)), data=False)
    assert done.typed == set()
    assert "c reaches 1e+06" in next(iter(done.refused.values()))
    assert "overflow of activations was not looked for: there is no calibration data" in done.outcome.notes


def test_whole_numbers_that_would_be_rounded(build, reduce):
    model = build("(int64[N,4] i) => (float[N,4] y) { f = Cast <to: int = 1> (i)\n y = Relu (f) }")
    small, large = ([{"i": np.full((1, 4), top)}] for top in (2048, 2049))
    assert "f" in reduce(model, small).typed
    assert "counts in ones to 2048" in next(iter(reduce(model, large).refused.values()))


def test_an_input_with_a_default_is_seen_with_it(build, reduce):
    model = build("(float[1,4] x, float[1,4] d) => (float[1,4] y) { y = Add (x, d) }", d=np.full((1, 4), 1e6, "f4"))
    done = reduce(model, [{"x": np.ones((1, 4), np.float32)}])
    assert "d reaches 1e+06" in next(iter(done.refused.values()))


def test_numbers_that_are_half_already_are_not_counted_in_ones(build, reduce):
    model = build("(float16[N,4] h) => (float[N,4] y) { f = Cast <to: int = 1> (h)\n y = Relu (f) }")
    assert reduce(model, [{"h": np.full((1, 4), 9000, np.float16)}]).typed == {"f", "y"}


# -- numbers near zero --------------------------------------------------------------------------------------------

NORM = """(float[N,4] x) => (float[N,4] y) {
    m = MatMul (x, w)
    s = Mul (m, m)
    v = ReduceSum <keepdims: int = 1> (s, axis)
    g = Add (v, eps)
    r = Sqrt (g)
    d = Div (m, r)
    y = MatMul (d, w)
}"""


@pytest.mark.parametrize("data", [True, False])
def test_a_small_epsilon_keeps_its_normalization(build, reduce, data):
    model = build(NORM, w=W, axis=np.array([1]), eps=np.float32(1e-12))
    feeds = [{"x": np.zeros((1, 4), np.float32)}, {"x": np.full((1, 4), 1e-4, np.float32)}]
    done = reduce(model, feeds, data=data)
    assert done.typed == {"m", "y"}
    assert sorted(done.refused) == sorted(node.name for node in model.graph if node.op_type != "MatMul")
    assert "would become zero in float16" in "".join(done.refused.values())
    assert done.error() < TOLERANCE


def test_an_epsilon_that_fits_keeps_nothing(build, reduce):
    done = reduce(build(NORM, w=W, axis=np.array([1]), eps=np.float32(1e-5)))
    assert done.refused == {}


def test_what_leads_elsewhere_too_is_not_taken_along(build, reduce):
    done = reduce(
        build(
            "(float[4] x) => (float[4] y, float[4] z) {"
            " a = Add (x, x)\n b = Mul (a, a)\n c = Add (b, eps)\n y = Log (c)\n z = Relu (a) }",
            eps=np.float32(1e-10),
        )
    )
    assert done.typed == {"a", "z"}


# -- positions ----------------------------------------------------------------------------------------------------


def test_positions_and_angles_keep_float32(build, reduce):
    done = reduce(
        build(
            "(int64[N,4] i, float[N,4] x) => (float[N,4] y) {"
            " f = Cast <to: int = 1> (i)\n a = Mul (f, rate)\n s = Sin (a)\n y = Mul (x, s) }",
            rate=np.float32([1, 0.1, 0.01, 0.001]),
        )
    )
    assert done.typed == {"y"}
    assert "float16 would move" in "".join(done.refused.values())


def test_what_is_rounded_to_an_index_keeps_float32(build, reduce):
    done = reduce(
        build(
            "(float[N,4] x) => (int64[N,4] y, float[N,4] z) {"
            " m = MatMul (x, w)\n a = Mul (m, scale)\n y = Cast <to: int = 7> (a)\n z = Relu (m) }",
            w=W,
            scale=np.float32(1000),
        )
    )
    assert done.typed == {"m", "z"}


def test_what_follows_from_sizes_stays(build, reduce):
    done = reduce(
        build(
            "(float[N,4] x) => (float[N,4] y) {"
            " s = Shape (x)\n f = Cast <to: int = 1> (s)\n p = ReduceProd <keepdims: int = 0> (f)\n y = Div (x, p) }"
        )
    )
    assert done.typed == {"y"}
    assert any("2 nodes that compute from sizes" in note for note in done.outcome.notes)
    assert done.refused == {}


def test_moving_data_alone_is_not_worth_two_casts(build, reduce):
    done = reduce(
        build(
            "(float[2,4] x) => (float[4,2] y) { a = Sin (x)\n t = Transpose (a)\n u = Identity (t)\n y = Sin (u) }",
        )
    )
    assert done.typed == set()
    assert any("2 nodes that move float32 data" in note for note in done.outcome.notes)


# -- masks --------------------------------------------------------------------------------------------------------

HUGE = np.finfo(np.float32).min
ADDED = "(float[N,4] x) => (float[N,4] y) { s = Add (x, mask)\n y = Softmax (s) }"
SELECTED = "(float[N,4] x) => (float[N,4] y) { c = Greater (x, nil)\n s = Where (c, x, low)\n y = Softmax (s) }"
COMPUTED = """(float[N,4] x, int64[N,4] m) => (float[N,4] y) {
    f = Cast <to: int = 1> (m)
    o = Sub (one, f)
    n = Mul (o, low)
    s = Add (x, n)
    y = Softmax (s)
}"""


@pytest.mark.parametrize("low", [-1e9, HUGE, -65504.0])
@pytest.mark.parametrize("to", ["float16", "bfloat16"])
@pytest.mark.parametrize("data", [True, False])
def test_masks_are_raised_into_range(build, reduce, low, to, data):
    nil, low = np.float32(0), np.float32(low)
    weights = {ADDED: {"mask": np.float32([0, low, 0, low])}, SELECTED: {"nil": nil, "low": low}}
    for text, constants in weights.items():
        done = reduce(build(text, **constants), to=to, data=data)
        assert {"s", "y"} <= done.typed
        assert done.refused == {}
        assert done.error(simulate=to == "bfloat16") < (TOLERANCE if to == "float16" else 0.02)


@pytest.mark.parametrize("low", [-1e9, HUGE])
@pytest.mark.parametrize("data", [True, False])
def test_a_computed_mask_is_raised_by_a_max(build, reduce, feeds, low, data):
    model = build(COMPUTED, one=np.float32(1), low=np.float32(low))
    done = reduce(model, feeds(model), data=data)
    assert {"s", "y"} <= done.typed
    assert len(done.refused) == 1
    assert [node.op_type for node in done.model.graph].count("Max") == 1
    assert done.error() < TOLERANCE
    whole = {"x": np.ones((1, 4), np.float32), "m": np.zeros((1, 4), np.int64)}
    assert np.isfinite(Session(done.legal()).run(whole)["y"]).all()


def test_a_mask_that_is_fed(build, reduce):
    model = build("(float[N,4] x, float[N,4] m) => (float[N,4] y) { s = Add (x, m)\n y = Softmax (s) }")
    done = reduce(model, [{"x": np.ones((1, 4), np.float32), "m": np.float32([[0, -1e9, 0, HUGE]])}])
    assert done.typed == {"s", "y"}
    assert done.error() < TOLERANCE


def test_infinite_masks_stay(build, reduce):
    done = reduce(build(ADDED, mask=np.float32([0, -np.inf, 0, -np.inf])))
    assert done.typed == {"s", "y"}
    assert done.outcome.changes == 2
    assert done.error() < TOLERANCE


@pytest.mark.parametrize("reader", ["Relu (s)", "LogSoftmax (s)", "Softmax (s)\n z = Neg (s)"])
def test_large_numbers_that_somebody_else_reads_are_no_masks(build, reduce, reader):
    public = ", float[N,4] z" if "z" in reader else ""
    model = build(
        f"(float[N,4] x) => (float[N,4] y{public}) {{ s = Add (x, mask)\n y = {reader} }}",
        mask=np.float32([0, -1e9] * 2),
    )
    done = reduce(model)
    assert "s" not in done.typed
    assert np.array_equal(done.model.graph.initializers["mask"].const_value.numpy(), np.float32([0, -1e9] * 2))


# -- how it is called ---------------------------------------------------------------------------------------------


def test_recorded_ranges_are_followed(build):
    model = build(LAYER, w=W)
    context = Context(target=load_target("jetson"), original=model)
    context.decisions["0.reduce_precision.ranges"] = {name: [0.0, 1e5] for name in ("x", "m", "r", "y")}
    assert ReducePrecision().run(clone(model), context).changes == 0


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_recipes(name):
    assert f"to={name}" in repr(from_name(name).passes[-1]).replace("'", "")


def test_values_of_which_few_bits_would_be_left_keep_float32(build, reduce):
    model = build("(float[N,4] x) => (float[N,4] y) { e = Mul (x, k)\n y = MatMul (e, w) }", w=W, k=np.float32(1e-6))
    done = reduce(model, [{"x": np.ones((1, 4), np.float32)}])
    assert "e reaches 1e-06 at most, of which float16 keeps few bits" in done.refused.values()
    assert done.error() < 1e-6


def test_weights_of_which_few_bits_would_be_left_keep_float32(build, reduce):
    text = "(float[N,4] x) => (float[N,4] y) { e = MatMul (x, v)\n y = Mul (e, k) }"
    model = build(text, v=W * np.float32(1e-7), k=np.float32(1e7))
    done = reduce(model, [{"x": np.full((1, 4), 1000, np.float32)}])
    assert any("of which float16 keeps few bits" in why for why in done.refused.values())
    assert done.error() < 1e-6


def test_a_small_bias_beside_large_results_is_no_reason(build, reduce):
    model = build("(float[N,4] x) => (float[N,4] y) { y = Gemm (x, w, b) }", w=W, b=np.full(4, 1e-6, np.float32))
    assert reduce(model).typed == {"y"}
