"""``optimize compare A B``: size, cost, agreement of the outputs, and latency measured side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphpress.cli.options import debug_option, json_option, seconds_option, threads_option
from graphpress.cli.text import echo_json, joined, say, table
from graphpress.cli.types import FILLED
from graphpress.errors import UsageError
from graphpress.report import sentences
from graphpress.report.records import Figures, Report

if TYPE_CHECKING:
    from graphpress.data import Feed, Samples
    from graphpress.evaluation import OutputAgreement
    from graphpress.runtime import PairedTiming, Session

DEFAULT_SAMPLES = 256


@dataclass(frozen=True)
class ModelComparison:
    """Two models side by side.

    Args:
        a, b: figures of each; ``latency_ms`` is the time of an undisturbed call.
        outputs: agreement of each output that both have.
        timing: the paired measurement; ``ratio`` below 1 means that the second is faster.
        threads: threads of the runtime.
        batch: samples in the input that was timed: one, but for a model that fixes more.
        agreement: share of samples of which both give the same top-1 class; None without an output of classes.
    """

    a: Figures
    b: Figures
    outputs: list[OutputAgreement]
    timing: PairedTiming
    threads: int
    batch: int
    agreement: float | None


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "-d", "--data", type=FILLED, metavar="FILE", help="Compare the outputs on this data instead of made-up inputs."
)
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_SAMPLES, show_default=True, metavar="N",
              help="Compare the outputs on at most N samples.")  # fmt: skip
@threads_option
@seconds_option
@json_option
@debug_option
def compare(a: str, b: str, data: str | None, limit: int, threads: int, seconds: float, as_json: bool) -> None:
    """Compare size, cost, outputs and latency of two models."""
    from graphpress.cli.feeds import samples_for
    from graphpress.driver.first_answers import first_samples
    from graphpress.evaluation import compare_outputs
    from graphpress.runtime import Session, compare_sessions

    sessions = Session(Path(a), threads=threads), Session(Path(b), threads=threads)
    _check_same_inputs(*sessions, where=b)
    samples = samples_for(sessions[0], data, limit)
    feed = first_samples(next(iter(samples)), sessions[0].inputs, 1)
    timing = compare_sessions(*sessions, feed, seconds=seconds)
    batch = next((len(array) for array in feed.values() if array.ndim), 1)
    result = ModelComparison(
        figures(Path(a), timing.a_ms, feed), figures(Path(b), timing.b_ms, feed),
        compare_outputs(*sessions, samples), timing, threads, batch, _agreement(*sessions, samples),
    )  # fmt: skip
    notes = [f"note: {note}" for note in samples.notes] if data is None else []
    echo_json(result) if as_json else say(_text(result, Path(a).name, Path(b).name), *notes)


def figures(path: Path, latency_ms: float, feed: Feed) -> Figures:
    """Size and cost of a model file, with a latency that was measured on a feed.

    Raises:
        ModelError: it cannot be read.
    """
    from graphpress.analysis.cost import model_cost
    from graphpress.analysis.shapes import assume_shapes
    from graphpress.data import shapes_of
    from graphpress.ir import load
    from graphpress.manager.manifest import model_records

    model = load(path)
    assume_shapes(model, shapes_of(feed))
    cost = model_cost(model)
    return Figures(
        latency_ms=latency_ms,
        parameters=cost.parameters,
        macs=cost.macs,
        bytes=sum(record.bytes for record in model_records(path, model)),
        nodes=cost.nodes,
    )


def _check_same_inputs(a: Session, b: Session, where: str) -> None:
    names = [sorted(spec.name for spec in session.inputs) for session in (a, b)]
    if names[0] != names[1]:
        raise UsageError(
            f"the models have different inputs: {', '.join(names[0])} and {', '.join(names[1])}",
            where=where,
            fix="compare two forms of the same model",
        )


def _agreement(a: Session, b: Session, samples: Samples) -> float | None:
    from graphpress.evaluation import Predictions, evaluate, resolve_metric

    first = next(samples.counted_batches())
    rows = first.count + first.padding
    metric = resolve_metric("agreement", has_labels=False, answer=Predictions(a(first.feed), None, None, rows, rows))
    return evaluate(b, samples, metric, a).value if metric.name == "agreement" else None


def _text(result: ModelComparison, a: str, b: str) -> str:
    from graphpress.manager.gate import speed_verdict

    timing = result.timing
    report = Report(
        model=a, target="", backend="", status="delivered", baseline=result.a, result=result.b,
        speed=speed_verdict(timing),
    )  # fmt: skip
    rows = [(row.label, row.before, row.after, row.change) for row in sentences.comparison(report)]
    measured = (
        f"time ratio {timing.ratio:.3f} (95% interval {timing.low:.3f} to {timing.high:.3f}, "
        f"{sentences.plural(timing.pairs, 'pair')} of sessions, batch {result.batch}, "
        f"{sentences.plural(result.threads, 'thread')})"
    )
    outputs = [
        (
            output.name,
            f"{output.sqnr_db:.1f} dB",
            f"{output.cosine:.6f}",
            f"{output.max_abs:.3g}",
            f"{output.max_rel:.3g}",
        )
        for output in result.outputs
    ]
    figures = table(rows, head=("", a, b, ""), right=(1, 2))
    agreement = table(
        outputs, head=("output", "SQNR", "cosine", "max |a-b|", "max |a-b| / max |a|"), right=(1, 2, 3, 4)
    )
    classes = [] if result.agreement is None else [f"same top-1 class: {100 * result.agreement:.2f} % of the samples"]
    return joined([figures, measured, "", agreement, *classes])
