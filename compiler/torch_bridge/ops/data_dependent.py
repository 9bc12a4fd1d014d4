"""Operators whose sizes depend on what the data holds: NonZero, Compress, NonMaxSuppression, Unique.

Where the results are positions they pass no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpress.torch_bridge.context import Kernel, Translation, TranslationContext


def entries() -> dict[str, Translation]:
    """The operators of this family."""
    return {"Compress": _compress, "NonMaxSuppression": _suppress, "NonZero": _non_zero, "Unique": _unique}


def _non_zero(ctx: TranslationContext) -> Kernel:
    del ctx
    return lambda data: data.nonzero().T.contiguous()


# -- non-maximum suppression ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SuppressionLimits:
    """What a box must satisfy to be kept: at most ``count`` a class, an overlap and a least score."""

    count: int
    overlap: float
    score: float | None


def _suppress(ctx: TranslationContext) -> Kernel:
    centered = ctx.node.flag("center_point_box")

    def run(
        boxes: Tensor,
        scores: Tensor,
        count: Tensor | None = None,
        overlap: Tensor | None = None,
        least: Tensor | None = None,
    ) -> Tensor:
        limits = SuppressionLimits(
            count=0 if count is None else int(count.detach()),
            overlap=0.0 if overlap is None else float(overlap.detach()),
            score=None if least is None else float(least.detach()),
        )
        kept = [
            torch.stack([torch.full_like(chosen, item), torch.full_like(chosen, label), chosen], 1)
            for item in range(len(boxes))
            for label in range(scores.shape[1])
            for chosen in [suppress(corners(boxes[item].detach(), centered), scores[item, label].detach(), limits)]
        ]
        return torch.cat(kept) if kept else torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)

    return run


def corners(boxes: Tensor, centered: bool) -> Tensor:
    """Boxes [n, 4] as lower and upper corner, from center and size (x, y, width, height) or any two corners."""
    first, second = torch.split(boxes, 2, 1)
    if centered:
        return torch.cat([first - second / 2, first + second / 2], 1)
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], 1)


def suppress(boxes: Tensor, scores: Tensor, limits: SuppressionLimits) -> Tensor:
    """Indices of the boxes that stay, best first: each that overlaps none that is better by more than the limit."""
    order = scores.argsort(descending=True, stable=True)
    if limits.score is not None:
        order = order[scores[order] > limits.score]
    kept: list[Tensor] = []
    while len(order) and len(kept) < limits.count:
        kept.append(order[0])
        order = order[1:][overlaps(boxes[order[0]], boxes[order[1:]]) <= limits.overlap]
    return torch.stack(kept) if kept else order[:0]


def overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one box with each of the others [n, 4]."""
    lower, upper = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    common = (upper - lower).clamp(min=0).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    return torch.where(areas > 0, common / areas, 0)


# -- unique -----------------------------------------------------------------------------------------------------


def _unique(ctx: TranslationContext) -> Kernel:
    axis = ctx.node.integer("axis", 0) if "axis" in ctx.node.attributes else None
    ordered, outputs = ctx.node.flag("sorted", True), ctx.node.output_count

    def run(data: Tensor) -> Tensor | tuple[Tensor, ...]:
        flat = data.reshape(-1) if axis is None else data
        results = unique(flat, axis or 0, ordered)
        return results[0] if outputs == 1 else results[:outputs]

    return run


def unique(data: Tensor, axis: int, ordered: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distinct slices of an axis, where each comes first, which one each position holds, and how many there are.

    Args:
        data: at least one axis.
        axis: the axis whose slices are compared.
        ordered: in ascending order, else in the order of first appearance.
    """
    _, inverse, counts = torch.unique(data.detach(), return_inverse=True, return_counts=True, dim=axis)
    places = torch.arange(len(inverse), device=data.device)
    first = torch.full_like(counts, len(inverse)).scatter_reduce(0, inverse, places, "amin")
    if not ordered:
        order = first.argsort()
        first, counts, inverse = first[order], counts[order], order.argsort()[inverse]
    return data.index_select(axis, first), first, inverse, counts


def _compress(ctx: TranslationContext) -> Kernel:
    axis = ctx.node.integer("axis", 0) if "axis" in ctx.node.attributes else None

    def run(data: Tensor, condition: Tensor) -> Tensor:
        chosen = condition.reshape(-1).nonzero().reshape(-1)
        return data.reshape(-1)[chosen] if axis is None else data.index_select(axis, chosen)

    return run
