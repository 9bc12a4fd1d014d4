"""From a record of a source to one sample of a model input.

The order is fixed: user's function, resize, center crop, color order, ``x * scale``, ``(x - mean) / std``, then the
model's layout and dtype. On the way the channels are the last axis; where the model has its own is read off its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphpress.data.inputs import Dims, cast, describe, is_floating, is_text, matches, sample_dims, to_array
from graphpress.data.schema import Preprocess
from graphpress.data.user_code import call_user
from graphpress.errors import DataError

_CHANNELS = (1, 3, 4)
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


@dataclass(frozen=True)
class Sample:
    """A finished sample.

    Args:
        array: its values.
        stacked: it lacks the batch axis, so that several can be stacked; else it fills the whole input by itself.
    """

    array: np.ndarray
    stacked: bool

    @property
    def fed_shape(self) -> tuple[int, ...]:
        """The shape of the input when this sample is fed alone."""
        return (1, *self.array.shape) if self.stacked else self.array.shape


@dataclass(frozen=True)
class Preprocessor:
    """What happens to each record on its way into one input.

    Args:
        dims: the input's extents, the batch axis included.
        dtype: the input's element type.
        options: the data file's ``preprocess`` section for this input.
        is_image: records are decoded images, channels last.
        function: the user's function, already imported.
    """

    dims: Dims
    dtype: np.dtype
    options: Preprocess = field(default_factory=Preprocess)
    is_image: bool = False
    function: Any = None

    def __call__(self, record: np.ndarray, where: str) -> Sample:
        """Preprocess one record; ``where`` names it in messages.

        Raises:
            DataError: its shape or values do not go with the model's input.
        """
        if self.function is not None:
            record = to_array(call_user(self.function, _plain(record), where=where), where)
        if is_text(record.dtype):
            return fit(cast(record, self.dtype, where), self.dims, where)
        record, channels_last = self._channels_last(record, where)
        record = self._spatial(record, where)
        record = self._normalized(record, where)
        if channels_last:
            record = self._model_layout(record)
        sample = fit(record, self.dims, where)
        array = cast(sample.array, self.dtype, where)
        if self.options.finite and is_floating(array.dtype) and not np.isfinite(array).all():
            raise DataError(
                f"holds NaN or infinities, as {self.dtype}",
                where=where,
                fix="check the file and its preprocessing; where they are meant, set `finite: false` under preprocess",
            )
        return Sample(array, sample.stacked)

    def _channels_last(self, record: np.ndarray, where: str) -> tuple[np.ndarray, bool]:
        """The record with its channels last, and whether it has channels at all."""
        if not (self.is_image or self._needs_channels()):
            return record, False
        axes = self.options.layout or self.dims
        rank = 3 if self.is_image else record.ndim if axes is None else len(axes) - 1
        if record.ndim == rank + 1 and record.shape[0] == 1:
            record = record[0]
        if record.ndim == rank - 1 and rank >= 3:
            return record[..., None], True
        if record.ndim != rank:
            raise DataError(
                f"a record of shape {list(record.shape)} has no place for channels beside {rank - 1} other axes",
                where=where,
                fix="give `layout:` with the source's own axes under preprocess",
            )
        return np.moveaxis(record, self._source_axis(), -1), True

    def _needs_channels(self) -> bool:
        options = self.options
        per_channel = any(isinstance(value, list) and len(value) > 1 for value in (options.mean, options.std))
        return per_channel or any((options.layout, options.resize, options.crop, options.color))

    def _source_axis(self) -> int:
        """The record's channel axis: as its layout has it, an image's last, or where the model has it."""
        if self.options.layout:
            return self.options.layout.index("C") - 1
        return -1 if self.is_image else channel_axis(self.dims) - 1

    def _spatial(self, record: np.ndarray, where: str) -> np.ndarray:
        options = self.options
        if not (options.resize or options.crop or options.color):
            return record
        if record.ndim != 3:
            raise DataError(
                f"resize, crop and color are for images, not for records of shape {list(record.shape)}", where=where
            )
        if options.resize is not None:
            record = resize(record, target_size(record.shape, options.resize), options.interpolation)
        if options.crop is not None:
            record = center_crop(record, options.crop, where)
        if options.color and record.shape[-1] != 3:
            raise DataError(f"color is for 3 channels, not {record.shape[-1]}", where=where, fix="leave `color:` out")
        return record[..., ::-1] if options.color == "BGR" else record

    def _normalized(self, record: np.ndarray, where: str) -> np.ndarray:
        options = self.options
        if options.scale == 1.0 and options.mean == 0.0 and options.std == 1.0:
            return record
        wide = np.dtype(np.float64 if self.dtype == np.float64 else np.float32)
        mean, std = (self._per_channel(value, record, where, wide) for value in (options.mean, options.std))
        scaled: np.ndarray = (record.astype(wide) * wide.type(options.scale) - mean) / std
        return scaled

    def _per_channel(self, value: float | list[float], record: np.ndarray, where: str, wide: np.dtype) -> np.ndarray:
        array = np.asarray(value, wide)
        if array.size not in (1, record.shape[-1] if record.ndim else 1):
            raise DataError(
                f"mean or std has {array.size} values for {record.shape[-1]} channels",
                where=where,
                fix="give one number, or one a channel; `layout:` says which axis the channels are",
            )
        return array if array.size > 1 else array.reshape(())

    def _model_layout(self, record: np.ndarray) -> np.ndarray:
        """Channels moved to where the model's static extents want them; a single one goes if it has no axis for it."""
        first, body = np.moveaxis(record, -1, 0), sample_dims(self.dims)
        if body is None:
            return first
        if record.shape[-1] == 1 and matches(record.shape[:-1], body):
            return record[..., 0]
        fits_first, fits_last = matches(first.shape, body), matches(record.shape, body)
        if fits_first and fits_last:
            return first if channel_axis(self.dims) == 1 else record
        return first if fits_first or not fits_last else record


