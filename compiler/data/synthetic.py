"""Seeded random feeds, for probing a model when there is no data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from graphpress.data.inputs import Dims, Feed, ModelInput, describe, is_floating, is_text, matches
from graphpress.data.samples import Batch, Samples, evenly_spaced
from graphpress.errors import DataError, UsageError, did_you_mean

_FREE_SIZES = {"batch": 1, "other": 8}
_TEXTS = np.array(["", "a", "graph", "press", "0"], dtype=object)


class SyntheticSamples(Samples):
    """Random feeds, each drawn from its own seed, so that they cost no memory and every pass is the same.

    Args:
        inputs: the model's inputs.
        shapes: the shape of each.
        seeds: one a feed.
    """

    labels = None

    def __init__(
        self, inputs: Sequence[ModelInput], shapes: Mapping[str, tuple[int, ...]], seeds: Sequence[tuple[int, int]]
    ) -> None:
        self._inputs, self._shapes, self._seeds = tuple(inputs), dict(shapes), list(seeds)
        self.batch_size = max([shape[0] for shape in self._shapes.values() if shape], default=1)
        self.count = self.batch_size * len(self._seeds)

    def counted_batches(self) -> Iterator[Batch]:
        """One feed a seed."""
        for seed in self._seeds:
            yield Batch(self._feed(seed), None, self.batch_size)

    def spread(self, limit: int) -> Samples:
        """Evenly spaced feeds that hold about ``limit`` samples."""
        kept = evenly_spaced(len(self._seeds), max(1, limit // self.batch_size))
        return SyntheticSamples(self._inputs, self._shapes, [self._seeds[at] for at in kept])

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

    Free extents are 1 on the first axis and 8 elsewhere; a symbol has the same extent everywhere. An input of unknown
    rank is a scalar.

    Raises:
        UsageError: a shape is for no input, or contradicts the model.
    """
    if count < 1:
        raise DataError(f"{count} probe feeds", fix="ask for at least 1")
    shapes = resolve_shapes(inputs, input_shapes or {})
    return SyntheticSamples(inputs, shapes, [(seed, at) for at in range(count)])


def resolve_shapes(inputs: Sequence[ModelInput], given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A static shape for every input, as ``synthetic_samples`` describes.

    Raises:
        UsageError: a shape is for no input, or contradicts the model or another shape.
    """
    names = [item.name for item in inputs]
    symbols: dict[str, int] = {}
    for name, shape in given.items():
        if name not in names:
            raise UsageError(f"the model has no input {name!r}", where="--input-shape", fix=did_you_mean(name, names))
        dims = inputs[names.index(name)].dims
        if not matches(shape, dims):
            raise UsageError(
                f"shape {list(shape)} contradicts the model's {describe(dims)}", where=f"--input-shape {name}"
            )
        for dim, extent in zip(dims or shape, shape, strict=True):
            if isinstance(dim, str) and symbols.setdefault(dim, extent) != extent:
                raise UsageError(f"{dim} is both {symbols[dim]} and {extent}", where=f"--input-shape {name}")
    return {
        item.name: tuple(given[item.name]) if item.name in given else _static(item.dims, symbols) for item in inputs
    }


def random_array(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Values that any model accepts, of one shape and dtype."""
    if is_text(dtype):
        return rng.choice(_TEXTS, size=shape)
    if is_floating(dtype):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, size=shape).astype(dtype)


def _static(dims: Dims, symbols: dict[str, int]) -> tuple[int, ...]:
    shape = []
    for axis, dim in enumerate(dims or ()):
        size = _FREE_SIZES["other" if axis else "batch"]
        shape.append(dim if isinstance(dim, int) else size if dim is None else symbols.setdefault(dim, size))
    return tuple(shape)
