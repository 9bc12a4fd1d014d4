"""A start model and a changed one, run on the same data in step: what least squares and bias correction look at.

Wave by wave (see ``graphpress.observation.waves``) the changed model shows what its layers of this wave read, with all
layers before already repaired, and the start model what they should compute. Each model runs through the data once in
all, as long as what has to be kept between two waves fits the memory budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from graphpress.data import Samples, batch_of
from graphpress.errors import DataError
from graphpress.ir import Model, Node, dims_of
from graphpress.manager.contract import Feed
from graphpress.observation.replay import Arrays, Replay, ReplayOptions
from graphpress.observation.stream import MOST_AT_A_TIME, Step, pieces
from graphpress.runtime import InputSpec


class Lockstep:
    """Runs the waves of a changed model, and of the model that it comes from, in order.

    Args:
        changed: may be changed between two waves, in the anchors of the wave that was just looked at and behind them.
        waves: its anchors, see ``waves_of``.
        data: what both run on.
        start: the model that the changed one comes from, where values have the same names; None to do without.
        options: threads and memory.
    """

    def __init__(
        self,
        changed: Model,
        waves: Sequence[Sequence[Node]],
        data: Pieces,
        start: Model | None,
        options: ReplayOptions,
    ) -> None:
        wave_of = {node.outputs[0].name or "": wave for wave, nodes in enumerate(waves) for node in nodes}
        options = replace(options, samples=data.samples, budget=options.budget // 2)
        self._changed = Replay(changed, wave_of, data, options)
        self._start = None if start is None else Replay(start, wave_of, data, options)

    def can_show(self, wave: int, of_changed: Sequence[str], of_start: Sequence[str]) -> bool:
        """Whether these values exist and are final when their wave is looked at."""
        known = [(self._changed.level(name), wave) for name in of_changed]
        known += [(self._start.level(name) if self._start else None, wave + 1) for name in of_start]
        return all(level is not None and level <= most for level, most in known)

    def look(self, wave: int, of_changed: Sequence[str], of_start: Sequence[str]) -> Iterator[tuple[Arrays, Arrays]]:
        """Piece by piece the values of the changed model before this wave and of the start model behind it.

        Waves have to be looked at in order (some can be left out), and each to its end.
        """
        changed = self._changed.advance(wave, of_changed)
        start = repeat(Arrays()) if self._start is None else self._start.advance(wave + 1, of_start)
        for now in changed:
            then = next(start, None)
            if then is None:
                raise _unrepeatable("fewer")
            yield now, then
        for _ in start if self._start is not None else ():
            raise _unrepeatable("more")


def _unrepeatable(how: str) -> DataError:
    return DataError(f"gives {how} samples when it is read again", where="calibration", fix="make it repeatable")


@dataclass(frozen=True)
class Pieces:
    """At most so many samples of the data, in pieces of bounded size, the same each time.

    Args:
        feeds: iterable any number of times.
        samples: how many of them are used.
        inputs: what the model says of its inputs.
    """

    feeds: Iterable[Feed]
    samples: int
    inputs: tuple[InputSpec, ...]

    @classmethod
    def of(cls, model: Model, feeds: Iterable[Feed], most: int) -> Pieces:
        """Up to ``most`` samples, evenly spread over the data where it can do that.

        Raises:
            DataError: there are none.
        """
        if isinstance(feeds, Samples):
            feeds = feeds.spread(most)
            samples = feeds.count
        else:
            samples = min(most, sum(batch_of(feed) for feed in feeds))
        if not samples:
            raise DataError("the calibration data is empty", where="calibration", fix="give at least one sample")
        inputs = [InputSpec(value.name or "", np.dtype(object), dims_of(value)) for value in model.graph.inputs]
        return cls(feeds, samples, tuple(inputs))

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        left, step = self.samples, Step(MOST_AT_A_TIME)
        for feed in self.feeds:
            for piece in pieces(feed, self.inputs, step):
                if left <= 0:
                    return
                count = batch_of(piece)
                whole = left >= count or not self._is_open
                yield piece if whole else {name: array[:left] for name, array in piece.items()}
                left -= count

    @property
    def _is_open(self) -> bool:
        return all(spec.dims and spec.dims[0] is None for spec in self.inputs)
