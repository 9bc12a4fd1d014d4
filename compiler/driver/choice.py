"""Never worse: of the states that passed their checks, the latest that is no worse than the input model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from graphpress.backend import Artifact, Findings, OffersRunner, Prepared, runner_of
from graphpress.driver.job import Job
from graphpress.errors import ModelError
from graphpress.manager.gate import SLOWER, Comparison
from graphpress.manager.manager import Checkpoint, Run
from graphpress.progress import doing
from graphpress.runtime import InProcess, PairedTiming, compare_latency

ORIGINAL = "original"
DECISION = "delivered"
LONG_SECONDS = 12.0
MEASURED_SECONDS = 3.0


@dataclass(frozen=True)
class Candidate:
    """A state of the graph that may be delivered.

    Args:
        checkpoint: the state, which passed its checks.
        prepared: the same as the backend works with it.
    """

    checkpoint: Checkpoint
    prepared: Prepared


@dataclass(frozen=True)
class Choice:
    """What will be delivered.

    Args:
        candidate: the state of the graph; None for the input model as it is.
        artifact: what the backend made of it.
        comparison: against the input model; None for the input model itself.
        findings: in which type each node really computes, and what else the backend has to say.
        place: where the artifact runs, if it offers a runner of its own; "" else.
        latency_ms: median time of one call in that place.
        dropped: transactions that were given up because the result was worse with them, and why, latest first.
    """

    candidate: Candidate | None
    artifact: Artifact
    comparison: Comparison | None
    findings: Findings = field(default_factory=Findings)
    place: str = ""
    latency_ms: float | None = None
    dropped: tuple[tuple[str, str], ...] = ()


def choose(job: Job, run: Run, scratch: Path) -> Choice:
    """Compile and compare from the last accepted state backwards; below ``scratch`` lie the compiled candidates.

    Raises:
        ModelError: the backend can compile nothing, not even the input model.
    """
    dropped: list[tuple[str, str]] = []
    config = job.config
    gated = any(not pass_.lossless and pass_.gated for pass_ in config.recipe.passes) and not config.options.allow_worse
    recorded = job.context.decisions.get(DECISION)
    for checkpoint in reversed(_last_of_each_transaction(run.checkpoints)):
        if not checkpoint.changes:
            break
        folder = scratch / f"candidate-{len(checkpoint.transactions)}"
        folder.mkdir()
        word = "+".join(checkpoint.transactions) or "lossless"
        try:
            with doing(f"compiling the result of {_last(checkpoint)}"):
                candidate = _candidate(job, checkpoint)
                artifact = config.backend.compile(candidate.prepared, job.compile_options(), folder)
        except ModelError as error:
            dropped.append((_last(checkpoint), f"nothing that runs ({error.what})"))
            continue
        with doing(f"timing the result of {_last(checkpoint)}"):
            comparison = compare(job, artifact)
        worse = comparison.worse if gated else ""
        if not worse and not checkpoint.transactions and dropped and not _better(comparison):
            worse = "neither faster nor smaller"
        if recorded is not None:
            worse = "" if recorded == word else worse or "not chosen in the recorded run"
        if not worse:
            job.context.decisions[DECISION] = word
            return _chosen(job, candidate, artifact, comparison, dropped)
        dropped.append((_last(checkpoint), worse))
        shutil.rmtree(folder)
    job.context.decisions[DECISION] = ORIGINAL
    folder = scratch / ORIGINAL
    folder.mkdir()
    with doing("compiling the input model"):
        original = job.prepare(job.inputs.original)
        artifact = config.backend.compile(original, job.compile_options(unchanged=True), folder)
    return _chosen(job, None, artifact, None, dropped)


def _candidate(job: Job, checkpoint: Checkpoint) -> Candidate:
    """A state with its forms: those that were scored, where it was; else they are made now."""
    scored = None if checkpoint.result is None else checkpoint.result.prepared
    return Candidate(checkpoint, scored or job.prepare(checkpoint.model))


def _chosen(
    job: Job,
    candidate: Candidate | None,
    artifact: Artifact,
    comparison: Comparison | None,
    dropped: Sequence[tuple[str, str]],
) -> Choice:
    """What is known of the artifact, asked while its files lie where it was compiled."""
    place, latency = "", None
    if isinstance(artifact, OffersRunner):
        place = artifact.runner.place
        latency = 1e3 * median(artifact.runner.measure([job.inputs.single], seconds=MEASURED_SECONDS))
    return Choice(candidate, artifact, comparison, artifact.findings(), place, latency, tuple(dropped))


def _last(checkpoint: Checkpoint) -> str:
    """What is given up when this state is."""
    return checkpoint.transactions[-1] if checkpoint.transactions else "clean-up"


def compare(job: Job, artifact: Artifact) -> Comparison:
    """Time the artifact against the input model, where it runs in this process, and compare their sizes."""
    timing: PairedTiming | None = None
    runner = runner_of(artifact, runs_here=job.runs_here)
    if isinstance(runner, InProcess):
        session, feed = job.inputs.session, job.inputs.single
        timing = compare_latency(lambda: session.run(feed), lambda: runner.run(feed))
        if timing.low <= SLOWER < timing.high:  # too close to call: look longer, so that chance decides less
            timing = compare_latency(lambda: session.run(feed), lambda: runner.run(feed), seconds=LONG_SECONDS)
    return Comparison(timing, job.inputs.original_bytes, artifact.bytes)


def _better(comparison: Comparison) -> bool:
    return comparison.faster or comparison.bytes_after < comparison.bytes_before


def _last_of_each_transaction(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The last state for each set of accepted transactions: lossless passes behind one belong to it."""
    return list({checkpoint.transactions: checkpoint for checkpoint in checkpoints}.values())
