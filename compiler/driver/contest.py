"""Which backend's artifact of a state is delivered: the fastest of those that the target names.

The target's own backend has made one already. Each rival makes another of the same state, which has to pass the same
checks, in a copy of this process, for its code may crash. The two are timed in turn, in fresh pairs of sessions: the
rival's takes the place of the other only where it surely is faster, and where the metric, taken on that very artifact,
stays within the budget. What keeps a rival from competing is no fault of the run: its record says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graphpress.backend import Artifact, Backend, Prepared, runner_of
from graphpress.deadline import RIVALS, OutOfTimeError
from graphpress.driver.acceptance import budget_fault, output_fault
from graphpress.driver.apart import Apart
from graphpress.driver.config import WINNER
from graphpress.driver.job import Job
from graphpress.errors import BackendError, GraphpressError, ModelError, message_of, resource_faults
from graphpress.evaluation import Score
from graphpress.forked import CrashError
from graphpress.ir import Model
from graphpress.progress import doing
from graphpress.report.records import BackendRecord
from graphpress.runtime import InProcess, PairedTiming

LEAST_SECONDS = 5.0
"""What is compiled and compared takes no less."""
OUT_OF_TIME = "the time limit left no time to compile with it"
TOOK_TOO_LONG = "it was not done when the time limit left no more for it"
MORE_TIME = "give more with --time-limit"
NOT_FASTER = "not surely faster"

Duel = Callable[[Artifact, Artifact], PairedTiming]
"""Times two artifacts in turn."""


@dataclass(frozen=True)
class Contender:
    """What a backend made of a state.

    Args:
        backend: its name.
        prepared: the state as the backend works with it.
        artifact: what came of it.
        score: the metric, taken on the artifact itself; None where that of its simulation stands for it.
    """

    backend: str
    prepared: Prepared
    artifact: Artifact
    score: Score | None = None


@dataclass(frozen=True)
class ContestedState:
    """What backends compete over.

    Args:
        model: annotated.
        folder: below which each rival compiles into a folder of its own.
        transactions: the lossy ones that led there.
        unchanged: it is the input model, whose file is to be delivered as it came.
    """

    model: Model
    folder: Path
    transactions: Sequence[str] = ()
    unchanged: bool = False


@dataclass(frozen=True)
class _Bout:
    """How a rival did.

    Args:
        record: for the report.
        contender: what it made, where that is better than what the target's own backend made.
        own_ms: time of one call of the latter; None where they were not timed.
    """

    record: BackendRecord
    contender: Contender | None = None
    own_ms: float | None = None


def contest(job: Job, state: ContestedState, own: Contender, duel: Duel) -> tuple[Contender, tuple[BackendRecord, ...]]:
    """The contender to deliver, and what is to be told of each backend; nothing where none competes.

    Args:
        job: the run; where it replays another, the winner is the recorded one.
        state: what is compiled.
        own: what the target's own backend made of it.
        duel: measures.
    """
    rivals = _rivals(job, own)
    if not rivals:
        return own, ()
    bouts = [_compete(job, state, own, name, backend, duel) for name, backend in rivals.items()]
    better = sorted((bout for bout in bouts if bout.contender is not None), key=lambda bout: bout.record.ratio or 0.0)
    winner = next((bout.contender for bout in better if bout.contender is not None), own)
    own_ms = next((bout.own_ms for bout in bouts if bout.own_ms is not None), None)
    records = (BackendRecord(name=own.backend, latency_ms=own_ms), *(bout.record for bout in bouts))
    return winner, tuple(replace(record, delivered=record.name == winner.backend) for record in records)


def withdrawn(records: Sequence[BackendRecord], why: str) -> tuple[BackendRecord, ...]:
    """The records where the winner is not delivered after all, but what the target's own backend made."""
    return tuple(
        replace(record, delivered=at == 0, why=why if at and record.delivered else record.why)
        for at, record in enumerate(records)
    )


