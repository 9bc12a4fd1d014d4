"""Metrics: what ``--metric`` names, as functions from one batch's outputs to scores.

Higher is better. A metric of the user's own, as ``module:function`` or a Python callable, takes one of two forms,
distinguished by the number of its required parameters:

- ``fn(outputs, labels)`` is called batch by batch with the outputs by name, cut to the real samples, and the labels
  (or None). It returns one score a sample, which gives the verdict its interval, or one number for the batch.
- ``fn(model_path)`` is called once with the path of an ONNX file, and returns one number.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphpress.data import is_reference, load_object
from graphpress.errors import DataError, UsageError, did_you_mean
from graphpress.evaluation.outputs import Predictions, class_count, class_output, compared, in_top, numeric, predicted
from graphpress.evaluation.similarity import cosine, decibels, energies, overlap

MAX_SQNR_DB = 200.0
"""What the metric ``sqnr`` is for equal outputs, so that drops stay finite."""


@dataclass(frozen=True)
class Guess:
    """What blind guessing is worth: ``tries`` different classes out of ``classes``."""

    tries: int
    classes: int

    @property
    def value(self) -> float:
        """The expected share of hits."""
        return self.tries / self.classes


def _mean(scores: np.ndarray) -> float:
    return float(scores.mean())


def _no_remark(_: Predictions) -> str:
    return ""


def _no_guess(_: Predictions) -> Guess | None:
    return None


@dataclass(frozen=True)
class Metric:
    """A figure of merit, higher being better.

    Args:
        name: as in the report.
        score: scores of one batch: ``[count, ...]``, or a single number for the whole batch.
        needs_labels: it cannot be taken without labels.
        needs_reference: it compares with the original model's outputs.
        reduce: from the scores of all samples to the figure.
        of_model: instead of all this, the figure of the model in a file.
        remark: a note for the report, given the first batch.
        guess: what guessing would be worth, given the first batch; None where that makes no sense.
    """

    name: str
    score: Callable[[Predictions], np.ndarray]
    needs_labels: bool = False
    needs_reference: bool = False
    reduce: Callable[[np.ndarray], float] = _mean
    of_model: Callable[[Path], float] | None = None
    remark: Callable[[Predictions], str] = _no_remark
    guess: Callable[[Predictions], Guess | None] = _no_guess


def resolve_metric(name: str | Callable[..., Any] | None, has_labels: bool) -> Metric:
    """The metric of that name, ``module:function`` or callable; ``name@output`` scores the named output.

    Without a name it is ``top1`` where there are labels, else ``agreement``.

    - ``top1``, ``top5``: share of samples whose label is the best, or among the five best.
    - ``agreement``: share of samples on which the top-1 class is the original model's. For a model without an output
      ``[N, classes]``, such as a detector, it is the mean overlap ``2 r.c / (|r|^2 + |c|^2)`` of its outputs with the
      original's.
    - ``cosine``: mean over samples and outputs of the cosine with the original's output.
    - ``sqnr``: signal-to-noise ratio against the original in dB, energies of all outputs together, at most 200.

    Raises:
        UsageError: there is no such metric, or it needs labels and there are none.
    """
    if name is None:
        return resolve_metric("top1" if has_labels else "agreement", has_labels)
    if not isinstance(name, str):
        return _user_metric(name, getattr(name, "__name__", type(name).__name__))
    if is_reference(name):
        return _user_metric(load_object(name, error=UsageError), name)
    kind, _, output = name.partition("@")
    metrics = _built_in(name, output or None)
    if kind not in metrics:
        raise UsageError(f"unknown metric {kind!r}", where="--metric", fix=did_you_mean(kind, metrics))
    if metrics[kind].needs_labels and not has_labels:
        raise UsageError(
            f"{kind} needs labels and the data has none",
            where="--metric",
            fix="add `labels:` to the data, or take `agreement`",
        )
    return metrics[kind]


def _built_in(name: str, output: str | None) -> dict[str, Metric]:
    return {
        "top1": _top_metric(name, 1, output),
        "top5": _top_metric(name, 5, output),
        "agreement": Metric(
            name, partial(_agreement, output), needs_reference=True, remark=partial(_agreement_remark, name, output)
        ),
        "cosine": Metric(name, partial(_nearness, cosine, output), needs_reference=True),
        "sqnr": Metric(name, partial(_energies, output), needs_reference=True, reduce=_sqnr_of),
    }


def _top_metric(name: str, k: int, output: str | None) -> Metric:
    return Metric(
        name,
        partial(_top, k, output),
        needs_labels=True,
        remark=partial(_choice_remark, name, output),
        guess=partial(_guess, k, output),
    )


def _top(k: int, output: str | None, predictions: Predictions) -> np.ndarray:
    name = class_output(predictions, output)
    if name is None:
        raise DataError(
            "no output scores classes: none is [N, classes] or integers [N]",
            where=", ".join(f"{name} {list(array.shape)}" for name, array in predictions.outputs.items()),
            fix="name one with `top1@output`, or give a metric of your own as module:function",
        )
    return in_top(predictions.outputs[name], k, predictions)


def _guess(k: int, output: str | None, predictions: Predictions) -> Guess | None:
    name = class_output(predictions, output)
    classes = None if name is None else class_count(predictions.outputs[name], predictions)
    return Guess(k, classes) if classes is not None and classes > k else None


def _choice_remark(metric: str, output: str | None, predictions: Predictions) -> str:
    """Which output the classes are read from, where there were several to choose from."""
    name, several = class_output(predictions, output), len(numeric(predictions.outputs))
    if output is not None or name is None or several == 1:
        return ""
    return f"{metric} is taken on output {name!r}, one of {several}: `{metric}@OUTPUT` takes another"


def _agreement(output: str | None, predictions: Predictions) -> np.ndarray:
    name = class_output(predictions, output)
    if name is None:
        return _nearness(overlap, None, predictions)
    given, wanted = (
        predicted(outputs[name], predictions) for outputs in (predictions.outputs, predictions.reference or {})
    )
    if given.shape != wanted.shape:
        return np.zeros(predictions.count)
    return _by_sample((given == wanted).reshape(given.shape[0], -1).mean(1), predictions)


def _agreement_remark(metric: str, output: str | None, predictions: Predictions) -> str:
    if class_output(predictions, output) is not None:
        return _choice_remark(metric, output, predictions)
    names = compared(predictions.reference or {})
    outputs = f"output {names[0]!r}" if len(names) == 1 else f"all {len(names)} outputs"
    return f"no output is [N, classes]: agreement is the mean overlap 2 r.c / (|r|^2 + |c|^2) of {outputs}"


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


def _user_metric(function: Any, name: str) -> Metric:
    if not callable(function):
        raise UsageError(f"{name} is not a function", where="--metric", fix="name one that can be called")
    if _required_parameters(function, name) == 1:
        return Metric(name, partial(_user_score, function, name), of_model=partial(_user_figure, function, name))
    return Metric(name, partial(_user_score, function, name))


def _required_parameters(function: Any, name: str) -> int:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    takes_any = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if takes_any and not required:
        return 2
    if len(required) not in (1, 2):
        raise UsageError(
            f"{name} has {len(required)} required parameters",
            where="--metric",
            fix="write fn(outputs, labels), or fn(model_path)",
        )
    return len(required)


def _user_score(function: Any, name: str, predictions: Predictions) -> np.ndarray:
    outputs = {key: predictions.cut(array) for key, array in predictions.outputs.items()}
    scores = _numbers(_called(function, name, outputs, predictions.labels), name)
    if scores.ndim > 1 or (scores.ndim == 1 and scores.shape[0] != predictions.count):
        raise DataError(
            f"returned shape {list(scores.shape)} for {predictions.count} samples",
            where=name,
            fix="return one score a sample, or one number",
        )
    return scores


def _user_figure(function: Any, name: str, path: Path) -> float:
    figure = _numbers(_called(function, name, path), name)
    if figure.ndim:
        raise DataError(f"returned shape {list(figure.shape)}", where=name, fix="return one number")
    return float(figure)


def _called(function: Any, name: str, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        raise DataError(f"raised {type(error).__name__}: {error}", where=name, fix="correct the metric") from error


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"returned {type(value).__name__}", where=name, fix="return numbers") from error
