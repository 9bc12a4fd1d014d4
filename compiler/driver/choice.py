"""Never worse: of the states that passed their checks, the latest that is no worse than the input model.

Of a state that is worse only with some of the lossless passes behind its last transaction, these alone are given up.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

from graphpress.backend import (
    Artifact,
    Findings,
    KernelTime,
    OffersRunner,
    Prepared,
    runner_of,
)
from graphpress.deadline import TIMING, VERDICTS
from graphpress.driver.acceptance import budget_fault, default_notes, original_fault, output_fault
from graphpress.driver.config import WINNER
from graphpress.driver.contest import Contender, ContestedState, contest, withdrawn
from graphpress.driver.job import Job
from graphpress.driver.kernel_table import kernel_times, node_times
from graphpress.driver.trim import LEFT_OUT, SECONDS, Trimmer, Variant, culprits
from graphpress.errors import DataError, ModelError
from graphpress.evaluation import Score
from graphpress.ir import Model
from graphpress.manager.gate import Comparison
from graphpress.manager.run import Checkpoint, Run
from graphpress.progress import doing
from graphpress.report.records import BackendRecord
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
from graphpress.runtime.pairs import Feed, Runs

ORIGINAL = "original"
DECISION = "delivered"
RECORDED = "worse with it in the recorded run"
UNCLEARED = "worse with others of them, and there was no time to tell them apart"
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
        model: the state itself, where it misses the budget.
    """

    name: str
    why: str
    cause: Literal["worse", "wrong", "budget"]
    model: Model | None = None


@dataclass(frozen=True)
class Choice:
    """What will be delivered.

    Args:
        candidate: the state of the graph; None for the input model as it is.
        backend: whose artifact it is.
        artifact: what the backend made of it.
        comparison: against the input model; None for the input model as its own backend runs it.
        score: its final figure; None without data.
        backends: those that competed for it.
        findings: in which type each node really computes, and what else the backend has to say.
        place: where the artifact runs, if it offers a runner of its own; "" else.
        latency_ms: median time of one call in that place; None where its clock says nothing of the target.
        dropped: what was given up, latest first.
        left_out: lossless passes that were left out of it, for the result was worse with them.
        node_seconds: the time of each node in one call, by its name, where that is known.
        kernels: what one call consists of, where that is known.
    """

    candidate: Candidate | None
    backend: str
    artifact: Artifact
    comparison: Comparison | None
    score: Score | None
    backends: tuple[BackendRecord, ...] = ()
    findings: Findings = field(default_factory=Findings)
    place: str = ""
    latency_ms: float | None = None
    dropped: tuple[Dropped, ...] = ()
    left_out: tuple[Dropped, ...] = ()
    node_seconds: Mapping[str, float] = field(default_factory=dict)
    kernels: Sequence[KernelTime] = ()

    @property
    def is_input_model(self) -> bool:
        """Whether the input model is delivered, and nothing else."""
        return self.candidate is None and self.comparison is None


@dataclass(frozen=True)
class _Compared:
    """A state that was compiled, passed the checks of its outputs, and was compared with the input model.

    Args:
        variant: the state.
        contender: what the fastest backend made of it.
        backends: those that competed.
        comparison: of that against the input model.
        fault: what of it the user would not want, in words; empty for nothing.
    """

    variant: Variant
    contender: Contender
    backends: tuple[BackendRecord, ...]
    comparison: Comparison
    fault: str


def choose(job: Job, run: Run, scratch: Path) -> Choice:
    """Compile, check and compare from the last accepted state backwards; below ``scratch`` lie the compiled candidates.

    Afterwards ``run`` has the records of the passes that led to the chosen state.

    Raises:
        ModelError: the backend can compile nothing, not even the input model.
    """
    dropped: list[Dropped] = []
    for checkpoint in reversed(_last_of_each_transaction(run.checkpoints)):
        if not checkpoint.changes and not job.inputs.docs:
            break
        folder = scratch / f"candidate-{len(checkpoint.transactions)}"
        folder.mkdir()
        tried = _try(job, run, checkpoint, folder, dropped)
        if isinstance(tried, Choice):
            _record(job, _word(checkpoint), tried)
            return tried
        dropped.append(tried)
        shutil.rmtree(folder)
    choice = _original(job, scratch / ORIGINAL, dropped)
    _record(job, ORIGINAL, choice)
    return choice


