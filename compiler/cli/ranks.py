"""``optimize inspect MODEL --ranks``: what each layer keeps at each rank, and what that would save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphpress.cli.text import joined, table
from graphpress.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from graphpress.analysis.spectrum import LayerSpectrum, RankFigures, RankSurvey
    from graphpress.data import Samples
    from graphpress.ir import Model

HEAD = ("layer", "operator", "full", "pays to", "1/8", "1/4", "1/2", "90 %", "99 %", "99.9 %")


def survey(model: Model, path: Path, data: str | None, target: str | None, threads: int) -> RankSurvey:
    """The ranks of a model's layers, as low-rank decomposition sees them.

    Args:
        model: cleaned up.
        path: of its file.
        data: that layers read, a data file; None to take the weights alone.
        target: for which ranks are timed or their time modelled; None for no times.
        threads: of the runtime.

    Raises:
        DataError: the data does not go with the model, or has nothing to calibrate with.
    """
    from graphpress.manager.contract import Context
    from graphpress.manager.registry import load_pass
    from graphpress.targets import load_target

    context = Context(
        load_target(target or "cpu"),
        model,
        calibration=None if data is None else _calibration(path, data),
        threads=threads,
    )
    result: RankSurvey = load_pass("lowrank")().survey(model, context, timed=target is not None)
    return result


def _calibration(path: Path, data: str) -> Samples:
    from graphpress.data import load_dataset
    from graphpress.runtime import Session

    samples = load_dataset(data, Session(path).inputs).calibration
    if samples is None:
        raise DataError("has no samples to calibrate with", where=data, fix="add a calibration part")
    return samples


def rank_table(survey: RankSurvey) -> str:
    """The survey as text: energies at shares of the full rank, least ranks for energies, each with what it saves."""
    norm = (
        f"the variance of the layers' outputs on {survey.samples} samples"
        if survey.norm == "data"
        else "the energy of the weights (--data FILE takes that of the layers' outputs)"
    )
    rows = [_row(layer) for layer in survey.layers]
    parts: list[str] = [table(rows, head=HEAD, right=range(2, len(HEAD)))] if rows else ["no layer can be decomposed"]
    if rows:
        timed = any(layer.seconds is not None for layer in survey.layers)
        parts.append(
            f"Energy is the share of {norm} that a rank keeps: at an eighth, a quarter and half of the full rank, and "
            "the least ranks for so much of it, in brackets what two factors take of the layer's multiply-accumulates"
            f"{' and time' if timed else ''}. They cost less than the layer up to the rank under `pays to`."
        )
    if survey.whole:
        parts.append(table([(refusal.where, refusal.why) for refusal in survey.whole], head=("stays whole", "why")))
    return joined(parts, "\n\n")


def _row(layer: LayerSpectrum) -> tuple[str, ...]:
    shares = (f"{figures.energy:.1%}{_cost(figures, layer)}" for figures in layer.shares)
    energies = (f"{figures.rank}{_cost(figures, layer)}" for figures in layer.energies)
    return layer.name, layer.op, str(layer.full_rank), str(layer.break_even), *shares, *energies


def _cost(figures: RankFigures, layer: LayerSpectrum) -> str:
    """What the rank costs of the layer, in brackets."""
    macs = f"{figures.macs / max(layer.macs, 1):.0%}"
    if figures.seconds is None or not layer.seconds:
        return f" ({macs})"
    return f" ({macs}, {figures.seconds / layer.seconds:.0%})"
