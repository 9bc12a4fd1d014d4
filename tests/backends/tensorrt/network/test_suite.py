"""The ONNX backend test-suite: the networks of the rules beside those of NVIDIA's parser, and what they compute."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from graphpress.backends.tensorrt.network.types import onnx_type
from graphpress.errors import GraphpressError, ModelError
from graphpress.ir import from_proto

TOLERANCE = {1: (2e-2, 2e-2), 2: (5e-3, 1e-3), 4: (5e-4, 1e-5)}
"""Relative and absolute, by bytes of the float; bfloat16, which has 8 bits of fraction, is filed under 1."""

REFUSED: Mapping[str, tuple[str, ...]] = {
    # float64 is refused where the parser narrows it to float32
    "no tensors of type double": (
        "test_cast*_DOUBLE_*", "test_cast*_to_DOUBLE*", "test_cumsum_*", "test_einsum_*", "test_eyelike_with_dtype",
        "test_flexattention_double_expanded_*", "test_max_float64", "test_min_float64", "test_mod_mixed_sign_float64",
        "test_reduce_log_sum_exp_*",
    ),
    "does not cast": (
        # the parser narrows float64
        "test_attention_*_mask_expanded", "test_cast*_to_DOUBLE*", "test_reduce_log_sum_exp_empty_set_expanded",
        # the parser takes the network, the builder then refuses it
        "test_cast*_FLOAT8E4M3FN*", "test_cast*_FLOAT4E2M1*", "test_cast*_INT4*",
    ),
    # what a layer does with 8-bit integers that overflow is not documented
    "does not compute in int8": ("test_*_int8*",),
    "does not compute in uint8": ("test_equal_uint8",),
    # the parser rounds the quotient
    "no remainder of floats": ("test_mod_mixed_sign_float*",),
    # networks whose ranks and axes come at run time
    "is not constant": (
        "test_constant_pad_*axes", "test_cumsum_*_int32*", "test_slice*", "test_dequantizelinear_e4m3fn*_zero_point",
        "test_quantizelinear*",
    ),
    "open dimensions": ("test_affine_grid_2d*_expanded",),
    # which of them comes out is known at run time only
    "branches give tensors of different ranks": ("test_affine_grid_*_expanded",),
    # a boolean input cannot be part of a shape: the parser collects as much as the count says
    "finds no shape for 'res_scan'": ("test_loop11",),
    # one axis fewer than the scan of later operator sets
    "operator set 8": ("test_scan_sum",),
    # the standard itself leaves it open
    "corners of sizes that are no whole numbers": ("test_resize_downsample_scales_*_align_corners",),
    # the parser takes the network, the builder then refuses it
    "with a scale per block only": ("test_quantizelinear_float4e2m1",),
    # an integer type that TensorRT reads as another
    "no quantization with uint8": ("test_quantizelinear*",),
    # random numbers, and operators that no trained model has
    "would not draw the numbers": ("test_bernoulli_*expanded",),
    "it has no rule": ("test_*window*", "test_stft*"),
}  # fmt: skip
"""What of a message says why: the cases that the parser takes and the rules refuse, with this message."""


@dataclass(frozen=True)
class Case:
    """A model, and data sets of inputs and outputs by name."""

    name: str
    model: onnx.ModelProto
    sets: tuple[tuple[dict[str, Any], dict[str, Any]], ...]

    def with_constants(self) -> Case | None:
        """All inputs but the first as initializers, where there are others."""
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        known = self.sets[0][0]
        fixed = {
            one.name: known[one.name] for one in model.graph.input[1:] if isinstance(known.get(one.name), np.ndarray)
        }
        if not fixed:
            return None
        kept = [onnx.ValueInfoProto.FromString(one.SerializeToString()) for one in model.graph.input]
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in fixed.items())
        del model.graph.input[:]
        model.graph.input.extend(one for one in kept if one.name not in fixed)
        return Case(self.name, model, self.sets[:1])

    def opened(self) -> Case:
        """Every dimension of inputs and outputs open."""
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        for value in (*model.graph.input, *model.graph.output):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.dim_param = f"{value.name}_{axis}"
        return Case(self.name, model, self.sets)


@cache
def cases() -> list[Case]:
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sorted((one for one in collect_testcases(None) if one.model is not None), key=lambda one: one.name)
    return [Case(one.name, one.model, tuple(_named(one))) for one in found]


def _named(case: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    graph = case.model.graph
    for inputs, outputs in case.data_sets:
        yield (
            {value.name: _array(data) for value, data in zip(graph.input, inputs, strict=False)},
            {value.name: _array(data) for value, data in zip(graph.output, outputs, strict=False)},
        )


def _array(data: Any) -> Any:
    return numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else data


def with_and_without_constants(case: Case) -> list[Case]:
    return [case, *([known] if (known := case.with_constants()) is not None else [])]


# -- beside the parser ----------------------------------------------------------------------------------------


Signature = list[tuple[str, str, tuple[int, ...]]]


def _signature(network: Any) -> Signature:
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return [(tensor.name, tensor.dtype.name, tuple(tensor.shape)) for tensor in outputs]


def _agree(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes can be of one tensor; -1 is open."""
    return len(one) == len(other) and all(-1 in pair or len(set(pair)) == 1 for pair in zip(one, other, strict=True))


