"""Teachers: models that say what a student should answer. They run in ONNX Runtime and need no gradient.

Several teachers are averaged where they are compared: scores before their softmax, which is the geometric mean of
their distributions (Hinton, Vinyals & Dean 2015, section 3, allow either mean), and values as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.errors import DataError, UsageError
from graphpress.ir import Model, digest, load, weight_bytes
from graphpress.ir.files import PROTOBUF_LIMIT
from graphpress.manager.contract import Feed, Kept
from graphpress.passes.training._blocks import restricted
from graphpress.passes.training._outputs import LossName, Reading, read_outputs
from graphpress.runtime import Session

OUTPUT = "output:"
FEATURE = "feature:"
LABELS = "labels"
"""Targets have names of their own: what an output, a feature or the labels say."""


@dataclass(frozen=True)
class Teacher:
    """One teacher.

    Args:
        session: runs it.
        inputs: its input by the student's.
        reads: its value by the target that it gives.
        kept: the positions that the student still has, by target.
    """

    session: Session
    inputs: Mapping[str, str]
    reads: Mapping[str, str]
    kept: Mapping[str, Kept]

    def targets(self, feed: Feed) -> dict[str, np.ndarray]:
        """What it says of these samples.

        Raises:
            DataError: something that is no number.
        """
        outputs = self.session.run({theirs: feed[own] for own, theirs in self.inputs.items()})
        found = {name: restricted(outputs[value], self.kept.get(name)) for name, value in self.reads.items()}
        for name, array in found.items():
            if not np.isfinite(array).all():
                raise DataError(
                    "is infinite or undefined on the calibration data",
                    where=f"the teacher's {self.reads[name]!r}",
                    fix="check the data and its preprocessing, or train with loss=mse",
                )
        return found


@dataclass(frozen=True)
class Panel:
    """Several teachers, averaged where they say something about the same.

    Args:
        teachers: at least one.
    """

    teachers: Sequence[Teacher]

    def targets(self, feed: Feed) -> dict[str, np.ndarray]:
        """What they say of these samples on average."""
        said: dict[str, list[np.ndarray]] = {}
        for teacher in self.teachers:
            for name, array in teacher.targets(feed).items():
                said.setdefault(name, []).append(array)
        return {name: arrays[0] if len(arrays) == 1 else _mean(name, arrays) for name, arrays in said.items()}


def of_outputs(model: Model, student: Sequence[Reading], names: Sequence[str], threads: int, loss: LossName) -> Teacher:
    """A teacher of outputs.

    Args:
        model: the teacher; its outputs go with the student's by name, else by their order.
        student: the outputs to teach.
        names: the student's inputs.
        threads: of the runtime.
        loss: how the outputs are compared.

    Raises:
        UsageError: its inputs or outputs are not the student's.
    """
    own = {reading.output: reading for reading in read_outputs(model, loss)}
    pairs = _matched([reading.output for reading in student], list(own), "outputs", model)
    reads = {OUTPUT + mine: own[theirs].value for mine, theirs in pairs.items()}
    session = Session(model, threads=threads, extra_outputs=sorted(set(reads.values())))
    return Teacher(session, _matched(names, [spec.name for spec in session.inputs], "inputs", model), reads, {})


def of_features(
    model: Model, features: Sequence[str], kept: Mapping[str, Kept], names: Sequence[str], threads: int
) -> Teacher:
    """A teacher of inner values, which it calls as the student does."""
    session = Session(model, threads=threads, extra_outputs=list(features))
    shared = {FEATURE + name: kept[name] for name in features if name in kept}
    return Teacher(session, {name: name for name in names}, {FEATURE + name: name for name in features}, shared)


def judge_of(teachers: Sequence[Teacher], readings: Sequence[Reading]) -> Callable[[Feed], np.ndarray] | None:
    """The class scores that teachers give, classes along the second axis; None unless classes are the one output."""
    if len(readings) != 1 or readings[0].kind != "classes":
        return None
    panel, target, axis = Panel(teachers), OUTPUT + readings[0].output, readings[0].axis
    return lambda feed: np.moveaxis(panel.targets(feed)[target], axis, 1)


def load_teachers(paths: Sequence[str]) -> list[Model]:
    """The models in these files, with what is known of their shapes.

    Raises:
        ModelError: one cannot be read.
    """
    from graphpress.analysis.shapes import infer_shapes

    models = [load(path) for path in paths]
    for model in models:
        infer_shapes(model)
    return models


def digest_of(model: Model) -> str | None:
    """Its digest; None where it is too large to have one."""
    return None if weight_bytes(model) > PROTOBUF_LIMIT else digest(model)


def _matched(own: Sequence[str], theirs: Sequence[str], what: str, model: Model) -> dict[str, str]:
    if set(own) <= set(theirs):
        return {name: name for name in own}
    if len(own) == len(theirs):
        return dict(zip(own, theirs, strict=True))
    raise UsageError(
        f"has the {what} {', '.join(theirs)}, the student has {', '.join(own)}",
        where=f"teacher {model.graph.name or ''}".rstrip(),
        fix=f"give a teacher with the same {what}",
    )


def _mean(name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise UsageError(
            f"the teachers give shapes {' and '.join(str(list(shape)) for shape in sorted(shapes))}",
            where=name.partition(":")[2],
            fix="give teachers of the same outputs",
        )
    mean: np.ndarray = np.mean(arrays, axis=0, dtype=arrays[0].dtype)
    return mean
