"""A few kernels of random shapes of each kind but products, which have a test of their own; more by ``benchmarks``."""

from __future__ import annotations

from kernel_checks.random_cases import KINDS, random_case


def test_kernels_of_random_shapes_equal_numpy(isa, compiled):
    cases = [random_case(kind, isa, seed) for kind in KINDS if kind != "product" for seed in range(3)]
    kernels = compiled([kernel for case in cases for kernel in case.kernels])
    for case in cases:
        case.check(kernels)
