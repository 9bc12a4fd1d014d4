"""Evaluation: metrics, scores by sample, how sure a drop is, and what a change does to the outputs."""

from graphpress.evaluation.evaluate import Score, evaluate, score_model
from graphpress.evaluation.interval import Interval, drop_interval
from graphpress.evaluation.metric import Metric
from graphpress.evaluation.metrics import resolve_metric
from graphpress.evaluation.outputs import Predictions
from graphpress.evaluation.reference import RememberedReference
from graphpress.evaluation.sensitivity import DamageMeasure
from graphpress.evaluation.service import EvaluationService
from graphpress.evaluation.similarity import OutputAgreement, compare_outputs, sqnr

__all__ = [
    "DamageMeasure",
    "EvaluationService",
    "Interval",
    "Metric",
    "OutputAgreement",
    "Predictions",
    "RememberedReference",
    "Score",
    "compare_outputs",
    "drop_interval",
    "evaluate",
    "resolve_metric",
    "score_model",
    "sqnr",
]
