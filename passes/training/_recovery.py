"""What recovery passes that train share: the fields, the data, and the way from a graph to its trained weights.

The graph goes through the framework bridge, trains, and its weights are written back at the very end: whatever fails
before, the model is as it was.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from graphpress import torch_bridge
from graphpress.analysis.cost import model_cost
from graphpress.analysis.leading_axes import fed_inputs
from graphpress.data import Feed
from graphpress.data.inputs import fixed_batch
from graphpress.deadline import PASSES, TRAINING, Deadline
from graphpress.errors import BackendError, DataError, UsageError
from graphpress.ir import Model, Refusal, Value, constant
from graphpress.ir.encoding import encoding_of
from graphpress.ir.sparsity import fault_of, mask_of, set_sparsity, sparsity_of
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.training._data import feeds_of
from graphpress.passes.training._limits import check_memory, check_precision
from graphpress.passes.training._target_cache import TargetCache, scales
from graphpress.passes.training._teachers import digest_of
from graphpress.torch_bridge import BridgeError, TrainableModel

if TYPE_CHECKING:
    from graphpress.training.augment import Augmentation
    from graphpress.training.checkpoint import Store
    from graphpress.training.data import TrainingData
    from graphpress.training.losses import Objective
    from graphpress.training.settings import Training

DEFAULT_MINUTES = 15.0
FLIP_AGREEMENT = 0.85
"""Share of images that must be of the same class to the teacher when they are mirrored, for mirrored ones to be used
by default. Letters and digits stay far below it."""
FLIP_SAMPLES = 256


@dataclass(frozen=True)
class TrainingDecision:
    """What is recorded of a training.

    Args:
        knots: its plan; None where none is recorded.
        flip: whether images were mirrored.
        share: of the rate that fits the weights, as trials found it.
    """

    knots: Sequence[Sequence[int]] | None = None
    flip: bool | None = None
    share: float | None = None


@dataclass(frozen=True)
class TrainingTask:
    """What is trained, towards what.

    Args:
        student: what learns.
        objective: the loss, from the scales of the targets.
        targets: the teachers' targets for a feed.
        classifier: the class scores that a model gives to a feed, to see whether mirrored images keep their class.
        blocks: inner values that the student is fed with.
        labeled: the loss needs the labels of the data.
        teachers: models that a state of the training depends on.
        notes: for the report.
    """

    student: TrainableModel
    objective: Callable[[dict[str, float]], Objective]
    targets: Callable[[Feed], dict[str, np.ndarray]]
    classifier: Callable[[Feed], np.ndarray] | None
    blocks: tuple[str, ...] = ()
    labeled: bool = False
    teachers: Sequence[Model] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Recovery(Pass):
    """Base of the passes that train: everything but what they train towards."""

    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    minutes: float | None = None
    steps: int | None = None
    batch_size: int = 64
    learning_rate: float | None = None
    optimizer: Literal["auto", "adam", "sgd"] = "auto"
    augment: Literal["auto", "none", "shift", "flip"] = "auto"
    holdout: float = 0.1
    patience: int | None = 20
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("minutes", 0), ("steps", 0), ("batch_size", 0), ("learning_rate", 0), ("patience", 0)):
            value = getattr(self, name)
            if value is not None and not value > least:
                raise UsageError(
                    f"{name} must be above {least}, not {value}", where=self.name, fix="leave it out for the default"
                )
        if not 0 <= self.holdout <= 0.5:
            raise UsageError(
                f"holdout must lie between 0 and 0.5, not {self.holdout}", where=self.name, fix="0.1 is usual"
            )

    def check(self, context: Context) -> None:
        """Training needs the framework, where there is data to train on."""
        if context.calibration is not None:
            need_torch()

    def task(self, model: Model, context: Context) -> TrainingTask:
        """What is trained, towards what."""
        raise NotImplementedError

    def may_vary(self, labels: np.ndarray | None) -> bool:
        """Whether what the samples are compared with holds for a shifted image, too."""
        raise NotImplementedError

    def may_mix(self) -> bool:
        """Whether there is something to compare a mixture of two images with."""
        return False

    def run(self, model: Model, context: Context) -> Outcome:
        """Train, then write the best weights back.

        Raises:
            BackendError: torch is not installed.
            DataError: the data or its labels cannot be trained on.
            UsageError: fields that do not fit the model, a loss that is no number any more, too little memory.
        """
        began = time.monotonic()
        need_torch()
        data = self._open(model, context)
        try:
            task = self.task(model, context)
        except BridgeError as error:
            return Outcome(0, [Refusal(error.where or self.name, error.what, error.fix)])
        if not task.student.parameters:
            return Outcome(0, [Refusal(self.name, "the model has no weights that can be trained", "leave it out")])
        check_precision(task.student.parameters, self.name)
        check_memory(model, self._per_call(model, data.count), task.student.parameters, self.name)
        augmentation = self._augmentation(data, task, context)
        store = self._store(model, context, task.teachers)
        stored = store is not None and store.file.exists()
        training = self._train(
            task, self._target_cache(data, task, augmentation, context), store, began, model, context
        )
        changes = write_back(task.student, model)
        flip = augmentation is not None and augmentation.flip
        context.decisions[self._key(context)] = asdict(TrainingDecision(training.knots, flip, training.share))
        if store is not None:
            store.discard()
        return Outcome(
            changes,
            notes=[
                *task.notes,
                *_loss_notes(training, held_out=data.holds_out),
                *_notes(training, augmentation, store, unreadable=stored and not training.resumed),
            ],
        )

    def _minutes(self, began: float, deadline: Deadline) -> float | None:
        """How long it may take, what went before the training included: no longer than the whole run has."""
        asked = DEFAULT_MINUTES if self.minutes is None and self.steps is None else self.minutes
        if deadline.seconds is None:
            return asked
        most = (time.monotonic() - began + TRAINING * deadline.left(PASSES)) / 60
        return most if asked is None else min(asked, most)

    def _train(
        self,
        task: TrainingTask,
        target_cache: TargetCache,
        store: Store | None,
        began: float,
        model: Model,
        context: Context,
    ) -> Training:
        from graphpress.training.settings import Settings
        from graphpress.training.train_loop import train

        settings = Settings(
            steps=self.steps,
            minutes=self._minutes(began, context.deadline),
            learning_rate=self.learning_rate,
            share=self._recorded(context).share,
            gentle=_is_quantized(model),
            optimizer=_fitting(model) if self.optimizer == "auto" else self.optimizer,
            patience=self.patience,
            threads=threads_of(context),
            seed=context.seed,
            began=began,
        )
        return train(
            task.student,
            task.objective(scales(target_cache.held_out())),
            target_cache,
            settings,
            progress=context.progress,
            store=store,
            knots=self._recorded(context).knots,
            masks=masks_of(model),
            what=self.name,
        )

    def _target_cache(
        self, data: TrainingData, task: TrainingTask, augmentation: Augmentation | None, context: Context
    ) -> TargetCache:
        return TargetCache(
            data,
            task.targets,
            augmentation,
            context.seed,
            blocks=task.blocks,
            labeled=task.labeled,
            progress=context.progress,
            ahead=self.steps is None or self.steps * self.batch_size >= data.count,
        )

    def _recorded(self, context: Context) -> TrainingDecision:
        """What a recorded run decided."""
        return context.recorded(self._key(context), TrainingDecision) or TrainingDecision()

    def _key(self, context: Context) -> str:
        return f"{context.step}.{self.name}"

    def _open(self, model: Model, context: Context) -> TrainingData:
        from graphpress.training.data import ReadOptions, open_data

        assert context.calibration is not None
        reading = ReadOptions(
            batch_size=self.batch_size,
            call_size=fixed_batch(fed_inputs(model)),
            holdout=self.holdout,
            seed=context.seed,
        )
        return open_data(lambda: feeds_of(context.calibration, model), reading)

    def _per_call(self, model: Model, count: int) -> int:
        """Samples that go through the model at once."""
        return fixed_batch(fed_inputs(model)) or min(self.batch_size, count)

    def _augmentation(self, data: TrainingData, task: TrainingTask, context: Context) -> Augmentation | None:
        """How images are varied, if at all."""
        from graphpress.training.augment import find_images

        example = next(iter(data.held_out()))
        if self.augment == "none" or (self.augment == "auto" and not self.may_vary(example.labels)):
            return None
        augmentation = find_images(
            {name: array.shape for name, array in example.feed.items()},
            {name: array.dtype.kind == "f" for name, array in example.feed.items()},
        )
        if augmentation is None and self.augment != "auto":
            raise UsageError(
                "the model has no input that holds images, or several",
                where=f"{self.name}{{augment={self.augment}}}",
                fix="leave augment out",
            )
        if augmentation is None:
            return None
        mix = self.augment == "auto" and self.may_mix()
        return replace(augmentation, flip=self._flips(augmentation, data, task, context), mix=mix)

    def _flips(self, augmentation: Augmentation, data: TrainingData, task: TrainingTask, context: Context) -> bool:
        if self.augment != "auto":
            return self.augment == "flip"
        recorded = self._recorded(context).flip
        return _means_the_same(augmentation, data, task) if recorded is None else recorded

    def _store(self, model: Model, context: Context, teachers: Sequence[Model]) -> Store | None:
        from graphpress.training.checkpoint import Store

        file = self._state_file(model, context, teachers)
        return None if file is None else Store(file, self.checkpoint_seconds)

    def _state_file(self, model: Model, context: Context, teachers: Sequence[Model]) -> Path | None:
        """Where the state of this very training is kept: its name depends on all that the training depends on."""
        fingerprint = getattr(context.calibration, "fingerprint", None)
        if context.checkpoints is None or fingerprint is None:
            return None
        import torch

        digests = [digest_of(network) for network in (model, *teachers)]
        if None in digests:
            return None

        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "checkpoint_seconds"}
        exclude = context.exclude.pattern if context.exclude else ""
        parts = (self._key(context), own, digests, fingerprint(), context.seed, threads_of(context), exclude)
        name = hashlib.sha256(repr((*parts, torch.__version__)).encode()).hexdigest()
        return context.checkpoints / f"{name}.pt"


def threads_of(context: Context) -> int:
    """Threads to train with: those of the run, or all cores."""
    return context.threads or os.cpu_count() or 1


def trains(context: Context) -> Callable[[Value], bool] | None:
    """Which constants are trained: those that no excluded node reads; None leaves it to the bridge."""
    if context.exclude is None:
        return None
    from graphpress.torch_bridge import is_trainable

    return lambda value: is_trainable(value) and not any(context.excluded(use.node) for use in value.uses())


def masks_of(model: Model) -> dict[str, np.ndarray]:
    """Where the sparse weights differ from zero: their zeros stay zeros."""
    masks = ((name, mask_of(value)) for name, value in model.graph.initializers.items())
    return {name: mask for name, mask in masks if mask is not None}


def write_back(student: TrainableModel, model: Model) -> int:
    """Write the weights back; a weight that still has the sparsity it was annotated with keeps the annotation."""
    sparse = {value: sparsity_of(value) for value in model.graph.initializers.values()}
    changes = torch_bridge.write_back(student, model)
    for value, sparsity in sparse.items():
        array = constant(value)
        if sparsity is not None and array is not None and fault_of(array, sparsity) is None:
            set_sparsity(value, sparsity)
    return changes


def need_torch() -> None:
    """Refuse to train where PyTorch is missing.

    Raises:
        BackendError: torch is not installed.
    """
    here = torch_bridge.available()
    if not here.works:
        raise BackendError(f"training needs PyTorch ({here.detail})", where="torch_bridge", fix=here.install)


def _fitting(model: Model) -> Literal["adam", "sgd"]:
    """The optimizer that suits the model: plain descent where most of the work is convolution, else Adam."""
    layers = model_cost(model).layers
    total = sum(layer.macs for layer in layers)
    convolved = sum(layer.macs for layer in layers if layer.op == "Conv")
    return "sgd" if 2 * convolved > total else "adam"


def _is_quantized(model: Model) -> bool:
    """Whether any weight lives on a grid, near which it should stay."""
    return any(encoding_of(value) is not None for value in model.graph.initializers.values())


def _means_the_same(augmentation: Augmentation, data: TrainingData, task: TrainingTask) -> bool:
    """Whether images are to their classifier of the same class when they are mirrored."""
    if task.classifier is None:
        return False
    same = count = 0
    for example in data.held_out():
        plain, mirrored = (
            task.classifier(feed).argmax(1) for feed in (example.feed, augmentation.flipped(example.feed))
        )
        same, count = same + int((plain == mirrored).sum()), count + plain.size
        if count >= FLIP_SAMPLES:
            break
    return same >= FLIP_AGREEMENT * count


def _loss_notes(training: Training, *, held_out: bool) -> list[str]:
    from graphpress.training.train_loop import ALREADY_THERE

    end = ", stopped early" if training.stopped_early else ""
    loss = "held-out loss" if held_out else "loss on the samples trained on, none being held out,"
    notes = [
        f"{training.steps} steps in {training.seconds / 60:.1f} min{end}: {loss} "
        f"{training.start:.4g} -> {training.best:.4g} (after {training.best_step} steps)"
    ]
    if not training.steps and training.start < ALREADY_THERE:
        notes.append("the loss was no more than rounding at the start: there was nothing to learn")
    return notes


def _notes(
    training: Training, augmentation: Augmentation | None, store: Store | None, *, unreadable: bool
) -> list[str]:
    notes = []
    if augmentation is not None:
        notes.append(f"images were {augmentation.label} at random")
    notes += _rate_notes(training)
    if training.slowed:
        notes.append(f"the learning rate was lowered {training.slowed} times because the loss blew up")
    if training.resumed:
        notes.append(f"an interrupted training was taken up at step {training.resumed}")
    if unreadable and not (store and store.fault):
        notes.append("the state of an interrupted training could not be read: begun anew")
    if store is not None and store.fault:
        notes.append(store.fault)
    if store is None and training.seconds > 60:
        notes.append("no state was saved: had it been interrupted, it would have begun anew")
    return notes


def _rate_notes(training: Training) -> list[str]:
    notes = []
    if training.share is not None:
        notes.append(f"learning rate: {training.share:g} of the one in proportion to the weights, by short trials")
    if training.lowered:
        ending = "" if training.best_step else ", without success: the weights are those at the start"
        tenths = " to a tenth" * training.lowered
        notes.append(f"nothing improved on the start: the learning rate was lowered{tenths}{ending}")
    if training.averaged:
        notes.append("the weights are an average over the last steps")
    return notes


def need_labels(context: Context, where: str) -> np.ndarray:
    """The labels of the calibration data.

    Raises:
        DataError: it has none.
    """
    labels: np.ndarray | None = getattr(context.calibration, "labels", None)
    if labels is None:
        raise DataError(
            "the calibration data has no labels",
            where=where,
            fix="add `labels:` to the calibration part of the data file, or use distill, which needs none",
        )
    return labels
