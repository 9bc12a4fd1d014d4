"""The second step of a run: the model and the data, opened, and whether they go together and with the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from graphpress.analysis.shapes import concrete_shapes
from graphpress.backend import ShapeRange
from graphpress.data import Dataset, Feed, data_files, load_dataset, synthetic_samples
from graphpress.driver.claims import settle_claims
from graphpress.driver.config import RunConfig
from graphpress.driver.first_run import check_answers, check_memory
from graphpress.driver.input_shapes import parse_input_ranges
from graphpress.driver.options import Options
from graphpress.driver.source import ModelFile
from graphpress.driver.watch import Watch, Watched, states
from graphpress.errors import DataError, ModelError, UsageError, listed
from graphpress.evaluation import Metric, resolve_metric
from graphpress.ir import Dims, Model, Refusal, clone, label, load
from graphpress.ir.files import importing
from graphpress.ir.foreign import foreign_nodes
from graphpress.manager.interface import correct_outputs
from graphpress.manager.manifest import FileRecord, Manifest, changed_inputs, file_record, model_files, model_records
from graphpress.manager.prepare import prepare
from graphpress.manager.verification import Probe
from graphpress.progress import doing
from graphpress.runtime import InputSpec, Session
from graphpress.targets import load_target
from graphpress.targets.load import target_text

PROBE_SAMPLES = 4


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
        session: the input model in ONNX Runtime: the baseline of everything.
        data: the user's data, its parts None without.
        fingerprints: the content hash of each part of the data.
        metric: what is measured; None without data.
        probe: inputs for numeric checks, of few samples, and what the input model answers to them.
        ranges: what the user said of input shapes that stay open.
        watch: tells when a file of the model or the data has changed.
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

    @property
    def probes(self) -> Sequence[Feed]:
        """Inputs for numeric checks."""
        return self.probe.feeds

    @property
    def single(self) -> Feed:
        """One sample, for measuring latency."""
        return first_samples(self.probes[0], self.specs, 1)

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
        original = load(file.path)
        files = model_files(file.path, original)
        before = states(files) | before
        model = clone(original)
        left = prepare(model, config.shapes)
    records = file.renamed(model_records(file.path, original))
    ranges = parse_input_ranges(config.options.input_range, model)
    shapes = concrete_shapes(original, config.shapes)
    check_memory(file, model, shapes)
    session = _open_session(file, model, config.threads)
    specs = tuple(replace(spec, dims=config.shapes.get(spec.name, spec.dims)) for spec in session.inputs)
    data, fingerprints, watched_data = _read_data(config.options, specs)
    _check_recorded(config.recipe.manifest, records, fingerprints, config.options)
    Watched(before, ModelError).check()  # it was read three times; from now on the digest tells
    feeds = _probes(specs, data, config)
    check_answers(session, first_samples(feeds[0], specs, 1), config.options.time_limit)
    probe = Probe.by(session, feeds)
    if false_claims := settle_claims(original, config, probe):
        model = clone(original)
        left = [*prepare(model, config.shapes), *false_claims]
    for answer in probe.expected:
        left += correct_outputs(model, answer)
    return RunInputs(
        file=file,
        records=records,
        original=original,
        original_shapes=shapes,
        model=model,
        left=tuple(left),
        specs=specs,
        session=session,
        data=data,
        fingerprints=fingerprints,
        metric=_metric(config.options, data),
        probe=probe,
        ranges=ranges,
        watch=Watch((Watched(before, ModelError, lambda: _are_as_recorded(files, records), files), watched_data)),
    )


def _read_data(options: Options, specs: Sequence[InputSpec]) -> tuple[Dataset, Mapping[str, str], Watched]:
    """The user's data, the content hash of each part, and the files that it comes from."""
    named = data_files(options.data)
    before = states(named)
    sources = [path for path in named if path.is_file()]  # images in a folder are not mapped
    with doing("reading the data"):
        data = load_dataset(options.data, specs, limit=options.eval_limit)
        fingerprints = data.fingerprints()
    return data, fingerprints, Watched(before, DataError, lambda: data.fingerprints() == fingerprints, sources)


def _open_session(file: ModelFile, model: Model, threads: int) -> Session:
    """The input model in ONNX Runtime, which measures everything against it."""
    try:
        return Session(file.path, threads=threads)
    except ModelError as error:
        if not (foreign := foreign_nodes(model)):
            raise
        names = listed([f"{node.op_type} ({label(node)})" for node in foreign])
        raise ModelError(
            f"only the device has the operators {names}: nothing here can run the model, or measure it",
            where=str(file.path),
            fix="optimize the model as it is without them, and insert them afterwards (--passes surgery{function=…})",
        ) from error


def first_samples(feed: Feed, inputs: Sequence[InputSpec], count: int) -> Feed:
    """The first samples of a feed, where every input leaves its batch axis open; else the whole feed."""
    open_batch = all(spec.dims and not isinstance(spec.dims[0], int) for spec in inputs)
    sizes = {len(array) for array in feed.values() if array.ndim}
    if not open_batch or len(sizes) != 1:
        return feed
    return {name: array[:count] for name, array in feed.items()}


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


def _metric(options: Options, data: Dataset) -> Metric | None:
    if data.evaluation is None:
        if options.metric is not None:
            raise UsageError("a metric needs data", where="--metric", fix="give --data FILE")
        return None
    return resolve_metric(options.metric, data.evaluation.labels is not None)


def _probes(specs: Sequence[InputSpec], data: Dataset, config: RunConfig) -> tuple[Feed, ...]:
    made_up = synthetic_samples(specs, 2, config.options.seed, input_shapes=config.shapes)
    feeds = iter(data.calibration or data.evaluation or made_up)
    first = first_samples(next(feeds), specs, PROBE_SAMPLES)
    more = PROBE_SAMPLES - 1 if all(len(array) == 1 for array in first.values() if array.ndim) else 0
    return (first, *islice(feeds, more))
