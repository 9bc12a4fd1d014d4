"""From what the user gives as data to the samples that passes and metrics read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphpress.data.arrays import array_names
from graphpress.data.inputs import ModelInput
from graphpress.data.matching import LABELS
from graphpress.data.parts import PartReader
from graphpress.data.samples import Samples
from graphpress.data.schema import DataFile, Part, check_data_file, is_data_file, read_data_file
from graphpress.errors import DataError, UsageError

BORROWED_CALIBRATION = 512
"""Samples taken for calibration from the evaluation part, when there is no calibration part."""

_PARTS = ("calibration", "evaluation", "selection")
_SECTIONS = (*_PARTS, "preprocess", "batch")


@dataclass(frozen=True)
class Dataset:
    """The samples of a run.

    Args:
        calibration: what passes look at; None without data.
        evaluation: what the final figure is measured on; None without data.
        selection: what gates passes; None when the evaluation samples do that as well.
        notes: what was decided for want of a part, and which arrays nothing reads, for the report.
        borrowed: calibration and evaluation are of one part, which the notes say.
    """

    calibration: Samples | None = None
    evaluation: Samples | None = None
    selection: Samples | None = None
    notes: tuple[str, ...] = ()
    borrowed: bool = False

    def in_batches_of(self, most: int) -> Dataset:
        """The same, with at most so many samples in a feed, where nobody chose how many."""
        parts = [part for part in (self.calibration, self.evaluation, self.selection) if part is not None]
        cut = {id(part): part.in_batches_of(most) for part in parts}  # one that stands for two stays one
        calibration, evaluation, selection = (
            cut.get(id(part)) for part in (self.calibration, self.evaluation, self.selection)
        )
        return replace(self, calibration=calibration, evaluation=evaluation, selection=selection)

    def fingerprints(self) -> dict[str, str]:
        """The content hash of each part that is there, by its name."""
        parts = {"calibration": self.calibration, "evaluation": self.evaluation, "selection": self.selection}
        return {name: part.fingerprint() for name, part in parts.items() if part is not None}


def load_dataset(
    spec: Any, inputs: Sequence[ModelInput], *, limit: int | None = None, batch: int | None = None
) -> Dataset:
    """Open data for a model. Everything that can be checked early is: nothing is computed before.

    Args:
        spec: a data file (.yaml, .yml, .json); a bare source, such as an .npz with arrays named like the inputs and
            optionally ``labels``; a mapping of such arrays; an array, or a pair (array, labels); an iterable of feeds
            or (feed, labels) pairs; a ``CalibrationDataReader``; a mapping with the sections of a data file, in which a
            part may be any of these objects; a ``Dataset``; or None.
        inputs: the model's inputs.
        limit: at most this many samples, evenly spaced, in evaluation and selection.
        batch: samples a call, where the model leaves it open.

    A single set of samples serves as calibration (at most 512 evenly spaced samples, labels unused) and as evaluation.
    So does a data file with only one of both parts: without ``evaluation``, the metric is taken on the calibration
    samples. ``notes`` records either.

    Raises:
        DataError: the data cannot be read or does not go with the model's inputs.
        UsageError: it is an empty text.
    """
    if spec is None:
        return Dataset()
    if isinstance(spec, str) and not spec.strip():
        raise UsageError("the name is empty", where="--data", fix="name a data file or a source, or leave it out")
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} leaves no samples", fix="give at least 1")
    data = spec if isinstance(spec, Dataset) else _completed(_parts(spec, tuple(inputs), batch))
    if limit is None:
        return data
    evaluation, selection = (part and part.spread(limit) for part in (data.evaluation, data.selection))
    return replace(data, evaluation=evaluation, selection=selection)


def _parts(spec: Any, inputs: tuple[ModelInput, ...], batch: int | None) -> Dataset:
    """The parts that are given, as they are given."""
    if isinstance(spec, (str, Path)) and is_data_file(Path(spec)):
        return _from_file(read_data_file(Path(spec)), Path(spec).parent, str(spec), inputs, batch)
    if isinstance(spec, Mapping) and _is_sectioned(spec, inputs):
        return _from_sections(spec, inputs, batch)
    return Dataset(evaluation=_single_part(spec, inputs, batch))


def _single_part(spec: Any, inputs: tuple[ModelInput, ...], batch: int | None) -> Samples:
    """Samples from a bare source or a Python object."""
    if not isinstance(spec, (str, Path)):
        return PartReader(inputs, Path(), "data", batch=batch).from_object(spec, Part(f"data ({type(spec).__name__})"))
    path = Path(spec)
    is_input = any(item.name == LABELS for item in inputs)
    is_npz = path.suffix.lower() == ".npz" and path.is_file() and not is_input
    labels = LABELS if is_npz and LABELS in array_names(path) else None
    return PartReader(inputs, Path(), str(spec), batch=batch).open(Part(str(spec), labels=labels))


def _is_sectioned(spec: Mapping[str, Any], inputs: tuple[ModelInput, ...]) -> bool:
    """Whether a mapping has the sections of a data file, rather than arrays by input name."""
    return bool(spec) and set(spec) <= set(_SECTIONS) and not set(spec) <= {item.name for item in inputs}


def _from_sections(spec: Mapping[str, Any], inputs: tuple[ModelInput, ...], batch: int | None) -> Dataset:
    """A data file as a mapping, in which a part may also be a Python object."""
    objects = {name: spec[name] for name in _PARTS if name in spec and not _is_part(spec[name])}
    rest = {name: value for name, value in spec.items() if name not in objects}
    opened = {name: _single_part(value, inputs, batch) for name, value in objects.items()}
    has_file = bool(set(rest) & set(_PARTS))
    if not has_file and rest.get("preprocess"):
        raise DataError("preprocess is for parts with a source", where="data", fix="preprocess the arrays yourself")
    base = _from_file(check_data_file(rest, "data"), Path(), "data", inputs, batch) if has_file else Dataset()
    return Dataset(
        opened.get("calibration", base.calibration),
        opened.get("evaluation", base.evaluation),
        opened.get("selection", base.selection),
    )


def _is_part(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and "source" in value)


def _from_file(file: DataFile, folder: Path, where: str, inputs: tuple[ModelInput, ...], batch: int | None) -> Dataset:
    reader = PartReader(inputs, folder, where, file.preprocess, batch or file.batch)
    calibration, evaluation, selection = (
        None if part is None else reader.open(part) for part in (file.calibration, file.evaluation, file.selection)
    )
    return Dataset(calibration, evaluation, selection)


def _completed(data: Dataset) -> Dataset:
    """Calibration and evaluation stand in for each other where one is missing, and the notes say so."""
    given = (data.calibration, data.evaluation, data.selection)
    notes = dict.fromkeys(note for part in given if part is not None for note in part.notes)
    data = replace(data, notes=tuple(notes))
    if data.calibration is None and data.evaluation is not None:
        borrowed = data.evaluation.spread(BORROWED_CALIBRATION)
        note = f"no calibration part: {borrowed.count} samples of the evaluation part stand in for it"
        if borrowed.labels is not None:
            note += "; a pass that learns from their labels makes the metric flatter"
        return replace(data, calibration=borrowed, borrowed=True, notes=(*data.notes, note))
    if data.evaluation is None and data.calibration is not None:
        note = "no evaluation part: the metric is taken on the calibration samples, so it flatters"
        return replace(data, evaluation=data.calibration, borrowed=True, notes=(*data.notes, note))
    return data
