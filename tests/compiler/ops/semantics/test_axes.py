"""Which axes an operator works along."""

import pytest

from graphpress.ir import AxisError
from graphpress.ops.semantics.axes import reduced_axes, softmax_axis


@pytest.mark.parametrize(
    ("opset", "given", "axis"),
    [(13, {}, (-1, True)), (12, {}, (1, False)), (12, {"axis": 2}, (2, False)), (13, {"axis": 0}, (0, True))],
)
def test_softmax_goes_along_one_axis_or_all_that_follow(node, opset, given, axis):
    assert softmax_axis(node("Softmax", opset, **given)) == axis


def test_a_reduction_without_axes_goes_over_all_or_none(node):
    assert reduced_axes(node("ReduceSum"), None, 3) == [0, 1, 2]
    assert reduced_axes(node("ReduceSum", noop_with_empty_axes=1), (), 3) == []
    assert reduced_axes(node("ReduceSum", noop_with_empty_axes=1), (-1, 0), 3) == [2, 0]


def test_a_reduction_over_an_axis_that_does_not_exist_is_an_error(node):
    with pytest.raises(AxisError):
        reduced_axes(node("ReduceSum"), (3,), 3)
