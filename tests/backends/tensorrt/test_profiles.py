"""Optimization profiles: what is known of open dimensions, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.profiles import profile_of
from graphpress.errors import ModelError, UsageError
from graphpress.ir import from_proto


def model(dtype=TensorProto.FLOAT, **inputs):
    """Inputs of these dimensions, each handed through."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    graph = helper.make_graph(
        nodes,
        "open",
        [helper.make_tensor_value_info(name, dtype, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(f"{name}_out", dtype, None) for name in inputs],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def feed(**shapes):
    return shapes


def test_static_inputs_need_none():
    assert profile_of(model(x=[1, 3, 8, 8]), {}, []) == {}


def test_the_batch_goes_from_one_to_sixteen():
    assert profile_of(model(x=["N", 3, 8, 8]), {}, []) == {"x": ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (16, 3, 8, 8))}


def test_a_larger_batch_in_the_samples_raises_the_most():
    assert profile_of(model(x=[None, 3]), {}, [feed(x=(64, 3))])["x"].max == (64, 3)


def test_other_dimensions_come_from_the_samples():
    samples = [feed(x=(2, length)) for length in (10, 40, 20)]
    assert profile_of(model(x=["N", "T"]), {}, samples)["x"] == ShapeRange((1, 10), (1, 20), (16, 40))


def test_what_the_user_says_counts_first():
    ranges = {"x": ShapeRange((2, 8), (4, 16), (8, 32))}
    assert profile_of(model(x=["N", "T"]), ranges, [feed(x=(64, 99))]) == ranges


def test_the_same_symbol_has_the_same_sizes():
    ranges = {"ids": ShapeRange((1, 8), (2, 16), (8, 32))}
    profile = profile_of(model(ids=["N", "T"], mask=["N", 1, "T"]), ranges, [])
    assert profile["mask"] == ShapeRange((1, 1, 8), (2, 1, 16), (8, 1, 32))


def test_nameless_first_axes_are_one_batch():
    profile = profile_of(model(x=[None, 3], y=[None, 5]), {"x": ShapeRange((1, 3), (2, 3), (4, 3))}, [])
    assert profile["y"] == ShapeRange((1, 5), (2, 5), (4, 5))


def test_an_unknown_dimension_is_refused_with_the_option_that_gives_it():
    with pytest.raises(ModelError, match="nothing is known of dimension 1 of <N>x<T>") as caught:
        profile_of(model(tokens=["N", "T"]), {}, [])
    assert "--input-range tokens=MIN:OPT:MAX" in caught.value.fix


def test_an_unknown_rank_is_refused_unless_it_is_said():
    with pytest.raises(ModelError, match="number of dimensions") as caught:
        profile_of(model(x=None), {}, [feed(x=(1, 2))])
    assert "--input-range x=" in caught.value.fix
    ranges = {"x": ShapeRange((1, 2), (1, 2), (4, 2))}
    assert profile_of(model(x=None), ranges, []) == ranges


def test_inputs_that_contradict_each_other_are_refused():
    ranges = {"x": ShapeRange((1, 3), (2, 3), (4, 3)), "y": ShapeRange((1, 5), (2, 5), (8, 5))}
    with pytest.raises(UsageError, match=r"dimension 'N' is 1\.\.2\.\.8 in input 'y', but 1\.\.2\.\.4 in 'x'"):
        profile_of(model(x=["N", 3], y=["N", 5]), ranges, [])


def test_a_scalar_has_no_dimension_to_open():
    assert profile_of(model(x=["N", 3], s=[]), {}, []) == {"x": ShapeRange((1, 3), (1, 3), (16, 3))}


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 500)), min_size=1, max_size=6))
def test_every_sample_fits(shapes):
    profile = profile_of(model(x=["N", "T"]), {}, [feed(x=shape) for shape in shapes])["x"]
    for shape in shapes:
        assert all(low <= size <= high for low, size, high in zip(profile.min, shape, profile.max, strict=True))
    assert all(low <= middle <= high for low, middle, high in zip(*profile, strict=True))


def test_a_symbol_that_comes_first_in_one_input_only_is_no_batch():
    """Else the same dimension would have different sizes in two inputs, and no shape would fit both."""
    samples = [feed(x=(1, length), time=(length, 2)) for length in (7, 9)]
    profile = profile_of(model(x=["N", "T"], time=["T", 2]), {}, samples)
    assert profile == {"x": ShapeRange((1, 7), (1, 9), (16, 9)), "time": ShapeRange((7, 2), (9, 2), (9, 2))}
    with pytest.raises(ModelError, match="nothing is known of dimension"):
        profile_of(model(x=["N", "T"], time=["T", 2]), {}, [])


def test_steps_in_time_are_no_batch_although_they_come_first():
    """Then they are tuned for what the data holds, not for one."""
    graph = "(float[T, N, 8] x) => (float[T, 1, N, 4] y) { y, h = RNN <hidden_size = 4> (x, w, r) }"
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {graph}')
    weights = {"w": np.ones((1, 4, 8), np.float32), "r": np.ones((1, 4, 4), np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    samples = [feed(x=(length, 1, 8)) for length in (10, 24, 17)]
    assert profile_of(from_proto(proto), {}, samples)["x"] == ShapeRange((10, 1, 8), (17, 1, 8), (24, 1, 8))


@pytest.mark.parametrize(("most", "sizes"), [(9999, (1, 128, 512)), (300, (1, 128, 256)), (77, (1, 64, 64))])
def test_token_ids_without_data_are_as_long_as_the_model_runs(most, sizes):
    """So is what shares their dimension."""
    tokens = model(TensorProto.INT64, ids=["N", "T"], mask=["N", 1, "T"])
    profile = profile_of(tokens, {}, [], lambda shapes: shapes["ids"][1] <= most)
    assert tuple(shape[1] for shape in profile["ids"]) == tuple(shape[2] for shape in profile["mask"]) == sizes
