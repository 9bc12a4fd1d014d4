"""What a layer keeps of its output at each rank, and what such ranks would save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graphpress.ir import Refusal

RANK_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the full rank, at which the energy is told."""
ENERGIES = (0.9, 0.99, 0.999)
"""For which the least ranks are told."""


@dataclass(frozen=True)
class RankFigures:
    """One rank of a layer, as the singular value decomposition.

    Args:
        rank: inner size of the chain.
        energy: share of the variance of the layer's output that it keeps; of its weights' energy without data.
        macs, parameters: what the chain costs in place of the layer.
        seconds: of one call of the chain, measured or modelled; None where that is not known.
    """

    rank: int
    energy: float
    macs: int
    parameters: int
    seconds: float | None = None


@dataclass(frozen=True)
class LayerSpectrum:
    """The ranks of a layer.

    Args:
        name, op: the node and its operator.
        full_rank: at which the chain would be exact.
        break_even: the highest rank at which it costs less than the layer; 0 where none does.
        macs, parameters: of the layer as it is.
        seconds: of one call of the layer, as that of its ranks.
        shares: at each of ``RANK_SHARES`` of the full rank.
        energies: the least rank for each of ``ENERGIES``.
    """

    name: str
    op: str
    full_rank: int
    break_even: int
    macs: int
    parameters: int
    seconds: float | None
    shares: Sequence[RankFigures]
    energies: Sequence[RankFigures]


@dataclass(frozen=True)
class RankSurvey:
    """The ranks of a model's layers.

    Args:
        norm: what energy is taken in: of the layers' outputs on ``data``, or of the ``weights``.
        samples: of the data that were looked at.
        layers: that can be decomposed.
        whole: why others cannot.
    """

    norm: Literal["data", "weights"]
    samples: int
    layers: Sequence[LayerSpectrum]
    whole: Sequence[Refusal]
