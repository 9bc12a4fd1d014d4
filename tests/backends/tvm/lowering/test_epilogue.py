"""Units: sums are scaled once, into the units of what follows, and before anything that needs real numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.stages import Add, ApplyFunction, Clip, Divide, Multiply, Round, Scale
from graphpress.backends.tvm.lowering.codes import Codes
from graphpress.backends.tvm.lowering.epilogue import ADDEND, Epilogue
from graphpress.backends.tvm.lowering.operators import VectorFunction

SCALES = np.array([0.5, 0.25], np.float32)


def test_limits_of_sums_are_those_of_real_numbers():
    epilogue = Epilogue(SCALES)
    epilogue.clip(0.0, 6.0)
    epilogue.activate(VectorFunction("sigmoid"))
    assert epilogue.stages == [Scale(), Clip(0.0, 6.0), ApplyFunction("sigmoid")]
    np.testing.assert_array_equal(epilogue.operands["scales"].array, SCALES)


def test_sums_become_codes_in_one_multiplication():
    epilogue = Epilogue(SCALES)
    epilogue.into(0.1)
    epilogue.clip(0.0, 6.0)
    epilogue.into(0.1)
    assert epilogue.stages == [Scale(), Clip(0.0, 60.0)]
    np.testing.assert_array_equal(epilogue.operands["scales"].array, SCALES / np.float32(0.1))


def test_what_is_added_to_scaled_sums_is_in_their_unit():
    epilogue = Epilogue(SCALES, addend=np.array([3.0, 4.0], np.float32))
    epilogue.into(0.5)
    epilogue.into(0.25)
    plane = Plane(2, 1, 1, 2).shared()
    assert epilogue.stages == [Scale(), Add(plane, ADDEND), Multiply(2.0)]
    np.testing.assert_array_equal(epilogue.operands[ADDEND].array, [6.0, 8.0])


def test_real_numbers_are_divided_and_codes_multiplied():
    epilogue = Epilogue()
    epilogue.into(0.5)
    epilogue.round(Codes(0.5, 3, 0, 255))
    epilogue.into(0.25)
    assert epilogue.stages == [Divide(0.5), Round(-3, 252), Multiply(2.0)]


@pytest.mark.parametrize(
    ("limits", "stages"),
    [
        ((0.0, 25.51), []),  # what saturates anyway
        ((0.0, None), []),
        ((0.0, 25.4), [Clip(0.0, float(np.float32(25.4 / 0.1)))]),
        ((1.0, None), [Clip(float(np.float32(1.0 / 0.1)), None)]),
    ],
)
def test_limits_at_which_codes_saturate_are_dropped_at_the_end(limits, stages):
    epilogue = Epilogue(unit=0.1)
    epilogue.clip(*limits)
    epilogue.end(Codes(0.1, 0, 0, 255))
    assert epilogue.stages == stages
