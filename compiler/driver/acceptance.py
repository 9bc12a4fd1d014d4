"""What holds of everything that is delivered, checked on the artifact itself before it can be chosen.

    interface  names, order, types and shapes of inputs and outputs: those that the input model declares and computes
    outputs    without a lossy pass: those of the input model, at the tolerance of lossless passes
    metric     the figure of the report, against the budget

The artifact runs where it runs, as its user would run it; where only the device can, the model that simulates it does.
Checks of the graph before it was lowered, compiled and read again do not stand in for these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from graphpress.backend import Artifact, Prepared, runner_of
from graphpress.driver.job import Job
from graphpress.errors import DataError, ModelError
from graphpress.evaluation import Score
from graphpress.ir.foreign import foreign_nodes
from graphpress.manager.evaluator import is_within, miss
from graphpress.manager.interface import computed_fault, declared_fault, unlike
from graphpress.manager.verification import QUANTIZED_TOLERANCE, first_difference, least_tolerance, rounded_at_one
from graphpress.runtime import InProcess, Session
from graphpress.runtime.custom_ops import has_custom_operators
from graphpress.runtime.optimization import OPTIONS, any_optimization, limited


def output_fault(job: Job, prepared: Prepared, artifact: Artifact, transactions: Sequence[str]) -> str | None:
    """What is wrong with the interface of a candidate or, if nothing lossy was done, its outputs; None for nothing.

    Args:
        job: the run.
        prepared: what was compiled.
        artifact: what came of it.
        transactions: the lossy ones that led there.

    Raises:
        GraphpressError: it does not run on the inputs on which the input model does.
    """
    delivered, probe = prepared.delivered, job.inputs.probe
    new_task, lossy = job.changes_task(transactions), bool(transactions)
    if not new_task and (fault := declared_fault(delivered, job.inputs.model)):
        return fault
    answers = _answers(job, prepared, artifact)
    if answers is None:
        return None
    first = next(answers)
    if not job.inputs.opaque and (fault := computed_fault(first, delivered)):
        return fault
    if not new_task and (fault := unlike(first, probe.expected[0], job.outputs_of_any_size if lossy else ())):
        return fault
    if lossy or job.config.options.verify == "none":
        return None
    return _difference(job, prepared, chain([first], answers))


def _difference(job: Job, prepared: Prepared, answers: Iterable[Mapping[str, Any]]) -> str | None:
    """How an artifact answers otherwise than the input model, in words."""
    least = least_tolerance(prepared.annotated) if job.config.target.this_machine else QUANTIZED_TOLERANCE
    probe = replace(job.inputs.probe, least=least, rounded_at_one=rounded_at_one(prepared.annotated))
    return probe.difference_of(answers)


def original_fault(job: Job, prepared: Prepared, artifact: Artifact) -> str | None:
    """What is wrong with the interface of the input model that was compiled as it is or, where it runs here, with what
    it computes; None for nothing.

    What it declares may be wrong already, and stays: its file is delivered as it came.
    """
    answers, probe = _answers(job, prepared, artifact), job.inputs.probe
    if (fault := declared_fault(prepared.delivered, prepared.annotated)) or answers is None:
        return fault
    first = next(answers)
    if fault := unlike(first, probe.expected[0], job.outputs_of_any_size):
        return fault
    if not job.runs_here or job.config.options.verify == "none":
        return None
    return _difference(job, prepared, chain([first], answers))


def default_notes(job: Job, artifact: Artifact) -> list[str]:
    """Whether what is delivered runs as it is loaded by default, where the input model does not."""
    level, runner = limited("all"), runner_of(artifact, runs_here=job.runs_here)
    if level == "all" or not isinstance(runner, InProcess) or not job.inputs.runs:
        return []
    with any_optimization():
        try:
            answer = Session(artifact.files[0], threads=job.config.threads).run(job.inputs.single)
            fault = first_difference(runner.run(job.inputs.single), answer, QUANTIZED_TOLERANCE)
        except (DataError, ModelError) as error:
            fault = error.what
    if fault is None:
        return ["model.onnx itself runs as it is loaded by default: what breaks the input model is no longer in it"]
    return [f"load model.onnx with graph_optimization_level = {OPTIONS[level]}, too: without, {fault}"]


def _answers(job: Job, prepared: Prepared, artifact: Artifact) -> Iterator[Mapping[str, Any]] | None:
    """What the artifact answers to the probe inputs; None where nothing here can run it, or the input model on them."""
    runner, probe = runner_of(artifact, runs_here=job.runs_here), job.inputs.probe
    if not probe.expected or (runner is None and not has_custom_operators() and foreign_nodes(prepared.simulation)):
        return None
    if runner is None or job.inputs.opaque:
        return map(Session(prepared.simulation, threads=job.config.threads, made_up=True), probe.feeds)
    return map(runner.run, probe.feeds)


def budget_fault(job: Job, score: Score | None) -> str | None:
    """By how much the final figure of a candidate misses the budget, in words; None where it does not."""
    verdict = job.verdict(score)
    return None if verdict is None or is_within(verdict) else miss(verdict)
