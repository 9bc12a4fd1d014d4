"""What a plan would leave of the model, measured before anything is rewritten.

    damage = E D(model, pruned copy after least squares)        D as in ``graphpress.evaluation.sensitivity``

Without the repair, plans cannot be told apart: a net that lost half of its work answers next to nothing whichever half
it was (on ResNet-20, plans that end at 61 and at 86 % top-1 after least squares both begin at about 20).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from graphpress.coupling.kept import Kept
from graphpress.data import Feed, Samples
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.manager.transaction import Transaction
from graphpress.passes.prune.criteria._data import some_samples
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.runtime import Session

REPAIR_SAMPLES = 128
"""Samples that the repair of a trial looks at: enough to rank plans, not for the repair that is delivered."""
MAX_MACS = 1e13
"""Multiply-accumulates up to which measuring one plan is worth it: minutes on a few cores."""
RUNS = SAMPLES + 2 * REPAIR_SAMPLES
"""Samples that run through a model, for one plan."""
MIN_SPLIT = 32
"""Samples from which half are kept from the repair, to judge by."""
ABSURD = 0.5
"""Of the damage of an answer that is the same whatever the input: a plan above has ruined the model."""


@dataclass(frozen=True)
class PlanTrial:
    """Measures plans on one model.

    Args:
        start: the model before any step of the pruning, not changed.
        context: threads, and the data that copies are repaired on.
        measure: knows what the model answers.
    """

    start: Model
    context: Context
    measure: DamageMeasure

    @staticmethod
    def of(model: Model, context: Context) -> PlanTrial:
        """Run the model, or where it is a later step's, the one before all steps.

        Raises:
            DataError: the data is empty, does not fit the model, or makes it answer with NaN.
            OutOfTimeError: the progress ends.
        """
        assert context.calibration is not None
        repaired_on, judged_on = _halves(context.calibration)
        feeds = some_samples(judged_on, SAMPLES)
        start = model if context.transaction is None else context.transaction.start
        session = Session(start, threads=context.threads)
        measure = DamageMeasure.of(session, context.progress.track(feeds, "trying plans"), threads=context.threads)
        return PlanTrial(start, replace(context, calibration=repaired_on), measure)

    def damage(self, smaller: Model, kept: Mapping[str, Kept]) -> float:
        """The damage of a pruned copy, which is repaired in place.

        Args:
            smaller: a copy of the model of this step.
            kept: what this step has left of it.

        Raises:
            OutOfTimeError: the progress ends.
            GraphpressError: it cannot be repaired or run.
        """
        before = {} if self.context.transaction is None else self.context.transaction.kept
        transaction = Transaction(self.start, dict(before))
        transaction.keep(kept)
        return self.damage_of(smaller, transaction)

    def damage_of(self, changed: Model, transaction: Transaction) -> float:
        """The damage of what a transaction made of the model, which is repaired in place.

        Args:
            changed: a copy.
            transaction: from ``start``, with what is left of it.

        Raises:
            OutOfTimeError: the progress ends.
            GraphpressError: it cannot be repaired or run.
        """
        Reconstruct(samples=REPAIR_SAMPLES).run(changed, replace(self.context, transaction=transaction))
        return self.measure.damage(changed)

    def is_absurd(self, damage: float) -> bool:
        """Whether the model is hardly better than one that does not look at its input."""
        return damage > ABSURD * self.measure.constant


def _halves(data: Iterable[Feed]) -> tuple[Iterable[Feed], Iterable[Feed]]:
    """Samples to repair on and others to judge by, in turn; the same where they cannot be told apart or are few."""
    if not isinstance(data, Samples) or len(data.shapes()) < MIN_SPLIT:
        return data, data
    places = range(len(data.shapes()))
    return data.take(places[::2]), data.take(places[1::2])
