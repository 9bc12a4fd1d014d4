"""Properties of the way from a record to a model input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.data.parts import selected
from graphpress.data.preprocess import Preprocessor, channel_axis, fit, target_size
from graphpress.data.samples import evenly_spaced
from graphpress.data.schema import Preprocess
from graphpress.errors import DataError

channels = st.sampled_from([1, 3, 4])
extents = st.integers(5, 12)
dynamic = st.booleans()


@given(channels, extents, extents, st.booleans(), st.booleans(), dynamic)
def test_any_source_layout_reaches_any_model_layout(c, h, w, source_first, model_first, free):
    pixels = np.arange(c * h * w, dtype=np.float32).reshape(h, w, c)
    spatial = (None, "W") if free else (h, w)
    dims = ("N", c, *spatial) if model_first else ("N", *spatial, c)
    options = Preprocess(layout="NCHW" if source_first else "NHWC", scale=2.0)
    record = pixels.transpose(2, 0, 1) if source_first else pixels
    sample = Preprocessor(dims, np.dtype(np.float32), options)(record, "here")
    expected = 2 * (pixels.transpose(2, 0, 1) if model_first else pixels)
    assert sample.stacked
    np.testing.assert_array_equal(sample.array, expected)


@given(channels, extents, extents)
def test_without_layout_the_array_has_the_models(c, h, w):
    for dims in [("N", c, h, w), ("N", h, w, c)]:
        record = np.random.default_rng(0).random(dims[1:], np.float32)
        sample = Preprocessor(dims, np.dtype(np.float32), Preprocess(mean=[0.25] * c))(record, "here")
        np.testing.assert_allclose(sample.array, record - np.float32(0.25))


@given(st.lists(extents, min_size=1, max_size=3), st.integers(0, 3))
def test_a_missing_axis_of_one_is_added(body, position):
    grown = [*body[:position], 1, *body[position:]]
    sample = fit(np.zeros(body), (None, *grown), "here")
    assert sample.stacked
    assert list(sample.array.shape) == grown


def test_fit_prefers_no_change_and_knows_whole_inputs():
    assert fit(np.zeros((3, 4)), ("N", 3, 4), "").array.shape == (3, 4)
    assert fit(np.zeros((1, 3, 4)), ("N", 3, 4), "").array.shape == (3, 4)
    assert not fit(np.zeros((2, 3, 4)), (2, 3, 4), "").stacked
    assert not fit(np.zeros(()), (), "").stacked
    text = fit(np.array(["a b"], dtype=object), (1,), "")
    assert text.array.shape == ()
    assert text.array.item() == "a b"
    with pytest.raises(DataError, match=r"\[3, 5\] does not fit"):
        fit(np.zeros((3, 5)), ("N", 3, 4), "")


def test_unknown_rank_takes_channels_first():
    record = np.arange(24.0).reshape(2, 4, 3)
    sample = Preprocessor(None, np.dtype(np.float32), Preprocess(layout="NHWC"))(record, "here")
    np.testing.assert_array_equal(sample.array, record.transpose(2, 0, 1))
    scaled = Preprocessor(None, np.dtype(np.float32), Preprocess(mean=[0.0, 1.0]))(record, "here")
    np.testing.assert_array_equal(scaled.array, record - np.array([0.0, 1.0])[:, None, None])


@pytest.mark.parametrize(
    ("dims", "axis"),
    [((1, 3, 8, 8), 1), ((1, 8, 8, 3), 3), ((1, 3, 3, 3), 1), ((1, "h", "w", 64), 3), ((None,) * 4, 1), ((1, 7), 1)],
)
def test_channel_axis(dims, axis):
    assert channel_axis(dims) == axis


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 70), st.integers(1, 9))
def test_slices_are_pythons(total, start, stop, step):
    expected = list(range(total))[start:stop:step]
    if expected:
        assert list(selected([start, stop, step], total, "here")) == expected
    else:
        with pytest.raises(DataError, match="no samples"):
            selected([start, stop, step], total, "here")


@given(st.integers(1, 300), st.integers(1, 400))
def test_evenly_spaced(count, limit):
    kept = evenly_spaced(count, limit)
    assert len(kept) == min(count, limit)
    assert kept[0] == 0
    assert kept[-1] < count
    gaps = np.diff(kept)
    assert gaps.size == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300))
def test_resize_scales_the_shorter_side(height, width, wanted):
    new = target_size((height, width), wanted)
    assert min(new) == wanted
    assert (new[0] <= new[1]) == (height <= width) or new[0] == new[1]
