"""The second step of a run: the model and the data, opened, and whether they go together and with the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graphpress.analysis.leading_axes import steps_in_front
from graphpress.analysis.memory import least_activation_bytes, peak_activation_bytes
from graphpress.analysis.shapes import assume_shapes, concrete_shapes
from graphpress.backend import ShapeRange
from graphpress.data import Dataset, Feed, Shapes, data_files, load_dataset, shapes_of
from graphpress.data.inputs import sample_count
from graphpress.data.synthetic import random_array
from graphpress.driver.baseline import open_baseline, unrun
from graphpress.driver.claims import settle_claims
from graphpress.driver.config import RunConfig
from graphpress.driver.first_answers import (
    answers_as_it_stands,
    check_loads,
    first_answers,
    first_samples,
    optimization_note,
)
from graphpress.driver.first_run import MOST_SECONDS, check_memory
from graphpress.driver.input_shapes import parse_input_ranges
from graphpress.driver.options import Options
from graphpress.driver.source import ModelFile
from graphpress.driver.watch import Watch, Watched, states
from graphpress.errors import DataError, ModelError, UsageError, listed
from graphpress.evaluation import Metric, Predictions, RememberedReference, resolve_metric
from graphpress.ir import Dims, Model, Node, Refusal, clone, load, load_without_docs, static_shape
from graphpress.ir.files import importing
from graphpress.ir.opaque import every_opaque_node
from graphpress.manager.interface import correct_outputs
from graphpress.manager.manifest import FileRecord, Manifest, changed_inputs, file_record, model_files, model_records
from graphpress.manager.prepare import prepare
from graphpress.manager.verification import Probe
from graphpress.progress import doing
from graphpress.runtime import InputSpec, Session
from graphpress.runtime.custom_ops import OPTION
from graphpress.runtime.partial import NOTHING
from graphpress.targets import load_target
from graphpress.targets.load import target_text

UNUSED = "the data was not used: nothing of the model can be computed without what nothing here can run"
BATCH_BYTES = 256 << 20
"""Of inputs, intermediate values and outputs of one call, as long as a single sample fits."""


@dataclass(frozen=True)
class RunInputs:
    """What a run works on.

    Args:
        file: the model file.
        records: digests of the model file and its external data.
        original: the model as it is in the file.
        original_shapes: static shapes of its values, by name.
        model: the same, prepared for passes.
        left: what of the file is not as it was meant: Q/DQ nodes that stay nodes, declarations that are not believed.
        specs: what the result wants to be fed, fixed shapes included.
        session: the input model in ONNX Runtime: the baseline of everything. Of one with opaque operators, it gives
            what is known without them, and what they read.
        data: the user's data, its parts None without.
        fingerprints: the content hash of each part of the data.
        metric: what is measured; None without data.
        probe: inputs for numeric checks, of few samples, and what the input model answers to them.
        ranges: what the user said of input shapes that stay open.
        watch: tells when a file of the model or the data has changed.
        docs: bytes of doc strings, and of what the exporter noted, that the original is without.
    """

    file: ModelFile
    records: tuple[FileRecord, ...]
    original: Model
    original_shapes: Mapping[str, Dims]
    model: Model
    left: tuple[Refusal, ...]
    specs: tuple[InputSpec, ...]
    session: Session
    data: Dataset
    fingerprints: Mapping[str, str]
    metric: Metric | None
    probe: Probe
    ranges: Mapping[str, ShapeRange]
    watch: Watch
    docs: int = 0

    @cached_property
    def reference(self) -> RememberedReference:
        """The input model, for metrics that compare candidates with it on the same samples."""
        return RememberedReference(self.session)

    @property
    def probes(self) -> Sequence[Feed]:
        """Inputs for numeric checks."""
        return self.probe.feeds

    @property
    def runs(self) -> bool:
        """Whether the whole of the input model runs on the probe inputs: without data, on none that could be made up it
        may.
        """
        return bool(self.probe.expected) and not self.opaque

    @property
    def runs_in_part(self) -> bool:
        """Whether what of it can be run here gives answers that can be compared."""
        return bool(self.probe.expected) and not self.probe.blind

    @cached_property
    def opaque(self) -> Sequence[Node]:
        """Nodes whose operators nothing here can run."""
        return every_opaque_node(self.original)

    @property
    def single(self) -> Feed:
        """One sample, for measuring latency."""
        return first_samples(self.probes[0], self.specs, 1)

    @cached_property
    def shapes(self) -> Sequence[Shapes]:
        """Shapes of all that the data feeds; none without data."""
        parts = {id(part): part for part in (self.data.calibration, self.data.evaluation, self.data.selection) if part}
        return [shapes for part in parts.values() for shapes in part.shapes()]

    def runs_on(self, shapes: Shapes) -> bool:
        """Whether the input model runs on made-up values of these shapes."""
        rng = np.random.default_rng(0)
        feed = {spec.name: random_array(shapes[spec.name], spec.dtype, rng) for spec in self.specs}
        try:
            self.session.run(feed, seconds=MOST_SECONDS)
        except (DataError, ModelError):
            return False
        return True

    @property
    def files(self) -> list[Path]:
        """The model file, then its external data."""
        folder = self.file.path.parent
        return [self.file.path, *(folder / record.name for record in self.records[1:])]

    @property
    def original_bytes(self) -> int:
        """Bytes of the input model with its external data."""
        return sum(record.bytes for record in self.records)


def open_inputs(file: ModelFile, config: RunConfig) -> RunInputs:
    """Open the model and the data.

    Raises:
        ModelError: the model cannot be read or run.
        DataError: the data cannot be read, or does not go with the model.
        UsageError: shapes or a metric that do not go with them, or a manifest of other inputs.
    """
    before = states([file.path])
    with doing(f"reading {file.name}"), importing(str(file.path)):
        original, docs = (load(file.path), 0) if config.options.keep_docs else load_without_docs(file.path)
        files = model_files(file.path, original)
        before = states(files) | before
        model = clone(original)
        left = prepare(model, config.shapes)
    records = file.renamed(model_records(file.path, original))
    ranges = parse_input_ranges(config.options.input_range, model)
    is_static = all(static_shape(value) is not None for value in model.graph.inputs)
    shapes = concrete_shapes(original, config.shapes) if is_static else {}
    check_memory(file, model, shapes)
    session, probing = open_baseline(file, original, model, config.threads)
    specs = _specs(session, model, config)
    data, fingerprints, watched_data = _read_data(config.options, specs)
    if session.output_names == [NOTHING] and fingerprints:
        data, fingerprints = Dataset(notes=(UNUSED,)), {}
    _check_recorded(config.recipe.manifest, records, fingerprints, config.options)
    Watched(before, ModelError).check()  # it was read three times; from now on the digest tells
    fed = _fed_shapes(data)
    fed_shapes = shapes or (concrete_shapes(original, fed) if fed else {})
    most = _fitting(original, fed_shapes)
    data = data.in_batches_of(most)
    if most == 1:
        session.release_between_uses()
    answers = first_answers(probing, specs, data, config)
    if not answers.probe.expected and probing is session:
        answers = answers_as_it_stands(file, specs, data, config) or answers
        session = answers.session
    if not answers.probe.expected:
        check_loads(file, config.threads)
    probe, notes = answers.probe, (*answers.notes, *filter(None, [optimization_note()]))
    single = first_samples(probe.feeds[0], specs, 1)
    for seen in (original, model):
        assume_shapes(seen, shapes_of(single))
    if false_claims := settle_claims(original, config, probe):
        model = clone(original)
        left = [*prepare(model, config.shapes), *false_claims]
    for answer in probe.expected:
        left += correct_outputs(model, answer)
    return RunInputs(
        file=file,
        records=records,
        original=original,
        original_shapes=shapes or (fed_shapes if fed == shapes_of(single) else concrete_shapes(original)),
        model=model,
        left=tuple(left),
        specs=specs,
        session=session,
        data=replace(data, notes=(*data.notes, *notes)),
        fingerprints=fingerprints,
        metric=_metric(config.options, data, probe, session, original),
        probe=probe,
        ranges=ranges,
        watch=Watch((Watched(before, ModelError, lambda: _are_as_recorded(files, records), files), watched_data)),
        docs=docs,
    )


def _fed_shapes(data: Dataset) -> Shapes:
    """What the first sample is fed as; none without data."""
    part = data.calibration or data.evaluation
    return part.shapes()[0] if part else {}


def _fitting(model: Model, shapes: Mapping[str, Dims]) -> int:
    """How many samples can be run at once within ``BATCH_BYTES``, by the shapes of one, as far as they are known."""
    each = peak_activation_bytes(model, shapes) or least_activation_bytes(model, shapes)
    return max(1, BATCH_BYTES // max(1, each))


def _read_data(options: Options, specs: Sequence[InputSpec]) -> tuple[Dataset, Mapping[str, str], Watched]:
    """The user's data, the content hash of each part, and the files that it comes from."""
    named = data_files(options.data)
    before = states(named)
    sources = [path for path in named if path.is_file()]  # images in a folder are not mapped
    with doing("reading the data"):
        data = load_dataset(options.data, specs, limit=options.eval_limit)
        fingerprints = data.fingerprints()
    return data, fingerprints, Watched(before, DataError, lambda: data.fingerprints() == fingerprints, sources)


