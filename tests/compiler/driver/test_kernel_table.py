"""Kernels as the report has them: products belong to the kernel that multiplies, and times to nodes."""

from types import SimpleNamespace

import pytest

from graphpress.backend import KernelTime
from graphpress.driver.kernel_table import kernel_records, node_seconds


def kernel(name, nodes, seconds):
    return KernelTime(name, nodes, "8 → 8", "", "float32", seconds, peak=1e9)


@pytest.fixture
def kernels():
    """A convolution in three kernels, with what follows it in the last, and a kernel that no node is named in."""
    return [
        kernel("Forward", ["conv"], 1.0),
        kernel("Products", ["conv"], 4.0),
        kernel("Backward", ["conv", "relu"], 2.0),
        kernel("Copy", [], 1.0),
    ]


def test_a_node_is_multiplied_in_the_kernel_that_takes_longest(kernels):
    cost = SimpleNamespace(layers=[SimpleNamespace(name="conv", macs=2_000_000_000)])
    records = kernel_records(kernels, cost)
    assert [record.macs for record in records] == [None, 2_000_000_000, None, None]
    assert records[1].peak_share == pytest.approx(0.5)
    assert [record.start_seconds for record in records] == [0.0, 1.0, 5.0, 7.0]


def test_the_time_of_a_node_is_that_of_all_kernels_named_after_it(kernels):
    assert node_seconds(kernels) == {"conv": 7.0}
