"""Metrics: what ``--metric`` names, as functions from one batch's outputs to scores.

Higher is better. ``user_metric`` says what a metric of the user's own looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from graphpress.data import is_reference, load_object
from graphpress.errors import DataError, UsageError, did_you_mean
from graphpress.evaluation.distributions import class_log_probabilities
from graphpress.evaluation.metric import Guess, Metric
from graphpress.evaluation.outputs import (
    Predictions,
    check_whole,
    class_count,
    class_output,
    compared,
    in_top,
    next_tokens,
    numeric,
    predicted,
)
from graphpress.evaluation.roles import are_many, stand_out
from graphpress.evaluation.similarity import closeness, cosine, decibels, energies
from graphpress.evaluation.user_metric import user_metric

MAX_SQNR_DB = 200.0
"""What the metric ``sqnr`` is for equal outputs, so that drops stay finite."""

LEAST_SQNR_DB = 26.0
"""What outputs that are no classes must keep where the user sets no limit: a relative error of 5 %."""


def resolve_metric(
    name: str | Callable[..., Any] | None, has_labels: bool, answer: Predictions | None = None
) -> Metric:
    """The metric of that name, ``module:function`` or callable; ``name@output`` scores the named output.

    Without a name it is ``top1`` where there are labels, else ``agreement`` where an output scores classes, else
    ``closeness``.

    - ``top1``, ``top5``: share of samples whose label is the best, or among the five best; with labels for each token,
      the share of tokens.
    - ``agreement``: share of samples, or of tokens, on which the top-1 class is the original model's.
    - ``closeness``: 1 - relative error, ``1 - |r - c| / |r|`` against the original's outputs, their mean and that over
      samples. 0.95 is an error of 5 %, or 26 dB.
    - ``cosine``: mean over samples and outputs of the cosine with the original's output.
    - ``sqnr``: signal-to-noise ratio against the original in dB, energies of all outputs together, at most 200.
    - ``kl``: minus the mean divergence KL(original, model) of the distributions over classes, in nats.
    - ``perplexity``: 1 / perplexity of the labels of each token; without labels, of the next token of the input.

    Args:
        name: of the metric.
        has_labels: whether the samples have labels.
        answer: what the original model answers to some samples; which output is scored is then settled by it.

    Raises:
        UsageError: there is no such metric, or it needs labels and there are none.
    """
    if name is not None and not isinstance(name, str):
        return user_metric(name, getattr(name, "__name__", type(name).__name__))
    if name is not None and is_reference(name):
        return user_metric(load_object(name, error=UsageError), name)
    kind, _, output = (name or ("top1" if has_labels else "agreement")).partition("@")
    may_score = stand_out if name is None else are_many  # a metric that was named is believed
    classes = None if answer is None else class_output(answer, output or None, may_score)
    if kind == "agreement" and answer is not None and classes is None:
        kind = "closeness"
    metrics = _built_in(Scored(kind if name is None or not output else name, output or None, classes))
    if kind not in metrics:
        raise UsageError(f"unknown metric {kind!r}", where="--metric", fix=did_you_mean(kind, metrics))
    if metrics[kind].needs_labels and not has_labels:
        raise UsageError(
            f"{kind} needs labels and the data has none",
            where="--metric",
            fix="add `labels:` to the data, or take `agreement`",
        )
    return metrics[kind]


@dataclass(frozen=True)
class Scored:
    """What a metric is taken on.

    Args:
        metric: its name.
        asked: the output that the user named.
        settled: the output that the original's answers speak for.
    """

    metric: str
    asked: str | None
    settled: str | None = None

    def output(self, predictions: Predictions) -> str | None:
        """The output that scores classes."""
        return class_output(predictions, self.asked or self.settled)

    def remark(self, predictions: Predictions) -> str:
        """Which output the classes are read from, where there were several to choose from."""
        name, several = self.output(predictions), len(numeric(predictions.outputs))
        if self.asked is not None or name is None or several == 1:
            return ""
        return f"{self.metric} is taken on output {name!r}, one of {several}: `{self.metric}@OUTPUT` takes another"


def _built_in(scored: Scored) -> dict[str, Metric]:
    comparing = partial(Metric, needs_reference=True)
    name, output, remark = scored.metric, scored.asked, scored.remark
    return {
        "top1": _top_metric(1, scored, comparing("agreement", partial(_agreement, scored))),
        "top5": _top_metric(5, scored),
        "agreement": comparing(name, partial(_agreement, scored), remark=remark),
        "closeness": comparing(
            name,
            partial(_nearness, closeness, output),
            remark=partial(_closeness_remark, output),
            usual_drop=10 ** (-LEAST_SQNR_DB / 20),
        ),
        "cosine": comparing(name, partial(_nearness, cosine, output)),
        "sqnr": comparing(
            name, partial(_energies, output), reduce=_sqnr_of, usual_drop=MAX_SQNR_DB - LEAST_SQNR_DB, unit="dB"
        ),
        "kl": comparing(f"-{name}", partial(_divergence, scored), remark=remark, unit="nats"),
        "perplexity": Metric(f"1/{name}", partial(_surprise, scored), remark=remark, reduce=_inverse_perplexity),
    }


def _inverse_perplexity(losses: np.ndarray) -> float:
    return float(np.exp(-losses.mean()))


def _top_metric(k: int, scored: Scored, bound: Metric | None = None) -> Metric:
    return Metric(
        scored.metric,
        partial(_top, k, scored),
        needs_labels=True,
        remark=scored.remark,
        guess=partial(_guess, k, scored),
        bound=bound,
    )


def _classes(scored: Scored, predictions: Predictions) -> str:
    """The output that scores classes.

    Raises:
        DataError: there is none.
    """
    name = scored.output(predictions)
    if name is None:
        raise DataError(
            "no output scores classes: of none do its name, its values or labels say so",
            where=", ".join(f"{name} {list(array.shape)}" for name, array in predictions.outputs.items()),
            fix="name one with `top1@output`, or give a metric of your own as module:function",
        )
    return name


def _top(k: int, scored: Scored, predictions: Predictions) -> np.ndarray:
    return in_top(predictions.outputs[_classes(scored, predictions)], k, predictions)


def _guess(k: int, scored: Scored, predictions: Predictions) -> Guess | None:
    name = scored.output(predictions)
    classes = None if name is None else class_count(predictions.outputs[name], predictions)
    return Guess(k, classes) if classes is not None and classes > k else None


def _agreement(scored: Scored, predictions: Predictions) -> np.ndarray:
    name, reference = _classes(scored, predictions), predictions.reference or {}
    given, wanted = (predicted(outputs[name], predictions) for outputs in (predictions.outputs, reference))
    if given.shape != wanted.shape:
        return np.zeros(predictions.count)
    return _by_sample((given == wanted).reshape(given.shape[0], -1).mean(1), predictions)


def _divergence(scored: Scored, predictions: Predictions) -> np.ndarray:
    """Minus the mean divergence of each sample."""
    name, reference = _classes(scored, predictions), predictions.reference or {}
    wanted, given = reference[name], predictions.outputs[name]
    if wanted.shape != given.shape:
        return np.full(predictions.count, -np.inf)
    ours, theirs = (class_log_probabilities(predictions.real(array)) for array in (given, wanted))
    possible = np.isfinite(theirs)  # a class that is ruled out adds nothing
    with np.errstate(invalid="ignore"):
        terms = np.where(possible, np.exp(theirs) * (theirs - ours), 0.0).sum(-1)
    return _by_sample(-terms.reshape(len(terms), -1).mean(1), predictions)


def _surprise(scored: Scored, predictions: Predictions) -> np.ndarray:
    """Minus the mean log-likelihood of each sample's labels, ``[count, 1]``; without labels, of its next tokens."""
    array = predictions.real(predictions.outputs[_classes(scored, predictions)])
    scores, labels = class_log_probabilities(array), predictions.labels
    if labels is None:
        scores, labels = scores[:, :-1], next_tokens(predictions, scores.shape[:-1])
    check_whole(labels)
    if labels.shape != scores.shape[:-1]:
        raise DataError(
            f"of shape {list(labels.shape)}, which do not go with scores of shape {list(scores.shape)}",
            where="labels",
            fix="give one label a sample, or one a token, or leave them out where the model predicts its next token",
        )
    valid = (labels >= 0) & (labels < scores.shape[-1])
    own = np.take_along_axis(scores, np.where(valid, labels, 0)[..., None], -1)[..., 0]
    losses, counts = (-own * valid).reshape(len(own), -1).sum(1), valid.reshape(len(own), -1).sum(1)
    return np.asarray(losses / np.maximum(counts, 1))[:, None]


