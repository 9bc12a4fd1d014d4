"""Random depthwise convolutions and pools."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.depthwise import Depthwise, can_zip, packed_taps, per_lane
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.pool import AveragePool, MaxPool
from graphpress.backends.tvm.kernels.stages import Destination, Scale
from kernel_checks.cases import (
    IMAGES,
    Scope,
    compare,
    extents_for,
    plane_of,
    random_halo,
    random_weights,
    random_window,
)
from kernel_checks.harness import Images, Kernels
from kernel_checks.reference import convolution, taps_of


@dataclass
class DepthwiseCase:
    """A depthwise convolution, in all ways in which it can be computed.

    Args:
        kernels: the ways.
        zero_point: of the source.
        rng: of the data.
    """

    kernels: Sequence[Depthwise]
    zero_point: int
    rng: np.random.Generator

    def check(self, kernels: Kernels) -> None:
        """Against sums in float64."""
        first, rng, lanes = self.kernels[0], self.rng, kernels.isa.lanes
        channels, integer, store = first.source.channels, first.integer, first.store
        source = Images.random(first.source, IMAGES, rng, self.zero_point)
        shape = (channels, 1, *first.window.taps)
        weights = random_weights(kernels.isa, rng, shape) if integer else rng.standard_normal(shape).astype(np.float32)
        bias = rng.integers(-999, 999, channels) if integer else rng.standard_normal(channels).astype(np.float32)
        scales = (rng.random(channels) * 1e-2).astype(np.float32)
        expected = convolution(source.numbers(self.zero_point), weights, channels, first.window, store.plane) + bias
        expected = expected.astype(np.float32) * scales if integer else expected
        moved = bias - self.zero_point * weights.astype(np.int64).sum((1, 2, 3)) if integer else bias
        for kernel in self.kernels:
            result = Images.filled(store.plane, IMAGES, 0)
            operands = {"bias": per_lane(kernel, moved, lanes), "scales": per_lane(kernel, scales, lanes)}
            operands |= {"source": np.nan_to_num(source.memory), "weights": packed_taps(kernel, weights, lanes)}
            result.memory = kernels.run(kernel, IMAGES, result.memory, **operands)
            compare(result, expected, store.zero_point)


@dataclass
class PoolCase:
    """The largest and the mean values of windows, with padding and without.

    Args:
        kernels: the pools.
        zero_point: of the source and of the results.
        rng: of the data.
    """

    kernels: Sequence[Kernel]
    zero_point: int
    rng: np.random.Generator

    def check(self, kernels: Kernels) -> None:
        """Against numpy, where a window lies in padding alone against nothing."""
        largest, mean, padded = self.kernels
        source = Images.random(largest.source, IMAGES, self.rng, self.zero_point)
        numbers, plane, window = source.numbers(self.zero_point), largest.result, largest.window
        inside = np.any(list(taps_of(np.ones_like(numbers), window, plane, 0.0)), axis=0)
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # means of nothing
            means = np.nanmean(list(taps_of(numbers, window, plane, np.nan)), axis=0)
        expected = {
            largest: np.max(list(taps_of(numbers, window, plane, -np.inf)), axis=0),
            mean: means,
            padded: np.mean(list(taps_of(numbers, window, plane, 0.0)), axis=0),
        }
        for kernel, values in expected.items():
            result = Images.filled(plane, IMAGES, 0)
            result.memory = kernels.run(kernel, IMAGES, result.memory, source=source.memory)
            result.values[~inside] = self.zero_point
            compare(result, np.where(inside, values, 0), self.zero_point)


def random_depthwise(isa: Isa, rng: np.random.Generator, scope: Scope) -> DepthwiseCase:
    """In floats, or in codes."""
    integer = bool(rng.integers(2))
    window = random_window(rng, scope)
    size, result_size = extents_for(window, rng, scope)
    channels = int(rng.integers(1, scope.channels + 1))
    low, high = isa.code_bounds
    zeros = rng.integers(low, high + 1, 2) if integer else (0, 0)
    dtype = isa.dot.activations if integer else "float32"
    source = plane_of(channels, size, isa, random_halo(rng, (*window.pads, *window.pads)), dtype)
    store = Destination(plane_of(channels, result_size, isa, random_halo(rng), dtype), int(zeros[0]))
    stages = (Scale(),) if integer else ()
    columns = int(rng.integers(1, scope.columns + 1))
    ways = [(False, False), *([(True, False)] if integer else []), *([(True, True)] if can_zip(store, isa) else [])]
    kernels = [Depthwise(source, store, window, stages, columns, *way) for way in ways]
    return DepthwiseCase(kernels, int(zeros[1]), rng)


def random_pool(isa: Isa, rng: np.random.Generator, scope: Scope) -> PoolCase:
    """In floats, or in codes."""
    integer = bool(rng.integers(2))
    window = random_window(rng, scope)
    size, result_size = extents_for(window, rng, scope)
    channels, (low, high) = int(rng.integers(1, scope.channels + 1)), isa.code_bounds
    zero = int(rng.integers(low, high + 1)) if integer else 0
    dtype = isa.dot.activations if integer else "float32"
    source = plane_of(channels, size, isa, random_halo(rng, (*window.pads, *window.pads)), dtype)
    result = plane_of(channels, result_size, isa, random_halo(rng), dtype)
    store = Destination(result, zero)
    means = [AveragePool(source, store, window, zero, counts_padding=counts) for counts in (False, True)]
    return PoolCase([MaxPool(source, result, window), *means], zero, rng)
