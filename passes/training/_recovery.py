"""What recovery passes that train share: the fields, the data, and the way from a graph to its trained weights.

The graph goes through the framework bridge, trains, and its weights are written back at the very end: whatever fails
before, the model is as it was.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphpress.bridge import Bridge, TrainableModel, load_bridge
from graphpress.data.inputs import fixed_batch, has_common_batch
from graphpress.errors import BackendError, DataError, UsageError
from graphpress.ir import Model, Value, dims_of, is_constant
from graphpress.manager.contract import Context, Feed, Outcome, Pass
from graphpress.passes.training._lessons import Lessons
from graphpress.passes.training._limits import available_memory, check_memory
from graphpress.passes.training._teachers import digest_of
from graphpress.runtime import InputSpec

if TYPE_CHECKING:
    from graphpress.bridge.pytorch.augment import Augmentation
    from graphpress.bridge.pytorch.checkpoint import Store
    from graphpress.bridge.pytorch.data import TrainingData
    from graphpress.bridge.pytorch.losses import Objective
    from graphpress.bridge.pytorch.train_loop import Training

Augment = Literal["auto", "none", "shift", "flip"]
Optimizer = Literal["adam", "sgd"]

DEFAULT_MINUTES = 15.0
FLIP_AGREEMENT = 0.85
"""Share of images that must be of the same class to the teacher when they are mirrored, for mirrored ones to be used
unasked. Letters and digits stay far below it."""
FLIP_SAMPLES = 256


@dataclass(frozen=True)
class Course:
    """What is trained, towards what.

    Args:
        student: what learns.
        objective: the loss, from the scales of the targets.
        targets: what the teachers say of a feed.
        judge: the class scores that somebody gives to a feed, for asking whether a mirrored image means the same.
        blocks: inner values that the student is fed with.
        teachers: models that a state of the training depends on.
        notes: for the report.
    """

    student: TrainableModel
    objective: Callable[[dict[str, float]], Objective]
    targets: Callable[[Feed], dict[str, np.ndarray]]
    judge: Callable[[Feed], np.ndarray] | None
    blocks: tuple[str, ...] = ()
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
    batch_size: int = 128
    learning_rate: float | None = None
    optimizer: Optimizer = "adam"
    augment: Augment = "auto"
    holdout: float = 0.1
    patience: int | None = 10
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("minutes", 0), ("steps", 0), ("batch_size", 0), ("learning_rate", 0), ("patience", 0)):
            value = getattr(self, name)
            if value is not None and not value > least:
                raise UsageError(f"{name} must be above {least}, not {value}", where=self.name)
        if not 0 <= self.holdout <= 0.5:
            raise UsageError(f"holdout must lie between 0 and 0.5, not {self.holdout}", where=self.name)

    def course(self, model: Model, context: Context, bridge: Bridge) -> Course:
        """What is trained, towards what."""
        raise NotImplementedError

    def may_vary(self, labels: np.ndarray | None) -> bool:
        """Whether what the samples are compared with holds for a shifted image, too."""
        raise NotImplementedError

    def run(self, model: Model, context: Context) -> Outcome:
        """Train, then write the best weights back."""
        began = time.monotonic()
        bridge = pytorch()
        from graphpress.bridge.pytorch.checkpoint import Store
        from graphpress.bridge.pytorch.train_loop import Settings, train

        data = self._open(model, context)
        course = self.course(model, context, bridge)
        if not course.student.parameters:
            return Outcome(0, notes=["the model has no weights that can be trained"])
        check_memory(model, self._per_call(model, data.count), course.student.parameters, self.name)
        recorded = context.decisions.get(self._key(context), {})
        augmentation = self._augmentation(data, course, recorded)
        lessons = Lessons(
            data,
            course.targets,
            augmentation,
            context.seed,
            blocks=course.blocks,
            ahead=self.steps is None or self.steps * self.batch_size >= data.count,
        )
        file = self._state_file(model, context, course.teachers)
        store = None if file is None else Store(file, self.checkpoint_seconds)
        training = train(
            course.student,
            course.objective(scales_of(lessons)),
            lessons,
            Settings(
                steps=self.steps,
                minutes=DEFAULT_MINUTES if self.minutes is None and self.steps is None else self.minutes,
                learning_rate=self.learning_rate,
                optimizer=self.optimizer,
                patience=self.patience,
                threads=threads_of(context),
                seed=context.seed,
                began=began,
            ),
            progress=context.progress,
            store=store,
            knots=recorded.get("knots"),
            what=self.name,
        )
        changes = bridge.write_back(course.student, model)
        context.decisions[self._key(context)] = {
            "knots": training.knots,
            "flip": bool(augmentation is not None and augmentation.flip),
        }
        if store is not None:
            store.discard()
        return Outcome(changes, notes=[*course.notes, *_notes(training, augmentation, store)])

    def _key(self, context: Context) -> str:
        return f"{context.step}.{self.name}"

    def _open(self, model: Model, context: Context) -> TrainingData:
        from graphpress.bridge.pytorch.data import Reading, open_data

        assert context.calibration is not None
        reading = Reading(
            batch_size=self.batch_size,
            call_size=fixed_batch(_inputs(model)),
            holdout=self.holdout,
            seed=context.seed,
            most_bytes=min(2 << 30, (available_memory() or 8 << 30) // 4),
        )
        return open_data(lambda: _feeds(context.calibration, model), reading)

    def _per_call(self, model: Model, count: int) -> int:
        """Samples that go through the model at once."""
        return fixed_batch(_inputs(model)) or min(self.batch_size, count)

    def _augmentation(self, data: TrainingData, course: Course, recorded: dict[str, Any]) -> Augmentation | None:
        """How images are varied, if at all."""
        from graphpress.bridge.pytorch.augment import find_images

        example = next(iter(data.held_out()))
        if self.augment == "none" or (self.augment == "auto" and not self.may_vary(example.labels)):
            return None
        found = find_images(
            {name: array.shape for name, array in example.feed.items()},
            {name: array.dtype.kind == "f" for name, array in example.feed.items()},
        )
        if found is None and self.augment != "auto":
            raise UsageError(
                "the model has no input that holds images, or several",
                where=f"{self.name}{{augment={self.augment}}}",
                fix="leave augment out",
            )
        if found is None:
            return None
        flip = self.augment == "flip" or (
            self.augment == "auto" and bool(recorded.get("flip", _means_the_same(found, data, course)))
        )
        return type(found)(found.name, found.channels_first, flip)

    def _state_file(self, model: Model, context: Context, teachers: Sequence[Model]) -> Path | None:
        """Where the state of this very training is kept: its name depends on all that the training depends on."""
        folder = None if context.cache is None else context.cache.folder
        digests = [digest_of(one) for one in (model, *teachers)]
        fingerprint = getattr(context.calibration, "fingerprint", None)
        if folder is None or None in digests or fingerprint is None:
            return None
        import torch

        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "checkpoint_seconds"}
        exclude = context.exclude.pattern if context.exclude else ""
        parts = (self._key(context), own, digests, fingerprint(), context.seed, threads_of(context), exclude)
        name = hashlib.sha256(repr((*parts, torch.__version__)).encode()).hexdigest()
        return folder / "training" / f"{name}.pt"


def threads_of(context: Context) -> int:
    """Threads to train with: those of the run, or all cores."""
    return context.threads or os.cpu_count() or 1


def trains(context: Context) -> Callable[[Value], bool] | None:
    """Which constants are trained: those that no excluded node reads; None leaves it to the bridge."""
    if context.exclude is None:
        return None
    from graphpress.bridge.pytorch.weights import is_trainable

    return lambda value: is_trainable(value) and not any(context.excluded(use.node) for use in value.uses())


def scales_of(lessons: Lessons) -> dict[str, float]:
    """In what differences of each target are measured."""
    from graphpress.passes.training._lessons import scales

    return scales(lessons.held_out())


def labels_of(context: Context) -> np.ndarray | None:
    """Labels of the calibration data, if it has any."""
    found: np.ndarray | None = getattr(context.calibration, "labels", None)
    return found


def input_names(model: Model) -> list[str]:
    """Names of the inputs that are fed."""
    return [value.name or "" for value in model.graph.inputs if not is_constant(value)]


def pytorch() -> Bridge:
    """The bridge to PyTorch.

    Raises:
        BackendError: torch is not installed.
    """
    bridge = load_bridge("pytorch")
    here = bridge.available()
    if not here.works:
        raise BackendError(f"training needs PyTorch ({here.detail})", where="bridge", fix=here.install)
    return bridge


def _inputs(model: Model) -> list[InputSpec]:
    return [
        InputSpec(value.name or "", np.dtype(np.float32), dims_of(value))
        for value in model.graph.inputs
        if not is_constant(value)
    ]


def _feeds(calibration: Any, model: Model) -> Iterator[tuple[Feed, np.ndarray | None, int]]:
    """Feeds with labels and the number of their samples; 0 where a feed is a sample as a whole."""
    common = has_common_batch(_inputs(model))
    if hasattr(calibration, "counted_batches"):
        batches = ((batch.feed, batch.labels, batch.count) for batch in calibration.counted_batches())
    else:
        batches = ((feed, None, _leading(feed)) for feed in calibration)
    for feed, labels, count in batches:
        sizes = {array.shape[0] if array.ndim else None for array in feed.values()}
        stacked = common and len(sizes) == 1 and None not in sizes
        yield feed, labels, count if stacked else 0


def _leading(feed: Feed) -> int:
    return next((array.shape[0] for array in feed.values() if array.ndim), 1)


def _means_the_same(found: Augmentation, data: TrainingData, course: Course) -> bool:
    """Whether images are to their judge of the same class when they are mirrored."""
    if course.judge is None:
        return False
    same = count = 0
    for example in data.held_out():
        plain, mirrored = (course.judge(feed).argmax(1) for feed in (example.feed, found.flipped(example.feed)))
        same, count = same + int((plain == mirrored).sum()), count + plain.size
        if count >= FLIP_SAMPLES:
            break
    return same >= FLIP_AGREEMENT * count


def _notes(training: Training, augmentation: Augmentation | None, store: Store | None) -> list[str]:
    end = ", stopped early" if training.stopped_early else ""
    notes = [
        f"{training.steps} steps in {training.seconds / 60:.1f} min{end}: held-out loss "
        f"{training.start:.4g} -> {training.best:.4g} (after {training.best_step} steps)"
    ]
    if augmentation is not None:
        notes.append(f"images were shifted{' and mirrored' if augmentation.flip else ''} at random")
    if training.slowed:
        notes.append(f"the learning rate was lowered {training.slowed} times because the loss blew up")
    if training.resumed:
        notes.append(f"an interrupted training was taken up at step {training.resumed}")
    if store is None and training.seconds > 60:
        notes.append("give --cache-dir to be able to take up an interrupted training")
    return notes


def need_labels(context: Context, where: str) -> np.ndarray:
    """The labels of the calibration data.

    Raises:
        DataError: it has none.
    """
    labels = labels_of(context)
    if labels is None:
        raise DataError(
            "the calibration data has no labels",
            where=where,
            fix="add `labels:` to the calibration part of the data file, or use distill, which needs none",
        )
    return labels