def _record(job: Job, state: str, choice: Choice) -> None:
    """Let a replay make the same choice."""
    job.context.decisions[DECISION] = state
    if job.config.rivals:
        job.context.decisions[WINNER] = choice.backend


def _try(job: Job, run: Run, checkpoint: Checkpoint, folder: Path, dropped: Sequence[Dropped]) -> Choice | Dropped:
    """The choice of a state, without the lossless passes that make it worse; else the reason why it is none."""
    recorded = job.context.recorded(DECISION, str)
    is_recorded = recorded == _word(checkpoint)
    left_out = job.context.recorded(LEFT_OUT, list[int]) if is_recorded else None
    trimmer = Trimmer.of(job, run, checkpoint)
    if left_out and not set(left_out) - set(trimmer.suspects):
        tried, whys = _compared(job, trimmer.without(left_out), folder, dropped), dict.fromkeys(left_out, RECORDED)
    else:
        tried, whys = _compared(job, Variant(checkpoint), folder, dropped), dict[int, str]()
        if recorded is None and isinstance(tried, _Compared) and tried.fault:
            tried, whys = _trimmed(job, trimmer, tried, folder, dropped)
    if isinstance(tried, Dropped):
        return tried
    worse = tried.fault if _is_gated(job) else ""
    if recorded is not None:
        worse = "" if is_recorded else worse or "not chosen in the recorded run"
    elif not worse and not checkpoint.transactions and dropped and not _better(tried.comparison):
        worse = "neither faster nor smaller"
    if worse:
        return Dropped(_last(checkpoint), worse, "worse")
    score = _score(job, tried)
    if (miss := budget_fault(job, score)) is not None:
        return Dropped(_last(checkpoint), f"beyond the budget ({miss})", "budget", checkpoint.model)
    candidate = Candidate(tried.variant.checkpoint, tried.contender.prepared)
    choice = _chosen(job, candidate, tried.contender, tried.comparison, score, dropped)
    return replace(choice, backends=tried.backends, left_out=_leave_out(job, run, tried.variant, whys))


def _compared(job: Job, variant: Variant, folder: Path, dropped: Sequence[Dropped]) -> _Compared | Dropped:
    """A state that was compiled into a folder of its own, checked and compared; or what is wrong with it."""
    checkpoint = variant.checkpoint
    name, place = _last(checkpoint), folder / "-".join(("without", *map(str, variant.left_out)))
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        with doing(f"compiling the result of {name}"):
            prepared = _prepared(job, checkpoint)
            artifact = job.config.backend.compile(prepared, job.compile_options(), place)
        with doing(f"checking the result of {name}"):
            fault = output_fault(job, prepared, artifact, checkpoint.transactions)
    except (ModelError, DataError) as error:
        return Dropped(name, f"nothing that runs ({error.what})", "wrong")
    if fault is not None:
        return Dropped(name, f"not what the input model computes ({fault})", "wrong")
    own = Contender(job.config.backend_name, prepared, artifact)
    state = ContestedState(checkpoint.model, place.with_name(f"{place.name}-rivals"), checkpoint.transactions)
    winner, backends = contest(job, state, own, partial(_duel, job))
    decides = not job.config.options.allow_worse or bool(dropped)

    def timed(contender: Contender, backends: tuple[BackendRecord, ...]) -> _Compared:
        with doing(f"timing the result of {name}"):
            comparison = compare(job, contender.artifact, decides=decides, end=_timing_end(job, checkpoint))
        return _Compared(variant, contender, backends, comparison, _fault(job, checkpoint, comparison))

    result = timed(winner, backends)
    if result.fault and winner is not own and job.context.recorded(WINNER, str) is None:
        return timed(own, withdrawn(backends, result.fault))
    return result


def _timing_end(job: Job, checkpoint: Checkpoint) -> float:
    """When a state has to be timed: those before it, of which one may take its place, get as much of the time each."""
    return time.monotonic() + job.config.deadline.left(TIMING) / (1 + len(checkpoint.transactions))


