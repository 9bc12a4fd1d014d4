"""Operators of one operand, element by element: functions, activations, and the change of type.

Most are one layer. The others are spelt in layers that compute the same:

    Celu        max(0, x) + min(0, α·(exp(x/α) − 1))
    HardSwish   x · max(0, min(1, x/6 + 1/2))
    Mish        x · tanh(ln(1 + exp x))
    Shrink      x + β where x < −λ, x − β where x > λ, else 0
    Swish       x · sigmoid(α·x)

Integers of 8 bits are refused: TensorRT computes with them only between quantisation layers.
"""

from __future__ import annotations

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Result, Rule
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
        "Cast": _cast,
        "CastLike": _cast_like,
        "Celu": _celu,
        "Dropout": _dropout,
        "Gelu": _gelu,
        "HardSigmoid": lambda call: hard_sigmoid(call, call.number("alpha", 0.2), call.number("beta", 0.5)),
        "HardSwish": lambda call: call.elementwise("PROD", call.tensor(0), hard_sigmoid(call, 1 / 6, 0.5)),
        "Identity": _identity,
        "IsInf": _is_inf,
        "Mish": lambda call: call.elementwise("PROD", call.tensor(0), call.activation("TANH", _softplus(call))),
        "Selu": _selu,
        "Shrink": _shrink,
        "Softplus": _softplus,
        "Swish": lambda call: swish(call, call.tensor(0)),
    }


def _unary(operation: str) -> Rule:
    return lambda call: call.unary(operation, call.tensor(0))


def _activation(kind: str) -> Rule:
    return lambda call: call.activation(kind, call.tensor(0))


def _with_alpha(kind: str, default: float) -> Rule:
    return lambda call: call.activation(kind, call.tensor(0), alpha=call.number("alpha", default))


def hard_sigmoid(call: Call, alpha: float, beta: float) -> Tensor:
    """max(0, min(1, α·x + β)) of the first input."""
    return call.activation("HARD_SIGMOID", call.tensor(0), alpha=alpha, beta=beta)


def swish(call: Call, tensor: Tensor) -> Tensor:
    """The tensor times sigmoid(α·x), with α from the node."""
    alpha = call.number("alpha", 1.0)
    scaled = tensor if alpha == 1.0 else call.elementwise("PROD", tensor, call.like(alpha, tensor))
    return call.elementwise("PROD", tensor, call.activation("SIGMOID", scaled))


def _softplus(call: Call) -> Tensor:
    return call.activation("SOFTPLUS", call.tensor(0), alpha=1.0, beta=1.0)


def _selu(call: Call) -> Tensor:
    alpha, gamma = call.number("alpha", _SELU[0]), call.number("gamma", _SELU[1])
    return call.activation("SELU", call.tensor(0), alpha=alpha, beta=gamma)


def _gelu(call: Call) -> Tensor:
    kind = "GELU_TANH" if call.text("approximate", "none") == "tanh" else "GELU_ERF"
    if hasattr(call.trt.ActivationType, kind):
        return call.activation(kind, call.tensor(0))
    raise call.refuse(f"this TensorRT has no activation {kind}", "take the route through TensorRT's parser")


def _celu(call: Call) -> Tensor:
    alpha, tensor = call.number("alpha", 1.0), call.tensor(0)
    if alpha == 1.0:
        return call.activation("ELU", tensor, alpha=1.0)
    exponential = call.unary("EXP", call.elementwise("DIV", tensor, call.like(alpha, tensor)))
    shifted = call.elementwise("SUB", exponential, call.like(1.0, tensor))
    negative = call.elementwise(
        "MIN", call.elementwise("PROD", shifted, call.like(alpha, tensor)), call.like(0, tensor)
    )
    return call.elementwise("SUM", call.activation("RELU", tensor), negative)


def _shrink(call: Call) -> Tensor:
    tensor, bias, limit = call.tensor(0), call.number("bias", 0.0), call.number("lambd", 0.5)
    if not is_float(tensor.dtype):
        raise call.refuse("TensorRT would round lambd and bias to integers", "cast the operand to float32")
    below = call.elementwise("LESS", tensor, call.like(-limit, tensor))
    above = call.elementwise("GREATER", tensor, call.like(limit, tensor))
    added = call.elementwise("SUM", tensor, call.like(bias, tensor))
    taken = call.elementwise("SUB", tensor, call.like(bias, tensor))
    return call.select(below, added, call.select(above, taken, call.like(0, tensor)))


def _is_inf(call: Call) -> Tensor:
    tensor = call.tensor(0)
    positive, negative = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    found = call.unary("ISINF", tensor)
    if positive and negative:
        return found
    sign = "GREATER" if positive else "LESS"
    signed = call.elementwise(sign, tensor, call.like(0, tensor))
    if not positive and not negative:
        return call.elementwise("AND", found, call.unary("NOT", found))
    return call.elementwise("AND", found, signed)


def _identity(call: Call) -> Result:
    """Nothing to do, unless the result is public: then it needs a tensor of its own."""
    array = call.constant(0)
    if array is not None:
        return array
    return call.out("identity", call.tensor(0)) if call.node.outputs[0].is_graph_output() else call.tensor(0)


def _cast(call: Call) -> Tensor:
    dtype = call.type_attribute("to")
    assert dtype is not None
    return _converted(call, dtype)


def _cast_like(call: Call) -> Tensor:
    return _converted(call, call.type(1))


_CAST = (
    DataType.FLOAT,
    DataType.FLOAT16,
    DataType.BFLOAT16,
    DataType.INT32,
    DataType.INT64,
    DataType.BOOL,
)


def _converted(call: Call, dtype: DataType) -> Tensor:
    source = call.type(0)
    for one in (source, dtype):
        if one not in _CAST and not (one is DataType.UINT8 and source is not dtype):
            raise call.refuse(
                f"TensorRT does not cast {source.name.lower()} to {dtype.name.lower()}",
                "quantise with QuantizeLinear and DequantizeLinear, or cast to a type that TensorRT computes in",
            )
    tensor = call.tensor(0)
    return call.out("cast", tensor, call.tensorrt_type(dtype))


def _dropout(call: Call) -> list[Result]:
    """At inference it passes its input; the mask is true everywhere."""
    training = call.constant(2)
    if call.has(2) and (training is None or bool(training.any())):
        raise call.refuse("it is in training mode", "export the model for inference")
    results = [_identity(call)]
    if call.wants(1):
        mask = call.constant_tensor(np.ones([1] * call.rank(0), np.bool_))
        results.append(call.expand(mask, call.sizes(call.tensor(0))))
    return results
