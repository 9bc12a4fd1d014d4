"""Seconds of parts of a model, measured on this machine: by item and choice, each different model once.

Where nothing but the whole model tells the time, ``graphpress.allocation.speedup`` corrects what these say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Generic, TypeVar

import numpy as np

from graphpress.cache import ContentCache
from graphpress.data import Feed
from graphpress.ir import Model, digest
from graphpress.progress import Progress, Silent
from graphpress.runtime import InputSpec, Session, undisturbed_latency
from graphpress.runtime.environment import environment

C = TypeVar("C")

SECONDS = 0.03
"""For which a small model is run, after ``WARM_UP`` seconds."""
WARM_UP = 0.01
LAST_LEVEL = 64 << 20
"""Bytes whose reading leaves nothing else in the caches of a processor."""

_STEP = 1 << 20


@dataclass
class LatencyBench:
    """Times small models; each once.

    Args:
        threads: of the runtime.
        cache: keeps times from run to run on this machine; None keeps them nowhere.
        between: bytes that the model of which these are parts reads between two calls of a part. As many are read
            before each call, so that weights come from where they come from in the model: a large one that is called
            over and over alone finds its weights in a cache, which none of its neighbors leaves them in.
        known: seconds by key, so far.
    """

    threads: int = 1
    cache: ContentCache | None = None
    between: int = 0
    known: dict[str, float] = field(default_factory=dict)

    def seconds(self, key: str, build: Callable[[], Model]) -> float:
        """The median time of a model.

        Args:
            key: says all that decides the time; models of the same key are the same.
            build: makes the model, where it has to be measured.
        """
        if key not in self.known:
            how = (str(self.threads), str(self._read_between))
            entry = ("layer_seconds", json.dumps(environment(), sort_keys=True), *how, key)
            cached = None if self.cache is None else self.cache.get(*entry)
            self.known[key] = self._measure(build()) if cached is None else float(cached)
            if self.cache is not None and cached is None:
                self.cache.put(self.known[key], *entry)
        return self.known[key]

    def _measure(self, model: Model) -> float:
        session = Session(model, threads=self.threads)
        feed = {spec.name: np.full(_extents(spec), 0.01, spec.dtype) for spec in session.inputs}
        call, before = partial(session.run, feed), partial(self._read, feed) if self.between else None
        return undisturbed_latency(call, seconds=SECONDS, warm_up=WARM_UP, before=before) / 1e3

    @property
    def _read_between(self) -> int:
        """In steps, so that a model that changed a little finds its times again."""
        return _STEP * math.ceil(min(self.between, LAST_LEVEL) / _STEP)

    @cached_property
    def _others(self) -> np.ndarray:
        """What stands for the rest of the model."""
        return np.ones(self._read_between, np.uint8)

    def _read(self, feed: Feed) -> None:
        """Leave in the caches what the rest of the model leaves: its last bytes, and what the part reads."""
        for array in (self._others, *feed.values()):
            array.max(initial=0)


@dataclass(frozen=True)
class LatencyTable(Generic[C]):
    """Measured seconds of every item at every choice.

    Args:
        seconds: by item and choice.
    """

    seconds: Mapping[str, Mapping[C, float]]

    @staticmethod
    def measured(
        choices: Mapping[str, Iterable[C]],
        build: Callable[[str, C], Model],
        bench: LatencyBench,
        progress: Progress | None = None,
    ) -> LatencyTable[C]:
        """Measure each choice of each item; models of equal content are measured once.

        Args:
            choices: what every item may be.
            build: makes the model of an item at a choice, alone: a layer in a format, a pair of layers of a rank. Let
                its values have names that do not depend on the item, so that equal items are equal models.
            bench: measures them.
            progress: shows how far it is.
        """
        table = {}
        for item, options in (progress or Silent()).track(choices.items(), "measuring choices", len(choices)):
            table[item] = {choice: _seconds(build(item, choice), bench) for choice in options}
        return LatencyTable(table)

    def costs(self, item: str, choices: Sequence[C]) -> np.ndarray:
        """Seconds of an item at these choices, ``(choices,)`` float64: the costs of an ``Item`` of a knapsack."""
        return np.array([self.seconds[item][choice] for choice in choices])


def _seconds(model: Model, bench: LatencyBench) -> float:
    return bench.seconds(digest(model), lambda: model)


def _extents(spec: InputSpec) -> tuple[int, ...]:
    """A shape for an input: free axes have one position."""
    return tuple(extent if isinstance(extent, int) else 1 for extent in spec.dims or ())
