"""Losses: how far a student's outputs and features are from a teacher's, or from labels.

All are means over the samples, so that the batch size does not change their scale, and all are zero where student and
teacher agree, so that they can be compared and added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TINY = 1e-12
VOID = -1


def soft_labels(student: Tensor, teacher: Tensor, temperature: float, axis: int) -> Tensor:
    """T² · KL(softmax(t / T) ‖ softmax(s / T)), over classes that lie along ``axis``.

    Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2: the factor T² keeps the size of the gradients when the
    temperature changes. Beside the classes, every position counts as a sample.
    """
    theirs = functional.log_softmax(teacher.movedim(axis, -1) / temperature, -1)
    own = functional.log_softmax(student.movedim(axis, -1) / temperature, -1)
    return temperature**2 * (theirs.exp() * (theirs - own)).sum(-1).mean()


def soft_decisions(student: Tensor, teacher: Tensor) -> Tensor:
    """KL between the Bernoulli distributions that independent sigmoid scores define: mean over all scores."""
    wanted = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, wanted)
    return cross - functional.binary_cross_entropy_with_logits(teacher, wanted)


def normalized_square(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """Mean squared difference in units of ``scale``, the teacher's own variance."""
    return functional.mse_loss(student, teacher) / scale


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """‖s − t‖² / ‖t‖²: FitNets (Romero et al. 2015, arXiv 1412.6550, equation 3), without a regressor.

    A pruned student's channels are the teacher's own, so that the features of the channels that were kept compare
    directly; the norm makes layers comparable.
    """
    return (student - teacher).square().sum() / teacher.square().sum().clamp_min(TINY)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ (Q_s/‖Q_s‖ − Q_t/‖Q_t‖)² with Q = Σ_c |A_c|² over the channels (axis 1; the last axis of rank 3).

    Zagoruyko & Komodakis 2017 (arXiv 1612.03928, equation 2) with the squared norm of their code, which is smooth
    where both agree. Student and teacher need the same positions, not the same channels.
    """
    return (_attention(student) - _attention(teacher)).square().sum(1).mean()


def label_loss(scores: Tensor, labels: Tensor, axis: int) -> Tensor:
    """Cross-entropy of class scores against class indices; indices outside the classes are void and don't count.

    Where all are void, nothing is lost.
    """
    rows = scores.movedim(axis, 1)
    rows = rows.reshape(*rows.shape[:2], *labels.shape[1:])  # extents of 1 behind the classes go
    wanted = labels.long()
    void = (wanted < 0) | (wanted >= rows.shape[1])
    lost = functional.cross_entropy(rows, wanted.masked_fill(void, VOID), ignore_index=VOID, reduction="sum")
    return lost / (~void).sum().clamp_min(1)


def label_probabilities_loss(decisions: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of sigmoid scores against labels between 0 and 1, of the same shape but for extents of 1."""
    return functional.binary_cross_entropy_with_logits(decisions, labels.to(decisions.dtype).reshape(decisions.shape))


def label_square(values: Tensor, labels: Tensor) -> Tensor:
    """Mean squared difference from labels of the same shape but for extents of 1."""
    return functional.mse_loss(values, labels.to(values.dtype).reshape(values.shape))


def _attention(features: Tensor) -> Tensor:
    energy = features.square().sum(2 if features.ndim == 3 else 1)
    return functional.normalize(energy.flatten(1), dim=1, eps=TINY)


Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Term:
    """One summand of an objective.

    Args:
        weight: what it is multiplied with.
        student: name of the student's value that it reads.
        target: name of the target that it is compared with.
        loss: of the two.
        guides: it guides the start: its weight falls to zero during the training, and it does not count when
             held-out data is measured.
    """

    weight: float
    student: str
    target: str
    loss: Callable[[Tensor, Tensor], Tensor]
    guides: bool = False


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms."""

    terms: Sequence[Term]

    def __call__(self, values: Values, targets: Values, *, progress: float | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            values: the student's.
            targets: what they are compared with.
            progress: of the training, from 0 to 1; None when held-out data is measured.
        """
        fading = 0.0 if progress is None else 1.0 - progress
        losses = [
            term.weight * (fading if term.guides else 1.0) * term.loss(values[term.student], targets[term.target])
            for term in self.terms
            if fading > 0.0 or not term.guides
        ]
        return torch.stack(losses).sum()
