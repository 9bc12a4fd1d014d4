"""The data file as plain dataclasses; pydantic checks a file against them.

``calibration`` and ``evaluation`` (and optionally ``selection``) each name a source; ``preprocess`` says, input by
input, how a record of the source becomes what the model was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from graphpress.data.bounds import BYTES_OF_TEXT, check_room, check_values
from graphpress.errors import DataError, did_you_mean

_STRICT = {"extra": "forbid"}
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


@dataclass(frozen=True)
class LabelSpec:
    """Where labels come from, when not simply an array or column of the source.

    Args:
        source: another file (npy, npz, idx or tsv), one label a record.
        array: array or column in ``source``, needed when it holds several.
        column: column of the part's own table, by name or index; the long form of ``labels: column``.
        from_name: regular expression whose first group, searched in an image's relative path, is the label.
        classes: names of the classes in index order, for labels that are text.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT
    source: str | None = None
    array: str | int | None = None
    column: str | int | None = None
    from_name: str | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Part:
    """One set of samples.

    Args:
        source: .npz, .npy, idx(.gz), folder or .zip of images, .tsv, or ``module:function``. The function is called
            without arguments; it returns an array for a model with one input, a mapping of arrays by input name
            (optionally with ``labels``), a pair (either, labels), or an iterable of feeds. Its module is looked for in
            the data file's folder first.
        inputs: model input -> array of the source, or a column or list of columns of a table.
        slice: ``[start, stop]`` or ``[start, stop, step]``, of the labels' source too.
        labels: array or column of the source, or a ``LabelSpec``.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT
    source: str
    inputs: dict[str, str | int | list[str | int]] | None = None
    slice: list[int | None] | None = None
    labels: str | int | LabelSpec | None = None


@dataclass(frozen=True)
class Preprocess:
    """How a record becomes one sample of an input, in this order.

    Args:
        function: ``module:function`` called with each record first, an array or the text of a table's cell; it
            returns an array. This is where a tokenizer goes.
        layout: the source's axes, ``NHWC``, ``NCHW`` and the like; without it an array has the model's own layout.
        resize: an int scales the shorter side to it, ``[h, w]`` scales to exactly that.
        crop: center crop, an int for a square or ``[h, w]``.
        color: the channel order the model wants; sources are RGB.
        interpolation: the filter of ``resize``.
        scale: every value is multiplied by it.
        mean: subtracted after ``scale``; one number or one a channel.
        std: divided by after ``mean``; one number or one a channel.
        finite: NaN and infinities are mistakes; ``false`` for models to which they mean something (a missing value, a
            mask).
    """

    __pydantic_config__: ClassVar[Any] = _STRICT
    function: str | None = None
    layout: Literal["NHWC", "NCHW", "NWC", "NCW", "NDHWC", "NCDHW"] | None = None
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    color: Literal["RGB", "BGR"] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bilinear"
    scale: float = 1.0
    mean: float | list[float] = 0.0
    std: float | list[float] = 1.0
    finite: bool = True


@dataclass(frozen=True)
class DataFile:
    """A whole data file.

    Args:
        calibration: inputs for passes that look at activations or train.
        evaluation: what the final figure is measured on.
        selection: what gates passes, kept apart from the final figure; optional.
        preprocess: by model input.
        batch: samples a call; without it 32, fewer where samples are large, or what the model fixes.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT
    calibration: Part | None = None
    evaluation: Part | None = None
    selection: Part | None = None
    preprocess: dict[str, Preprocess] = field(default_factory=dict)
    batch: int | None = None


def is_data_file(path: Path) -> bool:
    """Whether a file of this name is a data file, rather than a source by itself."""
    return path.suffix.lower() in (".yaml", ".yml", ".json")


def read_data_file(path: Path) -> DataFile:
    """Read and check a data file.

    Raises:
        DataError: it is not there, is not YAML, or does not follow the schema.
    """
    import yaml

    try:
        check_room(BYTES_OF_TEXT * path.stat().st_size, str(path))
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError("no such data file", where=str(path), fix="check the path") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"cannot be read: {reason}", where=str(path), fix="give a readable file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            "is not text in UTF-8, so not a data file",
            where=str(path),
            fix="write one in YAML; a source by itself goes by its own ending, such as .npz",
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: dates that are none
        reason = " ".join(str(error).split())
        raise DataError(
            f"is not YAML: {reason}", where=str(path), fix="correct its indentation, quotes or brackets"
        ) from error
    check_values(content, str(path))
    return check_data_file(content, str(path))


def check_data_file(content: Any, where: str) -> DataFile:
    """The content of a data file, checked against the schema.

    Raises:
        DataError: naming the first key that is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(content, Mapping):
        raise DataError("is not a mapping", where=where, fix="begin with `evaluation:` and a `source:`")
    try:
        data = TypeAdapter(DataFile).validate_python(content)
    except ValidationError as error:
        raise _explain(error, where) from error
    if not (data.calibration or data.evaluation):
        raise DataError("names no samples", where=where, fix="add `calibration:` or `evaluation:` with a `source:`")
    if data.batch is not None and data.batch < 1:
        raise DataError(f"batch is {data.batch}", where=where, fix="give a batch of at least 1")
    for name, options in data.preprocess.items():
        _check_values(name, options, where)
    return data


def _check_values(name: str, options: Preprocess, where: str) -> None:
    """What the types alone do not express: sizes are positive, numbers finite, nothing is divided by zero."""
    where = f"{where}, preprocess of {name!r}"
    for key, size in (("resize", options.resize), ("crop", options.crop)):
        if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
            raise DataError(f"{key} is {size}", where=where, fix="give sizes of at least 1")
    for key, value in (("scale", options.scale), ("mean", options.mean), ("std", options.std)):
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(math.isfinite(number) for number in numbers) or (key == "std" and 0 in numbers):
            raise DataError(f"{key} is {value}", where=where, fix="give finite numbers, and no std of 0")


def _explain(error: Any, where: str) -> DataError:
    """The first unknown key, else the fault that lies deepest, as one error."""
    faults = error.errors()
    unknown = [fault for fault in faults if fault["type"] in _UNKNOWN_KEY]
    fault = unknown[0] if unknown else max(faults, key=lambda fault: len(fault["loc"]))
    keys = [str(key) for key in fault["loc"] if key != "LabelSpec"]
    known = _known_keys(keys[:-1])
    if unknown:
        return DataError(f"unknown key {'.'.join(keys)!r}", where=where, fix=did_you_mean(keys[-1], known))
    message = fault["msg"].partition(" or an instance of")[0].lower()
    return DataError(f"{'.'.join(keys)} is {fault['input']!r}: {message}", where=where, fix=f"keys: {', '.join(known)}")


def _known_keys(path: list[str]) -> list[str]:
    """Keys allowed at that place of the file: the innermost schema class on the way."""
    owner: Any = DataFile
    for key in path:
        if key in ("calibration", "evaluation", "selection"):
            owner = Part
        elif key == "preprocess":
            owner = Preprocess
        elif owner is Part and key == "labels":
            owner = LabelSpec
    return [item.name for item in fields(owner)] if is_dataclass(owner) else []