def _closeness_remark(output: str | None, predictions: Predictions) -> str:
    names = [output] if output else compared(predictions.reference or {})
    outputs = f"output {names[0]!r}" if len(names) == 1 else f"all {len(names)} outputs"
    return (
        f"closeness is 1 - |r - c| / |r| of {outputs}, r being the input model's: a drop of 5 points is an error of "
        "5 %, or 26 dB; `agreement@OUTPUT` takes one for scores of classes"
    )


def _nearness(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray], output: str | None, predictions: Predictions
) -> np.ndarray:
    """Mean over outputs of a measure between rows."""
    scores = [_by_sample(measure(*pair), predictions) for pair in predictions.pairs(output)]
    if not scores:
        raise DataError("no output holds numbers", fix="give a metric of your own as module:function")
    return np.asarray(np.mean(scores, axis=0))


def _by_sample(scores: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Scores of all samples, from those of an output that may lack the batch axis."""
    return np.broadcast_to(scores, (predictions.count,))


def _energies(output: str | None, predictions: Predictions) -> np.ndarray:
    """Energies of signal and noise by row; an output without batch axis counts once."""
    return np.concatenate([energies(*pair) for pair in predictions.pairs(output)])


def _sqnr_of(scores: np.ndarray) -> float:
    signal, noise = scores.sum(0)
    return float(np.clip(decibels(signal, noise), -MAX_SQNR_DB, MAX_SQNR_DB))
