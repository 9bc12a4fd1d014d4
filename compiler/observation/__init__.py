"""Observation: one streaming runner shows requested tensors to observers, in bounded memory."""

from graphpress.observation.gram import (
    GramObserver,
    Moments,
    Observation,
    in_portions,
    input_moments,
    second_moments,
)
from graphpress.observation.layerwise import LayerPiece, LayerTask, LayerWalk, Wanted
from graphpress.observation.observers import HistogramObserver, MinMaxObserver, Observer
from graphpress.observation.pieces import Pieces
from graphpress.observation.stream import observe
from graphpress.observation.waves import can_wait, waves_of

__all__ = [
    "GramObserver",
    "HistogramObserver",
    "LayerPiece",
    "LayerTask",
    "LayerWalk",
    "MinMaxObserver",
    "Moments",
    "Observation",
    "Observer",
    "Pieces",
    "Wanted",
    "can_wait",
    "in_portions",
    "input_moments",
    "observe",
    "second_moments",
    "waves_of",
]
