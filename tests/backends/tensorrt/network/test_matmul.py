"""Matrix products and Einsum lowered to TensorRT compute what ONNX Runtime computes, and build."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.backends.tensorrt.network.matmul import network_equation
from graphpress.errors import ModelError
from graphpress.ir import from_proto
from graphpress.ops.semantics.einsum import parse_equation

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("attributes", [{}, {"transA": 1}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0, "transB": 1}])
@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
def test_gemm(bench, one_node, attributes, c):
    a = normal(*((4, 3) if attributes.get("transA") else (3, 4)))
    b = normal(*((5, 4) if attributes.get("transB") else (4, 5)))
    constants = {"b": b} if c is None else {"b": b, "c": normal(*c)}
    bench.agrees(one_node("Gemm", {"a": a}, constants, **attributes), {"a": a})


@pytest.mark.parametrize("left", [(4,), (3, 4), (2, 3, 4), (5, 1, 3, 4)])
@pytest.mark.parametrize("right", [(4,), (4, 6), (2, 4, 6), (1, 2, 4, 6)])
@pytest.mark.parametrize("constant", [False, True])
def test_matmul_of_any_ranks(bench, one_node, left, right, constant):
    a, b = normal(*left), normal(*right)
    if constant:
        bench.agrees(one_node("MatMul", {"a": a}, {"b": b}), {"a": a})
    else:
        bench.agrees(one_node("MatMul", {"a": a, "b": b}), {"a": a, "b": b})


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
def test_products_of_integers_are_refused(bench, one_node, op_type):
    a, b = (RANDOM.integers(0, 9, shape).astype(np.int32) for shape in ((3, 4), (4, 5)))
    with pytest.raises(ModelError, match="floats only") as raised:
        bench.lower(from_proto(one_node(op_type, {"a": a, "b": b}), where="test"))
    assert "the node" in raised.value.where


EQUATIONS = {
    "ij,jk": ((3, 4), (4, 5)),
    "...ij,...jk->...ik": ((2, 3, 4), (2, 4, 5)),
    "bHqd,bHkd->bHqk": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "b...i,b...j": ((2, 3, 4), (2, 3, 5)),
    "ba,b->a": ((3, 4), (3,)),
    "ii->i": ((3, 3),),
    "ij->ji": ((3, 4),),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(bench, one_node, equation):
    operands = {f"x{index}": normal(*shape) for index, shape in enumerate(EQUATIONS[equation])}
    bench.agrees(one_node("Einsum", operands, equation=equation), operands)


def test_an_equation_is_written_in_small_letters():
    assert network_equation(parse_equation("ij,jk", [2, 2])) == "ab,bc->ac"
    assert network_equation(parse_equation("...A->A...", [3])) == "bca->abc"
    assert network_equation(parse_equation("...i,i", [1, 1])) == "a,a->"


def test_engines_of_products(bench, one_node):
    a, b = normal(5, 1, 3, 4), normal(2, 4, 6)
    assert bench.build(bench.lower(from_proto(one_node("MatMul", {"a": a}, {"b": b}), where="test"))) > 0
    model = one_node("Einsum", {"a": a[0], "b": b}, equation="...ij,...jk->...ik")
    assert bench.build(bench.lower(from_proto(model, where="test"))) > 0
