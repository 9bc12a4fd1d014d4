"""The kernel that other kernels' speed is compared with multiplies as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.backends.tvm.kernels.peak import Peak
from graphpress.backends.tvm.profile import ROOM


@pytest.mark.parametrize("integer", [False, True])
def test_it_multiplies_as_often_as_it_says(isa, compiled, integer):
    kernel = Peak(isa.dot.activations) if integer else Peak()
    ones = np.ones(ROOM)
    result = compiled([kernel]).run(kernel, 1, np.zeros((1, isa.lanes)), source=ones, weights=ones)
    assert result.sum() == kernel.macs(isa)
