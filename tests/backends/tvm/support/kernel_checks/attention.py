"""Operands of attention, and what numpy makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphpress.backends.tvm.kernels.attention import AttentionKernel, AttentionSizes
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Destination
from kernel_checks.harness import Images
from kernel_checks.views import dense_view

IMAGES = 2


@dataclass
class Example:
    """Random operands of a kernel, and what it should give."""

    sizes: AttentionSizes
    operands: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        s, rng = self.sizes, np.random.default_rng(0)
        shapes = {
            "query": (s.batch, s.heads, s.queries, s.width),
            "key": (s.batch, s.key_heads, s.width, s.keys),
            "value": (s.batch, s.key_heads, s.keys, s.value_width),
        }
        for name, shape in shapes.items():
            self.operands[name] = rng.standard_normal((IMAGES, *shape)).astype(np.float32)

    def kernel(self, isa, **options) -> AttentionKernel:
        """The kernel over dense operands."""
        views = {name: dense_view(array) for name, array in self.operands.items()}
        s = self.sizes
        plane = Plane(s.value_width, s.queries, s.heads, whole_vectors(s.value_width, isa.lanes))
        return AttentionKernel(s, store=Destination(plane), scale=0.3, **views, **options)

    def run(self, compiled, kernel) -> np.ndarray:
        """The result as ``[images, batch, heads, queries, value_width]``."""
        s = self.sizes
        result = Images.filled(kernel.store.plane, IMAGES * s.batch, 0)
        result.memory = compiled([kernel]).run(kernel, IMAGES, result.memory, **self.operands)
        return result.values.reshape(IMAGES, s.batch, s.queries, s.heads, -1).transpose(0, 1, 3, 2, 4)

    def expected(self, mask=0.0, softcap=0.0) -> np.ndarray:
        """In float64."""
        query, key, value = (self.operands[name].astype(np.float64) for name in ("query", "key", "value"))
        copies = self.sizes.heads // self.sizes.key_heads
        scores = query @ key.repeat(copies, 2) * 0.3
        scores = (np.tanh(scores / softcap) * softcap if softcap else scores) + mask
        with np.errstate(invalid="ignore"):
            weights = np.nan_to_num(np.exp(scores - scores.max(-1, keepdims=True)))
            return np.nan_to_num(weights / weights.sum(-1, keepdims=True)) @ value.repeat(copies, 2)
