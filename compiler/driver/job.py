"""A run with everything looked up, opened and checked, so that what follows cannot fail on a wrong word."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from graphpress.backend import Artifact, CompileOptions, Prepared
from graphpress.data import Samples
from graphpress.deadline import PASSES, TIMING, VERDICTS, TimedProgress
from graphpress.driver.config import RunConfig
from graphpress.driver.inputs import RunInputs, open_inputs
from graphpress.driver.source import ModelFile
from graphpress.errors import ModelError, listed
from graphpress.evaluation import EvaluationService, Score, evaluate, score_model
from graphpress.ir import Model, Refusal, declares_inner_shapes, graphs
from graphpress.ir.foreign import is_defined
from graphpress.ir.garbage import paused_collection
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import MetricEvaluator, NoEvaluator, verdict_on
from graphpress.manager.manager import Evaluator, Manager
from graphpress.manager.records import Verdict
from graphpress.progress import Progress, doing
from graphpress.targets import Target


@dataclass(frozen=True)
class Job:
    """A run that can start.

    Args:
        config: what the options mean.
        inputs: the model and the data.
        context: what passes may know.
        progress: for what is not ended by the time limit.
    """

    config: RunConfig
    inputs: RunInputs
    context: Context
    progress: Progress

    @cached_property
    def runs_here(self) -> bool:
        """Whether what is made runs on this machine, so that its speed can be measured."""
        return self.config.backend.runs_here(self.config.target)

    @cached_property
    def outputs_of_any_size(self) -> frozenset[str]:
        """Outputs of the input model whose sizes depend on numbers, by name: none where an operator is not known."""
        graph = self.inputs.original.graph
        if not all(is_defined(node) for inner in graphs(self.inputs.original) for node in inner):
            return frozenset()
        return frozenset(value.name or "" for value in graph.outputs) - self.inputs.original_shapes.keys()

    def changes_task(self, transactions: Sequence[str]) -> bool:
        """Whether the user asked for one of these transactions to change what the model does."""
        names = {name for transaction in transactions for name in transaction.split("+")}
        return any(pass_.name in names and not pass_.gated for pass_ in self.config.recipe.passes)

    def verdict(self, score: Score | None) -> Verdict | None:
        """The final figure of a candidate against the budget; None without data."""
        baseline = self.final_baseline
        if baseline is None or score is None or self.inputs.metric is None:
            return None
        return verdict_on(baseline, score, self.max_drop, self.inputs.metric.unit)

    @property
    def max_drop(self) -> float | None:
        """How much of the metric may be lost; None for any amount."""
        return _max_drop(self.config, self.inputs)

    def prepare(self, annotated: Model) -> Prepared:
        """The forms of a candidate in which the backend works with it."""
        return self.config.backend.prepare(annotated, self.config.target)

    def compile_options(self, *, unchanged: bool = False) -> CompileOptions:
        """What the backend needs beside the prepared model, which may be the input model, to be delivered as it is."""
        inputs = self.inputs
        return CompileOptions(
            target=self.config.target,
            threads=self.config.threads,
            samples=inputs.probes if inputs.runs else [],
            ranges=inputs.ranges,
            unchanged=inputs.files if unchanged else [],
            made_up=inputs.data.calibration is None and inputs.data.evaluation is None,
            inner_shapes=declares_inner_shapes(inputs.original),
            cache=self.config.cache,
            name=inputs.file.path.stem,
            tuning=self.config.options.tuning,
            weights=self.config.options.weights,
            decisions=self.context.decisions,
            progress=TimedProgress(self.progress, partial(self.config.deadline.at, TIMING)),
            seen=lambda: inputs.shapes,
            runs=inputs.runs_on,
        )

    @cached_property
    def gate_baseline(self) -> Score | None:
        """The input model on the samples that gate passes."""
        samples = self._gate_samples
        return None if samples is None else self._score_original(samples)

    @cached_property
    def final_baseline(self) -> Score | None:
        """The input model on the samples that give the final figure."""
        data = self.inputs.data
        if data.selection is None or data.evaluation is None:
            return self.gate_baseline
        return self._score_original(data.evaluation)

    def score(self, prepared: Prepared, gated: Score | None = None) -> Score | None:
        """The final figure of a candidate.

        Args:
            prepared: the candidate.
            gated: its score on the samples that gate passes, if it was measured on them: where the same samples give
                the final figure, it stands.
        """
        metric, data = self.inputs.metric, self.inputs.data
        if metric is None or data.evaluation is None:
            return None
        if gated is not None and data.selection is None:
            return gated
        reference, threads = self.inputs.reference, self.config.threads
        return score_model(prepared.simulation, data.evaluation, metric, reference, threads, self.progress)

    def score_artifact(self, artifact: Artifact) -> Score | None:
        """The final figure of an artifact that runs in this process, taken on itself; None without data, and for a
        metric that takes a model file.
        """
        metric, samples = self.inputs.metric, self.inputs.data.evaluation
        if metric is None or samples is None or metric.of_model is not None:
            return None
        return evaluate(artifact.run, samples, metric, self.inputs.reference, progress=self.progress)

    def evaluator(self) -> Evaluator:
        """Who decides over lossy passes."""
        metric, samples, baseline = self.inputs.metric, self._gate_samples, self.gate_baseline
        if metric is None or samples is None or baseline is None:
            return NoEvaluator()
        return MetricEvaluator(
            metric,
            samples,
            baseline,
            self.inputs.reference,
            self.prepare,
            self.max_drop,
            self.config.threads,
            TimedProgress(self.progress, partial(self.config.deadline.at, VERDICTS)),
        )

    def manager(self) -> Manager:
        """The manager of this run."""
        options = self.config.options
        return Manager(
            context=self.context,
            evaluator=self.evaluator(),
            probes=self.inputs.probes,
            known=self.inputs.probe,
            verification=options.verify,
            deadline=self.config.deadline.at(PASSES),
            shapes=self.inputs.original_shapes,
            strict=options.strict,
            progress=self.progress,
        )

    @property
    def _gate_samples(self) -> Samples | None:
        return self.inputs.data.selection or self.inputs.data.evaluation

    def _score_original(self, samples: Samples) -> Score:
        inputs = self.inputs
        assert inputs.metric is not None
        began, deadline = time.monotonic(), self.config.deadline
        with doing(f"measuring {inputs.file.name}"):
            score = evaluate(
                inputs.reference, samples, inputs.metric, inputs.reference, model=inputs.file.path,
                progress=self.progress,
            )  # fmt: skip
        deadline.scoring = max(deadline.scoring, time.monotonic() - began)
        return score


@paused_collection()
def open_job(file: ModelFile, config: RunConfig, progress: Progress) -> Job:
    """Open model and data, check what can be checked.

    Raises:
        GraphpressError: a subclass says what is wrong with the call, the model, the data or the backend.
    """
    inputs = open_inputs(file, config)
    config.deadline.opening = time.monotonic() - config.deadline.began
    timed = TimedProgress(progress, partial(config.deadline.at, PASSES))
    job = Job(config, inputs, _context(config, inputs, timed), progress)
    _check_accepted(config.backend.check(inputs.model, job.compile_options()), config.target)
    return job


def _context(config: RunConfig, inputs: RunInputs, progress: Progress) -> Context:
    return Context(
        target=config.target,
        original=inputs.original,
        calibration=inputs.data.calibration,
        exclude=config.exclude,
        seed=config.options.seed,
        threads=config.threads,
        progress=progress,
        decisions=dict(config.recipe.decisions),
        cache=config.cache,
        checkpoints=config.checkpoints,
        deadline=config.deadline,
        evaluation=EvaluationService.of(
            inputs.data,
            inputs.metric,
            inputs.reference,
            lambda model: config.backend.prepare(model, config.target).simulation,
            config.threads,
            progress,
            _max_drop(config, inputs),
        ),
    )


def _max_drop(config: RunConfig, inputs: RunInputs) -> float | None:
    given, metric = config.options.max_drop, inputs.metric
    if given == "auto":
        return None if metric is None else metric.usual_drop
    return given


def _check_accepted(refusals: Sequence[Refusal], target: Target) -> None:
    """Before any work: what the target cannot take, nothing that follows would make up for."""
    if not refusals:
        return
    places: dict[str, list[str]] = {}
    for refusal in refusals:
        places.setdefault(refusal.why, []).append(refusal.where)
    shown = "; ".join(f"{listed(where)}: {why}" for why, where in places.items())
    raise ModelError(
        f"the target {target.canonical_name!r} cannot take it: {shown}", where="model", fix=refusals[0].fix
    )
