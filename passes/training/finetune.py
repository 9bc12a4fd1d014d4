"""Fine-tuning: the compressed model goes on learning from labels.

    loss = cross-entropy with class indices, or with labels of sigmoids; ‖s − label‖² for anything else

Needs labels in the calibration part of the data, for a sample or for every position of it. With several outputs, they
are for the first that holds class scores, else for the only one that they fit. Distillation needs none, and is mostly
better: a teacher's scores hold more information than a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphpress import torch_bridge
from graphpress.data import Feed
from graphpress.ir import Model
from graphpress.manager.contract import Context
from graphpress.passes.training._data import input_names
from graphpress.passes.training._labels import check_labels, label_reading, label_term
from graphpress.passes.training._outputs import read_outputs
from graphpress.passes.training._recovery import Recovery, TrainingTask, need_labels, threads_of, trains
from graphpress.passes.training._teachers import LABELS, DistillationSpec, TeacherEnsemble, classifier_of

if TYPE_CHECKING:
    from graphpress.training.losses import Objective


@dataclass(frozen=True)
class Finetune(Recovery):
    """Train the model on labeled calibration data.

    Args:
        minutes: stop after this long; 15 when neither minutes nor steps are given.
        steps: stop after this many steps.
        batch_size: samples a step.
        learning_rate: at its highest; None for one that suits the size of the weights and short trials from the start.
        optimizer: adam, or sgd with momentum; auto takes sgd where most of the work is convolution.
        augment: vary images: shift them, or flip them left to right as well. By itself it shifts where a label is of a
            whole image, and flips where the original takes nearly all mirrored images for the same class.
        holdout: share of the data that is not trained on, but measured to find the best weights.
        patience: end when the held-out loss has not fallen for this many of forty measurements; None for never.
        checkpoint_seconds: save the state this often; a run that was killed is taken up when it is started again.
    """

    name: ClassVar[str] = "finetune"

    def may_vary(self, labels: np.ndarray | None) -> bool:
        """A label of a whole image holds for the shifted image; one of a pixel does not."""
        return labels is not None and labels.ndim == 1

    def task(self, model: Model, context: Context) -> TrainingTask:
        """The labels alone; the original only classifies mirrored images."""
        labels = need_labels(context, self.name)
        readings = read_outputs(model)
        reading = label_reading(readings, labels, model)
        check_labels(labels, reading, model)
        student = torch_bridge.to_module(model, taps=[reading.value], trainable=trains(context))
        original = DistillationSpec(input_names(model), [reading], threads=threads_of(context)).teacher(
            context.original
        )

        def objective(scales: dict[str, float]) -> Objective:
            from graphpress.training.losses import Objective

            return Objective([label_term(reading, 1.0, LABELS)])

        return TrainingTask(
            student, objective, _nothing, classifier_of(TeacherEnsemble([original]), [reading]), labeled=True
        )


def _nothing(feed: Feed) -> dict[str, np.ndarray]:
    """The targets of no teachers."""
    return {}
