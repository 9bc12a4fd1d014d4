"""Convolutions and pools over lines, and with all that their attributes may say."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.nodes import Case, check

SHAPE = (2, 6, 7, 9)
RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    """A constant."""
    return RNG.standard_normal(shape).astype(np.float32)


def test_convolutions(newest, tmp_path):
    kernel = weights(6, 6, 3, 3)
    cases = {
        "lines": Case("Conv", [(2, 6, 9), weights(5, 6, 3)], {"pads": [2, 0], "dilations": [2]}),
        "lines of their own": Case("Conv", [(2, 6, 9), weights(6, 1, 3)], {"pads": [1, 1], "group": 6}),
        "asymmetric": Case("Conv", [SHAPE, kernel], {"pads": [0, 2, 1, 0]}),
        "same upper": Case("Conv", [SHAPE, kernel], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        "same lower": Case("Conv", [SHAPE, kernel], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        "groups": Case("Conv", [SHAPE, weights(12, 2, 3, 3)], {"group": 3, "pads": [1, 1, 1, 1]}),
        "several outputs a channel": Case("Conv", [SHAPE, weights(18, 1, 3, 3)], {"group": 6}),
        "far apart": Case("Conv", [SHAPE, kernel], {"dilations": [3, 2], "pads": [3, 2, 3, 2]}),
    }
    check(cases, newest, tmp_path)


def test_transposed_convolutions(newest, tmp_path):
    kernel, bias = weights(6, 5, 3, 3), weights(5)
    cases = {
        "plain": Case("ConvTranspose", [SHAPE, kernel, bias]),
        "by two": Case("ConvTranspose", [SHAPE, kernel, bias], {"strides": [2, 2], "pads": [1, 0, 1, 1]}),
        "even": Case("ConvTranspose", [SHAPE, weights(6, 5, 2, 2), bias], {"strides": [2, 2]}),
        "more": Case("ConvTranspose", [SHAPE, kernel], {"strides": [2, 3], "output_padding": [1, 2]}),
        "apart": Case("ConvTranspose", [SHAPE, kernel], {"strides": [2, 3], "dilations": [2, 2]}),
        "gaps": Case("ConvTranspose", [SHAPE, weights(6, 5, 1, 2), bias], {"strides": [2, 3]}),
        "groups": Case("ConvTranspose", [SHAPE, weights(6, 2, 4, 4)], {"strides": [2, 2], "group": 3}),
        "sized": Case("ConvTranspose", [SHAPE, kernel], {"strides": [2, 2], "output_shape": [14, 18]}),
        "same": Case("ConvTranspose", [SHAPE, kernel], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    }
    check(cases, newest, tmp_path)


def test_pools(newest, tmp_path):
    window = {"kernel_shape": [3, 2], "strides": [2, 2]}
    cases = {}
    for op in ("MaxPool", "AveragePool"):
        cases |= {
            f"{op} rounded up": Case(op, [SHAPE], {**window, "ceil_mode": 1}),
            f"{op} padded": Case(op, [SHAPE], {**window, "pads": [1, 0, 0, 1]}),
            f"{op} same": Case(op, [SHAPE], {**window, "auto_pad": "SAME_LOWER"}),
            f"{op} apart": Case(op, [SHAPE], {**window, "dilations": [2, 3]}),
            f"{op} lines": Case(op, [(2, 6, 9)], {"kernel_shape": [3], "pads": [1, 1]}),
        }
    cases["counted"] = Case("AveragePool", [SHAPE], {**window, "pads": [1, 0, 1, 1], "count_include_pad": 1})
    cases["counted up"] = Case(
        "AveragePool", [SHAPE], {**window, "pads": [1, 0, 1, 1], "count_include_pad": 1, "ceil_mode": 1}
    )
    check(cases, newest, tmp_path)
