"""Candidates for the sizes of open dimensions."""

from itertools import islice

import numpy as np
import pytest

from graphpress.data.free_sizes import MOST_CANDIDATES, candidate_shapes
from graphpress.runtime import InputSpec

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)


def shapes(dtype=F32, given=None, **inputs):
    return list(candidate_shapes([InputSpec(name, dtype, dims) for name, dims in inputs.items()], given))


@pytest.mark.parametrize(
    ("dims", "likeliest"),
    [
        (("N", 3, "H", "W"), (1, 3, 224, 224)),
        (("N", "H", "W", 3), (1, 224, 224, 3)),
        (("N", "C", "H", "W"), (1, 3, 224, 224)),
        ((None, 3, 48, "?"), (1, 3, 48, 224)),
        (("N", 12, "past", 64), (1, 12, 128, 64)),
        (("T", "batch", 40), (1, 1, 40)),
        (("N", "T"), (1, 128)),
        ((2, 5), (2, 5)),
        ((), ()),
        (None, ()),
    ],
)
def test_the_likeliest_comes_first(dims, likeliest):
    assert shapes(x=dims)[0]["x"] == likeliest


def test_what_is_fixed_leaves_no_choice():
    assert shapes(x=(2, 3), y=()) == [{"x": (2, 3), "y": ()}]


def test_a_name_is_one_size_and_what_text_shares_is_no_image():
    for each in shapes(I64, ids=("N", "S"), mask=("N", 1, "S", "S")):
        assert each["mask"] == (1, 1, *each["ids"][1:] * 2)
    assert shapes(I64, ids=("N", "S"), mask=("N", 1, "S", "S"))[0]["ids"] == (1, 128)


def test_a_given_scalar_is_given():
    """Sequences and optional values are fed as scalars are, whatever their elements declare."""
    assert shapes(given={"x": ()}, x=("N", 8), y=(2, 3)) == [{"x": (), "y": (2, 3)}]


def test_given_shapes_settle_what_shares_their_names():
    assert shapes(given={"x": (4, 7)}, x=("N", "T"), y=("T", "N"), z=("N", 2)) == [
        {"x": (4, 7), "y": (7, 4), "z": (4, 2)}
    ]


def test_a_question_mark_is_no_name():
    assert {each["x"][2:] for each in shapes(x=("N", 3, "?", "?"))} >= {(224, 224), (48, 320)}


def test_each_is_tried_once_and_not_for_ever():
    many = shapes(**{name: ("N", f"T{name}", 4) for name in "abcdef"})
    assert len(many) == len({tuple(each.values()) for each in many}) <= MOST_CANDIDATES
    assert all(len(set(each.values())) == 1 for each in islice(many, 5))