def _trimmed(
    job: Job, trimmer: Trimmer, whole: _Compared, folder: Path, dropped: Sequence[Dropped]
) -> tuple[_Compared | Dropped, dict[int, str]]:
    """A state without the lossless passes that make it worse, and by their positions how it was with them.

    Args:
        job: the run.
        trimmer: makes the state again.
        whole: the state with all of them, which is worse.
        folder: below which candidates are compiled.
        dropped: what was given up already.
    """
    suspects = trimmer.suspects
    whys, cleared = {suspects[-1]: whole.fault} if suspects else {}, dict[tuple[int, ...], _Compared]()

    def tried(kept: Sequence[int]) -> _Compared | Dropped:
        left_out = [position for position in suspects if position not in kept]
        return _compared(job, trimmer.without(left_out), folder, dropped)

    def is_worse(kept: Sequence[int]) -> bool:
        result = tried(kept)
        fault = result.why if isinstance(result, Dropped) else result.fault
        if isinstance(result, _Compared) and not fault:
            cleared.clear()  # one of them at a time: each may be large
            cleared[tuple(kept)] = result
        elif kept:
            whys[kept[-1]] = fault
        return bool(fault)

    behind_a_transaction = bool(whole.variant.checkpoint.transactions)
    if not suspects or (behind_a_transaction and is_worse([])):
        return whole, {}
    guilty = culprits(suspects, is_worse, end=min(time.monotonic() + SECONDS, job.config.deadline.at(VERDICTS)))
    names = {position: whys.get(position, UNCLEARED) for position in guilty}
    kept = tuple(position for position in suspects if position not in guilty)
    if not kept and not behind_a_transaction and not job.inputs.docs:
        passes = "+".join(trimmer.name(position) for position in suspects)
        return Dropped(passes, whole.fault, "worse"), {}
    return cleared.get(kept) or tried(kept), names


def _leave_out(job: Job, run: Run, variant: Variant, whys: Mapping[int, str]) -> tuple[Dropped, ...]:
    """Let the records and decisions of the run be those of the variant; what was left out of it."""
    if not variant.left_out:
        return ()
    job.context.decisions[LEFT_OUT] = list(variant.left_out)
    run.take_over(variant.pass_runs)
    for position in variant.left_out:
        run.pass_runs[position].leave_out(f"the result was {whys[position]}")
    return tuple(Dropped(run.pass_runs[position].pass_.name, whys[position], "worse") for position in variant.left_out)


def _fault(job: Job, checkpoint: Checkpoint, comparison: Comparison) -> str:
    """What of a state the user would not want, in words.

    Size counts only where something lossy was asked for, and of lossless passes alone not where no latency can be
    measured: then a few bytes more tell nothing.
    """
    if job.config.options.allow_worse:
        return ""
    size_counts = _is_gated(job) and (checkpoint.transactions or comparison.timing is not None)
    return comparison.worse if size_counts else comparison.slowness


def _is_gated(job: Job) -> bool:
    """Whether what is slower or larger is given up as a whole: never for lossless passes alone."""
    asked = any(not pass_.lossless and pass_.gated for pass_ in job.config.recipe.passes)
    return asked and not job.config.options.allow_worse


def _original(job: Job, folder: Path, dropped: Sequence[Dropped]) -> Choice:
    """The input model as it is.

    Raises:
        ModelError: the backend cannot compile it, or not without changing its interface.
    """
    folder.mkdir()
    with doing("compiling the input model"):
        prepared = job.prepare(job.inputs.model if job.config.shapes else job.inputs.original)
        artifact = _compile_original(job, prepared, folder, dropped)
        fault = original_fault(job, prepared, artifact)
    if fault is not None:
        raise ModelError(
            f"compiled as it is, it is not what it was: {fault}",
            where=job.config.backend_name,
            fix="report it to whoever provides this backend",
        )
    own = Contender(job.config.backend_name, prepared, artifact)
    state = ContestedState(job.inputs.model, folder / "rivals", unchanged=True)
    contender, backends = contest(job, state, own, partial(_duel, job))
    comparison = None if contender is own else compare(job, contender.artifact, decides=False)
    stand_by(artifact)
    choice = _chosen(job, None, contender, comparison, contender.score or job.final_baseline, dropped)
    if comparison is None and choice.findings.usage:  # what was compiled of it runs as fast as it does
        comparison = compare(job, contender.artifact, decides=False)
        choice = replace(choice, comparison=comparison if comparison.timing is not None else None)
    return replace(choice, backends=backends)


def _compile_original(job: Job, prepared: Prepared, folder: Path, dropped: Sequence[Dropped]) -> Artifact:
    """The input model as it is.

    Raises:
        ModelError: the backend cannot compile it; what of the optimized model it could not compile is told first.
    """
    try:
        return job.config.backend.compile(prepared, job.compile_options(unchanged=True), folder)
    except ModelError as error:
        why = next((state.why for state in dropped if state.cause == "wrong"), "")
        if not why:
            raise
        what = f"the optimized model is {why}; the input model: {error.where}: {error.what}"
        raise ModelError(what, where=job.config.backend_name, fix=error.fix) from error