def _rivals(job: Job, own: Contender) -> dict[str, Backend]:
    """Those that may compete: where this machine can tell which is faster, or a recorded run has told."""
    is_timed_here = job.inputs.runs and isinstance(runner_of(own.artifact, runs_here=job.runs_here), InProcess)
    recorded = job.context.recorded(WINNER, str)
    return {
        name: backend
        for name, backend in job.config.rivals.items()
        if is_timed_here and recorded in (None, name) and backend.runs_here(job.config.target)
    }


def _compete(job: Job, state: ContestedState, own: Contender, name: str, backend: Backend, duel: Duel) -> _Bout:
    try:
        return _fight(job, own, _enter(job, state, name, backend), duel)
    except OutOfTimeError:
        return _Bout(BackendRecord(name=name, why=TOOK_TOO_LONG, fix=MORE_TIME))
    except GraphpressError as error:
        place = f"{error.where}: " if error.where else ""
        helps = isinstance(error, BackendError) or error.fix.startswith("--")  # elsewhere: use the other backend
        fix = error.fix if helps else ""
        return _Bout(BackendRecord(name=name, why=f"{place}{error.what}", fix=fix))
    except CrashError as error:
        return _failed(name, f"it crashed (a copy of this process that ran it {error})")
    except Exception as error:  # a bug of a backend that nobody asked for by name
        return _failed(name, f"it failed ({type(error).__name__}: {message_of(error)})")


def _failed(name: str, why: str) -> _Bout:
    return _Bout(BackendRecord(name=name, why=why, fix="report it to whoever provides this backend", failed=True))


def _fight(job: Job, own: Contender, rival: Contender, duel: Duel) -> _Bout:
    """Compare a rival that passed the checks.

    Raises:
        CrashError, OutOfTimeError: as for ``_enter``, on samples that the checks have not seen.
    """
    name = rival.backend
    with doing(f"comparing {own.backend} with {name}"):
        timing = duel(own.artifact, rival.artifact)
    record = BackendRecord(name=name, latency_ms=timing.b_ms, ratio=timing.ratio, low=timing.low, high=timing.high)
    if timing.high >= 1 and job.context.recorded(WINNER, str) != name:
        return _Bout(replace(record, why=NOT_FASTER), own_ms=timing.a_ms)
    with Apart(rival.artifact, job.config.deadline.at(RIVALS)) as apart:
        score = job.score_artifact(apart)
    if (miss := budget_fault(job, score)) is not None:
        return _Bout(replace(record, why=f"beyond the budget ({miss})"), own_ms=timing.a_ms)
    return _Bout(record, replace(rival, score=score), timing.a_ms)


def _enter(job: Job, state: ContestedState, name: str, backend: Backend) -> Contender:
    """What a rival makes of a state, checked.

    Raises:
        GraphpressError: why it does not compete.
        CrashError: native code of it crashes.
        OutOfTimeError: it is not done when others need the time that is left.
    """
    target, end = job.config.target, job.config.deadline.at(RIVALS)
    options = replace(job.compile_options(unchanged=state.unchanged), end=end)
    available = backend.available()
    if not available.works:
        raise BackendError(available.detail, fix=available.install)
    if job.config.deadline.left(RIVALS) < LEAST_SECONDS:
        raise BackendError(OUT_OF_TIME, fix=MORE_TIME)
    if refusals := backend.check(state.model, options):
        raise ModelError(refusals[0].why, where=refusals[0].where, fix=refusals[0].fix)
    folder = state.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with doing(f"compiling with {name}"), resource_faults():
        prepared = backend.prepare(state.model, target)
        artifact = backend.compile(prepared, options, folder)
    with doing(f"checking what {name} made"), Apart(artifact, end) as apart:
        apart.run(job.inputs.single)  # with which it is timed, in this process
        fault = output_fault(job, prepared, apart, state.transactions)
    if fault is not None:
        raise ModelError(f"not what the input model computes ({fault})", fix="report it as a bug of this backend")
    return Contender(name, prepared, artifact)
