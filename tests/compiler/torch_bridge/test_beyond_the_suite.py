"""What ONNX's node tests leave out: operators without a case, and forms of others, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, parser

from graphpress import torch_bridge
from graphpress.ir import Model, from_proto
from graphpress.runtime import Session

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

torch.set_num_threads(1)

Feed = Mapping[str, np.ndarray]

FLOAT = TensorProto.FLOAT


def one_node(op_type: str, feed: Feed, outputs: Mapping[str, int], **attributes: Any) -> Model:
    """A model of one node that reads all that is fed, in this order, and returns these outputs of these types."""
    node = helper.make_node(op_type, list(feed), list(outputs), **attributes)
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feed.items()}
    graph = helper.make_graph(
        [node],
        op_type,
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in feed.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def module_of(model: Model) -> Any:
    return torch_bridge.to_module(model).module


def run(model: Model, feed: Feed) -> dict[str, Any]:
    return dict(module_of(model)({name: torch.from_numpy(array) for name, array in feed.items()}))


def assert_like_the_runtime(model: Model, feed: Feed) -> None:
    got = run(model, feed)
    for name, wanted in Session(model).run(dict(feed)).items():
        assert got[name].detach().numpy().dtype == wanted.dtype
        np.testing.assert_allclose(got[name].detach().numpy(), wanted, rtol=1e-5, atol=1e-5)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- pooling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1, 2, 3])
def test_global_lp_pool(power: int) -> None:
    feed = {"x": normal(2, 3, 4, 5)}
    assert_like_the_runtime(one_node("GlobalLpPool", feed, {"y": FLOAT}, p=power), feed)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 7)])
def test_max_roi_pool(shape: tuple[int, int], scale: float) -> None:
    """Regions inside, of one pixel, across the border and outside."""
    regions = [[0, 0, 0, 7, 7], [1, 2, 3, 2, 3], [1, 4, 1, 11, 5], [0, 1.6, 2.4, 5.2, 4.8], [1, 20, 20, 22, 23]]
    feed = {"x": normal(2, 3, 8, 8), "regions": np.array(regions, np.float32)}
    model = one_node("MaxRoiPool", feed, {"y": FLOAT}, pooled_shape=shape, spatial_scale=scale)
    assert_like_the_runtime(model, feed)


# -- cutting and picking ----------------------------------------------------------------------------------------

bounds = st.one_of(st.integers(-12, 12), st.sampled_from([-(2**63), 2**63 - 1, 2**31 - 1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(bounds, min_size=2, max_size=2), st.lists(bounds, min_size=2, max_size=2), st.integers(-3, 3))
def test_slices_are_clamped(starts: Sequence[int], ends: Sequence[int], step: int) -> None:
    """Backwards, the runtime takes the largest integer for "to the end", against the standard."""
    assume(step >= 0 or ends[0] < 2**31 - 1)
    feed = {
        "x": np.arange(35, dtype=np.int64).reshape(5, 7),
        "starts": np.array(starts, np.int64),
        "ends": np.array(ends, np.int64),
        "axes": np.array([1, -2], np.int64),
        "steps": np.array([step or 1, 1], np.int64),
    }
    assert_like_the_runtime(one_node("Slice", feed, {"y": TensorProto.INT64}), feed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1), st.lists(st.integers(-5, 4), max_size=4))
def test_gathered_positions(axis: int, indices: Sequence[int]) -> None:
    feed = {"x": normal(5, 5, 2), "indices": np.array(indices, np.int64).reshape(-1, 1)}
    assert_like_the_runtime(one_node("Gather", feed, {"y": FLOAT}, axis=axis), feed)


@pytest.mark.parametrize("reduction", ["none", "add", "mul"])
def test_scattered_slices_with_indices_from_the_end(reduction: str) -> None:
    indices = np.array([[[0, 1], [-1, 2]], [[2, -3], [1, 1]]], np.int64)
    feed = {"x": normal(3, 4, 2), "indices": indices, "updates": normal(2, 2, 2)}
    assert_like_the_runtime(one_node("ScatterND", feed, {"y": FLOAT}, reduction=reduction), feed)


# -- finding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize("least", [0.0, 0.4])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_suppression_of_overlapping_boxes(overlap: float, least: float, centered: int) -> None:
    generator = np.random.default_rng(3)
    feed = {
        "boxes": generator.random((2, 40, 4), np.float32),
        "scores": generator.random((2, 3, 40), np.float32),
        "count": np.array([7], np.int64),
        "overlap": np.array([overlap], np.float32),
        "least": np.array([least], np.float32),
    }
    model = one_node("NonMaxSuppression", feed, {"kept": TensorProto.INT64}, center_point_box=centered)
    assert_like_the_runtime(model, feed)


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(axis: int | None, ordered: int) -> None:
    feed = {"x": np.array([[1, 0, 0], [3, 0, 0], [1, 0, 0], [0, 2, 2]], np.float32)}
    kinds = {"y": FLOAT} | dict.fromkeys(("first", "inverse", "counts"), TensorProto.INT64)
    given_axis = {} if axis is None else {"axis": axis}
    assert_like_the_runtime(one_node("Unique", feed, kinds, sorted=ordered, **given_axis), feed)


def test_gradients_reach_what_unique_keeps() -> None:
    feed = {"x": np.array([2.0, 1.0, 2.0], np.float32)}
    x = torch.from_numpy(feed["x"]).requires_grad_()
    module_of(one_node("Unique", feed, {"y": FLOAT}))({"x": x})["y"].sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


# -- random numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "feed", "attributes", "mean", "deviation"),
    [
        ("RandomNormal", {}, {"shape": [100, 50], "mean": 3.0, "scale": 2.0}, 3.0, 2.0),
        ("RandomNormalLike", {"x": normal(100, 50)}, {"mean": -1.0}, -1.0, 1.0),
        ("RandomUniform", {}, {"shape": [100, 50], "low": 2.0, "high": 6.0}, 4.0, 4 / 12**0.5),
        ("RandomUniformLike", {"x": normal(100, 50)}, {"high": 0.5}, 0.25, 0.5 / 12**0.5),
        ("Bernoulli", {"x": np.full((100, 50), 0.3, np.float32)}, {}, 0.3, 0.21**0.5),
    ],
)
def test_random_numbers(op_type: str, feed: Feed, attributes: dict[str, Any], mean: float, deviation: float) -> None:
    """Moments are as asked for; a seed repeats, none goes on from the global generator."""
    torch.manual_seed(0)
    free = module_of(one_node(op_type, feed, {"y": FLOAT}, **attributes))
    tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
    first, second = free(tensors)["y"], free(tensors)["y"]
    assert first.shape == (100, 50)
    assert not torch.equal(first, second)
    assert abs(float(first.mean()) - mean) < 5 * deviation / 5000**0.5
    assert abs(float(first.std()) / deviation - 1) < 0.05
    seeded = module_of(one_node(op_type, feed, {"y": FLOAT}, seed=7.5, **attributes))
    assert torch.equal(seeded(tensors)["y"], seeded(tensors)["y"])


def test_drawing_by_chances() -> None:
    feed = {"x": np.log(np.array([[0.1, 0.9], [0.5, 0.5]], np.float32))}
    model = one_node("Multinomial", feed, {"y": TensorProto.INT32}, sample_size=4000, seed=1.0)
    drawn = run(model, feed)["y"]
    assert drawn.dtype == torch.int32
    assert abs(drawn.float().mean(1) - torch.tensor([0.9, 0.5])).max() < 0.05


# -- control flow -----------------------------------------------------------------------------------------------


def parsed(text: str) -> Model:
    return from_proto(parser.parse_model(text))


CHOICE = """<ir_version: 8, opset_import: ["": 17]>
choice (bool c, float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> {
    y = If (c) <
        then_branch = then () => (float[2,2] a) { a = MatMul (x, w) },
        else_branch = otherwise () => (float[2,2] b) { b = Add (x, w) }
    >
}"""

POWERS = """<ir_version: 8, opset_import: ["": 17]>
powers (int64 rounds, bool going, float[2,2] x) => (float[2,2] last, float[n,2,2] all)
<float[2,2] w = {0.5, 0.1, 0, 0.9}> {
    last, all = Loop (rounds, going, x) <
        body = body (int64 index, bool alive, float[2,2] state) => (bool more, float[2,2] next, float[2,2] seen) {
            next = MatMul (state, w)
            seen = Identity (next)
            limit = Constant <value = float {0.2}> ()
            norm = ReduceMax <keepdims = 0> (next)
            more = Greater (norm, limit)
        }
    >
}"""

SUMS = """<ir_version: 8, opset_import: ["": 17]>
sums (float[2] start, float[3,2] rows, float[2,3] columns) => (float[2] last, float[2,3] all) {
    last, all = Scan <
        num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [0, 1],
        scan_output_axes = [1], scan_output_directions = [1],
        body = body (float[2] state, float[2] row, float[2] column) => (float[2] next, float[2] seen) {
            scaled = Mul (state, column)
            next = Add (scaled, row)
            seen = Neg (next)
        }
    > (start, rows, columns)
}"""


@pytest.mark.parametrize("condition", [True, False])
def test_a_choice_reads_weights_from_outside(condition: bool) -> None:
    feed = {"c": np.array(condition), "x": normal(2, 2)}
    model = parsed(CHOICE)
    assert_like_the_runtime(model, feed)
    trained = torch_bridge.to_module(model, trainable=lambda value: value.name == "w")
    trained.module({name: torch.from_numpy(array) for name, array in feed.items()})["y"].sum().backward()
    assert trained.parameters["w"].grad.abs().min() > 0


@pytest.mark.parametrize("rounds", [0, 1, 3, 50])
def test_a_loop_ends_by_count_or_condition(rounds: int) -> None:
    feed = {"rounds": np.array(rounds), "going": np.array(True), "x": np.abs(normal(2, 2)) + 1}
    assert_like_the_runtime(parsed(POWERS), feed)


def test_a_scan_in_both_directions() -> None:
    feed = {"start": normal(2), "rows": normal(3, 2, seed=1), "columns": normal(2, 3, seed=2)}
    model = parsed(SUMS)
    assert_like_the_runtime(model, feed)
    module = module_of(model).double()
    tensors = [torch.from_numpy(array).double().requires_grad_() for array in feed.values()]
    assert torch.autograd.gradcheck(lambda *given: module(dict(zip(feed, given, strict=True)))["all"], tensors)


def test_gradients_through_a_loop() -> None:
    module = module_of(parsed(POWERS)).double()
    fixed = {"rounds": torch.tensor(3), "going": torch.tensor(True)}
    x = (torch.from_numpy(np.abs(normal(2, 2))).double() + 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: module({**fixed, "x": given})["all"], x)


def test_a_cast_passes_the_gradient() -> None:
    """The suite's casts round, so that differences cannot tell."""
    feed = {"x": normal(3)}
    x = torch.from_numpy(feed["x"]).requires_grad_()
    module = module_of(one_node("Cast", feed, {"y": TensorProto.FLOAT16}, to=onnx.TensorProto.FLOAT16))
    (module({"x": x})["y"] * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 3.0]
