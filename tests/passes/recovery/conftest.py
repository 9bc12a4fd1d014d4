"""Networks that lost channels, with the model they come from and data for both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from text_models import model_of

from graphpress.coupling import couple, remove
from graphpress.coupling.kept import Kept
from graphpress.ir import Model, Value, clone, verify
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.manager.prepare import prepare
from graphpress.manager.transaction import Transaction
from graphpress.models import build
from graphpress.runtime import Session
from graphpress.targets import load_target

Feeds = list[dict[str, np.ndarray]]


@dataclass
class Case:
    """A start model, what was made of it, and data."""

    start: Model
    model: Model
    feeds: Feeds
    kept: Mapping[str, Kept] = field(default_factory=dict)
    outcome: Outcome | None = None

    def repair(self, one: Pass, **context) -> Outcome:
        """Run a recovery pass on a copy, in place of the model."""
        self.model = clone(self.model)
        transaction = Transaction(self.start, dict(self.kept))
        settings = {"transaction": transaction, "calibration": self.feeds} | context
        about = Context(target=load_target("cpu"), original=self.start, **settings)
        refusal = one.refuse(self.model, about)
        self.outcome = Outcome(0, [refusal]) if refusal else one.run(self.model, about)
        verify(self.model)
        return self.outcome

    def error(self, feeds: Feeds | None = None) -> float:
        """Relative error of the outputs, root mean square."""
        before, after = Session(self.start), Session(self.model)
        wrong = size = 0.0
        for feed in feeds or self.feeds:
            for one, other in zip(before.run(feed).values(), after.run(feed).values(), strict=True):
                wrong += float(np.square(one.astype(np.float64) - other).sum())
                size += float(np.square(one.astype(np.float64)).sum())
        return float(np.sqrt(wrong / size))

    def weight(self, name: str) -> Value:
        return self.model.graph.initializers[name]


def prune(start: Model, feeds: Feeds, ratio: float = 0.4, seed: int = 0) -> Case:
    """Remove random channels of every group."""
    random, model = np.random.default_rng(seed), clone(start)
    coupling, keep = couple(model), {}
    for group in coupling.groups:
        keep[group.name] = np.zeros(group.size, bool)
        keep[group.name][random.permutation(group.size)[: max(1, round(group.size * (1 - ratio)))]] = True
    return Case(start, model, feeds, remove(model, coupling, keep))


@pytest.fixture(scope="session")
def of_text() -> Callable[..., Model]:
    return model_of


@pytest.fixture(scope="session")
def case() -> type[Case]:
    return Case


@pytest.fixture(scope="session")
def pruned() -> Callable[..., Case]:
    """A family of ``graphpress.models``, pruned at random, with smooth images (or tokens) for data."""

    def make(family: str, count: int = 64, ratio: float = 0.4, **sizes) -> Case:
        start = build(family, **sizes)
        prepare(start, {})
        random = np.random.default_rng(1)
        feeds = []
        for _ in range(count // 8):
            feed = {}
            for spec in Session(start).inputs:
                dims = [dim if isinstance(dim, int) else 8 for dim in spec.dims]
                whole = spec.dtype.kind in "iu"
                feed[spec.name] = (random.integers(0, 2, dims) if whole else random.normal(size=dims)).astype(
                    spec.dtype
                )
            feeds.append(feed)
        return prune(start, feeds, ratio)

    return make
