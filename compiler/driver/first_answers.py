"""What the input model answers first: to feeds that stand for the data, or to made-up ones; and a model that ONNX
Runtime breaks while it loads it is run as far optimized as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphpress.data import Dataset, Feed, Samples, typical
from graphpress.data.inputs import has_open_batch
from graphpress.driver.config import RunConfig
from graphpress.driver.first_run import check_answers, made_up_samples
from graphpress.driver.source import ModelFile
from graphpress.errors import ModelError
from graphpress.manager.verification import Probe
from graphpress.runtime import InputSpec, Session
from graphpress.runtime.optimization import LEVELS, OPTIONS, Optimization, any_optimization, limit_optimization, limited

PROBE_SAMPLES = 4


@dataclass(frozen=True)
class FirstAnswers:
    """What the input model answers first.

    Args:
        session: that answered.
        probe: inputs and answers; none of these where it runs on no inputs that were tried.
        notes: for the report.
    """

    session: Session
    probe: Probe
    notes: tuple[str, ...]


def first_answers(session: Session, specs: Sequence[InputSpec], data: Dataset, config: RunConfig) -> FirstAnswers:
    """Feeds of few samples that stand for all of the data, one of usual size first; without data made-up ones; and the
    answers to them.

    Raises:
        ModelError: the model gives no answer in time.
    """
    seed, time_limit = config.options.seed, config.options.time_limit
    given = data.calibration or data.evaluation
    samples = given or made_up_samples(session, specs, config.shapes, seed=seed, time_limit=time_limit)
    feeds = _usual_first(typical(samples, PROBE_SAMPLES))
    first = first_samples(feeds[0], specs, PROBE_SAMPLES)
    if given is not None:
        check_answers(session, first_samples(first, specs, 1), time_limit)
    more = PROBE_SAMPLES if all(len(array) == 1 for array in first.values() if array.ndim) else 1
    probe = Probe.by(session, (first, *feeds[1:more]))
    return FirstAnswers(session, probe, samples.notes if given is None else ())


def answers_as_it_stands(
    file: ModelFile, specs: Sequence[InputSpec], data: Dataset, config: RunConfig
) -> FirstAnswers | None:
    """The answers of a model that fails as it is loaded by default, and runs less optimized: so is everything in the
    run from then on. None where it runs neither way.
    """
    for level, session in _less_optimized(file, config.threads):
        answers = first_answers(session, specs, data, config)
        if answers.probe.expected:
            limit_optimization(level)
            return answers
    return None


def session_as_it_stands(file: ModelFile, threads: int) -> Session | None:
    """A session of a model that does not load by default, and does less optimized; the same holds."""
    for level, session in _less_optimized(file, threads):
        limit_optimization(level)
        return session
    return None


def check_loads(file: ModelFile, threads: int) -> None:
    """Where a model that was loaded as it stands does not run either, what keeps it from being loaded is what is wrong.

    Raises:
        ModelError: what that is.
    """
    if limited("all") != LEVELS[-1]:
        with any_optimization():
            Session(file.path, threads=threads)


def _less_optimized(file: ModelFile, threads: int) -> Iterator[tuple[Optimization, Session]]:
    for level in reversed(LEVELS[:-1]):
        try:
            yield level, Session(file.path, threads=threads, optimization=level)
        except ModelError:
            continue


def optimization_note() -> str:
    """That everything is optimized less than usual, and why; empty where it is not."""
    level = limited("all")
    if level == LEVELS[-1]:
        return ""
    return (
        "the model is valid, and ONNX Runtime's own graph optimizations break it: here it ran, like all that is "
        f"compared with it, with SessionOptions.graph_optimization_level = {OPTIONS[level]}"
    )


def first_samples(feed: Feed, inputs: Sequence[InputSpec], count: int) -> Feed:
    """The first samples of a feed, where every input leaves its batch axis open; else the whole feed."""
    sizes = {len(array) for array in feed.values() if array.ndim}
    if not has_open_batch(inputs) or len(sizes) != 1:
        return feed
    return {name: array[:count] for name, array in feed.items()}


def _usual_first(samples: Samples) -> list[Feed]:
    """All feeds, the one of median size first."""
    feeds = list(samples)
    sizes = [sum(array.size for array in feed.values()) for feed in feeds]
    usual = sizes.index(sorted(sizes)[len(sizes) // 2])
    return [feeds[usual], *feeds[:usual], *feeds[usual + 1 :]]
