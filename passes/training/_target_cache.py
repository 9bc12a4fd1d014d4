"""Samples with the teachers' targets: cached in memory where that is possible, computed anew where images vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphpress.data import Feed
from graphpress.errors import DataError
from graphpress.passes.training._teachers import FEATURE, LABELS
from graphpress.progress import Progress, Silent

if TYPE_CHECKING:
    from graphpress.training.augment import Augmentation
    from graphpress.training.data import Example, TrainingData

MAX_BYTES = 1 << 30
"""Targets are cached up to this size."""

Targets = Callable[[Feed], Mapping[str, np.ndarray]]


class TargetCache:
    """Where the training loop's samples come from.

    Args:
        data: the samples.
        targets: the teachers' targets for a feed.
        augmentation: varies the images; None leaves them as they are.
        seed: of the variation.
        blocks: names of the inner values that the student is fed beside the inputs, as the teacher has them.
        labeled: the data's labels are wanted as well.
        progress: shows how far the computation ahead of the training is.
        ahead: compute the targets of every sample before the training where they fit into the cache. The samples run in
            their own order: in a batch of others the last bits of a target may differ.
    """

    def __init__(
        self,
        data: TrainingData,
        targets: Targets,
        augmentation: Augmentation | None,
        seed: int,
        *,
        blocks: tuple[str, ...] = (),
        labeled: bool = False,
        progress: Progress | None = None,
        ahead: bool = True,
    ) -> None:
        self._data, self._targets, self._augmentation, self._seed = data, targets, augmentation, seed
        self._blocks, self._labeled = blocks, labeled
        self._known = _compute_all(data, targets, progress or Silent()) if ahead and augmentation is None else None
        self._held: list[Example] | None = None

    def batch(self, step: int) -> list[Example]:
        """The samples of a step, a function of the step alone."""
        examples = self._data.batch(step)
        if self._augmentation is not None:
            examples = [
                replace(example, feed=self._augmentation(example.feed, (self._seed, 2, step, at)))
                for at, example in enumerate(examples)
            ]
        return [self._with_targets(example) for example in examples]

    def held_out(self) -> Iterator[Example]:
        """The samples on which training is measured, never varied."""
        if self._held is not None:
            yield from self._held
            return
        kept: list[Example] | None = []
        size = 0
        for example in self._data.held_out():
            complete = self._with_targets(example)
            size += sum(array.nbytes for part in (complete.feed, complete.targets) for array in part.values())
            if kept is not None and size <= MAX_BYTES:
                kept.append(complete)
            else:
                kept = None
            yield complete
        self._held = kept

    def _with_targets(self, example: Example) -> Example:
        if self._known is not None and example.rows is not None:
            targets: Mapping[str, np.ndarray] = {name: array[example.rows] for name, array in self._known.items()}
        else:
            targets = self._targets(example.feed)
        if self._labeled and example.labels is not None:
            targets = {**targets, LABELS: example.labels}
        feed = {**example.feed, **{name: targets[FEATURE + name] for name in self._blocks}}
        return replace(example, feed=feed, targets=targets)


def _compute_all(data: TrainingData, targets: Targets, progress: Progress) -> dict[str, np.ndarray] | None:
    """The targets of every sample; None where they are too large, or have no axis of samples."""
    known: dict[str, np.ndarray] = {}
    for example in progress.track(data.in_order(), "asking the teacher"):
        answers = targets(example.feed)
        if not known:
            each = sum(array.nbytes for array in answers.values()) / example.count
            if each * data.count > MAX_BYTES:
                return None
            known = {name: np.empty((data.count, *array.shape[1:]), array.dtype) for name, array in answers.items()}
        for name, array in answers.items():
            if array.shape != (example.count, *known[name].shape[1:]) or example.rows is None:
                return None
            known[name][example.rows] = array
    return known or None


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
                sums[name] = sums.get(name, np.zeros(3)) + np.array([wide.size, wide.sum(), np.square(wide).sum()])
        count += example.count
        if count >= most:
            break
    if not count:
        raise DataError("holds no samples", where="calibration data", fix="give at least one feed")
    variances = {name: float(square / size - (total / size) ** 2) for name, (size, total, square) in sums.items()}
    return {name: variance if variance > 1e-12 else 1.0 for name, variance in variances.items()}
