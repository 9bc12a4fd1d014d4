"""Metrics of the user's own: ``module:function`` or a Python callable, in one of two forms, distinguished by the number
of its required parameters.

- ``fn(outputs, labels)`` is called batch by batch with the outputs by name, cut to the real samples, and the labels
  (or None). It returns one score a sample, which gives the verdict its interval, or one number for the batch.
- ``fn(model_path)`` is called once with the path of an ONNX file, and returns one number.
"""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphpress.errors import DataError, UsageError
from graphpress.evaluation.metric import Metric
from graphpress.evaluation.outputs import Predictions


def user_metric(function: Any, name: str) -> Metric:
    """The metric that a function computes.

    Raises:
        UsageError: it is none, or has another number of parameters.
    """
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
