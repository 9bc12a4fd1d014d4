"""Distillation: the compressed model learns to answer as the original does. It needs no labels.

    loss = Σ outputs   T² · KL(softmax(t / T) ‖ softmax(s / T))           class scores     (Hinton et al. 2015)
                       KL of independent probabilities                    sigmoids
                       ‖s − t‖² / var(t)                                  anything else
         + features  · Σ ‖s_k − t_k[kept]‖² / ‖t_k‖²                      inner values     (Romero et al. 2015)
         + attention · Σ ‖Q(s_k)/‖Q(s_k)‖ − Q(t_k)/‖Q(t_k)‖‖²             where features lie (Zagoruyko et al. 2017)
         + labels    · cross-entropy with the data's labels

Inner values show the way early on: their weight, in units of the variance of the teacher's scores, falls to zero in
the course of the training, and only outputs and labels count where held-out data is measured. (Measured on a ResNet-20
pruned to half its multiply-accumulates: after 100 steps 60 % top-1 with them, 41 % without.)

Block-wise, every block between two values that everything flows through is fed what the teacher feeds its own, and
learns what that makes of it; all blocks train side by side, and no gradient crosses a border.

Outputs are the original model's, or the average of the teachers given. Inner values are those of the model that the
transaction began with: values keep their names and meaning through a transaction, and removed channels are known.

Refuses without data. What is no floating-point number, such as an argmax, cannot be learned and is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphpress import torch_bridge
from graphpress.errors import UsageError
from graphpress.ir import Model, Refusal, rank_of
from graphpress.ir.extract import extract
from graphpress.manager.contract import Context
from graphpress.passes.training._blocks import Chain, borders, cuts, learned
from graphpress.passes.training._data import first_feed, input_names
from graphpress.passes.training._labels import check_labels, label_reading
from graphpress.passes.training._outputs import Reading, read_outputs
from graphpress.passes.training._recovery import (
    Recovery,
    TrainingTask,
    need_labels,
    threads_of,
    trains,
)
from graphpress.passes.training._teachers import (
    FEATURE,
    LABELS,
    OUTPUT,
    DistillationSpec,
    TeacherEnsemble,
    check_answers,
    classifier_of,
    load_teachers,
)

if TYPE_CHECKING:
    from graphpress.training.losses import Objective, Term

MAX_FEATURES = 4
USUAL_SPREAD = 10.0
"""Standard deviation of class scores up to which a temperature means what papers mean by it; where the teacher's scores
are spread wider, it is raised in proportion, lest one class be certain whatever the temperature."""


@dataclass(frozen=True)
class Distill(Recovery):
    """Train the model to answer as the original does, on unlabeled data.

    Args:
        minutes: stop after this long; 15 when neither minutes nor steps are given.
        steps: stop after this many steps.
        batch_size: samples a step.
        learning_rate: at its highest; None for one that suits the size of the weights and short trials from the start.
        optimizer: adam, or sgd with momentum; auto takes sgd where most of the work is convolution.
        augment: vary images: shift them, or flip them left to right as well. By itself it shifts, mixes images of a
            batch with each other where no labels are learned, and flips where the teacher takes nearly all mirrored
            images for the same class; other data is left as it is.
        holdout: share of the data that is not trained on, but measured to find the best weights.
        patience: end when the held-out loss has not fallen for this many of forty measurements; None for never.
        checkpoint_seconds: save the state this often; a run that was killed is taken up when it is started again.
        temperature: softens class scores; raised in proportion where the teacher's are spread unusually wide.
        loss: auto, or kl or mse for every output.
        soft_labels: weight of the teacher's outputs.
        features: weight of the teacher's inner values.
        attention: weight of where the teacher's inner values are large.
        labels: weight of the calibration data's own labels.
        teachers: ONNX files of models to learn from in place of the original; several are averaged.
        mode: end_to_end, or blockwise: every block by itself.
    """

    name: ClassVar[str] = "distill"
    requires: ClassVar[tuple[str, ...]] = ("reconstruct",)

    temperature: float = 4.0
    loss: Literal["auto", "kl", "mse"] = "auto"
    soft_labels: float = 1.0
    features: float = 0.0
    attention: float = 0.0
    labels: float = 0.0
    teachers: tuple[str, ...] = ()
    mode: Literal["end_to_end", "blockwise"] = "end_to_end"

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.soft_labels, self.features, self.attention, self.labels)
        if not all(weight >= 0 for weight in weights) or not any(weights):
            raise UsageError(
                "weights must be 0 or more, and one of them above 0",
                where=self.name,
                fix="leave soft_labels, features, attention and labels out for the defaults",
            )
        if not self.temperature > 0:
            raise UsageError(
                f"temperature must be above 0, not {self.temperature}", where=self.name, fix="2 to 10 are usual"
            )
        if self.mode == "blockwise" and (self.features or self.attention or self.labels):
            raise UsageError(
                "block by block, only what blocks compute is learned",
                where=f"{self.name}{{mode=blockwise}}",
                fix="leave features, attention and labels out",
            )

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Without data, and where no output has a gradient."""
        if not read_outputs(model):
            return Refusal(self.name, "no output of the model is a floating-point number", "leave distill out")
        return super().refuse(model, context)

    def may_vary(self, labels: np.ndarray | None) -> bool:
        """The teacher sees what the student sees; labels must be of whole images."""
        return not self.labels or (labels is not None and labels.ndim == 1)

    def may_mix(self) -> bool:
        """The teacher answers for a mixture; a label does not."""
        return not self.labels

    def task(self, model: Model, context: Context) -> TrainingTask:
        """Outputs of the teachers, inner values of the start, labels of the data."""
        readings = read_outputs(model, self.loss)
        teachers = load_teachers(self.teachers) or [context.original]
        if self.mode == "blockwise":
            return self._blockwise(model, context, readings, teachers)
        features, start = self._features(model, context), _start(context)
        taps = sorted({reading.value for reading in readings} | set(features))
        student = torch_bridge.to_module(model, taps=taps, trainable=trains(context))
        labeled = self._labeled(readings, model, context)
        ensemble = self._ensemble(model, context, readings, features, teachers)
        return TrainingTask(
            student,
            lambda scales: self._objective(readings, features, labeled, scales),
            ensemble.targets,
            classifier_of(ensemble, readings),
            labeled=labeled is not None,
            teachers=[*teachers, *([start] if features else [])],
            notes=[f"{len(features)} inner values taught: {', '.join(features)}"] if features else [],
        )

    def _ensemble(
        self, model: Model, context: Context, readings: list[Reading], features: list[str], teachers: list[Model]
    ) -> TeacherEnsemble:
        kept = {} if context.transaction is None else context.transaction.kept
        spec = DistillationSpec(input_names(model), readings, self.loss, features, kept, threads_of(context))
        feed = first_feed(context)
        ensemble = spec.ensemble(teachers, _start(context), feed)
        if self.teachers:
            check_answers(ensemble.targets(feed), readings, model)
        return ensemble

    def _features(self, model: Model, context: Context) -> list[str]:
        """The inner values to learn from: a few of those that everything flows through, evenly spaced.

        Raises:
            UsageError: they were requested, and there is none.
        """
        if not self.features and not self.attention:
            return []
        from graphpress.torch_bridge import is_trainable

        known = {value.name for node in _start(context).graph for value in node.outputs}
        ranks = {value.name: rank_of(value) or 0 for node in model.graph for value in node.outputs}
        depends = learned(model, trains(context) or is_trainable)
        names = [name for name in cuts(model, depends.__contains__) if name in known and ranks[name] > 2]
        if not names:
            raise UsageError(
                "the model has no inner value of rank 3 or more that everything flows through",
                where=f"{self.name}{{features, attention}}",
                fix="leave features and attention out",
            )
        places = np.linspace(0, len(names) - 1, min(MAX_FEATURES, len(names)) + 1)[1:].astype(int)
        return [names[at] for at in dict.fromkeys(places.tolist())]

    def _labeled(self, readings: list[Reading], model: Model, context: Context) -> Reading | None:
        if not self.labels:
            return None
        labels = need_labels(context, f"{self.name}{{labels}}")
        reading = label_reading(readings, labels, model)
        check_labels(labels, reading, model)
        return reading

    def _objective(
        self,
        readings: list[Reading],
        features: list[str],
        labeled: Reading | None,
        scales: dict[str, float],
    ) -> Objective:
        from graphpress.passes.training._labels import label_term
        from graphpress.training.losses import Objective, Term, attention_transfer, hint

        terms = self._output_terms(readings, scales) if self.soft_labels else []
        if labeled is not None:
            terms.append(label_term(labeled, self.labels, LABELS))
        guides = bool(terms)
        unit = _unit(readings, scales)
        for weight, loss in ((self.features, hint), (self.attention, attention_transfer)):
            if weight:
                terms += [Term(unit * weight / len(features), name, FEATURE + name, loss, guides) for name in features]
        return Objective(terms)

    def _output_terms(self, readings: list[Reading], scales: dict[str, float]) -> list[Term]:
        from functools import partial

        from graphpress.training.losses import Term, normalized_square, soft_decisions, soft_labels

        terms = []
        for reading in readings:
            target = OUTPUT + reading.output
            loss: Any = soft_decisions
            if reading.kind == "classes":
                temperature = self.temperature * max(1.0, np.sqrt(scales[target]) / USUAL_SPREAD)
                loss = partial(soft_labels, temperature=temperature, axis=reading.axis)
            elif reading.kind == "values":
                loss = partial(normalized_square, scale=scales[target])
            terms.append(Term(self.soft_labels / len(readings), reading.value, target, loss))
        return terms

    def _blockwise(
        self,
        model: Model,
        context: Context,
        readings: list[Reading],
        teachers: list[Model],
    ) -> TrainingTask:
        """Every block by itself; the last one learns the outputs."""
        start = _start(context)
        whole = torch_bridge.to_module(model, trainable=trains(context))
        known = {value.name for node in start.graph for value in node.outputs}
        boundaries = borders(model, whole.parameters, known.__contains__)
        inputs = [input_names(model), *([name] for name in boundaries)]
        outputs = [*([name] for name in boundaries), [reading.output for reading in readings]]
        taps = sorted({reading.value for reading in readings})
        blocks = [
            torch_bridge.to_module(
                extract(model, begin, end), taps=taps if end is outputs[-1] else (), trainable=trains(context)
            )
            for begin, end in zip(inputs, outputs, strict=True)
        ]
        if len({name for block in blocks for name in block.parameters}) < sum(
            len(block.parameters) for block in blocks
        ):
            raise UsageError(
                "blocks share weights", where=f"{self.name}{{mode=blockwise}}", fix="leave mode=blockwise out"
            )
        ensemble = self._ensemble(model, context, readings, boundaries, teachers)
        return TrainingTask(
            Chain(blocks),
            lambda scales: self._block_objective(readings, boundaries, scales),
            ensemble.targets,
            classifier_of(ensemble, readings),
            blocks=tuple(boundaries),
            teachers=[*teachers, start],
            notes=[f"{len(blocks)} blocks, each by itself"],
        )

    def _block_objective(self, readings: list[Reading], boundaries: list[str], scales: dict[str, float]) -> Objective:
        from functools import partial

        from graphpress.training.losses import Objective, Term, normalized_square

        inner = [
            Term(
                _unit(readings, scales), name, FEATURE + name, partial(normalized_square, scale=scales[FEATURE + name])
            )
            for name in boundaries
        ]
        return Objective([*inner, *self._output_terms(readings, scales)])


def _start(context: Context) -> Model:
    """The model whose inner values the student's go with."""
    return context.original if context.transaction is None else context.transaction.start


def _unit(readings: list[Reading], scales: dict[str, float]) -> float:
    """What a relative difference of one is worth beside the divergence of class scores, which grows as their square."""
    return max((scales[OUTPUT + reading.output] for reading in readings if reading.kind == "classes"), default=1.0)
