"""Matrix products.

    Gemm     α·A'B' + β·C
    MatMul   ranks made equal, vectors as TensorRT's vectors
    Einsum   an ellipsis written out as letters, the result's axes always named

TensorRT multiplies floats only. A product of quantized operands is a float product between DQ and Q, of which it makes
an integer kernel; products that stay integers are refused.
"""

from __future__ import annotations

import string

from graphpress.backends.tensorrt.network.context import LoweringContext, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.quantized import decoded, encoded
from graphpress.ops.semantics.einsum import Equation, parse_equation


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul, "QLinearMatMul": _qlinear_matmul}


def _gemm(ctx: LoweringContext) -> Tensor:
    a, b = ctx.tensor(0), ctx.tensor(1)
    ctx.require_floats(a, b)
    flips = [bool(ctx.node.integer(name, 0)) for name in ("transA", "transB")]
    product = ctx.matmul(a, b, *flips)
    product = _scaled(ctx, product, ctx.node.number("alpha", 1.0))
    c, beta = ctx.optional(2), ctx.node.number("beta", 1.0)
    return product if c is None or beta == 0 else ctx.elementwise("SUM", product, _scaled(ctx, c, beta))


def _scaled(ctx: LoweringContext, tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else ctx.elementwise("PROD", tensor, ctx.like(factor, tensor))


def _matmul(ctx: LoweringContext) -> Tensor:
    a, b = ctx.tensor(0), ctx.tensor(1)
    ctx.require_floats(a, b)
    return product(ctx, a, b)


def product(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    """The product as numpy's ``matmul`` has it: vectors at the ends, leading axes broadcast."""
    operation = ctx.trt.MatrixOperation
    kinds = [operation.VECTOR if len(operand.shape) == 1 else operation.NONE for operand in (a, b)]
    batch = max(len(operand.shape) - 2 for operand in (a, b))
    sides = []
    for operand, kind in zip((a, b), kinds, strict=True):
        rank = max(batch, 0) + (1 if kind == operation.VECTOR else 2)
        sides.append(ctx.unsqueeze(operand, range(rank - len(operand.shape))))
    return ctx.out("matrix_multiply", sides[0], kinds[0], sides[1], kinds[1])


def _einsum(ctx: LoweringContext) -> Tensor:
    operands = ctx.tensors()
    ctx.require_floats(*operands)
    ranks = [len(operand.shape) for operand in operands]
    return ctx.out("einsum", operands, network_equation(parse_equation(ctx.node.text("equation", ""), ranks)))


def _qlinear_matmul(ctx: LoweringContext) -> Tensor:
    if ctx.known(1, "the scale").size > 1:
        raise ctx.refuse("TensorRT takes one scale for the left operand", "quantize it per tensor")
    b = decoded(ctx, 3, max(ctx.rank(3) - 1, 0))
    return encoded(ctx, product(ctx, decoded(ctx, 0), b), 6)


def network_equation(equation: Equation) -> str:
    """An equation as TensorRT takes it: lower-case letters, no ellipsis, the result's axes named.

    >>> network_equation(parse_equation("...Ij, ...jk", [4, 3]))
    'bace,bed->bacd'
    """
    letters = {label for term in equation.terms for label in term if label.isalpha()}
    spare = [letter for letter in string.ascii_letters if letter not in letters]
    unique = {label: label for label in letters} | {
        str(equation.ellipsis - place): spare[place] for place in range(equation.ellipsis)
    }
    lower = dict(zip(sorted(unique.values()), string.ascii_lowercase, strict=False))
    terms = ["".join(lower[unique[label]] for label in term) for term in (*equation.terms, equation.result)]
    return f"{','.join(terms[:-1])}->{terms[-1]}"