def _inferred(case: Case) -> Signature:
    """What the suite declares of the outputs."""
    found = []
    for value in case.model.graph.output:
        tensor = value.type.tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        found.append((value.name, str(tensor.elem_type), dims))
    return found


def _differs(ours: Signature, other: Signature) -> bool:
    same = [(name, dtype) for name, dtype, _ in ours] == [(name, dtype) for name, dtype, _ in other]
    return not same or not all(_agree(a, b) for (*_, a), (*_, b) in zip(ours, other, strict=True))


def _fits_onnx(theirs: Signature, case: Case) -> bool:
    """Whether the parser's own shapes are those that the suite declares."""
    return all(_agree(a, b) for (*_, a), (*_, b) in zip(theirs, _inferred(case), strict=True))


@dataclass
class Comparison:
    """What came of all cases."""

    taken: int = 0
    better: int = 0
    faults: list[str] | None = None
    refused: list[tuple[str, str]] | None = None


@pytest.fixture(scope="module")
def comparison(bench: Any) -> Comparison:
    result = Comparison(faults=[], refused=[])
    for case in (form for each in cases() for form in with_and_without_constants(each)):
        _compare(case, bench, result)
    return result


def _compare(case: Case, bench: Any, result: Comparison) -> None:
    parsed = bench.parse(case.model)
    try:
        theirs = None if parsed is None else _signature(parsed)
    except RuntimeError:
        theirs = None  # the parser took it, and TensorRT finds no shape for it
    try:
        ours = _signature(bench.lower(from_proto(onnx.ModelProto.FromString(case.model.SerializeToString()))))
    except ModelError as error:
        if theirs is not None:
            result.refused.append((case.name, error.what))
        return
    except GraphpressError:
        return
    result.taken += 1
    result.better += theirs is None
    typed = [(name, str(int(onnx_type(getattr(bench.trt.DataType, dtype)))), dims) for name, dtype, dims in ours]
    if theirs is not None and _differs(ours, theirs) and _fits_onnx(theirs, case):
        result.faults.append(f"{case.name}: parser {theirs}, rules {ours}")
    if _differs(typed, _inferred(case)):
        result.faults.append(f"{case.name}: onnx {_inferred(case)}, rules {ours}")


def test_names_types_and_shapes_are_those_of_the_parser_and_of_onnx(comparison: Comparison) -> None:
    assert "\n".join(comparison.faults) == ""
    assert comparison.taken > 1700
    assert comparison.better > 200


def test_what_only_the_parser_takes_stands_in_the_table(comparison: Comparison) -> None:
    expected = {(phrase, pattern) for phrase, patterns in REFUSED.items() for pattern in patterns}
    used, unknown = set(), []
    for name, what in comparison.refused:
        fits = {(phrase, pattern) for phrase, pattern in expected if phrase in what and fnmatch(name, pattern)}
        used |= fits
        unknown += [] if fits else [f"{name}: {what}"]
    assert "\n".join(unknown) == ""
    assert expected - used == set()


# -- computed -------------------------------------------------------------------------------------------------


FORMS = {
    "as it comes": lambda case: case,
    "open": Case.opened,
    "open with known parameters": lambda case: known.opened() if (known := case.with_constants()) else None,
}
LEAST = {"as it comes": 1000, "open": 780, "open with known parameters": 650}
"""How many cases must have been computed."""


@pytest.mark.parametrize("form", FORMS)
def test_networks_compute_what_onnx_says(form: str, bench: Any) -> None:
    computed, faults = 0, []
    for case in filter(None, map(FORMS[form], cases())):
        try:
            network = bench.lower(from_proto(onnx.ModelProto.FromString(case.model.SerializeToString())))
        except GraphpressError:
            continue  # refused with a reason
        for fault in _run(case, network, bench):
            computed += fault is None
            faults += [] if fault is None else [f"{case.name}: {fault}"]
    assert "\n".join(faults) == ""
    assert computed > LEAST[form]


def _run(case: Case, network: Any, bench: Any) -> Iterator[str | None]:
    """What is wrong with each data set; nothing where it cannot be computed here."""
    names = {network.get_input(index).name for index in range(network.num_inputs)}
    for feed, expected in case.sets:
        try:
            results = bench.run(network, {name: feed[name] for name in names})
            for got, wanted in zip(results, expected.values(), strict=True):
                _assert_close(got, np.asarray(wanted))
        except NotImplementedError:
            continue
        except AssertionError as error:
            yield " ".join(str(error).split())[:300]
        else:
            yield None


def _assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.shape == wanted.shape
    if wanted.dtype.kind in "fV":
        rtol, atol = TOLERANCE[1 if wanted.dtype.name == "bfloat16" else wanted.itemsize]
        np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), rtol, atol)
    else:
        np.testing.assert_array_equal(got, wanted)
