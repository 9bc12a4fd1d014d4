"""Kinds of encodings: immutable, equal by content, and what is wrong with the unsound."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from graphpress.ir.encoding import (
    FLOAT8,
    AffineEncoding,
    CastEncoding,
    CodebookEncoding,
    dynamic_encoding,
    fits,
    static_affine,
)

MILLION = np.random.default_rng(1).uniform(1, 2, (1024, 1024)).astype(np.float32)


def test_numbers_are_read_only_and_nobody_elses(encoding):
    numbers = [field for field in vars(encoding).values() if isinstance(field, np.ndarray)]
    assert not any(array.flags.writeable for array in numbers)
    with pytest.raises(FrozenInstanceError):
        encoding.dtype = "int8"


def test_the_array_that_it_was_made_of_may_change_afterwards():
    scale = np.ones(3, np.float32)
    encoding = AffineEncoding("int8", scale, axis=0)
    scale[:] = 7
    assert encoding.scale.tolist() == [1, 1, 1]


def test_equal_by_content(encoding):
    same = replace(encoding)
    assert same is not encoding
    assert same == encoding
    assert hash(same) == hash(encoding)
    assert encoding != CastEncoding("float16")
    assert encoding != "int8"


@pytest.mark.parametrize(
    "change",
    [{"dtype": "uint8"}, {"scale": MILLION * 2}, {"zero_point": 1}, {"axis": 0}, {"block": 2}, {"imported": True}],
)
def test_whatever_differs_makes_it_another(change):
    encoding = AffineEncoding("int8", MILLION, axis=1, block=1)
    assert replace(encoding, **change) != encoding
    assert (replace(encoding, **change).grid == encoding.grid) == ("imported" in change)


def test_zero_points_are_one_number_where_they_are_the_same():
    several = AffineEncoding("uint4", MILLION, np.full(MILLION.shape, 8), axis=1, block=1)
    single = AffineEncoding("uint4", MILLION, 8, axis=1, block=1)
    assert several == single
    assert several.zero_point.shape == MILLION.shape
    assert several.zero_point.strides == (0, 0)


def test_a_dynamic_encoding_has_no_numbers():
    encoding = dynamic_encoding("uint8", axis=1)
    assert (encoding.is_dynamic, encoding.fault, static_affine(encoding)) == (True, None, None)
    assert fits(encoding, (2, 3))
    assert not fits(encoding, (2,))


@pytest.mark.parametrize(
    ("encoding", "why"),
    [
        (AffineEncoding("int9", 1.0), "unknown type 'int9'"),
        (AffineEncoding("int8", 0.0), "no positive number"),
        (AffineEncoding("int8", np.nan), "no positive number"),
        (AffineEncoding("int8", (1.0, np.inf), axis=0), "no positive number"),
        (AffineEncoding("int8", (1.0, -1.0), axis=0), "no positive number"),
        (AffineEncoding("int8", (1.0, 1.0)), "scales of shape [2] for the whole tensor"),
        (AffineEncoding("int8", 1.0, axis=0), "scales of shape [] for axis 0"),
        (AffineEncoding("int8", ((1.0,),), axis=0), "scales of shape [1, 1] for axis 0"),
        (AffineEncoding("int8", (1.0, 2.0), (1, 2, 3), axis=0), "zero-points of [3]"),
        (AffineEncoding("int8", 1.0, 128), "outside -128 to 127"),
        (AffineEncoding("uint4", 1.0, -1), "outside 0 to 15"),
        (AffineEncoding(FLOAT8, 1.0, 1), "outside 0 to 0"),
        (AffineEncoding("int8", 1.0, block=2), "blocks of 2 along axis None"),
        (AffineEncoding("int8", ((1.0,),), axis=0, block=-2), "blocks of -2"),
        (CodebookEncoding("int8", np.ones(4)), "unknown type 'int8'"),
        (CodebookEncoding("uint2", np.ones(5)), "table of shape [5]"),
        (CodebookEncoding("uint2", np.ones(0)), "table of shape [0]"),
        (CodebookEncoding("uint2", np.array(1.0)), "table of shape []"),
        (CodebookEncoding("uint2", np.array([1, np.nan])), "no number"),
        (CodebookEncoding("uint2", np.ones(2), np.array(-1.0)), "no positive number"),
        (CastEncoding("int8"), "unknown type 'int8'"),
    ],
)
def test_what_is_unsound_has_a_reason(encoding, why):
    assert why in encoding.fault
    assert not fits(encoding, (2, 2))


@pytest.mark.parametrize(
    ("encoding", "dims", "why"),
    [
        (AffineEncoding("int8", (1.0, 2.0), axis=7), (6, 4), "axis 7"),
        (AffineEncoding("int8", (1.0, 2.0), axis=1), (6, 4), "where axis 1 of [6, 4] needs [4]"),
        (AffineEncoding("int8", ((1.0, 2.0),), axis=0, block=4), (6, 2), "needs [2, 2]"),
        (AffineEncoding("int8", ((1.0, 2.0),), axis=0, block=4), (None, 3), "needs [?, 3]"),
        (CodebookEncoding("uint2", np.ones((4, 2))), (6, 3), "do not tile"),
        (CodebookEncoding("uint2", np.ones((4, 2, 2))), (4,), "do not tile"),
    ],
)
def test_what_does_not_fit_has_a_reason(encoding, dims, why):
    assert encoding.fault is None
    assert why in encoding.misfit(dims)


@pytest.mark.parametrize("dims", [(6, None), (None, None), (6, 2)])
def test_open_dimensions_fit(dims):
    assert AffineEncoding("int8", (1.0, 2.0), axis=1).misfit(dims) is None
