"""Measure a model on samples, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graphpress.data import Batch, Samples
from graphpress.errors import DataError, UsageError
from graphpress.evaluation.metric import Guess, Metric
from graphpress.evaluation.outputs import Outputs, Predictions
from graphpress.evaluation.reference import RememberedReference
from graphpress.ir import Model, save, weight_bytes
from graphpress.ir.opaque import opaque_nodes
from graphpress.progress import Progress, Silent
from graphpress.runtime import KEPT_BYTES, Infer, Session, stand_by
from graphpress.scratch import scratch_folder
from graphpress.statistics import binomial_tail

NEAR, SURE = 0.05, 0.05
"""How far above chance counts as near it, and how sure a figure must lie above that."""
AHEAD_BYTES = 1 << 28
"""Of a large reference's outputs that are held until the other model is loaded in its place."""


@dataclass(frozen=True)
class Score:
    """A metric's value on some samples.

    Args:
        value: the figure, higher being better; a fraction for shares.
        per_sample: ``[count]``, whose mean is the value; None where the metric gives no such scores.
        count: number of samples.
        note: how the figure was taken, where the metric had to choose.
        warning: that the original hardly does better than chance, when it is the original's.
    """

    value: float
    per_sample: np.ndarray | None
    count: int
    note: str = ""
    warning: str = ""


def evaluate(
    run: Infer,
    samples: Samples | None,
    metric: Metric,
    reference: Infer | None = None,
    *,
    model: Path | None = None,
    progress: Progress | None = None,
) -> Score:
    """Take the metric of a model.

    Args:
        run: runs the model on one feed.
        samples: what it is measured on; None only for a metric that takes a model file.
        metric: as ``resolve_metric`` gives it.
        reference: runs the original model, for metrics that compare; pass ``run`` itself to score the original.
        model: path of the model's file, for metrics that take one.
        progress: shows how far it is.

    Raises:
        DataError: there are no samples, or outputs and labels do not go together.
        UsageError: the metric needs a reference or a file that was not given.
    """
    if metric.of_model is not None:
        if model is None:
            raise UsageError("this metric takes a model file", where=metric.name, fix="give the file with model=")
        return Score(metric.of_model(model), None, 0 if samples is None else samples.count)
    if samples is None:
        raise DataError(f"no samples to take {metric.name} on", fix="give data")
    if metric.needs_reference and reference is None:
        raise UsageError("this metric compares with a reference", where=metric.name, fix="give it with reference=")
    counts, scores, note, guess = list[int](), list[np.ndarray](), "", None
    batches = -(-samples.count // samples.batch_size)
    shown = (progress or Silent()).track(samples.counted_batches(), f"measuring {metric.name}", batches)
    for batch, predictions in _predicted(run, shown, reference if metric.needs_reference else None):
        if not counts:
            note, guess = metric.remark(predictions), metric.guess(predictions)
        counts.append(batch.count)
        scores.append(metric.score(predictions))
    total = _total(metric, scores, counts)
    return replace(total, note=note, warning=_doubt(total, guess) if reference is run else "")


def score_model(
    model: Model, samples: Samples, metric: Metric, reference: Infer, threads: int, progress: Progress
) -> Score:
    """The metric of a model that ONNX Runtime runs; one that takes a file gets it in a scratch folder.

    So does a large model: from a file it can be loaded again, and need not be in memory beside the reference. One with
    opaque operators is no file that could be loaded.
    """
    if metric.of_model is None and (weight_bytes(model) <= KEPT_BYTES or opaque_nodes(model)):
        return evaluate(Session(model, threads=threads), samples, metric, reference, progress=progress)
    with scratch_folder() as scratch:
        file = save(model, scratch / "model.onnx")[0]
        return evaluate(Session(file, threads=threads), samples, metric, reference, model=file, progress=progress)


def _predicted(run: Infer, batches: Iterable[Batch], reference: Infer | None) -> Iterator[tuple[Batch, Predictions]]:
    """Outputs batch by batch; of two large models, only one is loaded at a time."""
    other = None if reference is run else reference
    ahead = AHEAD_BYTES if isinstance(other, (Session, RememberedReference)) and other.can_stand_by else 0
    if ahead:
        stand_by(run)
    for answered in _answered(batches, other, ahead):
        for batch, wanted in answered:
            outputs = run(batch.feed)
            wanted = outputs if reference is run else wanted
            yield (
                batch,
                Predictions(outputs, batch.labels, wanted, batch.count + batch.padding, batch.count, batch.feed),
            )
        if ahead:
            stand_by(run)
    stand_by(run)


def _answered(
    batches: Iterable[Batch], reference: Infer | None, ahead: int
) -> Iterator[list[tuple[Batch, Outputs | None]]]:
    """Batches with what the reference says to them: as many at a time as pass so many bytes."""
    answered, size = list[tuple[Batch, Outputs | None]](), 0
    for batch in batches:
        wanted = None if reference is None else reference(batch.feed)
        answered.append((batch, wanted))
        size += sum(array.nbytes for array in (wanted or {}).values() if isinstance(array, np.ndarray))
        if size >= ahead:
            if ahead:
                stand_by(reference)
            yield answered
            answered, size = [], 0
    stand_by(reference)
    yield answered


def _doubt(score: Score, guess: Guess | None) -> str:
    """A warning where the original's figure suggests unsuitable data: wrong preprocessing, labels numbered anew.

    So it does where the hits do not show, by a one-sided binomial test, that the model does better than ``NEAR`` of the
    way from guessing to always being right: wrong data often leaves a little more than chance.
    """
    if guess is None or score.per_sample is None:
        return ""
    near = guess.value + NEAR * (1 - guess.value)
    if binomial_tail(score.count, round(float(score.per_sample.sum())), near) < SURE:
        return ""
    return (
        f"the input model itself scores {score.value:.4f} on {score.count} samples with {guess.classes} classes, "
        "hardly better than chance: check preprocess (scale, mean, std, layout, color) and labels"
    )


def _total(metric: Metric, scores: list[np.ndarray], counts: list[int]) -> Score:
    if not counts:
        raise DataError(f"no samples to take {metric.name} on", fix="give data")
    if any(np.ndim(score) == 0 for score in scores):
        batch_means = [float(np.mean(score)) for score in scores]
        return Score(float(np.average(batch_means, weights=counts)), None, sum(counts))
    joined = np.concatenate(scores)
    return Score(metric.reduce(joined), joined if joined.ndim == 1 else None, sum(counts))
