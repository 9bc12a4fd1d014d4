"""Random elementwise work: channels from anywhere to anywhere, codes and floats on either side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.stages import Clip, Destination, Multiply
from kernel_checks.cases import IMAGES, Scope, plane_of, random_halo
from kernel_checks.harness import Images, Kernels, to_codes

FACTOR, LOW, HIGH = 0.375, -20.0, 90.0


@dataclass
class MapCase:
    """Elementwise work and its data.

    Args:
        map: the kernel.
        rng: of the data.
    """

    map: Map
    rng: np.random.Generator

    @property
    def kernels(self) -> Sequence[Kernel]:
        """The kernel."""
        return [self.map]

    def check(self, kernels: Kernels) -> None:
        """The channels that were mapped, and that no others were touched."""
        kernel, store = self.map, self.map.store
        source = Images.random(kernel.source, IMAGES, self.rng, kernel.zero_point)
        numbers = source.numbers(kernel.zero_point)[..., kernel.first : kernel.first + kernel.channels]
        expected = np.clip(numbers * np.float32(FACTOR), LOW, HIGH) if kernel.stages else numbers
        if store.plane.dtype != "float32":
            expected = to_codes(expected, store.zero_point, store.plane.dtype)
        before = Images.filled(store.plane, IMAGES, 1)
        after = Images(store.plane, kernels.run(kernel, IMAGES, before.memory, source=source.memory))
        mapped = slice(kernel.target, kernel.target + kernel.channels)
        np.testing.assert_allclose(after.values[..., mapped], expected, rtol=1e-6)
        before.values[..., mapped] = after.values[..., mapped]
        np.testing.assert_array_equal(after.memory, before.memory)


def random_map(isa: Isa, rng: np.random.Generator, scope: Scope) -> MapCase:
    """Floats and codes into floats and codes."""
    size = (int(rng.integers(1, scope.extent + 1)), int(rng.integers(1, scope.extent + 1)))
    channels, first, target = (int(rng.integers(low, scope.channels + 1)) for low in (1, 0, 0))
    types = [isa.dot.activations if rng.integers(2) else "float32" for _ in range(2)]
    low, high = isa.code_bounds
    zeros = [int(rng.integers(low, high + 1)) if dtype != "float32" else 0 for dtype in types]
    source, result = (
        plane_of(start + channels + int(rng.integers(5)), size, isa, random_halo(rng), dtype)
        for start, dtype in zip((first, target), types, strict=True)
    )
    stages = (Multiply(FACTOR), Clip(LOW, HIGH)) if rng.integers(2) else ()
    kernel = Map(source, Destination(result, zeros[1]), channels, stages, zeros[0], first, target)
    return MapCase(kernel, rng)
