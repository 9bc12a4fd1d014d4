"""Attention with masks, caches and grouped queries, and rotary embedding.

    y = softmax(softcap(√s·q (√s·k)ᵀ) + bias) v

TensorRT's attention layer does it where there is one and nothing but a causal mask is asked for; the rest is spelt out
as products around a softmax, which TensorRT fuses by itself where it can. A query whose keys are all forbidden gives
zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.call import Call, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.linear import floats, multiply
from graphpress.backends.tensorrt.network.softmax import softmax
from graphpress.backends.tensorrt.network.types import is_bool, onnx_type
from graphpress.ir import DataType

_MASK, _PAST_KEY, _PAST_VALUE, _VALID = 3, 4, 5, 6
_SCORES = 3
_WIDER = {"HALF": 1, "BF16": 1, "FLOAT": 2}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"Attention": _attention, "RotaryEmbedding": _rotary}


# -- attention ------------------------------------------------------------------------------------------------


def _attention(call: Call) -> Sequence[Result]:
    query, key, value = (_split(call, index) for index in range(3))
    floats(call, query, key, value)
    key, value = _after(call, _PAST_KEY, key), _after(call, _PAST_VALUE, value)
    shown: Tensor | None = None
    roots = _scaled(call, query, key)
    if _is_plain(call, key, value):
        result = _by_layer(call, *roots, value)
    else:
        result, shown = _spelt_out(call, *roots, value)
    if len(call.shape(0)) == 3:
        sizes = call.sizes(query)
        width = int(query.shape[1]) * int(value.shape[3])
        result = call.reshape(call.transpose(result, [0, 2, 1, 3]), [sizes[0], sizes[2], width])
    return [result, key, value, *([] if shown is None else [shown])]


def _split(call: Call, index: int) -> Tensor:
    """[batch, heads, sequence, width] from that or from [batch, sequence, heads × width]."""
    tensor = call.tensor(index)
    if len(tensor.shape) == 4:
        return tensor
    heads = call.integer("kv_num_heads" if index else "q_num_heads", 1)
    if tensor.shape[2] < 0:
        raise call.refuse(f"the width of input {index} is open", "give it a fixed size")
    if heads < 1 or tensor.shape[2] % heads:
        raise call.refuse(f"input {index} has no {heads} heads of equal width", "correct q_num_heads and kv_num_heads")
    batch, length, _ = call.sizes(tensor)
    apart = call.reshape(tensor, [batch, length, heads, int(tensor.shape[2]) // heads])
    return call.transpose(apart, [0, 2, 1, 3])


def _after(call: Call, index: int, tensor: Tensor) -> Tensor:
    past = call.optional(index)
    return tensor if past is None else call.concatenate([past, tensor], 2)


def _scaled(call: Call, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Both times the root of the scale, which is one over the root of the width where none is given."""
    given = call.number("scale", math.nan)
    width = int(query.shape[3])
    if math.isnan(given) and width < 0:
        raise call.refuse("the width of a head is open", "give it a fixed size, or the attribute scale")
    scale = 1 / math.sqrt(width) if math.isnan(given) else given
    root = math.sqrt(abs(scale))
    factors = call.like(math.copysign(root, scale), query), call.like(root, key)
    return call.elementwise("PROD", query, factors[0]), call.elementwise("PROD", key, factors[1])


def _precision(call: Call, query: Tensor) -> Any:
    """The type in which the softmax is taken: as asked for, if that is wider than the query's."""
    asked = call.type_attribute("softmax_precision")
    if asked is None or asked == DataType.UNDEFINED:
        return query.dtype
    wanted: Any = call.tensorrt_type(asked)
    return wanted if _WIDER.get(wanted.name, 0) > _WIDER[query.dtype.name] else query.dtype


def _is_plain(call: Call, key: Tensor, value: Tensor) -> bool:
    """Whether TensorRT's layer computes this: no mask but a causal one, nothing between product and softmax."""
    extras = call.has(_MASK) or call.has(_VALID) or call.wants(_SCORES) or call.number("softcap", 0.0) != 0
    windowed = max(call.integer("left_window_size", -1), call.integer("right_window_size", -1)) >= 0
    asked = call.type_attribute("softmax_precision") or DataType.UNDEFINED
    if extras or windowed or asked != DataType.UNDEFINED or tuple(key.shape)[3] != tuple(value.shape)[3]:
        return False
    if call.integer("is_causal", 0) and call.has(_PAST_KEY):
        return hasattr(call.network, "add_attention_v2")
    return hasattr(call.network, "add_attention")


