"""Observation: one streaming runner shows requested tensors to observers, in bounded memory."""

from graphpress.observation.observers import HistogramObserver, MinMaxObserver, Observer
from graphpress.observation.stream import observe

__all__ = ["HistogramObserver", "MinMaxObserver", "Observer", "observe"]
