"""The spectra of all layers in the data's norm, and what ranks would cost: what there is to choose from.

energy(r) = Σ_{i ≤ r} λ_i / Σ_i λ_i        λ the eigenvalues of Wᵀ C W, over all blocks of a layer
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphpress.analysis.spectrum import ENERGIES, RANK_SHARES, LayerSpectrum, RankFigures
from graphpress.ir import Dims, Model, Refusal, label
from graphpress.manager.contract import Context
from graphpress.observation import Pieces
from graphpress.passes.lowrank._allocate import LayerChoices
from graphpress.passes.lowrank._candidates import DecomposableLayer
from graphpress.passes.lowrank._choices import RankChoice, cost_at, rank_at
from graphpress.passes.lowrank._decompose import NOT_FINITE
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._observed import problems
from graphpress.passes.lowrank._problem import LayerProblem, shape_of_problem
from graphpress.passes.lowrank._speed import SpeedPlanner

_SVD = FORMS["svd"]
_ROUNDING = 1e-12


@dataclass(frozen=True)
class RankSurveyor:
    """Looks at the ranks of all layers.

    Args:
        model: not changed.
        shapes: static, by value name.
        layers: that may be decomposed, by name.
        data: what they read; None to take the weights alone.
        positions: rows of the data that are looked at in each sample.
        context: target, threads and progress.
    """

    model: Model
    shapes: Mapping[str, Dims]
    layers: Mapping[str, DecomposableLayer]
    data: Pieces | None
    positions: int
    context: Context

    def spectra(self, *, timed: bool) -> tuple[list[LayerSpectrum], list[Refusal]]:
        """Of each layer, and which of them read no numbers.

        Args:
            timed: measure or model what ranks take, too.
        """
        spectra, refusals, options = dict[str, LayerSpectrum](), list[Refusal](), dict[str, LayerChoices]()
        layers = list(self.layers.values())
        judged = problems(self.model, layers, self.data, self.context, self.positions)
        for layer, problem in self.context.progress.track(judged, "taking spectra", len(layers)):
            if problem is None:
                refusals.append(Refusal.at(layer.node, NOT_FINITE))
                continue
            spectra[layer.name] = spectrum = _spectrum(layer, problem)
            options[layer.name] = LayerChoices(layer.whole, list(_choices(layer, spectrum)))
        return list(self._timed(spectra, options).values()) if timed else list(spectra.values()), refusals

    def _timed(
        self, spectra: Mapping[str, LayerSpectrum], options: Mapping[str, LayerChoices]
    ) -> dict[str, LayerSpectrum]:
        speed = SpeedPlanner(self.model, self.shapes, self.layers, self.context)
        frontier = speed.frontier({name: layer for name, layer in options.items() if speed.can_time(name)})
        timed = {} if frontier is None else frontier.layers
        return {
            name: _with_times(spectrum, timed[name]) if name in timed else spectrum
            for name, spectrum in spectra.items()
        }


def _spectrum(layer: DecomposableLayer, problem: LayerProblem) -> LayerSpectrum:
    values = problem.principal_outputs[0].sum(axis=0)
    kept = np.cumsum(values) / max(float(values.sum()), np.finfo(float).tiny)
    shape, full, whole = shape_of_problem(layer.op), len(kept), layer.whole

    def at(rank: int) -> RankFigures:
        cost = cost_at(layer, problem, _SVD, (rank,))
        return RankFigures(rank, float(kept[rank - 1]), cost.macs, cost.parameters)

    least = (min(bisect_left(kept, energy - _ROUNDING) + 1, full) for energy in ENERGIES)
    dear = bisect_left(
        range(1, full + 1), True, key=lambda rank: not layer.gains(cost_at(layer, shape, _SVD, (rank,)), _SVD)
    )
    return LayerSpectrum(
        name=label(layer.node),
        op=layer.node.op_type,
        full_rank=full,
        break_even=dear,
        macs=whole.macs,
        parameters=whole.parameters,
        seconds=None,
        shares=tuple(at(rank_at(full, share)) for share in RANK_SHARES),
        energies=tuple(at(rank) for rank in least),
    )


def _choices(layer: DecomposableLayer, spectrum: LayerSpectrum) -> Iterator[RankChoice]:
    """The ranks of a spectrum, each once."""
    for figures in dict.fromkeys((*spectrum.shares, *spectrum.energies)):
        cost = cost_at(layer, shape_of_problem(layer.op), _SVD, (figures.rank,))
        yield RankChoice(_SVD.name, (figures.rank,), 1 - figures.energy, cost)


def _with_times(spectrum: LayerSpectrum, timed: LayerChoices) -> LayerSpectrum:
    seconds = {choice.ranks[0]: choice.cost.seconds for choice in timed.choices}
    shares, energies = (
        tuple(replace(figures, seconds=seconds.get(figures.rank)) for figures in every)
        for every in (spectrum.shares, spectrum.energies)
    )
    return replace(spectrum, seconds=timed.whole.seconds, shares=shares, energies=energies)
