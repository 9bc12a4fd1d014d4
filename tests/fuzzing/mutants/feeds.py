"""What a mutant is fed: arrays for the inputs that it declares."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TypeProto, helper

from mutants.seeds import SIZES, seeds

MOST_ELEMENTS = 1 << 20
WORDS = ("a", "bc", "déf")


def feed_of(model: bytes, seed: str, number: int = 0) -> dict[str, np.ndarray]:
    """Arrays by name: normal floats, integers 0 and 1.

    Inputs of which the mutant says nothing useful get what the seed has there.

    Args:
        model: the mutant's file.
        seed: name of the model that it comes from.
        number: another gives other numbers.
    """
    random = np.random.default_rng(number)
    types = _types(seeds()[seed][0])
    usual = [_array(random, kind) for kind in types.values()]
    feed = {}
    for index, (name, kind) in enumerate(_types(model).items()):
        array = _array(random, kind)
        if array is None:
            array = usual[min(index, len(usual) - 1)]
        if array is not None:
            feed[name] = array
    return feed


def _types(model: bytes) -> dict[str, TypeProto]:
    """Types of the inputs that have no value of their own; those of the seed for what is no model at all."""
    try:
        proto = onnx.ModelProto.FromString(model)
    except Exception:  # of protobuf, or of a text that is no UTF-8
        return {}
    constants = {tensor.name for tensor in proto.graph.initializer}
    return {item.name: item.type for item in proto.graph.input if item.name not in constants}


def _array(random: np.random.Generator, kind: TypeProto) -> np.ndarray | None:
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    shape = [
        dim.dim_value if dim.HasField("dim_value") else SIZES.get(dim.dim_param, SIZES["N"]) for dim in tensor.shape.dim
    ]
    if min(shape, default=1) < 0 or np.prod(shape, dtype=object) > MOST_ELEMENTS or len(shape) > 16:
        return None
    if tensor.elem_type == onnx.TensorProto.STRING:
        return random.choice(np.array(WORDS, object), shape)
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        return None
    if dtype.kind in "biu":
        return random.integers(0, 2, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)
