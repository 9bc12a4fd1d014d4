"""Operators of one operand, element by element: functions, activations, and the change of type.

Most are one layer. The others are written in layers that compute the same:

    BitwiseNot  −x − 1 of signed integers
    Celu        max(0, x) + min(0, α·(exp(x/α) − 1))
    HardSwish   x · max(0, min(1, x/6 + 1/2))
    Mish        x · tanh(ln(1 + exp x))
    Shrink      x + β where x < −λ, x − β where x > λ, else 0
    Swish       x · sigmoid(α·x)

Integers of 8 bits are refused: TensorRT computes with them only between quantization layers.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Tensor
from graphpress.backends.tensorrt.network.types import is_float
from graphpress.ir import DataType

_UNARY = {
    "Abs": "ABS",
    "Acos": "ACOS",
    "Acosh": "ACOSH",
    "Asin": "ASIN",
    "Asinh": "ASINH",
    "Atan": "ATAN",
    "Atanh": "ATANH",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Cosh": "COSH",
    "Erf": "ERF",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "IsNaN": "ISNAN",
    "Log": "LOG",
    "Neg": "NEG",
    "Not": "NOT",
    "Reciprocal": "RECIP",
    "Round": "ROUND",
    "Sign": "SIGN",
    "Sin": "SIN",
    "Sinh": "SINH",
    "Sqrt": "SQRT",
    "Tan": "TAN",
}
_ACTIVATIONS = {"Relu": "RELU", "Sigmoid": "SIGMOID", "Softsign": "SOFTSIGN", "Tanh": "TANH"}
_WITH_ALPHA = {"Elu": ("ELU", 1.0), "LeakyRelu": ("LEAKY_RELU", 0.01), "ThresholdedRelu": ("THRESHOLDED_RELU", 1.0)}
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""Defaults of Selu's alpha and gamma."""


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {
        **{name: _unary(operation) for name, operation in _UNARY.items()},
        **{name: _activation(kind) for name, kind in _ACTIVATIONS.items()},
        **{name: _with_alpha(kind, default) for name, (kind, default) in _WITH_ALPHA.items()},
        "BitwiseNot": _bitwise_not,
        "Cast": _cast,
        "CastLike": _cast_like,
        "Celu": _celu,
        "Dropout": _dropout,
        "Gelu": _gelu,
        "HardSigmoid": lambda ctx: hard_sigmoid(ctx, ctx.node.number("alpha", 0.2), ctx.node.number("beta", 0.5)),
        "HardSwish": lambda ctx: ctx.elementwise("PROD", ctx.tensor(0), hard_sigmoid(ctx, 1 / 6, 0.5)),
        "Identity": _identity,
        "IsInf": _is_inf,
        "Mish": lambda ctx: ctx.elementwise("PROD", ctx.tensor(0), ctx.activation("TANH", _softplus(ctx))),
        "Selu": _selu,
        "Shrink": _shrink,
        "Softplus": _softplus,
        "Swish": lambda ctx: swish(ctx, ctx.tensor(0)),
    }


def _unary(operation: str) -> Rule:
    return lambda ctx: ctx.unary(operation, ctx.tensor(0))


def _activation(kind: str) -> Rule:
    return lambda ctx: ctx.activation(kind, ctx.tensor(0))


def _with_alpha(kind: str, default: float) -> Rule:
    return lambda ctx: ctx.activation(kind, ctx.tensor(0), alpha=ctx.node.number("alpha", default))


def hard_sigmoid(ctx: LoweringContext, alpha: float, beta: float) -> Tensor:
    """max(0, min(1, α·x + β)) of the first input."""
    return ctx.activation("HARD_SIGMOID", ctx.tensor(0), alpha=alpha, beta=beta)


def swish(ctx: LoweringContext, tensor: Tensor) -> Tensor:
    """The tensor times sigmoid(α·x), with α from the node."""
    alpha = ctx.node.number("alpha", 1.0)
    scaled = tensor if alpha == 1.0 else ctx.elementwise("PROD", tensor, ctx.like(alpha, tensor))
    return ctx.elementwise("PROD", tensor, ctx.activation("SIGMOID", scaled))


def _softplus(ctx: LoweringContext) -> Tensor:
    return ctx.activation("SOFTPLUS", ctx.tensor(0), alpha=1.0, beta=1.0)


def _selu(ctx: LoweringContext) -> Tensor:
    alpha, gamma = ctx.node.number("alpha", _SELU[0]), ctx.node.number("gamma", _SELU[1])
    return ctx.activation("SELU", ctx.tensor(0), alpha=alpha, beta=gamma)


