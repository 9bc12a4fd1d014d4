"""Never worse: of the states that passed their checks, the latest that is no worse than the input model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Literal

from graphpress.backend import Artifact, Findings, OffersRunner, Prepared, TimesNodes, runner_of
from graphpress.driver.acceptance import budget_fault, default_notes, original_fault, output_fault
from graphpress.driver.job import Job
from graphpress.errors import DataError, ModelError
from graphpress.evaluation import Score
from graphpress.manager.gate import Comparison
from graphpress.manager.run import Checkpoint, Run
from graphpress.progress import doing
from graphpress.runtime import (
    KEPT_BYTES,
    InProcess,
    PairedTiming,
    compare_alone,
    compare_latency,
    over_pairs,
    renew,
    stand_by,
)

ORIGINAL = "original"
DECISION = "delivered"
MEASURED_SECONDS = 3.0
LIMIT_SECONDS = 60.0
"""After so long no further sessions are timed, as long as there are a few."""
BRIEF_SECONDS = 10.0
"""The same where nothing depends on which is faster."""


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
class Dropped:
    """A state that is not delivered.

    Args:
        name: the transaction that is given up with it.
        why: what its result was.
        cause: it is slower or larger; or it is not what it must be, whatever it gains; or it misses the budget.
    """

    name: str
    why: str
    cause: Literal["worse", "wrong", "budget"]


@dataclass(frozen=True)
class Choice:
    """What will be delivered.

    Args:
        candidate: the state of the graph; None for the input model as it is.
        artifact: what the backend made of it.
        comparison: against the input model; None for the input model itself.
        score: its final figure; None without data.
        findings: in which type each node really computes, and what else the backend has to say.
        place: where the artifact runs, if it offers a runner of its own; "" else.
        latency_ms: median time of one call in that place.
        dropped: what was given up, latest first.
        node_seconds: the time of each node in one call, by its name, where that is known.
    """

    candidate: Candidate | None
    artifact: Artifact
    comparison: Comparison | None
    score: Score | None
    findings: Findings = field(default_factory=Findings)
    place: str = ""
    latency_ms: float | None = None
    dropped: tuple[Dropped, ...] = ()
    node_seconds: Mapping[str, float] = field(default_factory=dict)


def choose(job: Job, run: Run, scratch: Path) -> Choice:
    """Compile, check and compare from the last accepted state backwards; below ``scratch`` lie the compiled candidates.

    Raises:
        ModelError: the backend can compile nothing, not even the input model.
    """
    dropped: list[Dropped] = []
    for checkpoint in reversed(_last_of_each_transaction(run.checkpoints)):
        if not checkpoint.changes and not job.inputs.docs:
            break
        folder = scratch / f"candidate-{len(checkpoint.transactions)}"
        folder.mkdir()
        tried = _try(job, checkpoint, folder, dropped)
        if isinstance(tried, Choice):
            job.context.decisions[DECISION] = _word(checkpoint)
            return tried
        dropped.append(tried)
        shutil.rmtree(folder)
    job.context.decisions[DECISION] = ORIGINAL
    return _original(job, scratch / ORIGINAL, dropped)


def _try(job: Job, checkpoint: Checkpoint, folder: Path, dropped: Sequence[Dropped]) -> Choice | Dropped:
    """The choice of a state that was compiled and passed every check, else the reason why it is none."""
    name = _last(checkpoint)
    try:
        with doing(f"compiling the result of {name}"):
            candidate = _candidate(job, checkpoint)
            artifact = job.config.backend.compile(candidate.prepared, job.compile_options(), folder)
        with doing(f"checking the result of {name}"):
            fault = output_fault(job, candidate.prepared, artifact, checkpoint.transactions)
    except (ModelError, DataError) as error:
        return Dropped(name, f"nothing that runs ({error.what})", "wrong")
    if fault is not None:
        return Dropped(name, f"not what the input model computes ({fault})", "wrong")
    with doing(f"timing the result of {name}"):
        comparison = compare(job, artifact, decides=_is_gated(job) or bool(dropped))
    if worse := _worse(job, checkpoint, comparison, dropped):
        return Dropped(name, worse, "worse")
    score = _score(job, candidate)
    if (miss := budget_fault(job, score)) is not None:
        return Dropped(name, f"beyond the budget ({miss})", "budget")
    return _chosen(job, candidate, artifact, comparison, score, dropped)


def _worse(job: Job, checkpoint: Checkpoint, comparison: Comparison, dropped: Sequence[Dropped]) -> str:
    """Why the never-worse gate, or a recorded run, gives a state up; empty where neither does.

    Of lossless passes alone, a few bytes more tell nothing where no latency can be measured.
    """
    recorded = job.context.recorded(DECISION, str)
    is_gated = _is_gated(job) and (checkpoint.transactions or comparison.timing is not None)
    worse = comparison.worse if is_gated else ""
    if not worse and not checkpoint.transactions and dropped and not _better(comparison):
        worse = "neither faster nor smaller"
    if recorded is not None:
        worse = "" if recorded == _word(checkpoint) else worse or "not chosen in the recorded run"
    return worse


def _is_gated(job: Job) -> bool:
    """Whether what is slower or larger is given up: never for lossless passes alone."""
    asked = any(not pass_.lossless and pass_.gated for pass_ in job.config.recipe.passes)
    return asked and not job.config.options.allow_worse


def _original(job: Job, folder: Path, dropped: Sequence[Dropped]) -> Choice:
    """The input model as it is.

    Raises:
        ModelError: the backend cannot compile it, or not without changing its interface.
    """
    folder.mkdir()
    with doing("compiling the input model"):
        prepared = job.prepare(job.inputs.original)
        artifact = job.config.backend.compile(prepared, job.compile_options(unchanged=True), folder)
        fault = original_fault(job, prepared, artifact)
        stand_by(artifact)
    if fault is not None:
        raise ModelError(
            f"compiled as it is, it is not what it was: {fault}",
            where=job.config.backend_name,
            fix="report it to whoever provides this backend",
        )
    return _chosen(job, None, artifact, None, job.final_baseline, dropped)


def _candidate(job: Job, checkpoint: Checkpoint) -> Candidate:
    """A state with its forms: those that were scored, where it was; else they are made now."""
    scored = None if checkpoint.result is None else checkpoint.result.prepared
    return Candidate(checkpoint, scored or job.prepare(checkpoint.model))


def _chosen(
    job: Job,
    candidate: Candidate | None,
    artifact: Artifact,
    comparison: Comparison | None,
    score: Score | None,
    dropped: Sequence[Dropped],
) -> Choice:
    """What is known of the artifact, asked while its files lie where it was compiled."""
    place, latency = "", None
    if isinstance(artifact, OffersRunner) and job.inputs.runs:
        place = artifact.runner.place
        latency = 1e3 * median(artifact.runner.measure([job.inputs.single], seconds=MEASURED_SECONDS))
    findings, times = artifact.findings(), _node_seconds(job, artifact)
    findings = replace(findings, notes=[*findings.notes, *default_notes(job, artifact)])
    return Choice(candidate, artifact, comparison, score, findings, place, latency, tuple(dropped), times)


def _node_seconds(job: Job, artifact: Artifact) -> Mapping[str, float]:
    """How long each node takes, where the artifact is run on this machine, and says that."""
    if not (job.runs_here and job.inputs.runs and isinstance(artifact, TimesNodes)):
        return {}
    return artifact.node_seconds(job.inputs.single)


def _score(job: Job, candidate: Candidate) -> Score | None:
    """The final figure of a candidate."""
    result = candidate.checkpoint.result
    return job.score(candidate.prepared, None if result is None else result.score)


def _word(checkpoint: Checkpoint) -> str:
    """What the manifest calls the choice of this state."""
    return "+".join(checkpoint.transactions) or "lossless"


def _last(checkpoint: Checkpoint) -> str:
    """What is given up when this state is."""
    return checkpoint.transactions[-1] if checkpoint.transactions else "clean-up"


def compare(job: Job, artifact: Artifact, *, decides: bool = True) -> Comparison:
    """Time the artifact against the input model, where it runs in this process, and compare their sizes.

    Args:
        job: the run.
        artifact: runs already.
        decides: whether anything depends on which of the two is faster.
    """
    comparison = Comparison(None, job.inputs.original_bytes, artifact.bytes)
    runner = runner_of(artifact, runs_here=job.runs_here)
    if isinstance(runner, InProcess) and job.inputs.runs:
        timing = over_pairs(
            _pair_timer(job, artifact, runner),
            lambda joint: not decides or replace(comparison, timing=joint).is_settled,
            LIMIT_SECONDS if decides else BRIEF_SECONDS,
            loading=2 * job.inputs.session.load_seconds,
            end=job.config.deadline.at(1.0),
        )
        comparison = replace(comparison, timing=timing)
        stand_by(job.inputs.session, runner)
    return comparison


def _pair_timer(job: Job, artifact: Artifact, runner: InProcess) -> Callable[[int], PairedTiming]:
    """What times a pair of sessions, of which now one is loaded first and now the other."""
    session, feed = job.inputs.session, job.inputs.single
    calls = (lambda: session.run(feed)), (lambda: runner.run(feed))
    if min(job.inputs.original_bytes, artifact.bytes) > KEPT_BYTES:
        return lambda number: _alone(*calls, lambda: stand_by(session, runner), number)

    def pair(number: int) -> PairedTiming:
        if number:
            renew(session, runner)
            calls[number % 2]()
        return compare_latency(*calls)

    return pair


def _alone(
    original: Callable[[], object], result: Callable[[], object], put_away: Callable[[], object], number: int
) -> PairedTiming:
    """One at a time, of models that are large: the result first, which is loaded already, then the original first."""
    if number % 2:
        return compare_alone(original, result, put_away)
    return compare_alone(result, original, put_away).reversed()


def _better(comparison: Comparison) -> bool:
    return comparison.faster or comparison.bytes_after < comparison.bytes_before


def _last_of_each_transaction(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The last state for each set of accepted transactions: lossless passes behind one belong to it."""
    return list({checkpoint.transactions: checkpoint for checkpoint in checkpoints}.values())
