"""Observation: one streaming runner shows requested tensors to observers, in bounded memory."""

from graphpress.observation.gram import (
    GramObserver,
    Moments,
    Observation,
    in_portions,
    input_moments,
    second_moments,
)
from graphpress.observation.observers import HistogramObserver, MinMaxObserver, Observer
from graphpress.observation.stream import observe

__all__ = [
    "GramObserver",
    "HistogramObserver",
    "MinMaxObserver",
    "Moments",
    "Observation",
    "Observer",
    "in_portions",
    "input_moments",
    "observe",
    "second_moments",
]
