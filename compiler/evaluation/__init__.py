"""Evaluation: metrics, scores by sample, and how sure a drop is."""

from graphpress.evaluation.evaluate import Score, evaluate
from graphpress.evaluation.interval import Interval, drop_interval
from graphpress.evaluation.metrics import Metric, resolve_metric
from graphpress.evaluation.outputs import Judged
from graphpress.evaluation.similarity import OutputAgreement, Runner, compare_outputs, sqnr

__all__ = [
    "Interval",
    "Judged",
    "Metric",
    "OutputAgreement",
    "Runner",
    "Score",
    "compare_outputs",
    "drop_interval",
    "evaluate",
    "resolve_metric",
    "sqnr",
]