def _prepared(job: Job, checkpoint: Checkpoint) -> Prepared:
    """The forms of a state: those that were scored, where it was; else they are made now."""
    scored = None if checkpoint.result is None else checkpoint.result.prepared
    return scored or job.prepare(checkpoint.model)


def _chosen(
    job: Job,
    candidate: Candidate | None,
    contender: Contender,
    comparison: Comparison | None,
    score: Score | None,
    dropped: Sequence[Dropped],
) -> Choice:
    """What is known of the artifact, asked while its files lie where it was compiled."""
    place, latency, artifact = "", None, contender.artifact
    if isinstance(artifact, OffersRunner) and job.inputs.runs:
        place = artifact.runner.place
        calls = artifact.runner.measure([job.inputs.single], seconds=MEASURED_SECONDS)
        latency = 1e3 * median(calls) if calls else None
    findings, times, kernels = artifact.findings(), node_times(job, artifact), kernel_times(job, artifact)
    findings = replace(findings, notes=[*findings.notes, *default_notes(job, artifact)])
    return Choice(
        candidate,
        contender.backend,
        artifact,
        comparison,
        score,
        findings=findings,
        place=place,
        latency_ms=latency,
        dropped=tuple(dropped),
        node_seconds=times,
        kernels=kernels,
    )


def _score(job: Job, compared: _Compared) -> Score | None:
    """The final figure of a state: taken on the artifact where that is not what its simulation is."""
    result = compared.variant.checkpoint.result
    return compared.contender.score or job.score(compared.contender.prepared, None if result is None else result.score)


def _word(checkpoint: Checkpoint) -> str:
    """What the manifest calls the choice of this state."""
    return "+".join(checkpoint.transactions) or "lossless"


def _last(checkpoint: Checkpoint) -> str:
    """What is given up when this state is."""
    return checkpoint.transactions[-1] if checkpoint.transactions else "clean-up"


def compare(job: Job, artifact: Artifact, *, decides: bool = True, end: float = float("inf")) -> Comparison:
    """Time the artifact against the input model, where it runs in this process, and compare their sizes.

    Args:
        job: the run.
        artifact: runs already.
        decides: whether anything depends on which of the two is faster.
        end: moment (``time.monotonic``) by which to be through, if a single pair of sessions can be.
    """
    comparison = Comparison(None, job.inputs.original_bytes, artifact.bytes)
    runner = runner_of(artifact, runs_here=job.runs_here)
    judged = comparison if _is_gated(job) else replace(comparison, bytes_after=comparison.bytes_before)
    if isinstance(runner, InProcess) and job.inputs.runs:
        timing = over_pairs(
            _pair_timer(job.inputs.session, runner, job.inputs.single, job.inputs.original_bytes + artifact.bytes),
            lambda joint: not decides or replace(judged, timing=joint).is_settled,
            LIMIT_SECONDS if decides else BRIEF_SECONDS,
            loading=2 * job.inputs.session.load_seconds,
            end=end,
        )
        comparison = replace(comparison, timing=timing)
        renew(job.inputs.session, runner)  # nobody is in a hurry for them any more
    return comparison


def _duel(job: Job, own: Artifact, rival: Artifact) -> PairedTiming:
    """Time two artifacts of one state that run in this process against each other."""
    size, runners = own.bytes + rival.bytes, (_in_process(own), _in_process(rival))
    end = time.monotonic() + job.config.deadline.left(TIMING) / 2
    timing = over_pairs(_pair_timer(*runners, job.inputs.single, size), lambda joint: True, BRIEF_SECONDS, end=end)
    renew(*runners)
    return timing


def _in_process(artifact: Artifact) -> InProcess:
    runner = runner_of(artifact, runs_here=True)
    assert isinstance(runner, InProcess)
    return runner


def _pair_timer(first: Runs, second: Runs, feed: Feed, size: int) -> Callable[[int], PairedTiming]:
    """What times a pair of sessions, of which now one is loaded first and now the other.

    Args:
        first: a model.
        second: another.
        feed: what they are called with.
        size: of the two in bytes: large ones are never loaded both.
    """
    calls = (lambda: first.run(feed)), (lambda: second.run(feed))
    if size > 2 * KEPT_BYTES:
        return lambda number: _alone(*calls, lambda: renew(first, second), number)

    def pair(number: int) -> PairedTiming:
        if number:
            renew(first, second)
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