def _gelu(ctx: LoweringContext) -> Tensor:
    kind = "GELU_TANH" if ctx.node.text("approximate", "none") == "tanh" else "GELU_ERF"
    if hasattr(ctx.trt.ActivationType, kind):
        return ctx.activation(kind, ctx.tensor(0))
    raise ctx.refuse(f"this TensorRT has no activation {kind}", "take the route through TensorRT's parser")


def _celu(ctx: LoweringContext) -> Tensor:
    alpha, tensor = ctx.node.number("alpha", 1.0), ctx.tensor(0)
    if alpha == 1.0:
        return ctx.activation("ELU", tensor, alpha=1.0)
    exponential = ctx.unary("EXP", ctx.elementwise("DIV", tensor, ctx.like(alpha, tensor)))
    shifted = ctx.elementwise("SUB", exponential, ctx.like(1.0, tensor))
    negative = ctx.elementwise("MIN", ctx.elementwise("PROD", shifted, ctx.like(alpha, tensor)), ctx.like(0, tensor))
    return ctx.elementwise("SUM", ctx.activation("RELU", tensor), negative)


def _shrink(ctx: LoweringContext) -> Tensor:
    tensor, bias, limit = ctx.tensor(0), ctx.node.number("bias", 0.0), ctx.node.number("lambd", 0.5)
    if not is_float(tensor.dtype):
        raise ctx.refuse("TensorRT would round lambd and bias to integers", "cast the operand to float32")
    below = ctx.elementwise("LESS", tensor, ctx.like(-limit, tensor))
    above = ctx.elementwise("GREATER", tensor, ctx.like(limit, tensor))
    added = ctx.elementwise("SUM", tensor, ctx.like(bias, tensor))
    taken = ctx.elementwise("SUB", tensor, ctx.like(bias, tensor))
    return ctx.select(below, added, ctx.select(above, taken, ctx.like(0, tensor)))


def _is_inf(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    positive, negative = ctx.node.integer("detect_positive", 1), ctx.node.integer("detect_negative", 1)
    infinite = ctx.unary("ISINF", tensor)
    if positive and negative:
        return infinite
    sign = "GREATER" if positive else "LESS"
    signed = ctx.elementwise(sign, tensor, ctx.like(0, tensor))
    if not positive and not negative:
        return ctx.elementwise("AND", infinite, ctx.unary("NOT", infinite))
    return ctx.elementwise("AND", infinite, signed)


def _identity(ctx: LoweringContext) -> Result:
    """Nothing to do, unless the result is public: then it needs a tensor of its own."""
    array = ctx.node.constant(0)
    if array is not None:
        return array
    return ctx.out("identity", ctx.tensor(0)) if ctx.node.outputs[0].is_graph_output() else ctx.tensor(0)


def _cast(ctx: LoweringContext) -> Tensor:
    dtype = ctx.node.element_type("to")
    assert dtype is not None
    return _converted(ctx, dtype)


def _cast_like(ctx: LoweringContext) -> Tensor:
    return _converted(ctx, ctx.type(1))


_CAST = (
    DataType.FLOAT,
    DataType.FLOAT16,
    DataType.BFLOAT16,
    DataType.INT32,
    DataType.INT64,
    DataType.BOOL,
)


def _converted(ctx: LoweringContext, dtype: DataType) -> Tensor:
    source = ctx.type(0)
    for kind in (source, dtype):
        if kind not in _CAST and not (kind is DataType.UINT8 and source is not dtype):
            raise ctx.refuse(
                f"TensorRT does not cast {source.name.lower()} to {dtype.name.lower()}",
                "quantize with QuantizeLinear and DequantizeLinear, or cast to a type that TensorRT computes in",
            )
    tensor = ctx.tensor(0)
    return ctx.out("cast", tensor, ctx.tensorrt_type(dtype))


def _dropout(ctx: LoweringContext) -> list[Result]:
    """At inference it passes its input; the mask is true everywhere."""
    training = ctx.node.constant(2)
    if ctx.node.has(2) and (training is None or bool(training.any())):
        raise ctx.refuse("it is in training mode", "export the model for inference")
    results = [_identity(ctx)]
    if ctx.node.uses_output(1):
        mask = ctx.constant_tensor(np.ones([1] * ctx.rank(0), np.bool_))
        results.append(ctx.expand(mask, ctx.sizes(ctx.tensor(0))))
    return results


def _bitwise_not(ctx: LoweringContext) -> Tensor:
    tensor = ctx.tensor(0)
    return ctx.elementwise("SUB", ctx.unary("NEG", tensor), ctx.like(1, tensor))
