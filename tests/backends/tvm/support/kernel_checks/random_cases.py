"""Kernels of random shapes with what they should compute: each case is known by its kind, instruction set and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from kernel_checks.cases import USUAL, KernelCase, Scope
from kernel_checks.map_cases import random_map
from kernel_checks.product_cases import random_product
from kernel_checks.window_cases import random_depthwise, random_pool

KINDS: Mapping[str, Callable[[Isa, np.random.Generator, Scope], KernelCase]] = MappingProxyType(
    {"product": random_product, "depthwise": random_depthwise, "pool": random_pool, "map": random_map}
)
"""Who makes a case, by kind."""


def random_case(kind: str, isa: Isa, seed: int, scope: Scope = USUAL) -> KernelCase:
    """The case of a seed."""
    return KINDS[kind](isa, np.random.default_rng([seed, *kind.encode()]), scope)
