"""The repair without training that serves a model best, found by trial.

    biases     ``correct_bias``: every channel has the mean and the deviation of the start again
    weights    ``reconstruct``, then ``correct_bias``: first the weights, by least squares, that make up best for what
               the layers before got wrong

Each is tried on a copy. Which one stays is decided by damage (``graphpress.evaluation.sensitivity``: divergence of the
predicted distributions, or relative error of the outputs) on samples that no trial has seen: the selection part of the
data where there is one, else a quarter of the calibration samples. Where neither lowers it the model stays as it is.
Biases cost a run of both models through the data. Solving for weights takes the cube of a layer's inputs besides: it is
left out, with a note, where biases alone leave next to no damage, or where it would take more multiplications than
``effort``. A large model, which is otherwise in memory once at a time, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal

from graphpress.analysis.cost import model_cost
from graphpress.analysis.linear import LinearOp, linear_op_of
from graphpress.analysis.shapes import infer_shapes
from graphpress.data import Feed, Samples
from graphpress.errors import UsageError
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Model, Refusal, clone, take_over, weight_bytes
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.observation.gram import POSITIONS
from graphpress.observation.least_squares import RIDGE_STEPS
from graphpress.passes.recovery._repair import nothing_before
from graphpress.passes.recovery.correct_bias import CorrectBias
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.runtime import Session, is_large, keep_float_layers

HELD_OUT = 4
"""One sample in so many judges, and is seen by no trial."""

ENOUGH = 1e-3
"""Damage below this is not worth solving for weights."""

Choice = Literal["nothing", "biases", "weights"]
NOTHING: Final = "nothing"

FEWEST = 16
"""Samples that are looked at however large the model is."""


@dataclass(frozen=True)
class Repair(Pass):
    """Correct biases, or weights and biases, whichever brings a quantized or pruned model closer to its start.

    Args:
        samples: calibration samples that are looked at, at most.
        effort: multiplications that one trial may take, about: samples are fewer on a large model, and least squares
            is left out.
    """

    name: ClassVar[str] = "repair"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    samples: int = 256
    effort: float = 2e11

    def __post_init__(self) -> None:
        for field in ("samples", "effort"):
            if not getattr(self, field) >= 1:  # undefined numbers, too
                raise UsageError(
                    f"{field} must be at least 1, not {getattr(self, field)}",
                    where=self.name,
                    fix="leave it out for the default",
                )

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs data, a model to repair towards, and memory for copies of it."""
        return super().refuse(model, context) or nothing_before(self.name, context) or self._too_large(context)

    def _too_large(self, context: Context) -> Refusal | None:
        """Each trial holds the weights once more: a large model is in memory once at a time, or not at all."""
        size = weight_bytes(context.original)
        if not is_large(size):
            return None
        why = f"every trial holds its {size >> 20} MiB of weights once more"
        return Refusal(self.name, why, "name correct_bias or reconstruct, which take up to four times the weights")

    def run(self, model: Model, context: Context) -> Outcome:
        """Try, judge, keep the best."""
        key, samples = f"{context.step}.{self.name}.choice", self._affordable_samples(model)
        seen, held_out = _split(context)
        trials = _Trials(model, samples, replace(context, calibration=seen))
        choice: Choice | None = context.recorded(key, Choice)
        if choice is None:
            judge = _judge(context, held_out, samples)
            choice = context.decisions[key] = self._choose(trials, judge.damage)
        if choice != NOTHING:
            take_over(model, trials.of(choice))
        return trials.outcome(choice)

    def _choose(self, trials: _Trials, damage_of: Callable[[Model], float]) -> Choice:
        """The trial of least damage; the notes of the trials say what was measured."""
        damages: dict[Choice, float] = {NOTHING: damage_of(trials.start), "biases": damage_of(trials.of("biases"))}
        if reason := self._reason_against_weights(trials, damages["biases"]):
            trials.skipped = f"; weights stay: {reason}"
        else:
            damages["weights"] = damage_of(trials.of("weights"))
        trials.measured = ", ".join(f"{name} {damage:.2e}" for name, damage in damages.items())
        return min(damages, key=lambda name: damages[name])

    def _reason_against_weights(self, trials: _Trials, damage: float) -> str:
        """Why least squares is not tried; empty where it is."""
        if damage < ENOUGH:
            return "next to no damage is left"
        layers = filter(None, map(linear_op_of, trials.start.graph))
        work = sum(_multiplications(op, trials.samples) for op in layers)
        return (
            f"solving for them takes {work:.0e} multiplications, over {self.effort:.0e}" if work > self.effort else ""
        )

    def _affordable_samples(self, model: Model) -> int:
        macs = max(model_cost(model).macs, 1)
        return min(self.samples, max(FEWEST, int(self.effort / (2 * macs))))


class _Trials:
    """Repaired copies of a model, each made when it is first asked for."""

    def __init__(self, start: Model, samples: int, context: Context) -> None:
        self.start, self.samples, self._context = start, samples, context
        self.measured = self.skipped = ""
        self._copies: dict[Choice, tuple[Model, list[Outcome]]] = {}

    def of(self, choice: Choice) -> Model:
        """The copy that was repaired so."""
        if choice not in self._copies:
            model = clone(self.start)
            infer_shapes(model)
            self._copies[choice] = model, [pass_.run(model, self._context) for pass_ in self._passes(choice)]
        return self._copies[choice][0]

    def outcome(self, choice: Choice) -> Outcome:
        """What the chosen repair did, and how the choice came about."""
        outcomes = self._copies[choice][1] if choice != NOTHING else []
        notes = [note for outcome in outcomes for note in outcome.notes]
        if self.measured:
            notes.append(f"damage on samples held out: {self.measured}{self.skipped}")
        refusals = {refusal: None for outcome in outcomes for refusal in outcome.refusals}
        return Outcome(sum(outcome.changes for outcome in outcomes), list(refusals), notes)

    def _passes(self, choice: Choice) -> list[Pass]:
        biases = CorrectBias(samples=self.samples)
        return [biases] if choice == "biases" else [Reconstruct(samples=self.samples), biases]


def _split(context: Context) -> tuple[Iterable[Feed], Iterable[Feed]]:
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


def _judge(context: Context, feeds: Iterable[Feed], samples: int) -> DamageMeasure:
    """Damage from the start of the transaction on."""
    assert context.transaction is not None
    few = feeds.spread(min(SAMPLES, samples)) if isinstance(feeds, Samples) else feeds
    simulate = _written_out if context.evaluation is None else context.evaluation.simulate
    start = Session(simulate(context.transaction.start), threads=context.threads)
    return DamageMeasure.of(start, few, threads=context.threads, simulate=simulate)


def _written_out(model: Model) -> Model:
    """A copy with its encodings as Q/DQ nodes: what a backend delivers, about."""
    copy = clone(model)
    materialize_qdq(copy)
    keep_float_layers(copy)
    return copy


def _multiplications(op: LinearOp, samples: int) -> float:
    """What least squares takes for a layer: its Gram matrix, and a Cholesky decomposition for each ridge."""
    blocks, features, _ = op.matrix_shape
    return blocks * (samples * POSITIONS * features**2 + (len(RIDGE_STEPS) + 1) * features**3 / 3.0)
