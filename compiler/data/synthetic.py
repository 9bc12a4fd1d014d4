"""Seeded random feeds, for probing a model when there is no data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from graphpress.data.free_sizes import candidate_shapes, check_given
from graphpress.data.inputs import Feed, ModelInput, Shapes, is_floating, is_text
from graphpress.data.samples import Batch, Samples, evenly_spaced
from graphpress.errors import DataError

_TEXTS = np.array(["", "a", "graph", "press", "0"], dtype=object)


class SyntheticSamples(Samples):
    """Random feeds, each drawn from its own seed, so that they cost no memory and every pass is the same.

    Args:
        inputs: the model's inputs.
        shapes: the shape of each.
        seeds: one a feed.
        notes: for the report.
    """

    labels = None

    def __init__(
        self,
        inputs: Sequence[ModelInput],
        shapes: Mapping[str, tuple[int, ...]],
        seeds: Sequence[tuple[int, int]],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._inputs, self._shapes, self._seeds = tuple(inputs), dict(shapes), list(seeds)
        self.batch_size = max([shape[0] for shape in self._shapes.values() if shape], default=1)
        self.count = self.batch_size * len(self._seeds)

    def counted_batches(self) -> Iterator[Batch]:
        """One feed a seed."""
        for seed in self._seeds:
            yield Batch(self._feed(seed), None, self.batch_size)

    def spread(self, limit: int) -> Samples:
        """Evenly spaced feeds that hold about ``limit`` samples."""
        return self.take(evenly_spaced(len(self._seeds), max(1, limit // self.batch_size)).tolist())

    def take(self, places: Sequence[int]) -> Samples:
        """The feeds at these places."""
        return SyntheticSamples(self._inputs, self._shapes, [self._seeds[at] for at in places], self.notes)

    def shapes(self) -> Sequence[Shapes]:
        """The same for every feed."""
        return [self._shapes] * len(self._seeds)

    def fingerprint(self) -> str:
        """SHA-256 over shapes, dtypes and seeds."""
        spec = [(item.name, str(item.dtype), self._shapes[item.name]) for item in self._inputs]
        return hashlib.sha256(repr((spec, self._seeds)).encode()).hexdigest()

    def _feed(self, seed: tuple[int, int]) -> Feed:
        rng = np.random.default_rng(seed)
        return {item.name: random_array(self._shapes[item.name], item.dtype, rng) for item in self._inputs}


def synthetic_samples(
    inputs: Sequence[ModelInput],
    count: int,
    seed: int = 0,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Samples:
    """Random probe feeds: floats from a standard normal, integers 0 or 1, booleans, short strings.

    Small non-negative integers are valid as token ids, masks, lengths and indices alike.

    Args:
        inputs: the model's inputs.
        count: number of feeds.
        seed: the same seed gives the same feeds.
        input_shapes: shapes of inputs with free extents; a symbol that one of them settles holds for the others too.

    Free extents are the likeliest that ``candidate_shapes`` knows; an input of unknown rank is a scalar.

    Raises:
        UsageError: a shape is for no input, or contradicts the model.
    """
    if count < 1:
        raise DataError(f"{count} probe feeds", fix="ask for at least 1")
    check_given(inputs, input_shapes or {})
    shapes = next(candidate_shapes(inputs, input_shapes))
    return SyntheticSamples(inputs, shapes, [(seed, at) for at in range(count)])


def random_array(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Values that any model accepts, of one shape and dtype."""
    if is_text(dtype):
        return rng.choice(_TEXTS, size=shape)
    if is_floating(dtype):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, size=shape).astype(dtype)
