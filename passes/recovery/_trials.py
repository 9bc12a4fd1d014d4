"""Repairs tried on copies, and the data that they see and are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from graphpress.analysis.shapes import infer_shapes
from graphpress.data import Feed, Samples
from graphpress.ir import Model, clone, take_over, weight_bytes
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.memory import give_back_memory
from graphpress.passes.recovery.correct_bias import CorrectBias
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.runtime import is_large, keep_float_layers

Choice = Literal["nothing", "biases", "weights"]
NOTHING: Final = "nothing"

HELD_OUT = 4
"""One sample in so many judges, and is seen by no trial."""


@dataclass(frozen=True)
class RepairDecision:
    """What is recorded of a choice among trials.

    Args:
        choice: what was carried out.
        samples: that it looked at.
        note: the sentence for the report.
    """

    choice: Choice
    samples: int
    note: str


class Trials:
    """Repaired copies of a model, each made when it is first asked for.

    Args:
        model: the damaged one.
        context: of the pass, with the data that repairs may see.

    Attributes:
        aim: the model that is repaired towards.
        weights_stay: the model is large: means alone are corrected, so that copies share its weights.
    """

    def __init__(self, model: Model, context: Context) -> None:
        assert context.transaction is not None
        self.model, self.aim, self._context = model, context.transaction.start, context
        self.weights_stay = is_large(weight_bytes(context.original))
        self._copies: dict[Choice, tuple[Model, list[Outcome]]] = {NOTHING: (model, [])}

    def of(self, choice: Choice, samples: int) -> Model:
        """The copy that was repaired so, on so many samples at most."""
        if choice not in self._copies:
            copy = clone(self.model)
            infer_shapes(copy)
            self._copies[choice] = copy, [pass_.run(copy, self._context) for pass_ in self._passes(choice, samples)]
        return self._copies[choice][0]

    def carry_out(self, decision: RepairDecision) -> Outcome:
        """Let the model become the copy that was decided for."""
        copy = self.of(decision.choice, decision.samples)
        if copy is not self.model:
            take_over(self.model, copy)
        outcomes = self._copies[decision.choice][1]
        if self.weights_stay:
            give_back_memory()
        notes = [note for outcome in outcomes for note in outcome.notes]
        refusals = {refusal: None for outcome in outcomes for refusal in outcome.refusals}
        return Outcome(sum(outcome.changes for outcome in outcomes), list(refusals), [*notes, decision.note])

    def simulate(self, model: Model) -> Model:
        """What is run in place of an annotated model: as a backend delivers it, at least about."""
        service = self._context.evaluation
        return _written_out(model) if service is None else service.simulate(model)

    def _passes(self, choice: Choice, samples: int) -> list[Pass]:
        biases = CorrectBias(samples=samples, deviations=not self.weights_stay)
        return [biases] if choice == "biases" else [Reconstruct(samples=samples), biases]


def split(context: Context) -> tuple[Iterable[Feed], Iterable[Feed]]:
    """What trials see, and what judges them."""
    feeds, evaluation = context.calibration, context.evaluation
    assert feeds is not None
    if evaluation is not None and evaluation.split == "selection":
        return feeds, evaluation.samples
    whole = feeds if isinstance(feeds, Samples) else list(feeds)
    places = range(len(whole.shapes() if isinstance(whole, Samples) else whole))
    held = places[HELD_OUT - 1 :: HELD_OUT]
    return (
        (_taken(whole, [place for place in places if place not in held]), _taken(whole, held)) if held else (whole,) * 2
    )


def _taken(feeds: Samples | Sequence[Feed], places: Sequence[int]) -> Iterable[Feed]:
    return feeds.take(places) if isinstance(feeds, Samples) else [feeds[place] for place in places]


def _written_out(model: Model) -> Model:
    """A copy with its encodings as Q/DQ nodes: what a backend delivers, about."""
    copy = clone(model)
    materialize_qdq(copy)
    keep_float_layers(copy)
    return copy
