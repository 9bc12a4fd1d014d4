"""A small network, passes of known behavior, and a way to run pipelines on it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from graphpress.errors import DataError
from graphpress.evaluation import Score
from graphpress.ir import Editor, Refusal, constant
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.manager.evaluator import EvaluationResult, NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import Recipe, from_passes
from graphpress.manager.records import Verdict
from graphpress.manager.run import Run
from graphpress.models import build
from graphpress.targets import Target


def scale_weight(model, factor):
    """Multiply the first convolution's weight."""
    conv = next(node for node in model.graph if node.op_type == "Conv")
    Editor(model).own_constant(conv, 1, constant(conv.inputs[1]) * np.float32(factor))


def rename_first(model):
    """A change that no output shows: another doc string, once."""
    node = next(iter(model.graph))
    changed = node.doc_string != "seen"
    node.doc_string = "seen"
    return Outcome(int(changed))


@dataclass(frozen=True)
class Harmless(Pass):
    name: ClassVar[str] = "harmless"

    def run(self, model, context):
        return rename_first(model)


@dataclass(frozen=True)
class Wrong(Pass):
    """Says that it is lossless, and is not."""

    name: ClassVar[str] = "wrong"

    def run(self, model, context):
        if "wrong" in model.metadata_props:
            return Outcome(0)
        model.metadata_props["wrong"] = "1"
        scale_weight(model, 1.5)
        return Outcome(1)


@dataclass(frozen=True)
class Crashing(Pass):
    name: ClassVar[str] = "crashing"

    def run(self, model, context):
        scale_weight(model, 7.0)
        raise IndexError("list index out of range")


@dataclass(frozen=True)
class Mute(Pass):
    """Forgets to say what it did."""

    name: ClassVar[str] = "mute"

    def run(self, model, context):
        scale_weight(model, 7.0)


@dataclass(frozen=True)
class Undecided(Pass):
    """Breaks when it is asked whether it would run."""

    name: ClassVar[str] = "undecided"

    def refuse(self, model, context):
        raise KeyError("w")

    def run(self, model, context):
        return rename_first(model)


@dataclass(frozen=True)
class UndecidedLossy(Undecided):
    name: ClassVar[str] = "undecided_lossy"
    lossless: ClassVar[bool] = False


@dataclass(frozen=True)
class Garbling(Pass):
    """Leaves a graph that is none."""

    name: ClassVar[str] = "garbling"

    def run(self, model, context):
        first, second, *_ = model.graph
        changed = second.outputs[0].name != first.outputs[0].name
        second.outputs[0].name = first.outputs[0].name
        return Outcome(int(changed))


@dataclass(frozen=True)
class Starved(Pass):
    """Meets a fault of the machine."""

    name: ClassVar[str] = "starved"

    error: str = "memory"

    def run(self, model, context):
        scale_weight(model, 7.0)
        if self.error == "memory":
            raise MemoryError
        if self.error == "disk":
            raise OSError(28, "No space left on device")
        raise RuntimeError("std::bad_alloc")


@dataclass(frozen=True)
class StarvedLossy(Starved):
    name: ClassVar[str] = "starved_lossy"
    lossless: ClassVar[bool] = False


@dataclass(frozen=True)
class CrashingLossy(Crashing):
    name: ClassVar[str] = "crashing_lossy"
    lossless: ClassVar[bool] = False


@dataclass(frozen=True)
class Breaking(Pass):
    """Lossy, and leaves a graph that is none."""

    name: ClassVar[str] = "breaking"
    lossless: ClassVar[bool] = False

    def run(self, model, context):
        first, second, *_ = model.graph
        second.outputs[0].name = first.outputs[0].name
        return Outcome(1)


@dataclass(frozen=True)
class Infinite(Pass):
    """Lossy, and finds fault with the caller's data."""

    name: ClassVar[str] = "infinite"
    lossless: ClassVar[bool] = False

    def run(self, model, context):
        raise DataError("takes infinite values", where="x")


@dataclass(frozen=True)
class Restless(Pass):
    """Always claims to have changed something."""

    name: ClassVar[str] = "restless"

    def run(self, model, context):
        return Outcome(1)


@dataclass(frozen=True)
class Shrink(Pass):
    """A lossy change of known size."""

    name: ClassVar[str] = "shrink"
    lossless: ClassVar[bool] = False

    factor: float = 0.5

    def run(self, model, context):
        scale_weight(model, self.factor)
        return Outcome(1, [Refusal("fc", "too small to shrink", "leave it")], ["shrunk"])


@dataclass(frozen=True)
class Recover(Pass):
    """Undoes ``Shrink``."""

    name: ClassVar[str] = "recover"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True

    factor: float = 2.0

    def run(self, model, context):
        scale_weight(model, self.factor)
        return Outcome(1)


@dataclass(frozen=True)
class Hungry(Pass):
    name: ClassVar[str] = "hungry"
    lossless: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    def run(self, model, context):
        return Outcome(1)


@dataclass(frozen=True)
class Fuses(Pass):
    name: ClassVar[str] = "fuses"
    emits: ClassVar[str | None] = "Attention"

    def run(self, model, context):
        return rename_first(model)


@dataclass
class WeightEvaluator:
    """Takes the largest weight of the first convolution for the metric."""

    budget: float = 0.1
    baseline: float | None = None
    evaluated: list[float] = field(default_factory=list)

    def evaluate(self, model):
        conv = next(node for node in model.graph if node.op_type == "Conv")
        value = float(np.abs(constant(conv.inputs[1])).max())
        self.evaluated.append(value)
        drop = abs(self.baseline - value) / self.baseline
        verdict = Verdict(drop=drop, low=drop, high=drop, max_drop=self.budget)
        return EvaluationResult(drop <= self.budget, score=Score(value, None, 1), verdict=verdict)


@pytest.fixture
def passes() -> SimpleNamespace:
    kinds = (
        Harmless, Wrong, Crashing, CrashingLossy, Breaking, Infinite, Restless, Shrink, Recover, Hungry, Fuses, Mute,
        Undecided, UndecidedLossy, Garbling, Starved, StarvedLossy,
    )  # fmt: skip
    return SimpleNamespace(**{kind.__name__: kind for kind in kinds})


@pytest.fixture
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


@pytest.fixture
def first_weight() -> Callable[..., np.ndarray]:
    return lambda model: constant(next(node for node in model.graph if node.op_type == "Conv").inputs[1])


@pytest.fixture
def evaluator(network) -> WeightEvaluator:
    conv = next(node for node in network.graph if node.op_type == "Conv")
    return WeightEvaluator(baseline=float(np.abs(constant(conv.inputs[1])).max()))


@pytest.fixture
def run(network) -> Callable[..., Run]:
    """Run passes (or a recipe) on the network with everything else at rest."""

    def run_passes(*passes, evaluator=None, hooks=None, target=None, calibration=None, decisions=None, **settings):
        recipe = passes[0] if isinstance(passes[0], Recipe) else from_passes(passes)
        recipe = Recipe(recipe.passes, recipe.explicit, hooks or {})
        context = Context(
            target=target or Target("test", "a target"),
            original=network,
            calibration=calibration,
            decisions=decisions if decisions is not None else {},
        )
        probe = {"input": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
        return Manager(context, evaluator or NoEvaluator(), [probe], **settings).run(network, recipe)

    return run_passes
