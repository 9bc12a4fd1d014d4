"""Attention with masks, caches and grouped queries, and rotary embedding.

    y = softmax(softcap(√s·q (√s·k)ᵀ) + bias) v

TensorRT's attention layer does it where there is one and nothing but a causal mask is needed; the rest is decomposed
as products around a softmax, which TensorRT fuses by itself where it can. A query whose keys are all forbidden gives
zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphpress.backends.tensorrt.network.context import LoweringContext, Result, Rule
from graphpress.backends.tensorrt.network.layers import Size, Tensor
from graphpress.backends.tensorrt.network.softmax import softmax
from graphpress.backends.tensorrt.network.types import is_bool, onnx_type
from graphpress.ir import DataType
from graphpress.ops.semantics.attention import AttentionAttributes

_MASK, _PAST_KEY, _PAST_VALUE, _VALID = 3, 4, 5, 6
_SCORES = 3
_WIDER = {"HALF": 1, "BF16": 1, "FLOAT": 2}


def entries() -> dict[str, Rule]:
    """The rules of this family."""
    return {"Attention": _attention, "RotaryEmbedding": _rotary}


# -- attention ------------------------------------------------------------------------------------------------


def _attention(ctx: LoweringContext) -> Sequence[Result]:
    query, key, value = (_split(ctx, index) for index in range(3))
    ctx.require_floats(query, key, value)
    key, value = _after(ctx, _PAST_KEY, key), _after(ctx, _PAST_VALUE, value)
    shown: Tensor | None = None
    attributes = AttentionAttributes.of(ctx.node)
    roots = _scaled(ctx, query, key, attributes.scale)
    if _is_plain(ctx, key, value, attributes):
        result = _by_layer(ctx, *roots, value, attributes.causal)
    else:
        result, shown = _decomposed(ctx, *roots, value, attributes)
    if len(ctx.shape(0)) == 3:
        sizes = ctx.sizes(query)
        width = int(query.shape[1]) * int(value.shape[3])
        result = ctx.reshape(ctx.transpose(result, [0, 2, 1, 3]), [sizes[0], sizes[2], width])
    return [result, key, value, *([] if shown is None else [shown])]


def _split(ctx: LoweringContext, index: int) -> Tensor:
    """[batch, heads, sequence, width] from that or from [batch, sequence, heads × width]."""
    tensor = ctx.tensor(index)
    if len(tensor.shape) == 4:
        return tensor
    heads = ctx.node.integer("kv_num_heads" if index else "q_num_heads", 1)
    if tensor.shape[2] < 0:
        raise ctx.refuse(f"the width of input {index} is open", "give it a fixed size")
    if heads < 1 or tensor.shape[2] % heads:
        raise ctx.refuse(f"input {index} has no {heads} heads of equal width", "correct q_num_heads and kv_num_heads")
    batch, length, _ = ctx.sizes(tensor)
    apart = ctx.reshape(tensor, [batch, length, heads, int(tensor.shape[2]) // heads])
    return ctx.transpose(apart, [0, 2, 1, 3])


def _after(ctx: LoweringContext, index: int, tensor: Tensor) -> Tensor:
    past = ctx.optional(index)
    return tensor if past is None else ctx.concatenate([past, tensor], 2)


def _scaled(ctx: LoweringContext, query: Tensor, key: Tensor, given: float | None) -> tuple[Tensor, Tensor]:
    """Both times the root of the scale, which is one over the root of the width where none is given."""
    width = int(query.shape[3])
    if given is None and width < 0:
        raise ctx.refuse("the width of a head is open", "give it a fixed size, or the attribute scale")
    scale = 1 / math.sqrt(width) if given is None else given
    root = math.sqrt(abs(scale))
    factors = ctx.like(math.copysign(root, scale), query), ctx.like(root, key)
    return ctx.elementwise("PROD", query, factors[0]), ctx.elementwise("PROD", key, factors[1])


def _precision(ctx: LoweringContext, query: Tensor, requested: DataType | None) -> Any:
    """The type in which the softmax is taken: as requested, if that is wider than the query's."""
    if requested is None:
        return query.dtype
    wanted: Any = ctx.tensorrt_type(requested)
    return wanted if _WIDER.get(wanted.name, 0) > _WIDER[query.dtype.name] else query.dtype


def _is_plain(ctx: LoweringContext, key: Tensor, value: Tensor, attributes: AttentionAttributes) -> bool:
    """Whether TensorRT's layer computes this: no mask but a causal one, nothing between product and softmax."""
    masked = ctx.node.has(_MASK) or ctx.node.has(_VALID) or attributes.windowed
    between = ctx.node.uses_output(_SCORES) or attributes.softcap != 0 or attributes.precision is not None
    if masked or between or tuple(key.shape)[3] != tuple(value.shape)[3]:
        return False
    if attributes.causal and ctx.node.has(_PAST_KEY):
        return hasattr(ctx.network, "add_attention_v2")
    return hasattr(ctx.network, "add_attention")


