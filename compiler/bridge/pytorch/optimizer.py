"""Optimisers with a learning rate that fits the weights.

    rate(w) = ρ · max(rms(w), floor)        (relative step size: Shazeer & Stern 2018, arXiv 1804.04235, section 8)

Adam changes every weight by about its learning rate, whatever the loss is scaled by. A rate in proportion to the size
of the weights therefore suits a convolution that a normalisation was folded into as well as a transformer, with no
number to be found by trial. Tensors of similar size, to the next power of two, share a group, since each costs time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

OptimizerName = Literal["adam", "sgd"]

RELATIVE_RATE = 0.01
SMALLEST_RMS = 0.01
"""A bias of zeros must be able to move."""
SGD_RATE = 0.01
GENTLE = 0.1
"""What our own rates are multiplied with where a model only needs adjusting, as to a grid of integers."""
MOMENTUM = 0.9


def make_optimizer(
    name: OptimizerName, parameters: Iterable[Tensor], learning_rate: float | None, *, gentle: bool = False
) -> torch.optim.Optimizer:
    """The optimiser. Each of its groups holds its full learning rate under ``full_rate``.

    Args:
        name: ``adam``, or ``sgd`` with Nesterov momentum.
        parameters: what to train.
        learning_rate: the same for all; None for the relative one with Adam, and 0.01 with SGD.
        gentle: a rate of our own is a tenth of that.
    """
    groups: dict[float, list[Tensor]] = {}
    for parameter in parameters:
        own = _rate(name, parameter) * (GENTLE if gentle else 1.0)
        groups.setdefault(own if learning_rate is None else learning_rate, []).append(parameter)
    settings = [
        {"params": members, "lr": rate, "full_rate": rate} for rate, members in sorted(groups.items(), reverse=True)
    ]
    if name == "sgd":
        return torch.optim.SGD(settings, momentum=MOMENTUM, nesterov=True, foreach=True)
    return torch.optim.Adam(settings, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every learning rate to this share of its full size."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * factor


def _rate(name: OptimizerName, parameter: Tensor) -> float:
    if name == "sgd":
        return SGD_RATE
    rms = float(parameter.detach().double().square().mean().sqrt()) if parameter.numel() else 0.0
    return float(RELATIVE_RATE * 2.0 ** round(math.log2(max(rms, SMALLEST_RMS))))
