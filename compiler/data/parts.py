"""One part of a data file (calibration, evaluation or selection), opened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphpress.data.arrays import array_names, is_idx, read_idx, read_npy, read_npz
from graphpress.data.feeds import FeedSamples, drain, reread
from graphpress.data.inputs import ModelInput, fixed_batch, to_array
from graphpress.data.labels import finish, from_names, read_labels
from graphpress.data.matching import LABELS, matched, matching_notes
from graphpress.data.npz import npz_source
from graphpress.data.preprocess import Preprocessor, image_mode
from graphpress.data.samples import Column, ColumnSamples, Samples
from graphpress.data.schema import LabelSpec, Part, Preprocess
from graphpress.data.sources import ArraySource, ImageSource, Source, image_names
from graphpress.data.tables import ColumnName, read_table
from graphpress.data.user_code import call_user, code_hash, is_reference, load_object, on_path
from graphpress.errors import DataError, did_you_mean

DEFAULT_BATCH = 32
"""Samples a call where the model leaves it open."""

BATCH_BYTES = 8 << 20
"""A feed takes at most this, unless one sample is larger: activations are many times the input."""


@dataclass(frozen=True)
class PartReader:
    """Opens parts of one data file.

    Args:
        inputs: of the model.
        folder: what paths and modules are relative to.
        where: the data file, for messages.
        preprocess: options by input name.
        batch: samples a call, where the user gives it.
    """

    inputs: tuple[ModelInput, ...]
    folder: Path
    where: str
    preprocess: Mapping[str, Preprocess] = field(default_factory=dict)
    batch: int | None = None

    def __post_init__(self) -> None:
        names = [item.name for item in self.inputs]
        for name in self.preprocess:
            if name not in names:
                raise DataError(
                    f"preprocess names {name!r}, which is no input of the model",
                    where=self.where,
                    fix=did_you_mean(name, names),
                )

    def open(self, part: Part) -> Samples:
        """The samples of a part; the first batch is read to find what is wrong before work starts.

        Raises:
            DataError: anything about the source, its arrays or labels does not go with the model.
        """
        if is_reference(part.source) and not (self.folder / part.source).exists():
            return self._open_code(part)
        if not part.source.strip():
            raise DataError("source is empty", where=self.where, fix="name a file, a folder or module:function")
        path = (self.folder / part.source).expanduser()
        if not path.exists():
            bare = part.source == self.where
            fix = "check the path" if bare else "paths are relative to the data file"
            raise DataError("no such file or folder", where=str(path), fix=fix)
        return self._open_path(part, path)

    def from_object(self, made: Any, part: Part) -> Samples:
        """Samples from what Python code gives.

        Args:
            made: an array for a model with one input; a mapping of arrays by input name, optionally with ``labels``; a
                pair (either, labels); a ``CalibrationDataReader``; or an iterable of feeds.
            part: its ``source`` names it in messages; the rest applies to arrays.

        Raises:
            DataError: it is none of these, or does not go with the model.
        """
        labels = None
        if isinstance(made, tuple) and len(made) == 2 and _is_array(made[1]):
            made, labels = made[0], to_array(made[1], part.source)
        if isinstance(made, Mapping):
            return self._from_arrays(made, labels, part)
        if _is_array(made):
            return self._from_arrays({self._single(part): made}, labels, replace(part, inputs=None))
        if hasattr(made, "get_next"):
            return self._from_feeds(drain(made, part.source), part)
        if isinstance(made, Iterable) and not isinstance(made, (str, bytes)):
            return self._from_feeds(reread(made, part.source), part)
        raise DataError(
            f"{type(made).__name__} is no data", where=part.source, fix="give arrays by input name, or feeds"
        )

    # -- kinds of source ------------------------------------------------------------------------------

    def _open_path(self, part: Part, path: Path) -> Samples:
        kind = path.suffix.lower()
        if path.is_dir() or kind == ".zip":
            return self._open_images(part, path)
        if kind == ".npz":
            return self._open_npz(part, path)
        if kind == ".tsv":
            return self._open_table(part, path)
        if kind == ".npy" or is_idx(path):
            array = read_npy(path) if kind == ".npy" else read_idx(path)
            return self._samples(part, {self._single(part): _source(array, str(path))}, self._labels(part))
        raise DataError(
            "is no kind of source that can be read",
            where=str(path),
            fix="give .npz, .npy, idx(.gz), a folder or .zip of images, .tsv, or module:function",
        )

    def _open_images(self, part: Part, path: Path) -> Samples:
        name = self._single(part)
        names = image_names(path)
        source = ImageSource(path, names, image_mode(self._input(name).dims))
        spec = _label_spec(part)
        if spec is not None and spec.from_name is not None:
            return self._samples(part, {name: source}, from_names(names, spec.from_name, str(path)), is_image=True)
        return self._samples(part, {name: source}, self._labels(part), is_image=True)

    def _open_npz(self, part: Part, path: Path) -> Samples:
        stored = array_names(path)
        spec = _label_spec(part)
        own = str(spec.array) if spec is not None and spec.source is None and spec.array is not None else None
        notes: tuple[str, ...] = ()
        if part.inputs:
            self._check_names(part.inputs)
            chosen = {name: _single_name(array, path) for name, array in part.inputs.items()}
        else:
            chosen = matched(self._names(), stored, own, str(path))
            notes = matching_notes(chosen, stored, own, part.source)
        sources = {name: npz_source(path, array) for name, array in chosen.items()}
        labels = self._labels(part) if own is None else read_npz(path, own)
        return self._samples(part, sources, labels, notes=notes)

    def _open_table(self, part: Part, path: Path) -> Samples:
        if part.inputs is None:
            raise DataError("a table needs columns", where=str(path), fix="add `inputs: {model input: column}`")
        self._check_names(part.inputs)
        spec = _label_spec(part)
        own = None
        if spec is not None and spec.source is None:
            own = spec.array if spec.column is None else spec.column
        wanted = [*_flat(part.inputs.values()), *([] if own is None else [own])]
        named = any(isinstance(column, str) for column in wanted)
        table = read_table(path, named, [column for column in wanted if isinstance(column, int)])
        sources = {
            name: ArraySource(
                table.columns(columns) if isinstance(columns, list) else table.column(columns), f"{path}:{columns}"
            )
            for name, columns in part.inputs.items()
        }
        return self._samples(part, sources, self._labels(part) if own is None else table.column(own))

    def _open_code(self, part: Part) -> Samples:
        function = load_object(part.source, self.folder)
        with on_path(self.folder.resolve()):
            return self.from_object(call_user(function, where=part.source), part)

    def _from_arrays(self, arrays: Mapping[str, Any], labels: np.ndarray | None, part: Part) -> Samples:
        spec = _label_spec(part)
        own = spec.array if spec is not None and spec.source is None else None
        arrays = {str(name): array for name, array in arrays.items()}
        if own is None and labels is None and LABELS in arrays and LABELS not in self._names():
            own = LABELS
        for name in [*map(str, (part.inputs or {}).values()), *([] if own is None else [str(own)])]:
            if name not in arrays:
                raise DataError(f"has no array {name!r}", where=part.source, fix=did_you_mean(name, arrays))
        if own is not None:
            labels = to_array(arrays.pop(str(own)), f"{part.source}:{own}")
        chosen = {name: arrays[str(array)] for name, array in (part.inputs or {}).items()} or arrays
        self._check_names(chosen, () if labels is not None or part.inputs else (LABELS,))
        sources = {name: _source(array, f"{part.source}:{name}") for name, array in chosen.items()}
        return self._samples(part, sources, self._labels(part) if labels is None else labels)

    def _from_feeds(self, feeds: Iterable[Any], part: Part) -> Samples:
        for key, value in (("slice", part.slice), ("inputs", part.inputs), ("labels", part.labels)):
            if value is not None:
                raise DataError(
                    f"{key} cannot be applied to feeds",
                    where=part.source,
                    fix="do it in the function, or return arrays",
                )
        return FeedSamples(feeds, self.inputs, part.source)

    # -- what all kinds share -------------------------------------------------------------------------

    def _samples(
        self,
        part: Part,
        sources: Mapping[str, Source],
        labels: np.ndarray | None,
        is_image: bool = False,
        notes: tuple[str, ...] = (),
    ) -> Samples:
        missing = [item.name for item in self.inputs if item.name not in sources]
        if missing:
            raise DataError(f"nothing feeds input {missing[0]!r}", where=part.source, fix="name its array in `inputs:`")
        lengths = {source.where: len(source) for source in sources.values()}
        if len(set(lengths.values())) != 1:
            raise DataError(f"arrays differ in length: {lengths}", where=part.source)
        total = next(iter(lengths.values()))
        place = part.source if part.source == self.where else f"{self.where}, source {part.source}"
        indices = selected(part.slice, total, place)
        if labels is not None:
            spec = _label_spec(part)
            labels = finish(labels, spec.classes if spec else None, total, part.source)[np.asarray(indices)]
        columns = tuple(self._column(item, sources[item.name], is_image) for item in self.inputs)
        fixed = fixed_batch(self.inputs)
        samples = ColumnSamples(
            columns,
            indices,
            labels,
            batch_size=1,
            padded=fixed is not None,
            chosen=bool(fixed or self.batch),
            spec=self._spec_text(part, columns),
            notes=(*notes, *_shortfall(part, total)),
        )
        size = fixed or self.batch or _batch_size(next(samples.counted_batches()).feed)
        return _checked(replace(samples, batch_size=size))

    def _column(self, item: ModelInput, source: Source, is_image: bool) -> Column:
        options = self.preprocess.get(item.name, Preprocess())
        function = None if options.function is None else load_object(options.function, self.folder)
        return Column(item.name, source, Preprocessor(item.dims, item.dtype, options, is_image, function))

    def _labels(self, part: Part) -> np.ndarray | None:
        """Labels of a source that has none of its own."""
        spec = _label_spec(part)
        if spec is None:
            return None
        if spec.source is None:
            raise DataError(
                "this source has no labels of its own", where=part.source, fix="use `labels: {source: FILE}`"
            )
        return read_labels((self.folder / spec.source).expanduser(), spec)

    def _single(self, part: Part) -> str:
        """The one input that a source without array names feeds."""
        if part.inputs:
            self._check_names(part.inputs)
            return next(iter(part.inputs))
        if len(self.inputs) != 1:
            raise DataError(
                f"one array cannot feed {len(self.inputs)} inputs",
                where=part.source,
                fix=f"give an .npz with arrays {', '.join(self._names())}",
            )
        return self.inputs[0].name

    def _check_names(self, chosen: Iterable[str], others: Sequence[str] = ()) -> None:
        """Each name is an input; ``others`` would have been understood too."""
        for name in chosen:
            if name not in self._names():
                known = [*self._names(), *others]
                raise DataError(f"the model has no input {name!r}", where=self.where, fix=did_you_mean(name, known))

    def _names(self) -> list[str]:
        return [item.name for item in self.inputs]

    def _input(self, name: str) -> ModelInput:
        return next(item for item in self.inputs if item.name == name)

    def _spec_text(self, part: Part, columns: Iterable[Column]) -> str:
        """How the data is read, the user's functions by their code, for the fingerprint."""
        options = {name: asdict(self.preprocess[name]) for name in sorted(self.preprocess)}
        code = [code_hash(column.preprocessor.function) for column in columns]
        return json.dumps([asdict(part), options, code], sort_keys=True)