def channel_axis(dims: Dims) -> int:
    """The model's channel axis: of the second and the last, the one that is static, and small; else the second.

    >>> channel_axis(("N", 224, 224, 3)), channel_axis(("N", 3, "H", "W")), channel_axis((1, "H", "W", 64))
    (3, 1, 3)
    """
    if dims is None:
        return 1
    last = len(dims) - 1
    if last < 2:
        return last
    small = [axis for axis in (1, last) if dims[axis] in _CHANNELS]
    static = [axis for axis in (1, last) if isinstance(dims[axis], int)]
    return (small or static or [1])[0]


def image_mode(dims: Dims) -> str:
    """The Pillow mode in which images suit this input: gray where it has one channel or no channel axis."""
    if dims is None:
        return "RGB"
    if len(dims) < 4:
        return "L"
    return {1: "L", 4: "RGBA"}.get(dims[channel_axis(dims)], "RGB")  # type: ignore[arg-type]


def target_size(shape: Sequence[int], wanted: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width after ``resize``: exact, or with the shorter side scaled to ``wanted``.

    >>> target_size((100, 201, 3), 50)
    (50, 100)
    """
    if not isinstance(wanted, int):
        return wanted
    height, width = shape[:2]
    short = min(height, width)
    return (wanted, wanted * width // short) if height <= width else (wanted * height // short, wanted)


def resize(record: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Scale ``[h, w, c]`` to ``size`` with Pillow: uint8 stays uint8, all else goes through float32 a channel."""
    from PIL import Image

    if record.shape[:2] == size:
        return record
    filter_ = Image.Resampling(_FILTERS[interpolation])
    kind = np.uint8 if record.dtype == np.uint8 else np.float32
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(record[..., c].astype(kind))).resize(size[::-1], filter_))
        for c in range(record.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def center_crop(record: np.ndarray, size: int | tuple[int, int], where: str) -> np.ndarray:
    """The middle ``size`` of ``[h, w, c]``.

    Raises:
        DataError: the image is smaller.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if record.shape[0] < height or record.shape[1] < width:
        raise DataError(
            f"an image of {record.shape[0]}x{record.shape[1]} is smaller than the crop {height}x{width}",
            where=where,
            fix="add `resize:` before it, or crop less",
        )
    top, left = (record.shape[0] - height) // 2, (record.shape[1] - width) // 2
    return record[top : top + height, left : left + width]


def fit(array: np.ndarray, dims: Dims, where: str) -> Sample:
    """Give the array the input's rank: drop or leave the batch axis, add a missing axis of extent 1.

    Where the rank is unknown, it is a sample without the batch axis.

    Raises:
        DataError: no such change makes it fit.
    """
    if dims is None:
        return Sample(array, stacked=True)
    body = dims[1:]
    if dims and matches(array.shape, body):
        return Sample(array, stacked=True)
    if array.ndim == len(dims) and array.shape[:1] == (1,) and matches(array.shape[1:], body):
        return Sample(array.reshape(array.shape[1:]), stacked=True)  # array[0] of text is no array
    if matches(array.shape, dims):
        return Sample(array, stacked=False)
    for axis, extent in enumerate(body):
        grown = (*array.shape[:axis], 1, *array.shape[axis:])
        if extent == 1 and matches(grown, body):
            return Sample(array.reshape(grown), stacked=True)
    raise DataError(
        f"a sample of shape {list(array.shape)} does not fit the model's {describe(dims)}",
        where=where,
        fix="check the array, `layout:`, `resize:` and `crop:`",
    )


def _plain(record: np.ndarray) -> Any:
    """A record as the user's function expects it: a str for text, else the array."""
    return record.item() if record.ndim == 0 and is_text(record.dtype) else record
