"""A run with everything looked up, opened and checked, so that what follows cannot fail on a wrong word."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from graphpress.backend import Backend, CompileOptions, Prepared, ShapeRange
from graphpress.cache import ContentCache
from graphpress.data import Dataset, Samples, load_dataset, synthetic_samples
from graphpress.driver.options import Options
from graphpress.driver.output import check_folder, default_folder
from graphpress.driver.prepare import parse_input_ranges, parse_input_shapes, prepare
from graphpress.errors import BackendError, ModelError, UsageError, did_you_mean
from graphpress.evaluation import EvaluationService, Metric, Score, evaluate, resolve_metric, score_model
from graphpress.ir import Model, Refusal, clone, label, load
from graphpress.ir.foreign import foreign_nodes
from graphpress.manager.contract import Context, Feed
from graphpress.manager.evaluator import MetricEvaluator, NoEvaluator
from graphpress.manager.manager import Evaluator, Manager
from graphpress.manager.recipe import HOOKS, Recipe, from_name, from_passes, from_text
from graphpress.manager.registry import load_backend
from graphpress.progress import Progress
from graphpress.report.manifest import FileRecord, Manifest, changed_inputs, model_records
from graphpress.runtime import InputSpec, Session
from graphpress.targets import Target, load_target

PROBE_SAMPLES = 4
MAX_SHOWN = 3


@dataclass(frozen=True)
class Job:
    """What ``open_job`` made of the options.

    Args:
        path: the model file.
        options: as given.
        output: folder to write.
        target, backend, backend_name, recipe: as looked up.
        files: digests of the model file and its external data.
        original: the model as it is in the file.
        model: the same, prepared for passes.
        kept_nodes: Q/DQ nodes of the file that stay nodes, with the reason.
        inputs: what the result wants to be fed, fixed shapes included.
        session: the input model in ONNX Runtime: the baseline of everything.
        data: the user's data, its parts None without.
        metric: what is measured; None without data.
        probes: inputs for the check of lossless passes, of few samples.
        shapes: input shapes that the user fixed.
        ranges: what the user said of input shapes that stay open.
        threads: threads of the runtime.
        context: what passes may know.
    """

    path: Path
    options: Options
    output: Path
    target: Target
    backend: Backend
    backend_name: str
    recipe: Recipe
    files: tuple[FileRecord, ...]
    original: Model
    model: Model
    kept_nodes: tuple[Refusal, ...]
    inputs: tuple[InputSpec, ...]
    session: Session
    data: Dataset
    metric: Metric | None
    probes: tuple[Feed, ...]
    shapes: Mapping[str, tuple[int, ...]]
    ranges: Mapping[str, ShapeRange]
    threads: int
    context: Context

    @property
    def single(self) -> Feed:
        """One sample, for measuring latency."""
        return first_samples(self.probes[0], self.inputs, 1)

    @cached_property
    def runs_here(self) -> bool:
        """Whether what is made runs on this machine, so that its speed can be measured."""
        return self.backend.runs_here(self.target)

    def prepare(self, annotated: Model) -> Prepared:
        """The forms of a candidate in which the backend works with it."""
        return self.backend.prepare(annotated, self.target)

    def compile_options(self, *, unchanged: bool = False) -> CompileOptions:
        """What the backend needs beside the prepared model, which may be the input model, to be delivered as it is."""
        return CompileOptions(
            target=self.target,
            threads=self.threads,
            samples=self.probes,
            ranges=self.ranges,
            unchanged=[self.path.parent / record.name for record in self.files] if unchanged else [],
            made_up=self.data.calibration is None and self.data.evaluation is None,
        )

    @cached_property
    def gate_baseline(self) -> Score | None:
        """The input model on the samples that gate passes."""
        samples = self.data.selection or self.data.evaluation
        return None if samples is None else self._score_original(samples)

    @cached_property
    def final_baseline(self) -> Score | None:
        """The input model on the samples that give the final figure."""
        if self.data.selection is None or self.data.evaluation is None:
            return self.gate_baseline
        return self._score_original(self.data.evaluation)

    def score(self, prepared: Prepared, gated: Score | None = None) -> Score | None:
        """The final figure of a candidate.

        Args:
            prepared: the candidate.
            gated: its score on the samples that gate passes, if it was measured on them: where the same samples give
                the final figure, it stands.
        """
        if self.metric is None or self.data.evaluation is None:
            return None
        if gated is not None and self.data.selection is None:
            return gated
        progress = self.context.progress
        return score_model(prepared.simulation, self.data.evaluation, self.metric, self.session, self.threads, progress)

    def evaluator(self) -> Evaluator:
        """Who decides over lossy passes."""
        samples, baseline = self.data.selection or self.data.evaluation, self.gate_baseline
        if self.metric is None or samples is None or baseline is None:
            return NoEvaluator()
        return MetricEvaluator(
            self.metric,
            samples,
            baseline,
            self.session,
            self.prepare,
            self.options.max_drop,
            self.threads,
            self.context.progress,
        )

    def manager(self) -> Manager:
        """The manager of this run."""
        limit = self.options.time_limit
        return Manager(
            context=self.context,
            evaluator=self.evaluator(),
            probes=self.probes,
            verification=self.options.verify,
            deadline=None if limit is None else time.monotonic() + limit,
        )

    def _score_original(self, samples: Samples) -> Score:
        assert self.metric is not None
        return evaluate(
            self.session, samples, self.metric, self.session, model=self.path, progress=self.context.progress
        )


def open_job(path: Path, options: Options, progress: Progress, hooks: Mapping[str, Callable[..., None]]) -> Job:
    """Look everything up, open model and data, check what can be checked.

    Raises:
        GraphpressError: a subclass says what is wrong with the call, the model, the data or the backend.
    """
    recipe = _recipe(options, load_target(options.target), hooks)
    options = _replayed(options, recipe.manifest)
    target = load_target(options.target)
    backend_name = options.backend or target.backend
    backend = _available(backend_name)
    exclude = _pattern(options.exclude)
    shapes = parse_input_shapes(options.input_shape)
    output = Path(options.output) if options.output is not None else default_folder(path, options.target)
    check_folder(output, options.force, [path, *_data_files(options.data)])
    threads = options.threads or os.cpu_count() or 1
    cache = ContentCache(None if options.cache_dir is None else Path(options.cache_dir))

    original = load(path)
    files = model_records(path, original)
    model = clone(original)
    kept_nodes = tuple(prepare(model, shapes))
    ranges = parse_input_ranges(options.input_range, model)
    session = _open_session(path, model, threads)
    inputs = tuple(replace(spec, dims=shapes.get(spec.name, spec.dims)) for spec in session.inputs)
    data = load_dataset(options.data, inputs, limit=options.eval_limit)
    _check_recorded(recipe.manifest, files, data, options)
    metric = _metric(options, data)
    context = Context(
        target=target,
        original=original,
        calibration=data.calibration,
        exclude=exclude,
        seed=options.seed,
        threads=threads,
        progress=progress,
        decisions=dict(recipe.decisions),
        cache=cache,
        checkpoints=output.parent / f".{output.name}-checkpoint" if cache.folder is None else cache.folder / "training",
        evaluation=EvaluationService.of(
            data, metric, session, lambda model: backend.prepare(model, target).simulation, threads, progress
        ),
    )
    job = Job(
        path=path,
        options=options,
        output=output,
        target=target,
        backend=backend,
        backend_name=backend_name,
        recipe=recipe,
        files=files,
        original=original,
        model=model,
        kept_nodes=kept_nodes,
        inputs=inputs,
        session=session,
        data=data,
        metric=metric,
        probes=_probes(inputs, data, shapes, options.seed),
        shapes=shapes,
        ranges=ranges,
        threads=threads,
        context=context,
    )
    _check_accepted(backend.check(model, job.compile_options()), target)
    return job


def _check_accepted(refusals: Sequence[Refusal], target: Target) -> None:
    """Before any work: what the target cannot take, nothing that follows would make up for."""
    if not refusals:
        return
    places: dict[str, list[str]] = {}
    for one in refusals:
        places.setdefault(one.why, []).append(one.where)
    shown = "; ".join(f"{_listed(where)}: {why}" for why, where in places.items())
    raise ModelError(
        f"the target {target.canonical_name!r} cannot take it: {shown}", where="model", fix=refusals[0].fix
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _open_session(path: Path, model: Model, threads: int) -> Session:
    """The input model in ONNX Runtime, which measures everything against it."""
    try:
        return Session(path, threads=threads)
    except ModelError as error:
        if not (foreign := foreign_nodes(model)):
            raise
        names = _listed([f"{node.op_type} ({label(node)})" for node in foreign])
        raise ModelError(
            f"only the device has the operators {names}: nothing here can run the model, or measure it",
            where=str(path),
            fix="optimize the model as it is without them, and insert them afterwards (--passes surgery{function=…})",
        ) from error


def first_samples(feed: Feed, inputs: Sequence[InputSpec], count: int) -> Feed:
    """The first samples of a feed, where every input leaves its batch axis open; else the whole feed."""
    open_batch = all(spec.dims and not isinstance(spec.dims[0], int) for spec in inputs)
    sizes = {len(array) for array in feed.values() if array.ndim}
    if not open_batch or len(sizes) != 1:
        return feed
    return {name: array[:count] for name, array in feed.items()}


def _recipe(options: Options, target: Target, hooks: Mapping[str, Callable[..., None]]) -> Recipe:
    if options.recipe is not None and options.passes is not None:
        raise UsageError("both a recipe and passes were given", where="--passes", fix="give one of them")
    if isinstance(options.passes, str):
        recipe = from_text(options.passes)
    elif options.passes is not None:
        recipe = from_passes(options.passes)
    else:
        recipe = from_name(options.recipe or target.recipe)
    for event in hooks:
        if event not in HOOKS:
            raise UsageError(f"unknown hook {event!r}", where="hooks", fix=did_you_mean(event, HOOKS))
    return replace(recipe, hooks={**recipe.hooks, **hooks})


def _replayed(options: Options, manifest: Manifest | None) -> Options:
    """What the call leaves at its default is as it was in the recorded run."""
    if manifest is None:
        return options
    recorded = {
        **manifest.options,
        "target": manifest.target,
        "backend": manifest.backend,
        "seed": manifest.seed,
        "threads": manifest.threads,
    }
    default = Options()
    return replace(
        options,
        **{
            name: value
            for name, value in recorded.items()
            if hasattr(default, name) and getattr(options, name) == getattr(default, name)
        },
    )


def _check_recorded(manifest: Manifest | None, files: tuple[FileRecord, ...], data: Dataset, options: Options) -> None:
    """Recorded decisions are those of one model, data and target; others need their own."""
    if manifest is None:
        return
    given = data.fingerprints()
    found = [
        *changed_inputs(manifest, files),
        *(f"{part} data" for part in manifest.data if manifest.data[part] != given.get(part)),
    ]
    if load_target(options.target).canonical_name != load_target(manifest.target).canonical_name:
        found.append(f"target ({manifest.target})")
    if found:
        raise UsageError(
            f"was recorded with another {', '.join(found)}",
            where=str(options.recipe),
            fix="give what the recorded run was given, or its passes anew with --passes",
        )


def _available(name: str) -> Backend:
    backend: Backend = load_backend(name)
    state = backend.available()
    if not state.works:
        raise BackendError(
            f"the backend {name!r} is not available: {state.detail}",
            where="--backend",
            fix=state.install or "see `optimize doctor`",
        )
    return backend


def _data_files(data: Any) -> list[Path]:
    """The data file, where the data is one: it must not lie in a folder that is about to be replaced."""
    return [Path(data)] if isinstance(data, (str, os.PathLike)) else []


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise UsageError(
            f"not a regular expression ({error})", where="--exclude", fix="escape special characters"
        ) from error


def _metric(options: Options, data: Dataset) -> Metric | None:
    if data.evaluation is None:
        if options.metric is not None:
            raise UsageError("a metric needs data", where="--metric", fix="give --data FILE")
        return None
    return resolve_metric(options.metric, data.evaluation.labels is not None)


def _probes(
    inputs: Sequence[InputSpec], data: Dataset, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> tuple[Feed, ...]:
    samples = data.calibration or data.evaluation or synthetic_samples(inputs, 2, seed, input_shapes=shapes)
    feeds = iter(samples)
    first = first_samples(next(feeds), inputs, PROBE_SAMPLES)
    more = PROBE_SAMPLES - 1 if all(len(array) == 1 for array in first.values() if array.ndim) else 0
    return (first, *islice(feeds, more))
