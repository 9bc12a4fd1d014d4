"""One encoding of every kind, and models that carry them."""

import numpy as np
import pytest

from graphpress.ir.encoding import (
    FLOAT8,
    AffineEncoding,
    CastEncoding,
    CodebookEncoding,
    binary_encoding,
    dynamic_encoding,
    ternary_encoding,
)

RANDOM = np.random.default_rng(0)
SHAPE = (64, 6)
"""Of the weights on which the encodings stand."""

AFFINE = {
    "tensor": AffineEncoding("uint8", 0.1, 3),
    "axis": AffineEncoding("int8", RANDOM.uniform(0.1, 1, 6), RANDOM.integers(-9, 9, 6), axis=1),
    "last axis": AffineEncoding("int8", RANDOM.uniform(0.1, 1, 6), axis=-1, imported=True),
    "blocks": AffineEncoding("int4", RANDOM.uniform(0.1, 1, (2, 6)), axis=0, block=32),
    "uneven blocks": AffineEncoding("uint4", RANDOM.uniform(0.1, 1, (3, 6)), 8, axis=0, block=24),
    "bias": AffineEncoding("int32", 1 / 3, derived=True),
    "float8": AffineEncoding(FLOAT8, 0.25),
    "two bits": AffineEncoding("int2", 0.5),
}
OTHERS = {
    "codebook": CodebookEncoding("uint4", RANDOM.normal(size=11)),
    "scaled codebook": CodebookEncoding("uint4", RANDOM.normal(size=16), RANDOM.uniform(0.1, 1, (2, 6)), 0, 32),
    "vectors": CodebookEncoding("uint8", RANDOM.normal(size=(200, 2, 3))),
    "binary": binary_encoding(RANDOM.uniform(0.1, 1, 6), axis=1),
    "ternary": ternary_encoding(np.array(0.5)),
    "cast": CastEncoding("bfloat16"),
}
STATIC = AFFINE | OTHERS
"""Those of constants: with numbers."""
DYNAMIC = {"dynamic": dynamic_encoding("uint8"), "dynamic by token": dynamic_encoding("int8", axis=1)}
KINDS = STATIC | DYNAMIC


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def encoding(request):
    """Each kind in turn."""
    return request.param


@pytest.fixture(params=STATIC.values(), ids=STATIC.keys())
def static_encoding(request):
    """Each kind that has numbers in turn."""
    return request.param


@pytest.fixture(params=(OTHERS | DYNAMIC).values(), ids=(OTHERS | DYNAMIC).keys())
def unspoken_encoding(request):
    """Each kind that no Q/DQ node can say in turn."""
    return request.param


@pytest.fixture(params=[21, 13])
def network(request, build):
    """Two products with a weight each, in an operator set with and without blocks and four bits."""
    text = "(float[3,64] x) => (float[3,6] y) { h = MatMul (x, w) y = Add (h, b) }"
    weights = {"w": RANDOM.normal(size=SHAPE).astype(np.float32), "b": RANDOM.normal(size=6).astype(np.float32)}
    return build(text, opset=request.param, **weights)
