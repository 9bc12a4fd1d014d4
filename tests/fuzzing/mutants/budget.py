"""Whether a lossy result stays in its budget: as the report says, and measured anew on the delivered file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphpress.errors import GraphpressError
from graphpress.evaluation import resolve_metric
from graphpress.evaluation.outputs import Predictions
from mutants.answers import Feed

Outputs = Mapping[str, Any]


def broken_promise(report: Mapping[str, Any]) -> str | None:
    """A model that is called delivered and has lost more than it may, by the report's own account."""
    verdict = _verdict(report)
    if verdict is None or verdict["drop"] <= verdict["max_drop"]:
        return None
    return f"delivered against its budget: {verdict}"


def overdrawn(report: Mapping[str, Any], feed: Feed, expected: Outputs, actual: Outputs) -> str | None:
    """A model that has lost more than it may, by more than one sample, on the data that it was measured on."""
    verdict, agreement = _verdict(report), _agreement(feed, expected, actual)
    if verdict is None or agreement is None or report["metric_name"] != "agreement":
        return None
    drop, sample = 1 - agreement, 1 / len(next(iter(feed.values())))
    if drop <= verdict["max_drop"] + sample + 1e-6:
        return None
    return f"agreement fell by {drop:.3f}, of which the report says {verdict['drop']:.3f}"


def _verdict(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the report says of the budget, if there is one and it is said to be kept."""
    verdict: Mapping[str, Any] | None = report.get("verdict")
    kept = report["status"] == "delivered" and verdict and verdict["max_drop"] is not None
    return verdict if kept else None


def _agreement(feed: Feed, expected: Outputs, actual: Outputs) -> float | None:
    """By the compiler's own metric; None where samples cannot be told apart or numbers are none."""
    rows = {len(array) for array in feed.values() if array.ndim}
    arrays = [array for array in expected.values() if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
    if len(rows) != 1 or not all(np.isfinite(array).all() for array in arrays):
        return None
    (count,) = rows
    metric = resolve_metric("agreement", has_labels=False)
    try:
        return float(metric.reduce(metric.score(Predictions(actual, None, expected, count, count))))
    except GraphpressError:
        return None
