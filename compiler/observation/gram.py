"""Gram matrices of what linear operators read: Σ x xᵀ over rows x, and Σ x yᵀ with an aligned stream of rows y.

Least squares, data-aware importance and compensation start from these. They are summed about a shift c, the mean of
the first rows, so that neither a large mean nor single-precision products (the sums are double) cost digits:

    Σ x xᵀ = Σ (x−c)(x−c)ᵀ + c sᵀ + s cᵀ + n c cᵀ        with  s = Σ (x−c)

Memory does not depend on the number of rows: rows are made and multiplied in chunks and then forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.analysis.linear import LinearOp
from graphpress.analysis.linear.rows import RowSampling, rows_of, samples_of
from graphpress.data import Feed
from graphpress.ir import Model, label
from graphpress.observation.stream import observe
from graphpress.progress import Progress

POSITIONS = 32
"""Rows that are taken of each sample of a convolution, unless another number is given."""

GRAM_BUDGET = 1 << 30
"""Bytes of Gram matrices that are summed at a time, as long as a single one fits."""

LARGEST_GRAM = 1 << 30
"""Bytes of a Gram matrix beyond which none is summed; solving takes the room of several."""

_CHUNK_ROWS = 4096
_CHUNK_BYTES = 32 << 20
_STRIP = 256  # features


class Moments:
    """First and second moments of rows ``x`` (``[blocks, rows, features]``) and aligned ``y`` (``[.., outputs]``).

    Args:
        full: keep the whole Gram matrix of ``x``, and its products with ``y``; else diagonals alone.
    """

    def __init__(self, *, full: bool = True) -> None:
        self.count = 0
        self._full = full
        self._shift: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._xx = self._xy = self._yy = np.zeros(0)

    def add(self, x: np.ndarray, y: np.ndarray | None = None) -> None:
        """Take in rows; ``y`` in every call or in none."""
        for start in range(0, x.shape[1], _CHUNK_ROWS):
            stop = start + _CHUNK_ROWS
            self._add_chunk(x[:, start:stop], None if y is None else y[:, start:stop])

    def _add_chunk(self, x: np.ndarray, y: np.ndarray | None) -> None:
        streams = [_wide(x)] if y is None else [_wide(x), _wide(y)]
        if not self.count:
            self._begin(streams)
        with np.errstate(invalid="ignore", over="ignore"):
            x, *rest = (
                rows - shift[:, None].astype(rows.dtype) for rows, shift in zip(streams, self._shift, strict=True)
            )
            for total, rows in zip(self._sums, (x, *rest), strict=True):
                total += rows.sum(axis=1, dtype=np.float64)
            if self._full:
                _add_products(self._xx, x, x)
            else:
                self._xx += _squares(x)
            for y in rest:
                if self._full:
                    _add_products(self._xy, x, y)
                self._yy += _squares(y)
        self.count += x.shape[1]

    def _begin(self, streams: Sequence[np.ndarray]) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            self._shift = [rows.mean(axis=1, dtype=np.float64).astype(rows.dtype).astype(float) for rows in streams]
        self._sums = [np.zeros_like(shift) for shift in self._shift]
        blocks, features = self._shift[0].shape
        self._xx = np.zeros((blocks, features, features) if self._full else (blocks, features))
        if len(streams) > 1:
            outputs = self._shift[1].shape[1]
            self._xy = np.zeros((blocks, features, outputs) if self._full else 0)
            self._yy = np.zeros((blocks, outputs))

    @property
    def is_full(self) -> bool:
        """Whether whole matrices are kept, and not their diagonals alone."""
        return self._full

    # -- what was seen, each a mean over the rows ---------------------------------------------------------------

    @property
    def is_finite(self) -> bool:
        """Whether nothing infinite or undefined was among the rows (one that was seen stays in the sums)."""
        return all(bool(np.isfinite(array).all()) for array in (self._xx, self._xy, self._yy))

    @property
    def has_targets(self) -> bool:
        """Whether there were targets."""
        return len(self._sums) > 1

    @property
    def mean(self) -> np.ndarray:
        """E[x], ``[blocks, features]``."""
        return self._mean(0)

    @property
    def target_mean(self) -> np.ndarray:
        """E[y], ``[blocks, outputs]``."""
        return self._mean(1)

    @property
    def squares(self) -> np.ndarray:
        """E[x²] by feature, the diagonal of ``gram``: ``[blocks, features]``."""
        squares: np.ndarray = self.variance + self.mean**2
        return squares

    @property
    def variance(self) -> np.ndarray:
        """Var[x] by feature, the diagonal of ``covariance``: ``[blocks, features]``."""
        diagonal = np.einsum("bff->bf", self._xx) if self._full else self._xx
        return np.maximum(diagonal / self.count - (self._sums[0] / self.count) ** 2, 0.0)

    @property
    def gram(self) -> np.ndarray:
        """E[x xᵀ], ``[blocks, features, features]``."""
        return _plus_outer(self.covariance, self.mean, self.mean)

    @property
    def covariance(self) -> np.ndarray:
        """E[(x−E x)(x−E x)ᵀ], ``[blocks, features, features]``."""
        drift = self._sums[0] / self.count
        return _plus_outer(self._xx / self.count, -drift, drift)

    @property
    def cross_covariance(self) -> np.ndarray:
        """E[(x−E x)(y−E y)ᵀ], ``[blocks, features, outputs]``; of whole moments only."""
        drift, target = self._sums[0] / self.count, self._sums[1] / self.count
        return _plus_outer(self._xy / self.count, -drift, target)

    @property
    def target_variance(self) -> np.ndarray:
        """Var[y] by output, ``[blocks, outputs]``."""
        return np.maximum(self._yy / self.count - (self._sums[1] / self.count) ** 2, 0.0)

    def _mean(self, stream: int) -> np.ndarray:
        mean: np.ndarray = self._shift[stream] + self._sums[stream] / self.count
        return mean


def has_gram(op: LinearOp) -> bool:
    """Whether the Gram matrix of what an operator reads is small enough to be summed."""
    blocks, features, _ = op.matrix_shape
    return 8 * blocks * features**2 <= LARGEST_GRAM


class GramObserver:
    """The moments of what a linear operator reads, from a stream of its data.

    Args:
        op: whose rows are made of the data.
        positions: rows taken of each sample of a convolution (and of a product of rank three or more); None for all.
        full: the whole Gram matrix; else its diagonal alone.
    """

    def __init__(self, op: LinearOp, positions: int | None = POSITIONS, *, full: bool = True) -> None:
        self.op, self.positions = op, positions
        self.moments = Moments(full=full)
        self.samples = 0

    def update(self, array: np.ndarray) -> None:
        """Take in one batch of the data."""
        for piece, _, sampling in pieces_of(self.op, array, None, self.positions, self.samples):
            self.moments.add(rows_of(self.op, piece, sampling))
        self.samples += samples_of(self.op, array)


def pieces_of(
    op: LinearOp, data: np.ndarray, result: np.ndarray | None, positions: int | None, start: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None, RowSampling]]:
    """Cut data (and a result that goes with it) by sample so that the rows of a piece stay small.

    Args:
        op: that reads the data.
        data: one batch.
        result: of as many samples, or None.
        positions: rows a sample; None for all.
        start: number of the first sample.
    """
    if not op.is_convolution:
        yield data, result, RowSampling(positions, start)
        return
    blocks, features, _ = op.matrix_shape
    places = int(np.prod(data.shape[2:])) * (4 if op.node.op_type == "ConvTranspose" else 1)
    wanted = places if positions is None else min(positions, places)
    step = max(1, _CHUNK_BYTES // max(1, wanted * blocks * features * data.itemsize))
    for first in range(0, len(data), step):
        targets = None if result is None else result[first : first + step]
        yield data[first : first + step], targets, RowSampling(positions, start + first)


def input_moments(
    model: Model,
    linear_ops: Iterable[LinearOp],
    feeds: Iterable[Feed],
    options: Observation | None = None,
) -> dict[str, Moments]:
    """Moments of what each linear operator of the model reads, by the name of its result.

    The data is read as often as the memory for the Gram matrices asks.

    Raises:
        DataError: there are no feeds, or they do not fit the model.
    """
    options = options or Observation()
    moments: dict[str, Moments] = {}
    for some in in_portions(linear_ops, GRAM_BUDGET, full=options.full):
        watchers = [GramObserver(op, options.positions, full=options.full) for op in some]
        by_value: dict[str, list[GramObserver]] = {}
        for watcher in watchers:
            by_value.setdefault(label(watcher.op.data), []).append(watcher)
        observers = {name: _Several(watching) for name, watching in by_value.items()}
        observe(model, observers, feeds, threads=options.threads, progress=options.progress)
        moments |= {label(watcher.op.result): watcher.moments for watcher in watchers}
    return moments


def second_moments(
    model: Model,
    linear_ops: Iterable[LinearOp],
    feeds: Iterable[Feed],
    options: Observation | None = None,
) -> dict[str, np.ndarray]:
    """E[x²] of what each linear operator reads, by the name of its result: ``[blocks, features]``, the Gram's diagonal.

    Features run over (channel of the group, kernel position), as those of ``LinearOp.matrix``.
    """
    given = options or Observation()
    diagonal = Observation(given.positions, given.threads, given.progress, full=False)
    moments = input_moments(model, linear_ops, feeds, diagonal)
    return {name: seen.squares for name, seen in moments.items()}


@dataclass(frozen=True)
class Observation:
    """How moments are observed.

    Args:
        positions: rows taken of each sample of a convolution; None for all.
        threads: threads of the runtime.
        progress: where to tell how far it is.
        full: whole Gram matrices; else their diagonals alone.
    """

    positions: int | None = POSITIONS
    threads: int = 1
    progress: Progress | None = None
    full: bool = True


class _Several:
    """Several observers of one value."""

    def __init__(self, observers: Sequence[GramObserver]) -> None:
        self._observers = observers

    def update(self, array: np.ndarray) -> None:
        for observer in self._observers:
            observer.update(array)


def in_portions(linear_ops: Iterable[LinearOp], budget: int, *, full: bool = True) -> Iterator[list[LinearOp]]:
    """Linear operators in order, as many at a time as have their Gram matrices within the budget; at least one.

    Args:
        linear_ops: any.
        budget: bytes.
        full: whole matrices; else their diagonals alone.
    """
    some, size = list[LinearOp](), 0
    for op in linear_ops:
        blocks, features, _ = op.matrix_shape
        need = 8 * blocks * features * (features if full else 1)
        if some and size + need > budget:
            yield some
            some, size = [], 0
        some.append(op)
        size += need
    if some:
        yield some


def _wide(rows: np.ndarray) -> np.ndarray:
    """Rows in float32 or float64: half precision is widened."""
    return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)


def _add_products(total: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Add xᵀy, in strips: allocating a whole product takes longer than computing it."""
    for start in range(0, total.shape[1], _STRIP):
        strip = slice(start, start + _STRIP)
        total[:, strip] += x[:, :, strip].transpose(0, 2, 1) @ y


def _plus_outer(total: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Matrices plus the outer products of vectors, block by block; in place."""
    _add_products(total, left[:, None], right[:, None])
    return total


def _squares(rows: np.ndarray) -> np.ndarray:
    squares: np.ndarray = np.einsum("bnf,bnf->bf", rows, rows, dtype=np.float64)
    return squares
