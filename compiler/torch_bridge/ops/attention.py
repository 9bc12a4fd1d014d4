"""Attention with masks, caches and grouped queries, and rotary embedding.

    y = softmax(softcap(scale · q kᵀ) + bias) v

A query whose keys are all forbidden gives zero, and passes no gradient on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphpress.ops.semantics.attention import AttentionAttributes
from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext
from graphpress.torch_bridge.tensors import torch_dtype


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"Attention": _attention, "RotaryEmbedding": _rotary}


@dataclass(frozen=True)
class Mask:
    """Which keys a query may attend to.

    Args:
        offset: keys before the first query: one number, or a tensor [batch].
        behind: at most so many positions before its own; -1 for all.
        ahead: at most so many positions after its own; -1 for all.
        valid: keys that are no padding, a tensor [batch].
        given: the caller's mask, boolean (true attends) or added to the scores; its last axis may be shorter.
    """

    offset: int | Tensor = 0
    behind: int = -1
    ahead: int = -1
    valid: Tensor | None = None
    given: Tensor | None = None

    def bias(self, queries: int, keys: int, like: Tensor) -> Tensor | None:
        """The number to add where a query attends, -inf elsewhere; broadcasts to [batch, heads, queries, keys].

        None where every query attends to every key.
        """
        if self.ahead < 0 and self.behind < 0 and self.valid is None and self.given is None:
            return None
        allowed = self._window(queries, torch.arange(keys, device=like.device))
        bias = like.new_zeros(())
        if self.given is not None:
            missing = keys - self.given.shape[-1]
            if self.given.dtype == torch.bool:
                allowed = allowed & functional.pad(self.given, (0, missing), value=False)
            else:
                bias = functional.pad(self.given, (0, missing), value=-math.inf)
        return torch.where(allowed, bias, -math.inf)

    def _window(self, queries: int, keys: Tensor) -> Tensor:
        offset = self.offset.reshape(-1, 1, 1, 1) if isinstance(self.offset, Tensor) else self.offset
        distance = keys - (torch.arange(queries, device=keys.device)[:, None] + offset)
        allowed = torch.ones_like(distance, dtype=torch.bool)
        if self.ahead >= 0:
            allowed = allowed & (distance <= self.ahead)
        if self.behind >= 0:
            allowed = allowed & (distance >= -self.behind)
        return allowed if self.valid is None else allowed & (keys < self.valid.reshape(-1, 1, 1, 1))


def _attention(ctx: TranslationContext) -> Kernel:
    attributes = AttentionAttributes.of(ctx.node)
    outputs = ctx.node.output_count

    def run(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        flat = query.dim() == 3
        query = _split_heads(query, attributes.query_heads)
        key = _after(past_key, _split_heads(key, attributes.key_heads))
        value = _after(past_value, _split_heads(value, attributes.key_heads))
        offset: int | Tensor = 0
        if past_key is not None:
            offset = past_key.shape[2]
        elif valid is not None:
            offset = valid - query.shape[2]
        result, scores = attend(
            query, key, value, Mask(offset, attributes.behind, attributes.ahead, valid, mask), attributes
        )
        if flat:
            result = result.transpose(1, 2).flatten(2)
        return result if outputs == 1 else (result, key, value, scores)[:outputs]

    return run


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, attributes: AttentionAttributes
) -> tuple[Tensor, Tensor]:
    """Attention of tensors [batch, heads, sequence, width], and the scores at the stage that is shown."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    root = math.sqrt(attributes.scale if attributes.scale is not None else 1 / math.sqrt(query.shape[-1]))
    scores = (query * root) @ (key * root).transpose(-1, -2)
    capped = attributes.softcap * torch.tanh(scores / attributes.softcap) if attributes.softcap else scores
    bias = mask.bias(query.shape[2], key.shape[2], query)
    biased = capped if bias is None else capped + bias
    blind = None if bias is None else (bias == -math.inf).all(-1, keepdim=True)
    precise = query.dtype
    if attributes.precision is not None:
        precise = torch.promote_types(precise, torch_dtype(attributes.precision))
    seen = biased if blind is None else biased.masked_fill(blind, 0)
    weights = torch.softmax(seen, -1, dtype=precise).to(query.dtype)
    if blind is not None:
        weights = weights.masked_fill(blind, 0)
    return weights @ value, (scores, capped, biased, weights)[attributes.shown]


def _split_heads(data: Tensor, heads: int) -> Tensor:
    return data if data.dim() == 4 else torch.unflatten(data, 2, (heads, -1)).transpose(1, 2)


def _after(past: Tensor | None, data: Tensor) -> Tensor:
    return data if past is None else torch.cat([past, data], 2)


def _rotary(ctx: TranslationContext) -> Kernel:
    heads, width = ctx.node.integer("num_heads", 0), ctx.node.integer("rotary_embedding_dim", 0)
    interleaved = ctx.node.flag("interleaved")

    def run(data: Tensor, cosine: Tensor, sine: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is not None:
            cosine, sine = cosine[positions.long()], sine[positions.long()]
        split = data.transpose(1, 2) if data.dim() == 4 else torch.unflatten(data, 2, (heads, -1))
        turned = width or split.shape[-1]
        rotated = rotate(split[..., :turned], cosine.unsqueeze(2), sine.unsqueeze(2), interleaved)
        result = torch.cat([rotated, split[..., turned:]], -1)
        return result.transpose(1, 2) if data.dim() == 4 else result.flatten(2)

    return run


def rotate(data: Tensor, cosine: Tensor, sine: Tensor, interleaved: bool) -> Tensor:
    """Turn each pair of the last axis by its angle (arXiv:2104.09864, equation 15).

    Args:
        data: [..., 2n]; pairs are neighbors when interleaved, else j and j + n.
        cosine: of the angles, [..., n].
        sine: of the angles, [..., n].
        interleaved: which positions make a pair.
    """
    first, second = (data[..., 0::2], data[..., 1::2]) if interleaved else data.chunk(2, -1)
    parts = [cosine * first - sine * second, sine * first + cosine * second]
    return torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
