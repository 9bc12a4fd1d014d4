"""Reductions over all sets of axes, kept and dropped."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.nodes import Case, check

from graphpress.backends.tvm.lowering.rules.reduction import REDUCTIONS

SHAPE = (2, 5, 3, 4)


def test_all_sets_of_axes(newest, tmp_path):
    cases = {
        f"mean {axes} {keep}": Case("ReduceMean", [SHAPE, np.array(axes, np.int64)], {"keepdims": keep})
        for count in (1, 2, 3)
        for axes in combinations(range(1, 4), count)
        for keep in (0, 1)
    }
    cases["line"] = Case("GlobalAveragePool", [(2, 5, 7)])
    check(cases, newest, tmp_path)


def test_all_reductions(newest, tmp_path):
    axes = np.array([2, 3], np.int64)
    cases = {op: Case(op, [SHAPE, axes]) for op in REDUCTIONS if op.startswith("Reduce")}
    cases["GlobalMaxPool"] = Case("GlobalMaxPool", [SHAPE])
    cases["last"] = Case("ReduceMax", [(2, 37), np.array([-1], np.int64)], {"keepdims": 0})
    check(cases, newest, tmp_path, low=0.1)
