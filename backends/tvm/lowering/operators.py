"""Which function of vectors an elementwise node is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from graphpress.ir import DataType, Node, NodeView, constant, is_standard, scalar, static_shape


class VectorFunction(NamedTuple):
    """A function of the kernels.

    Args:
        name: a key of ``FUNCTIONS``.
        parameters: of it.
    """

    name: str
    parameters: tuple[float, ...] = ()


UNARY: Mapping[str, tuple[str, tuple[tuple[str, float], ...]]] = MappingProxyType(
    {
        "Abs": ("abs", ()),
        "Ceil": ("ceil", ()),
        "Celu": ("celu", (("alpha", 1.0),)),
        "Cos": ("cos", ()),
        "Elu": ("elu", (("alpha", 1.0),)),
        "Erf": ("erf", ()),
        "Exp": ("exp", ()),
        "Floor": ("floor", ()),
        "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
        "HardSwish": ("hard_swish", ()),
        "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
        "Log": ("log", ()),
        "Mish": ("mish", ()),
        "Neg": ("neg", ()),
        "Reciprocal": ("reciprocal", ()),
        "Round": ("round", ()),
        "Selu": ("selu", (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))),
        "Shrink": ("shrink", (("bias", 0.0), ("lambd", 0.5))),
        "Sigmoid": ("sigmoid", ()),
        "Sign": ("sign", ()),
        "Sin": ("sin", ()),
        "Softplus": ("softplus", ()),
        "Softsign": ("softsign", ()),
        "Sqrt": ("sqrt", ()),
        "Swish": ("swish", (("alpha", 1.0),)),
        "Tanh": ("tanh", ()),
        "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    }
)
"""By operator the name of its function, and its attributes with their defaults."""

POWERS: Mapping[float, str] = MappingProxyType({2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"})
"""Powers with a function of their own, by exponent."""

BINARY: Mapping[str, str] = MappingProxyType(
    {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min", "PRelu": "prelu"}
)
"""Functions of two numbers, by operator: sums, and keys of ``BINARY_FUNCTIONS``."""

PREDICATES: Mapping[str, tuple[str, tuple[tuple[str, int], ...]]] = MappingProxyType(
    {
        "IsInf": ("is_inf", (("detect_negative", 1), ("detect_positive", 1))),
        "IsNaN": ("is_nan", ()),
        "Not": ("not", ()),
    }
)
"""Functions of one number that are true or false: as ``UNARY`` has them."""

COMPARISONS: Mapping[str, str] = MappingProxyType(
    {
        "And": "mul",
        "Equal": "equal",
        "Greater": "greater",
        "GreaterOrEqual": "greater_or_equal",
        "Less": "less",
        "LessOrEqual": "less_or_equal",
        "Or": "max",
        "Xor": "xor",
    }
)
"""Functions of two numbers that are true or false: keys of ``BINARY_FUNCTIONS``, by operator."""

EXACT = frozenset(
    {
        DataType.FLOAT,
        DataType.FLOAT16,
        DataType.BOOL,
        DataType.INT8,
        DataType.UINT8,
        DataType.INT16,
        DataType.UINT16,
    }
)
"""Types all of whose numbers are float32 as well: kernels compute with those."""

CHOICE = "Where"
"""One of two numbers by a truth."""


def function_of(node: Node) -> VectorFunction | None:
    """The function of one number that a node is; None where it is none, or not of numbers that float32 holds."""
    if not is_standard(node) or not _is_exact(node):
        return None
    if node.op_type == "Cast":
        return _conversion_of(node)
    if _is_predicate(node):
        return _predicate_of(node)
    if not _is_float(node):
        return None
    if node.op_type == "Gelu":
        return VectorFunction("gelu_tanh" if NodeView.of(node).text("approximate", "none") == "tanh" else "gelu")
    if node.op_type == "Pow":
        exponent = None if node.inputs[1] is None else scalar(node.inputs[1])
        name = None if exponent is None else POWERS.get(exponent)
        return None if name is None else VectorFunction(name)
    if (known := UNARY.get(node.op_type)) is None:
        return None
    view = NodeView.of(node)
    return VectorFunction(known[0], tuple(view.number(*attribute) for attribute in known[1]))


def binary_of(node: Node) -> str | None:
    """The function of two numbers that a node is; None where it is none, or not of numbers that float32 holds."""
    if not is_standard(node) or len(node.inputs) != 2 or not _is_exact(node):
        return None
    if _is_predicate(node):
        return COMPARISONS.get(node.op_type)
    return BINARY.get(node.op_type) if _is_float(node) else None


def is_choice(node: Node) -> bool:
    """Whether a node chooses among numbers that float32 holds."""
    return is_standard(node, CHOICE) and _is_exact(node) and (_is_float(node) or _is_predicate(node))


def other_operands(node: Node, index: int) -> tuple[int, ...]:
    """Which inputs a function of several numbers reads beside one; none where a node is no such function."""
    if binary_of(node) is not None:
        return (1 - index,)
    return tuple(other for other in range(3) if other != index) if is_choice(node) else ()


def affine_of(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and addend of each channel, float32 ``[channels, 1, …]``, of a normalization by constants; else None."""
    if not is_standard(node, "BatchNormalization") or not _is_float(node) or NodeView.of(node).flag("training_mode"):
        return None
    shape = static_shape(node.outputs[0])
    numbers = [constant(value) for value in node.inputs[1:5]]
    if shape is None or any(array is None for array in numbers):
        return None
    scale, bias, mean, variance = (array.astype(np.float64) for array in numbers if array is not None)
    factor = scale / np.sqrt(variance + NodeView.of(node).number("epsilon", 1e-5))
    spread = (-1, *(1,) * (len(shape) - 2))
    first, second = (array.astype(np.float32).reshape(spread) for array in (factor, bias - mean * factor))
    return first, second


def _conversion_of(node: Node) -> VectorFunction | None:
    """A Cast to float32, or to truth values."""
    if _is_predicate(node):
        return VectorFunction("is_nonzero")
    return VectorFunction("identity") if _is_float(node) else None


def _predicate_of(node: Node) -> VectorFunction | None:
    if (known := PREDICATES.get(node.op_type)) is None:
        return None
    view = NodeView.of(node)
    return VectorFunction(known[0], tuple(float(view.integer(*attribute)) for attribute in known[1]))


def _is_exact(node: Node) -> bool:
    """Whether float32 holds all operands."""
    return all(value is None or value.dtype in EXACT for value in node.inputs)


def _is_float(node: Node) -> bool:
    return node.outputs[0].dtype is DataType.FLOAT


def _is_predicate(node: Node) -> bool:
    return node.outputs[0].dtype is DataType.BOOL
