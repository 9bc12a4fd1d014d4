"""Extents that are known at run time only: numbers of the largest sizes, polynomials of all."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.codegen.extent import Extent, RunTimeSize, is_open
from graphpress.backends.tvm.kernels.pieces import chunks, halvings, pieces
from graphpress.backends.tvm.kernels.plane import Plane

LENGTH, PAST = RunTimeSize(0, 100), RunTimeSize(1, 30)
S, P = Extent.of(LENGTH), Extent.of(PAST)
SIZES = {LENGTH: 7, PAST: 5}
EXPRESSIONS = {
    "sum": (S + P, 130, 12),
    "difference": (S - 3, 97, 4),
    "difference from a number": (200 - S, 100, 193),
    "reversed": (2 * S + 1, 201, 15),
    "product": (S * P, 3000, 35),
    "polynomial": ((S + P) * (S + 1), 130 * 101, 12 * 8),
    "pieces": ((S + P).pieces(8), 17, 2),
    "pieces of pieces": (S.pieces(4).pieces(3), 9, 1),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_is_the_largest_as_a_number_and_what_a_run_says_else(name):
    extent, largest, at_run_time = EXPRESSIONS[name]
    assert int(extent) == largest
    assert isinstance(extent, Extent)
    assert extent.evaluated(SIZES.__getitem__) == at_run_time
    assert eval(extent.text(lambda size: str(SIZES[size])).replace("/", "//")) == at_run_time


def test_equals_what_it_is_at_all_sizes_and_no_number():
    assert S + P == P + S
    assert hash(S + P) == hash(P + S)
    assert S != 100
    assert S != 100
    assert S + P - P == S
    assert isinstance(S - S, int)
    assert S - S == 0
    assert copy.deepcopy(S) == S
    assert repr(S) != repr(Extent.of(RunTimeSize(0, 99)))


@pytest.mark.parametrize(
    "expression", ["s + 1", "1 + s", "s - 1", "1 - s", "s * 2", "2 * s", "S + s", "S * s", "S - s"]
)
def test_what_is_rounded_up_is_in_no_sum_and_no_product(expression):
    with pytest.raises(AssertionError, match=r"write int\(extent\)"):
        eval(expression, {"S": S, "s": S.pieces(8)})


def test_memory_is_laid_out_for_the_largest():
    plane = Plane(16, 3, S, 16)
    assert (plane.row, plane.size) == (1600, 4800)
    assert not is_open((plane.row, plane.size))
    assert not is_open([*(chunk.start for chunk in chunks(S, 8)), *(chunk.start for chunk in halvings(S, 8))])
    assert pieces(S, 8) == S.pieces(8)