def _by_layer(call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    normal = call.trt.AttentionNormalizationOp.SOFTMAX
    causal = bool(call.integer("is_causal", 0))
    if causal and call.has(_PAST_KEY):
        # The last query sees the last key, so the masks of all end in the lower right corner.
        layer = call.add("attention_v2", query, key, value, normal, call.trt.CausalMaskKind.LOWER_RIGHT)
    else:
        layer = call.add("attention", query, key, value, normal, causal)
    layer.decomposable = True
    return layer.get_output(0)


def _spelt_out(call: Call, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the scores at the stage that is shown."""
    key, value = _for_each(call, query, key), _for_each(call, query, value)
    scores = multiply(call, query, key, flip_b=True)
    cap = call.number("softcap", 0.0)
    capped = _capped(call, scores, cap) if cap else scores
    bias = _bias(call, query, key)
    biased = capped if bias is None else call.elementwise("SUM", capped, bias)
    wide, seen, blind = _precision(call, query), biased, None
    if bias is not None and _may_be_blind(call):
        blind = _is_lowest(call, call.reduce("MAX", bias, [3]))
        seen = call.select(blind, call.like(0, biased), biased)
    weights = call.cast(softmax(call, call.cast(seen, wide), 3), query.dtype)
    if blind is not None:
        weights = call.select(blind, call.like(0, weights), weights)
    stages = (scores, capped, biased, weights)
    return multiply(call, weights, value), stages[call.integer("qk_matmul_output_mode", 0)]


def _may_be_blind(call: Call) -> bool:
    """Whether a query may see no key at all; looking back without an end it sees the first."""
    return call.has(_MASK) or call.has(_VALID) or call.integer("left_window_size", -1) >= 0


def _capped(call: Call, scores: Tensor, cap: float) -> Tensor:
    bound = call.like(cap, scores)
    return call.elementwise("PROD", bound, call.activation("TANH", call.elementwise("DIV", scores, bound)))


def _for_each(call: Call, query: Tensor, tensor: Tensor) -> Tensor:
    """Keys or values for each head of the query, whose heads share them in groups."""
    heads, own = int(query.shape[1]), int(tensor.shape[1])
    if heads == own:
        return tensor
    if min(heads, own) < 1 or heads % own:
        raise call.refuse(f"{heads} heads of the query cannot share {own} of the keys")
    return call.gather(tensor, call.indices([head * own // heads for head in range(heads)]), 1)


# -- masks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """How far a query sees, in positions behind and ahead of its own; -1 for all."""

    behind: int
    ahead: int


def _bias(call: Call, query: Tensor, key: Tensor) -> Tensor | None:
    """What is added to the scores: -∞ where a query does not attend; None where all attend to all."""
    ahead = 0 if call.integer("is_causal", 0) else call.integer("right_window_size", -1)
    window = _Window(call.integer("left_window_size", -1), ahead)
    queries, keys = call.sizes(query)[2], call.sizes(key)[2]
    forbidden = _forbidden(call, window, queries, keys)
    bias = None
    if call.has(_MASK):
        given = _mask(call, keys)
        if is_bool(given.dtype):
            forbidden = [*forbidden, call.unary("NOT", given)]
        else:
            bias = call.cast(given, query.dtype)
    lowest = call.constant_tensor(np.full((1, 1, 1, 1), -np.inf, onnx_type(query.dtype).numpy()))
    for one in forbidden:
        kept = call.like(0, query, 4) if bias is None else bias
        bias = call.select(one, lowest, kept)
    return None if bias is None else call.aligned(bias, lowest)[0]


def _mask(call: Call, keys: Size) -> Tensor:
    """The caller's mask, with what is missing of its last axis forbidden."""
    mask = call.tensor(_MASK)
    own = call.sizes(mask)
    if isinstance(keys, int) and own[-1] == keys:
        return mask
    if not isinstance(keys, int) and int(mask.shape[-1]) < 0:
        return mask
    boolean = is_bool(mask.dtype)
    data = call.cast(mask, call.trt.DataType.INT32) if boolean else mask
    layer = call.slice(data, [0] * len(own), [*own[:-1], keys], [1] * len(own))
    layer.mode = call.trt.SampleMode.FILL
    layer.set_input(4, call.like(0 if boolean else -math.inf, data, 0))
    return call.cast(layer.get_output(0), mask.dtype)


def _forbidden(call: Call, window: _Window, queries: Size, keys: Size) -> list[Tensor]:
    """Conditions under which a query must not see a key, each to be broadcast over [batch, heads, queries, keys]."""
    places = call.unsqueeze(call.iota(keys, call.index_type), [0, 1, 2])
    conditions = []
    valid = call.optional(_VALID)
    if valid is not None:
        valid = call.reshape(call.cast(valid, places.dtype), [-1, 1, 1, 1])
        fits = call.elementwise("LESS", places, valid)
        conditions.append(call.unary("NOT", fits))
    if max(window.behind, window.ahead) < 0:
        return conditions
    own = call.unsqueeze(call.iota(queries, call.index_type), [0, 1, 3])
    if call.has(_PAST_KEY):
        own = call.elementwise("SUM", own, call.stack([call.sizes(call.tensor(_PAST_KEY))[2]]))
    elif valid is not None:
        own = call.elementwise("SUM", own, call.elementwise("SUB", valid, call.stack([queries])))
    distance = call.elementwise("SUB", places, own)
    if window.ahead >= 0:
        conditions.append(call.elementwise("GREATER", distance, call.like(window.ahead, distance)))
    if window.behind >= 0:
        conditions.append(call.elementwise("LESS", distance, call.like(-window.behind, distance)))
    return conditions


def _is_lowest(call: Call, tensor: Tensor) -> Tensor:
    return call.elementwise("EQUAL", tensor, call.like(-math.inf, tensor))


# -- rotary embedding -----------------------------------------------------------------------------------------


def _rotary(call: Call) -> Tensor:
    """Each pair of a head's numbers turned by its angle (arXiv:2104.09864, equation 15)."""
    x = call.tensor(0)
    floats(call, x)
    shape = tuple(int(dim) for dim in x.shape)
    sizes = call.sizes(x)
    if len(shape) == 3:
        heads = call.integer("num_heads", 0)
        if heads < 1 or shape[2] < 0:
            raise call.refuse("the number of heads or the width is unknown", "set num_heads and fix the width")
        apart = call.reshape(x, [sizes[0], sizes[1], heads, shape[2] // heads])
        return call.reshape(_rotated(call, apart, 2), sizes)
    return _rotated(call, x, 1)


def _rotated(call: Call, x: Tensor, heads: int) -> Tensor:
    """The first ``rotary_embedding_dim`` numbers of each head turned; ``heads`` is the axis of heads."""
    width, sizes = int(x.shape[3]), call.sizes(x)
    turned = call.integer("rotary_embedding_dim", 0) or width
    if turned < 0 or turned % 2:
        raise call.refuse("an odd or open number of numbers is turned", "set rotary_embedding_dim")
    cosine, sine = (call.unsqueeze(_angles(call, index), [heads]) for index in (1, 2))
    half, step = turned // 2, 2 if call.integer("interleaved", 0) else 1
    starts = (0, 1) if step == 2 else (0, half)

    def part(start: int, length: int, by: int = 1) -> Tensor:
        return call.slice(x, [0, 0, 0, start], [*sizes[:3], length], [1, 1, 1, by]).get_output(0)

    def times(one: Tensor, other: Tensor) -> Tensor:
        return call.elementwise("PROD", one, other)

    first, second = (part(start, half, step) for start in starts)
    pair = [
        call.elementwise("SUB", times(cosine, first), times(sine, second)),
        call.elementwise("SUM", times(sine, first), times(cosine, second)),
    ]
    if step == 2:
        columns = [call.reshape(one, [*sizes[:3], half, 1]) for one in pair]
        result = call.reshape(call.concatenate(columns, 4), [*sizes[:3], turned])
    else:
        result = call.concatenate(pair, 3)
    return result if turned == width else call.concatenate([result, part(turned, width - turned)], 3)


def _angles(call: Call, index: int) -> Tensor:
    """Cosine or sine [batch, sequence, pairs], looked up where positions are given."""
    table = call.tensor(index)
    return call.gather(table, call.tensor(3), 0) if call.has(3) else table