def _are_as_recorded(files: Sequence[Path], records: Sequence[FileRecord]) -> bool:
    return [file_record(file).sha256 for file in files] == [record.sha256 for record in records]


def _check_recorded(
    manifest: Manifest | None, records: tuple[FileRecord, ...], given: Mapping[str, str], options: Options
) -> None:
    """Recorded decisions are those of one model, data and target; others need their own."""
    if manifest is None:
        return
    changed = [
        *changed_inputs(manifest, records),
        *(f"{part} data" for part in manifest.data if manifest.data[part] != given.get(part)),
    ]
    if not _is_recorded_target(target_text(options.target), manifest):
        changed.append(f"target ({manifest.target})")
    if changed:
        raise UsageError(
            f"was recorded with another {', '.join(changed)}",
            where=str(options.recipe),
            fix="give what the recorded run was given, or its passes anew with --passes",
        )


def _is_recorded_target(called: str, manifest: Manifest) -> bool:
    """By its content; by its name where the manifest holds no more."""
    target = load_target(called)
    if manifest.target_digest:
        return target.digest == manifest.target_digest
    return target.canonical_name == load_target(manifest.target).canonical_name


def _metric(options: Options, data: Dataset, probe: Probe, session: Session, model: Model) -> Metric | None:
    """The metric, and of the model's outputs the one that it is taken on, as the input model's answers have it.

    Raises:
        UsageError: there is no such metric, or not for this data, or not without the outputs that cannot be computed.
    """
    if data.evaluation is None:
        if options.metric is not None:
            raise UsageError("a metric needs data", where="--metric", fix="give --data FILE")
        return None
    outputs = {value.name for value in model.graph.outputs}
    labels = data.evaluation.labels if outputs.intersection(session.output_names) else None
    if not probe.expected:
        return resolve_metric(options.metric, labels is not None)
    rows = [sample_count(feed, session.inputs) for feed in probe.feeds]
    answers, total = _joined([{name: each[name] for name in session.output_names} for each in probe.expected], rows)
    answer = Predictions(answers, None if labels is None else labels[:total], None, total, total)
    try:
        return resolve_metric(options.metric, labels is not None, answer)
    except UsageError as error:
        if labels is data.evaluation.labels:
            raise
        why = f"no output can be computed without {listed(unrun(every_opaque_node(model)))}, which nothing here can run"
        raise UsageError(why, where="--metric", fix=f"name the library ({OPTION} LIB), or leave it out") from error


def _joined(answers: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> tuple[Mapping[str, Any], int]:
    """The outputs with a row for each sample, of all answers, and how many those are; of the first where others have
    another shape.
    """
    arrays = {name: array for name, array in answers[0].items() if isinstance(array, np.ndarray)}
    batched = [name for name, array in arrays.items() if array.shape[:1] == (rows[0],)]
    shapes = {tuple(answer[name].shape[1:] for name in batched) for answer in answers}
    if len(shapes) > 1:
        return answers[0], rows[0]
    return {**answers[0], **{name: np.concatenate([answer[name] for answer in answers]) for name in batched}}, sum(rows)


def _specs(session: Session, model: Model, config: RunConfig) -> tuple[InputSpec, ...]:
    """What the result wants to be fed, with fixed shapes, and with what the graph tells of first axes."""
    steps = steps_in_front(model)
    return tuple(
        replace(spec, dims=config.shapes.get(spec.name, spec.dims), batched=spec.name not in steps)
        for spec in session.inputs
    )