def selected(slice_: Sequence[int | None] | None, total: int, where: str) -> range:
    """The record numbers that ``slice`` picks out of ``total``; as in Python, it may reach beyond the end.

    Raises:
        DataError: it is malformed or picks nothing.
    """
    values = list(slice_ or (0, None))
    if len(values) not in (2, 3) or any(value is not None and value < 0 for value in values) or 0 in values[2:]:
        raise DataError(
            f"slice is {values}", where=where, fix="give [start, stop] or [start, stop, step], none negative"
        )
    indices = range(*slice(*values).indices(total))
    if not total:
        raise DataError("no samples: 0 records", where=where, fix="give a source with at least one record")
    if not indices:
        raise DataError(f"no samples: {total} records, slice {values}", where=where, fix="widen the slice")
    return indices


def _label_spec(part: Part) -> LabelSpec | None:
    if part.labels is None or isinstance(part.labels, LabelSpec):
        return part.labels
    return LabelSpec(array=part.labels)


def _single_name(array: str | int | list[str | int], path: Path) -> str:
    if isinstance(array, list):
        raise DataError(f"one array an input, not {array}", where=str(path), fix="name a single array")
    return str(array)


def _flat(columns: Iterable[ColumnName | list[ColumnName]]) -> list[ColumnName]:
    return [name for item in columns for name in (item if isinstance(item, list) else [item])]


def _batch_size(feed: Mapping[str, np.ndarray]) -> int:
    """The default batch, smaller where a feed of it would be large."""
    sample_bytes = max(1, sum(array.nbytes for array in feed.values()))
    return max(1, min(DEFAULT_BATCH, BATCH_BYTES // sample_bytes))


def _source(value: Any, where: str) -> ArraySource:
    array = to_array(value, where)
    if array.ndim == 0:
        raise DataError("is a single value, where an array with one row a sample is wanted", where=where)
    return ArraySource(array, where)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__")


def _shortfall(part: Part, total: int) -> tuple[str, ...]:
    stop = part.slice[1] if part.slice else None
    if stop is None or stop <= total:
        return ()
    return (f"{part.source} has {total} records: slice {part.slice} ends there",)


def _checked(samples: Samples) -> Samples:
    """The samples, after one batch of them has been read."""
    next(samples.counted_batches())
    return samples
