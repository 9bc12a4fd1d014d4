"""Samples that depend on each other are not computed one after another."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import graph

from graphpress.backends.tvm.samples import check_samples
from graphpress.backends.tvm.specialization import is_batched
from graphpress.errors import ModelError

SHAPES = {"x": (1, 4, 6)}
INDEPENDENT = {
    "a product": "(float[N, 4, 6] x) => (float[N, 4, 2] z) { z = MatMul(x, w) }",
    "an axis that is moved and comes back": "(float[N, 4, 6] x) => (float[N, 6, 4] z) "
    "{ a = Transpose<perm = [1, 0, 2]>(x) z = Transpose<perm = [1, 2, 0]>(a) }",
    "not a number": "(float[N, 4, 6] x) => (float[N, 4, 6] z) { a = Sqrt(x) z = Identity(a) }",
}
DEPENDENT = {
    "a mean over samples": (
        "(float[N, 4, 6] x) => (float[N, 4, 6] z) { a = ReduceMean(x, first) z = Sub(x, a) }",
        "output z: one sample changes",
    ),
    "a softmax over samples": (
        "(float[N, 4, 6] x) => (float[N, 4, 6] z) { z = Softmax<axis = 0>(x) }",
        "output z: one sample changes",
    ),
    "one result for all": (
        "(float[N, 4, 6] x) => (float[1, 4, 6] z) { z = ReduceSum(x, first) }",
        "output z: its first axis does not count",
    ),
    "a number for all": ("(float[N, 4, 6] x) => (float z) { z = ReduceSum<keepdims = 0>(x) }", "no axis that counts"),
    "a reshape to one sample": (
        "(float[N, 4, 6] x) => (float[1, 24] z) { z = Reshape(x, line) }",
        "the first axis: two samples do not run",
    ),
    "another input without samples": (
        "(float[N, 4, 6] x, float[1, 6] y) => (float[N, 4, 6] z) { z = Add(x, y) }",
        "input y: its first axis counts no samples",
    ),
}
WEIGHTS = {"w": np.ones((6, 2), np.float32), "first": np.array([0]), "line": np.array([1, 24])}


def model_of(text: str):
    """A graph with the weights that it names."""
    return graph(text, **{name: array for name, array in WEIGHTS.items() if f"{name})" in text})


@pytest.mark.parametrize("case", INDEPENDENT)
def test_independent_samples_pass(case):
    model = model_of(INDEPENDENT[case])
    assert is_batched(model)
    check_samples(model, SHAPES)


@pytest.mark.parametrize("case", DEPENDENT)
def test_dependent_samples_are_refused(case):
    text, message = DEPENDENT[case]
    with pytest.raises(ModelError, match=message) as error:
        check_samples(model_of(text), {**SHAPES, **({"y": (1, 6)} if "float[1, 6] y" in text else {})})
    assert "--input-shape" in error.value.fix