def _by_layer(ctx: LoweringContext, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    normal = ctx.trt.AttentionNormalizationOp.SOFTMAX
    if causal and ctx.node.has(_PAST_KEY):
        # The last query sees the last key, so the masks of all end in the lower right corner.
        layer = ctx.add("attention_v2", query, key, value, normal, ctx.trt.CausalMaskKind.LOWER_RIGHT)
    else:
        layer = ctx.add("attention", query, key, value, normal, causal)
    layer.decomposable = True
    return layer.get_output(0)


def _decomposed(
    ctx: LoweringContext, query: Tensor, key: Tensor, value: Tensor, attributes: AttentionAttributes
) -> tuple[Tensor, Tensor]:
    """The result, and the scores at the stage that is shown."""
    key, value = _for_each(ctx, query, key), _for_each(ctx, query, value)
    scores = ctx.matmul(query, key, flip_b=True)
    capped = _capped(ctx, scores, attributes.softcap) if attributes.softcap else scores
    bias = _bias(ctx, query, key, attributes)
    biased = capped if bias is None else ctx.elementwise("SUM", capped, bias)
    wide, seen, all_masked = _precision(ctx, query, attributes.precision), biased, None
    if bias is not None and _may_be_all_masked(ctx, attributes):
        all_masked = _is_lowest(ctx, ctx.reduce("MAX", bias, [3]))
        seen = ctx.select(all_masked, ctx.like(0, biased), biased)
    weights = ctx.cast(softmax(ctx, ctx.cast(seen, wide), 3), query.dtype)
    if all_masked is not None:
        weights = ctx.select(all_masked, ctx.like(0, weights), weights)
    stages = (scores, capped, biased, weights)
    return ctx.matmul(weights, value), stages[attributes.shown]


def _may_be_all_masked(ctx: LoweringContext, attributes: AttentionAttributes) -> bool:
    """Whether a query may see no key at all; looking back without an end it sees the first."""
    return ctx.node.has(_MASK) or ctx.node.has(_VALID) or attributes.behind >= 0


def _capped(ctx: LoweringContext, scores: Tensor, cap: float) -> Tensor:
    bound = ctx.like(cap, scores)
    return ctx.elementwise("PROD", bound, ctx.activation("TANH", ctx.elementwise("DIV", scores, bound)))


def _for_each(ctx: LoweringContext, query: Tensor, tensor: Tensor) -> Tensor:
    """Keys or values for each head of the query, whose heads share them in groups."""
    heads, own = int(query.shape[1]), int(tensor.shape[1])
    if heads == own:
        return tensor
    if min(heads, own) < 1 or heads % own:
        raise ctx.refuse(f"{heads} heads of the query cannot share {own} of the keys")
    return ctx.gather(tensor, ctx.indices([head * own // heads for head in range(heads)]), 1)


# -- masks ----------------------------------------------------------------------------------------------------


def _bias(ctx: LoweringContext, query: Tensor, key: Tensor, attributes: AttentionAttributes) -> Tensor | None:
    """What is added to the scores: -∞ where a query does not attend; None where all attend to all."""
    queries, keys = ctx.sizes(query)[2], ctx.sizes(key)[2]
    forbidden = _forbidden(ctx, attributes, queries, keys)
    bias = None
    if ctx.node.has(_MASK):
        given = _mask(ctx, keys)
        if is_bool(given.dtype):
            forbidden = [*forbidden, ctx.unary("NOT", given)]
        else:
            bias = ctx.cast(given, query.dtype)
    lowest = ctx.constant_tensor(np.full((1, 1, 1, 1), -np.inf, onnx_type(query.dtype).numpy()))
    for condition in forbidden:
        kept = ctx.like(0, query, 4) if bias is None else bias
        bias = ctx.select(condition, lowest, kept)
    return None if bias is None else ctx.aligned(bias, lowest)[0]


def _mask(ctx: LoweringContext, keys: Size) -> Tensor:
    """The caller's mask, with what is missing of its last axis forbidden."""
    mask = ctx.tensor(_MASK)
    own = ctx.sizes(mask)
    if isinstance(keys, int) and own[-1] == keys:
        return mask
    if not isinstance(keys, int) and int(mask.shape[-1]) < 0:
        return mask
    boolean = is_bool(mask.dtype)
    data = ctx.cast(mask, ctx.trt.DataType.INT32) if boolean else mask
    layer = ctx.slice(data, [0] * len(own), [*own[:-1], keys], [1] * len(own))
    layer.mode = ctx.trt.SampleMode.FILL
    layer.set_input(4, ctx.like(0 if boolean else -math.inf, data, 0))
    return ctx.cast(layer.get_output(0), mask.dtype)


def _forbidden(ctx: LoweringContext, attributes: AttentionAttributes, queries: Size, keys: Size) -> list[Tensor]:
    """Conditions under which a query must not see a key, each to be broadcast over [batch, heads, queries, keys]."""
    places = ctx.unsqueeze(ctx.iota(keys, ctx.index_type), [0, 1, 2])
    conditions = []
    valid = ctx.optional(_VALID)
    if valid is not None:
        valid = ctx.reshape(ctx.cast(valid, places.dtype), [-1, 1, 1, 1])
        fits = ctx.elementwise("LESS", places, valid)
        conditions.append(ctx.unary("NOT", fits))
    if max(attributes.behind, attributes.ahead) < 0:
        return conditions
    own = ctx.unsqueeze(ctx.iota(queries, ctx.index_type), [0, 1, 3])
    if ctx.node.has(_PAST_KEY):
        own = ctx.elementwise("SUM", own, ctx.stack([ctx.sizes(ctx.tensor(_PAST_KEY))[2]]))
    elif valid is not None:
        own = ctx.elementwise("SUM", own, ctx.elementwise("SUB", valid, ctx.stack([queries])))
    distance = ctx.elementwise("SUB", places, own)
    if attributes.ahead >= 0:
        conditions.append(ctx.elementwise("GREATER", distance, ctx.like(attributes.ahead, distance)))
    if attributes.behind >= 0:
        conditions.append(ctx.elementwise("LESS", distance, ctx.like(-attributes.behind, distance)))
    return conditions


def _is_lowest(ctx: LoweringContext, tensor: Tensor) -> Tensor:
    return ctx.elementwise("EQUAL", tensor, ctx.like(-math.inf, tensor))


# -- rotary embedding -----------------------------------------------------------------------------------------


def _rotary(ctx: LoweringContext) -> Tensor:
    """Each pair of a head's numbers turned by its angle (arXiv:2104.09864, equation 15)."""
    x = ctx.tensor(0)
    ctx.require_floats(x)
    shape = tuple(int(dim) for dim in x.shape)
    sizes = ctx.sizes(x)
    if len(shape) == 3:
        heads = ctx.node.integer("num_heads", 0)
        if heads < 1 or shape[2] < 0:
            raise ctx.refuse("the number of heads or the width is unknown", "set num_heads and fix the width")
        apart = ctx.reshape(x, [sizes[0], sizes[1], heads, shape[2] // heads])
        return ctx.reshape(_rotated(ctx, apart, 2), sizes)
    return _rotated(ctx, x, 1)


def _rotated(ctx: LoweringContext, x: Tensor, heads: int) -> Tensor:
    """The first ``rotary_embedding_dim`` numbers of each head turned; ``heads`` is the axis of heads."""
    width, sizes = int(x.shape[3]), ctx.sizes(x)
    turned = ctx.node.integer("rotary_embedding_dim", 0) or width
    if turned < 0 or turned % 2:
        raise ctx.refuse("an odd or open number of numbers is turned", "set rotary_embedding_dim")
    cosine, sine = (ctx.unsqueeze(_angles(ctx, index), [heads]) for index in (1, 2))
    half, step = turned // 2, 2 if ctx.node.integer("interleaved", 0) else 1
    starts = (0, 1) if step == 2 else (0, half)

    def part(start: int, length: int, by: int = 1) -> Tensor:
        return ctx.slice(x, [0, 0, 0, start], [*sizes[:3], length], [1, 1, 1, by]).get_output(0)

    def times(left: Tensor, right: Tensor) -> Tensor:
        return ctx.elementwise("PROD", left, right)

    first, second = (part(start, half, step) for start in starts)
    pair = [
        ctx.elementwise("SUB", times(cosine, first), times(sine, second)),
        ctx.elementwise("SUM", times(sine, first), times(cosine, second)),
    ]
    if step == 2:
        columns = [ctx.reshape(column, [*sizes[:3], half, 1]) for column in pair]
        result = ctx.reshape(ctx.concatenate(columns, 4), [*sizes[:3], turned])
    else:
        result = ctx.concatenate(pair, 3)
    return result if turned == width else ctx.concatenate([result, part(turned, width - turned)], 3)


def _angles(ctx: LoweringContext, index: int) -> Tensor:
    """Cosine or sine [batch, sequence, pairs], looked up where positions are given."""
    table = ctx.tensor(index)
    return ctx.gather(table, ctx.tensor(3), 0) if ctx.node.has(3) else table
