"""Windows over space: padding that keeps the size, whole steps, and what a transposed convolution takes off."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from graphpress.ir import Attr, AttributeType, Node, NodeView
from graphpress.ops.semantics.window import Window, WindowAttributes, halves

KINDS = {str: AttributeType.STRING, int: AttributeType.INT, list: AttributeType.INTS}


def window(size=8, taps=3, stride=1, dilation=1, pads=(0, 0), auto_pad="", ceil=False):
    return Window((taps,), (stride,), (dilation,), None if auto_pad else (pads,), auto_pad, ceil, (size,))


def attributes(**given):
    node = Node("", "Conv", [], [Attr(name, KINDS[type(value)], value) for name, value in given.items()])
    return WindowAttributes.of(NodeView.of(node))


windows = st.builds(
    window,
    size=st.integers(1, 20),
    taps=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    ceil=st.booleans(),
)


def test_what_a_node_leaves_out_is_one_and_none():
    over = attributes().over((3, 3), (8, 8))
    assert (over.strides, over.dilations, over.pads, over.ceil) == ((1, 1), (1, 1), ((0, 0), (0, 0)), False)


def test_pads_come_before_all_axes_then_after_all():
    over = attributes(pads=[1, 2, 3, 4], ceil_mode=1).over((3, 3), (8, 8))
    assert (over.pads, over.ceil) == (((1, 3), (2, 4)), True)


def test_valid_padding_is_none_whatever_the_pads_say():
    assert attributes(auto_pad="VALID", pads=[1, 1]).over((3,), (8,)).pads == ((0, 0),)


@pytest.mark.parametrize(("auto_pad", "pads"), [("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0))])
def test_padding_that_keeps_the_size_follows_from_it(auto_pad, pads):
    same = attributes(auto_pad=auto_pad, strides=[2])
    assert same.over((3,), (8,)).padding == (pads,)
    open_ended = same.over((3,), (-1,))
    assert (open_ended.pads, open_ended.known) == (None, False)
    with pytest.raises(ValueError, match="open size"):
        open_ended.whole()


@given(windows, st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
def test_kept_sizes_are_divided_by_the_stride(slid, auto_pad):
    size, stride = slid.size[0], slid.strides[0]
    same = window(size, slid.kernel[0], stride, slid.dilations[0], auto_pad=auto_pad)
    ((before, after),) = same.same()
    places = (size + before + after - slid.extent[0]) // stride + 1
    assert (places, abs(before - after) <= 1) == (-(-size // stride), True)


@given(windows)
def test_whole_steps_fit_exactly_and_begin_inside(slid):
    assume(max(slid.pads[0]) < slid.extent[0])  # what runtimes ask for
    ((before, after),) = slid.whole()
    room = slid.size[0] + before + after - slid.extent[0]
    assert room % slid.strides[0] == 0
    if slid.ceil:
        assert room < slid.size[0] + before
    else:
        assert 0 <= slid.pads[0][1] - after < slid.strides[0]


@given(windows, st.integers(1, 30))
def test_a_transposed_window_has_the_size_that_is_asked_for(slid, wanted):
    whole = slid.strides[0] * (slid.size[0] - 1) + slid.extent[0]
    ((before, after),) = slid.transposed((0,), (1, 1, wanted))
    assert whole - before - after == wanted
    assert before >= 0


def test_a_transposed_window_takes_off_its_pads():
    assert window(pads=(1, 2)).transposed((0,), None) == ((1, 2),)
    assert window(stride=2, auto_pad="SAME_UPPER").transposed((0,), None) == ((0, 1),)


@given(st.integers(0, 9), st.booleans())
def test_halves_add_up_with_the_larger_where_it_belongs(total, upper):
    before, after = halves(total, upper)
    assert before + after == total
    assert before <= after if upper else after <= before
