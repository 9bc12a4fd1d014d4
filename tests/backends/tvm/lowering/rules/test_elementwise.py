"""Elementwise nodes: all functions, and all ways in which one operand is spread over the other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.nodes import Case, check

from graphpress.backends.tvm.lowering.operators import UNARY

SHAPE = (1, 5, 3, 4)
RNG = np.random.default_rng(0)
NEWER = ("Swish",)
"""Operators that the opset of the graph lacks."""
SPREADS = {
    "channels": (1, 5, 1, 1),
    "map": (1, 1, 3, 4),
    "row": (4,),
    "column": (3, 1),
    "all but images": (5, 3, 4),
    "one": (1, 1, 1, 1),
    "scalar": (),
}


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    """A constant."""
    return np.asarray(RNG.uniform(0.5, 2.0, shape), np.float32)


def test_functions_of_one_number(newest, tmp_path):
    cases = {op.lower(): Case(op, [SHAPE]) for op in UNARY if op not in NEWER}
    cases |= {
        f"{op.lower()} with {next(iter(attributes))}": Case(op, [SHAPE], attributes)
        for op, attributes in (
            ("Elu", {"alpha": 0.5}),
            ("HardSigmoid", {"alpha": 0.3}),
            ("LeakyRelu", {"alpha": 0.2}),
            ("Gelu", {"approximate": "tanh"}),
        )
    }
    cases |= {f"power {exponent}": Case("Pow", [SHAPE, numbers(()) * 0 + exponent]) for exponent in (2, 0.5, -1)}
    statistics = [numbers((5,)) for _ in range(4)]
    cases["channels"] = Case("BatchNormalization", [(2, 5, 3, 4), *statistics])
    cases["limits"] = Case("Clip", [SHAPE, np.float32(0.7), np.float32(1.5)])
    check(cases, newest, tmp_path, low=0.1)


@pytest.mark.parametrize("constant", [False, True])
def test_operands_are_spread(constant, newest, tmp_path):
    cases = {}
    for name, shape in SPREADS.items():
        other = numbers(shape) if constant else shape
        cases |= {f"{op} {name}": Case(op, [SHAPE, other]) for op in ("Mul", "Sub")}
        cases[f"swapped {name}"] = Case("Sub", [other, SHAPE])
    for op in ("Add", "Div", "Max", "Min", "PRelu"):
        cases[op] = Case(op, [SHAPE, numbers((5, 1, 1)) if constant else (5, 1, 1)])
    cases["divided"] = Case("Div", [numbers((5, 1, 1)) if constant else (5, 1, 1), SHAPE])
    cases["rows"] = Case("Add", [(1, 3, 7), numbers((7,)) if constant else (7,)])
    cases["batch"] = Case("Mul", [(2, 5, 3, 4), numbers((2, 5, 1, 1)) if constant else (1, 5, 1, 1)])
    cases["many axes"] = Case("Mul", [(2, 3, 5, 3, 4), numbers((1, 3, 1, 3, 1)) if constant else (1, 3, 1, 3, 1)])
    check(cases, newest, tmp_path, low=0.1)
