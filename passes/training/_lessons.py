"""Samples with what the teachers say of them: kept in memory where that is possible, asked anew where images vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphpress.errors import DataError
from graphpress.manager.contract import Feed
from graphpress.passes.training._teachers import FEATURE, LABELS

if TYPE_CHECKING:
    from graphpress.bridge.pytorch.augment import Augmentation
    from graphpress.bridge.pytorch.data import Example, TrainingData

Targets = Callable[[Feed], Mapping[str, np.ndarray]]


class Lessons:
    """Where the training loop's samples come from.

    Args:
        data: the samples.
        targets: what the teachers say of a feed.
        augmentation: varies the images; None leaves them as they are.
        seed: of the variation.
        blocks: names of the inner values that the student is fed beside the inputs, as the teacher has them.
        most_bytes: what teachers say is remembered up to this size.
    """

    def __init__(
        self,
        data: TrainingData,
        targets: Targets,
        augmentation: Augmentation | None,
        seed: int,
        blocks: tuple[str, ...] = (),
        most_bytes: int = 1 << 30,
    ) -> None:
        self._data, self._targets, self._augmentation, self._seed = data, targets, augmentation, seed
        self._blocks, self._most = blocks, most_bytes
        self._said: list[Mapping[str, np.ndarray] | None] = [None] * data.count
        self._room = 0 if augmentation is not None else most_bytes
        self._held: list[Example] | None = None

    def batch(self, step: int) -> list[Example]:
        """The samples of a step, a function of the step alone."""
        examples = self._data.batch(step)
        if self._augmentation is None:
            return [self._taught(example, self._remembered(example)) for example in examples]
        varied = [
            replace(example, feed=self._augmentation(example.feed, (self._seed, 2, step, at)))
            for at, example in enumerate(examples)
        ]
        return [self._taught(example, self._targets(example.feed)) for example in varied]

    def held_out(self) -> Iterator[Example]:
        """The samples on which training is measured, never varied."""
        if self._held is not None:
            yield from self._held
            return
        kept: list[Example] | None = []
        size = 0
        for example in self._data.held_out():
            taught = self._taught(example, self._targets(example.feed))
            size += sum(array.nbytes for part in (taught.feed, taught.targets) for array in part.values())
            if kept is not None and size <= self._most:
                kept.append(taught)
            else:
                kept = None
            yield taught
        self._held = kept

    def _taught(self, example: Example, targets: Mapping[str, np.ndarray]) -> Example:
        if example.labels is not None:
            targets = {**targets, LABELS: example.labels}
        feed = {**example.feed, **{name: targets[FEATURE + name] for name in self._blocks}}
        return replace(example, feed=feed, targets=targets)

    def _remembered(self, example: Example) -> Mapping[str, np.ndarray]:
        """What the teachers say of these samples, asked once a sample while there is room."""
        rows = example.rows
        if rows is None or not self._room:
            return self._targets(example.feed)
        known = [self._said[row] for row in rows]
        if all(said is not None for said in known):
            return {name: np.stack([said[name] for said in known if said is not None]) for name in known[0] or ()}
        targets = self._targets(example.feed)
        if any(not array.ndim or len(array) != len(rows) for array in targets.values()):
            self._room = 0
            return targets
        for at, row in enumerate(rows):
            if self._said[row] is None:
                said = {name: array[at] for name, array in targets.items()}
                self._room = max(0, self._room - sum(array.nbytes for array in said.values()))
                self._said[row] = said
        return targets


def scales(examples: Iterator[Example], most: int = 1024) -> dict[str, float]:
    """The variance of each target over the first samples, in which differences are measured; 1 for what never varies.

    Raises:
        DataError: there are no samples.
    """
    sums: dict[str, np.ndarray] = {}
    count = 0
    for example in examples:
        for name, array in example.targets.items():
            if array.dtype.kind == "f":
                wide = array.astype(np.float64)
                sums[name] = sums.get(name, np.zeros(3)) + [wide.size, wide.sum(), np.square(wide).sum()]
        count += example.count
        if count >= most:
            break
    if not count:
        raise DataError("holds no samples", where="calibration data", fix="give at least one feed")
    found = {name: float(square / size - (total / size) ** 2) for name, (size, total, square) in sums.items()}
    return {name: variance if variance > 1e-12 else 1.0 for name, variance in found.items()}
