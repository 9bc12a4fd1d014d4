"""eliminate_identity, fold_identity_arithmetic and remove_noop_layout: what goes, and what has to stay."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.passes.cleanup.eliminate_identity import EliminateIdentity
from graphpress.passes.cleanup.fold_identity_arithmetic import FoldIdentityArithmetic
from graphpress.passes.cleanup.remove_noop_layout import RemoveNoopLayout

IDENTITIES = {
    "Identity": "Identity(a)",
    "Dropout": "Dropout(a)",
    "Dropout told so": "Dropout(a, ratio, no)",
    "Cast to its own type": "Cast<to=1>(a)",
    "CastLike its own type": "CastLike(a, x)",
    "Concat of one": "Concat<axis=1>(a)",
    "Sum of one": "Sum(a)",
    "Max of one": "Max(a)",
    "Mean of one": "Mean(a)",
}
MOVEMENTS = {
    "Transpose": "Transpose<perm=[0,1,2,3]>(a)",
    "Transpose of an axis of one": "Transpose<perm=[1,0,2,3]>(one)",
    "Pad": "Pad(a, zeros)",
    "Slice by shape": "Slice(a, start, size, axis)",
    "Slice to the end": "Slice(free, start, end, axis)",
    "Reshape": "Reshape(a, shape)",
    "Flatten": "Flatten(flat)",
    "Expand": "Expand(a, small)",
    "Tile": "Tile(a, ones)",
    "Resize": "Resize(a, , factors)",
    "Split": "Split(a)",
}


@pytest.mark.parametrize("call", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_identities_go(build, clean, call):
    model = build(
        f"(float[2,3] x) => (float[2,3] y) {{ a = Relu(x) b = {call} y = Neg(b) }}",
        ratio=np.array(0.5, np.float32),
        no=np.array(False),
    )
    done = clean(EliminateIdentity(), model)
    assert done.ops == ["Relu", "Neg"]
    assert done.outcome.changes == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("(float[2] x) => (float[2] y) { y = Identity(x) }", ["Identity"]),
        ("(float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }", ["Relu", "Identity"]),
        ("(float[2] x) => (float[2] y) <float[2] c = {1., 2.}> { y = Identity(c) }", ["Identity"]),
        ("(float[2] x) => (float16[2] y) { y = Cast<to=10>(x) }", ["Cast"]),
        ("(float[2] x) => (float[4] y) { y = Concat<axis=0>(x, x) }", ["Concat"]),
    ],
)
def test_what_an_output_or_a_reader_needs_stays(build, clean, text, kept):
    assert clean(EliminateIdentity(), build(text)).ops == kept


def test_a_graph_output_keeps_its_name(build, clean):
    done = clean(EliminateIdentity(), build("(float[2] x) => (float[2] y) { a = Relu(x) y = Identity(a) }"))
    assert done.ops == ["Relu"]
    assert done.model.graph.outputs[0].name == "y"


def test_a_dropout_whose_mask_is_read_stays_and_says_why(build, clean):
    model = build("(float[2] x) => (float[2] y, bool[2] m) { a, m = Dropout(x) y = Relu(a) }")
    done = clean(EliminateIdentity(), model)
    assert done.ops == ["Dropout", "Relu"]
    assert "mask is read" in done.reasons


def test_a_training_dropout_stays(build, apply):
    model = build(
        "(float[2] x) => (float[2] y) { a = Dropout(x, ratio, yes) y = Relu(a) }",
        ratio=np.array(0.5, np.float32),
        yes=np.array(True),
    )
    assert apply(EliminateIdentity(), model).changes == 0


@pytest.mark.parametrize(("attributes", "changes"), [("", 0), ("<is_test=0>", 0), ("<is_test=1>", 1)])
def test_an_old_dropout_trains_unless_told_otherwise(build, apply, attributes, changes):
    model = build(f"(float[2] x) => (float[2] y) {{ a = Dropout{attributes}(x) y = Relu(a) }}", opset=6)
    assert apply(EliminateIdentity(), model).changes == changes


@pytest.mark.parametrize(
    "call",
    ["Add(x, zero)", "Add(zero, x)", "Sub(x, zero)", "Mul(x, one)", "Mul(one, x)", "Div(x, one)", "Pow(x, one)",
     "Add(x, zeros)", "Mul(ones, x)"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float", "int32"])
def test_neutral_elements_go(build, clean, call, dtype):
    numpy_type = np.float32 if dtype == "float" else np.int32
    model = build(
        f"({dtype}[2,3] x) => ({dtype}[2,3] y) {{ a = {call} y = Neg(a) }}",
        zero=np.array(0, numpy_type), one=np.array([1], numpy_type),
        zeros=np.zeros((1, 3), numpy_type), ones=np.ones((2, 1), numpy_type),
    )  # fmt: skip
    assert clean(FoldIdentityArithmetic(), model).ops == ["Neg"]


def test_neutral_logic_goes(build, clean):
    text = "(float[2] x) => (bool[2] y) { b = Less(x, x) c = And(b, yes) d = Or(no, c) y = Not(d) }"
    assert clean(FoldIdentityArithmetic(), build(text, yes=np.array(True), no=np.array(False))).ops == ["Less", "Not"]


@pytest.mark.parametrize("call", ["Sub(zero, x)", "Div(one, x)", "Add(x, one)", "Mul(x, zero)"])
def test_what_is_not_neutral_stays(build, clean, call):
    model = build(
        f"(float[2,3] x) => (float[2,3] y) {{ a = {call} y = Neg(a) }}",
        zero=np.array(0, np.float32),
        one=np.array(1, np.float32),
    )
    assert len(clean(FoldIdentityArithmetic(), model).ops) == 2


def test_a_constant_that_widens_is_refused(build, clean):
    text = "(float[1,3] x) => (float[2,3] y) { a = Add(x, zeros) y = Neg(a) }"
    done = clean(FoldIdentityArithmetic(), build(text, zeros=np.zeros((2, 3), np.float32)))
    assert done.ops == ["Add", "Neg"]
    assert "could widen" in done.reasons


def test_infinity_and_nan_pass_neutral_elements(build, clean):
    model = build("(float[4] x) => (float[4] y) { a = Mul(x, one) y = Identity(a) }", one=np.array(1, np.float32))
    clean(FoldIdentityArithmetic(), model, feed={"x": np.array([np.inf, -np.inf, np.nan, -0.0], np.float32)})


@pytest.mark.parametrize("call", MOVEMENTS.values(), ids=MOVEMENTS.keys())
def test_movement_of_nothing_goes(build, clean, call):
    source = next(word for word in ("one", "free", "flat", "a") if f"({word}" in call)
    inputs = {"a": "float[1,2,3,4] x", "one": "float[1,1,3,4] x", "free": "float[n,3] x", "flat": "float[2,3] x"}
    opset = 13 if "Split" in call else 17
    model = build(
        f"({inputs[source]}) => (float y) {{ {source} = Relu(x) b = {call} y = ReduceMax<keepdims=0>(b) }}",
        opset=opset,
        zeros=np.zeros(8, np.int64), start=np.array([0]), size=np.array([3]),
        axis=np.array([-2 if source == "a" else 0]),
        end=np.array([np.iinfo(np.int64).max]), shape=np.array([1, 2, 3, 4]), small=np.array([3, 1]),
        ones=np.ones(4, np.int64), factors=np.ones(4, np.float32),
    )  # fmt: skip
    assert clean(RemoveNoopLayout(), model).ops == ["Relu", "ReduceMax"]


@pytest.mark.parametrize(
    "call",
    ["Transpose<perm=[0,1,3,2]>(a)", "Slice(a, last, first, axis, back)", "Pad(a, shift)", "Tile(a, twos)",
     "Reshape(a, other)", "Slice(a, start, end, axis)"],
)  # fmt: skip
def test_movement_of_something_stays(build, clean, call):
    model = build(
        f"(float[1,2,3,3] x) => (float y) {{ a = Relu(x) b = {call} c = Mul(b, b) y = ReduceMax<keepdims=0>(c) }}",
        last=np.array([-1]), first=np.array([-100]), axis=np.array([2]), back=np.array([-1]),
        shift=np.array([0, 0, 1, 0, 0, 0, -1, 0]), twos=np.array([1, 1, 1, 2]), other=np.array([2, 1, 3, 3]),
        start=np.array([1]), end=np.array([3]),
    )  # fmt: skip
    assert len(clean(RemoveNoopLayout(), model).ops) == 4


def test_old_forms_with_attributes_are_understood(build, clean):
    model = build(
        "(float[2,3] x) => (float[2,3] y) "
        "{ a = Relu(x) b = Slice<starts=[0], ends=[9], axes=[1]>(a) c = Pad<pads=[0,0,0,0]>(b) y = Neg(c) }",
        opset=9,
    )
    assert clean(RemoveNoopLayout(), model).ops == ["Relu", "Neg"]


def test_a_function_is_cleaned_and_an_attribute_of_the_caller_is_left_alone(build, apply, run):
    model = build(
        "(float[2] x) => (float[2] y) { y = local.f<to=1>(x) }",
        functions='<domain: "local", opset_import: ["": 17]> f <to>(x) => (y) '
        "{ a = Relu(x) b = Identity(a) c = Cast<to: int = @to>(b) y = Neg(c) }",
    )
    before = run(model)
    assert apply(EliminateIdentity(), model).changes == 1
    (function,) = model.functions.values()
    assert [node.op_type for node in function] == ["Relu", "Cast", "Neg"]
    np.testing.assert_array_equal(run(model)["y"], before["y"])
