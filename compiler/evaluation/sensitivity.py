"""What a change does to a model's outputs: damage, in one unit for every kind of change.

    damage(model) = E D(reference, model)    over some samples

D is the Kullback-Leibler divergence between the predicted distributions where an output scores classes, else the
squared error of the outputs relative to their power, averaged over the outputs. Both are zero for an unchanged model
and mean the same whatever was changed, so that an allocation can trade one layer for another (Li et al., arXiv
1608.08710, section 3.2, with divergence in place of accuracy: it needs no labels and resolves more).

The reference is run once. Its feeds and outputs are kept, in bounded memory:

    measure = DamageMeasure.of(Session(original), feeds)
    damage = {(layer, bits): measure.damage(with_bits(layer, bits)) for layer in layers for bits in (8, 4)}

These are the ``damage`` of an ``Item`` of ``graphpress.allocation.knapsack``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphpress.data import Feed, batch_of
from graphpress.errors import DataError
from graphpress.evaluation.distributions import class_scores, log_probabilities
from graphpress.evaluation.outputs import compared
from graphpress.ir import Model
from graphpress.runtime import Infer, Session, stand_by

SAMPLES = 256
"""Samples on which damage is measured as a rule."""
MAX_BYTES = 128 << 20
"""Of feeds and outputs that are kept, as long as a single feed fits."""
LOST = 1e6
"""Damage where the outputs are no numbers any more."""
_TINY = np.finfo(np.float64).tiny

_Pairs = Iterator[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]
"""Outputs of the reference and of the changed model, feed by feed."""


def as_it_is(model: Model) -> Model:
    """The simulation of a model without encodings: itself."""
    return model


@dataclass(frozen=True)
class DamageMeasure:
    """A reference's outputs on some samples, and how far other models' outputs are from them.

    Args:
        feeds: what the reference was fed.
        outputs: what it returned, by name.
        classes: name of the output that scores classes, if one does.
        power: by compared output, the sum of its squares.
        threads: of the runtime.
        simulate: turns an annotated model into one that computes what would be delivered.
    """

    feeds: tuple[Feed, ...]
    outputs: tuple[Mapping[str, np.ndarray], ...]
    classes: str | None
    power: Mapping[str, float]
    threads: int = 1
    simulate: Callable[[Model], Model] = as_it_is

    @staticmethod
    def of(
        reference: Infer,
        feeds: Iterable[Feed],
        *,
        threads: int = 1,
        simulate: Callable[[Model], Model] = as_it_is,
        data: str = "calibration",
        where: str = "damage",
    ) -> DamageMeasure:
        """Run the reference.

        Args:
            reference: runs the unchanged model.
            feeds: whole feeds; those beyond ``MAX_BYTES`` are not read.
            threads: of the runtime, for the changed models.
            simulate: what is run in place of a changed model.
            data: what the feeds are called in errors.
            where: for what damage is measured, in errors.

        Raises:
            DataError: there are no feeds, or the reference's outputs hold NaN.
        """
        kept, outputs, size = list[Feed](), list[Mapping[str, np.ndarray]](), 0
        for feed in feeds:
            kept.append(feed)
            outputs.append(reference(feed))
            size += sum(np.asarray(array).nbytes for array in (*feed.values(), *outputs[-1].values()))
            if size > MAX_BYTES:
                break
        stand_by(reference)
        if not kept:
            raise DataError(f"the {data} data is empty", where=data, fix="give at least one sample")
        power = _powers(outputs)
        if np.isnan(list(power.values())).any():
            raise DataError(
                f"the model's outputs on the {data} data are no numbers",
                where=where,
                fix=f"check the weights and the {data} data for NaN and infinity",
            )
        classes = class_scores(outputs[0], batch_of(kept[0]))
        return DamageMeasure(tuple(kept), tuple(outputs), classes, power, threads, simulate)

    def damage(self, model: Model) -> float:
        """What a changed model's outputs have suffered: 0 for none, ``LOST`` where they are no numbers.

        Args:
            model: with inputs and outputs of the same names; not changed.

        Raises:
            ModelError: it cannot be run.
        """
        run = Session(self.simulate(model), threads=self.threads)
        pairs = zip(self.outputs, (run(feed) for feed in self.feeds), strict=True)
        damage = self._error(pairs) if self.classes is None else _divergence(pairs, self.classes)
        return damage if np.isfinite(damage) else LOST

    @cached_property
    def constant(self) -> float:
        """The damage that one and the same answer to everything would do: what damage is measured against.

        KL from each answer to their mean; errors that are relative to the power reach 1.
        """
        if self.classes is None:
            return 1.0
        logs = np.concatenate([log_probabilities(outputs[self.classes]) for outputs in self.outputs])
        mean = np.exp(logs).mean(axis=0)
        possible = np.isfinite(logs)
        pulls = np.where(possible, logs, 0.0) - np.log(np.maximum(mean, np.finfo(float).tiny))
        return float(np.where(possible, np.exp(logs) * pulls, 0.0).sum() / len(logs))

    def _error(self, pairs: _Pairs) -> float:
        """Squared error relative to the power, mean over the outputs."""
        errors = dict.fromkeys(self.power, 0.0)
        for wanted, given in pairs:
            for name in errors:
                if wanted[name].shape != given[name].shape:  # sizes that depend on the data: nothing in common
                    errors[name] += _energy(wanted[name])
                else:
                    errors[name] += _energy(wanted[name].astype(np.float64) - given[name])
        return float(np.mean([errors[name] / max(self.power[name], _TINY) for name in errors])) if errors else 0.0


def _divergence(pairs: _Pairs, name: str) -> float:
    """Mean KL(reference ‖ changed) over the samples."""
    total, count = 0.0, 0
    for wanted, given in pairs:
        theirs, own = log_probabilities(wanted[name]), log_probabilities(given[name])
        possible = np.isfinite(theirs)  # a class that is ruled out adds nothing
        total += float((np.exp(theirs[possible]) * (theirs[possible] - own[possible])).sum())
        count += len(theirs)
    return max(total / max(count, 1), 0.0)


def _powers(outputs: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """By output, the sum of its squares over all feeds."""
    power: dict[str, float] = {}
    for returned in outputs:
        for name in compared(returned):
            power[name] = power.get(name, 0.0) + _energy(returned[name])
    return power


def _energy(array: np.ndarray) -> float:
    return float(np.square(array.astype(np.float64)).sum())
