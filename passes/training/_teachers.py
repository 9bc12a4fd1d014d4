"""Teachers: models whose outputs are a student's targets. They run in ONNX Runtime and need no gradient.

Several teachers are averaged where they are compared: scores before their softmax, which is the geometric mean of
their distributions (Hinton, Vinyals & Dean 2015, section 3, allow either mean), and values as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphpress.coupling.kept import Kept
from graphpress.data import Feed
from graphpress.data.inputs import describe, matches
from graphpress.errors import DataError, ModelError, UsageError
from graphpress.ir import Model, digest, dims_of, load, weight_bytes
from graphpress.ir.files import PROTOBUF_LIMIT
from graphpress.passes._kept import restrict
from graphpress.passes.training._outputs import LossName, Reading, read_outputs
from graphpress.runtime import Session

OUTPUT = "output:"
FEATURE = "feature:"
LABELS = "labels"
"""Prefixes of the names of targets: of an output, of an inner value; and the name of the labels."""
ROUNDING = 1e-6
"""Mean squared difference, in units of the variance, up to which answers are the same."""


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
        """Its targets for these samples.

        Raises:
            DataError: some are infinite or NaN.
        """
        outputs = self.session.run({theirs: feed[own] for own, theirs in self.inputs.items()})
        targets = {name: restrict(outputs[value], self.kept.get(name)) for name, value in self.reads.items()}
        for name, array in targets.items():
            if not np.isfinite(array).all():
                raise DataError(
                    "is infinite or undefined on the calibration data",
                    where=f"the teacher's {self.reads[name]!r}",
                    fix="check the data and its preprocessing, or train with loss=mse",
                )
        return targets


@dataclass(frozen=True)
class TeacherEnsemble:
    """Several teachers, averaged where they give the same target.

    Args:
        teachers: at least one.
    """

    teachers: Sequence[Teacher]

    def targets(self, feed: Feed) -> dict[str, np.ndarray]:
        """Their targets for these samples, averaged."""
        known: dict[str, list[np.ndarray]] = {}
        for teacher in self.teachers:
            for name, array in teacher.targets(feed).items():
                known.setdefault(name, []).append(array)
        return {name: arrays[0] if len(arrays) == 1 else _mean(name, arrays) for name, arrays in known.items()}


@dataclass(frozen=True)
class DistillationSpec:
    """Which values of a student are trained towards a teacher's.

    Args:
        inputs: its inputs.
        readings: the outputs to teach.
        loss: how they are compared.
        features: the inner values to teach.
        kept: the positions of values that it still has.
        threads: of the runtime.
    """

    inputs: Sequence[str]
    readings: Sequence[Reading]
    loss: LossName = "auto"
    features: Sequence[str] = ()
    kept: Mapping[str, Kept] = field(default_factory=dict)
    threads: int = 1

    def teacher(self, model: Model, *, outputs: bool = True, features: bool = False) -> Teacher:
        """A model as a teacher of outputs, of inner values, or of both.

        Args:
            model: the teacher; its outputs go with the student's by name, else by their order. Inner values must be
                called as the student calls them.
            outputs: it teaches outputs.
            features: it teaches inner values.

        Raises:
            UsageError: its inputs or outputs are not the student's.
        """
        reads: dict[str, str] = {}
        if outputs:
            theirs = {reading.output: reading.value for reading in read_outputs(model, self.loss)}
            pairs = _matched([reading.output for reading in self.readings], list(theirs), "outputs", model)
            reads = {OUTPUT + mine: theirs[name] for mine, name in pairs.items()}
        if features:
            reads |= {FEATURE + name: name for name in self.features}
        session = Session(model, threads=self.threads, extra_outputs=sorted(set(reads.values())))
        inputs = _matched(self.inputs, [spec.name for spec in session.inputs], "inputs", model)
        kept = {FEATURE + name: self.kept[name] for name in self.features if name in self.kept}
        return Teacher(session, inputs, reads, kept)

    def ensemble(self, teachers: Sequence[Model], start: Model, feed: Feed) -> TeacherEnsemble:
        """Teachers of outputs, and the start for inner values.

        One model does for both where it answers as the only teacher does: before anything lossy was done, the start
        is the original in a simpler form.
        """
        whole = [self.teacher(model) for model in teachers]
        if not self.features:
            return TeacherEnsemble(whole)
        both = self.teacher(start, features=True)
        if len(whole) == 1 and _agree(whole[0].targets(feed), both.targets(feed)):
            return TeacherEnsemble([both])
        return TeacherEnsemble([*whole, self.teacher(start, outputs=False, features=True)])


def _agree(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    """Whether the targets of two teachers are equal up to rounding."""
    return all(
        array.shape == second[name].shape
        and float(np.square(array - second[name]).mean()) <= ROUNDING * max(float(array.var()), ROUNDING)
        for name, array in first.items()
    )


def classifier_of(ensemble: TeacherEnsemble, readings: Sequence[Reading]) -> Callable[[Feed], np.ndarray] | None:
    """The class scores that they give, classes along the second axis; None unless classes are the one output."""
    if len(readings) != 1 or readings[0].kind != "classes":
        return None
    target, axis = OUTPUT + readings[0].output, readings[0].axis
    return lambda feed: np.moveaxis(ensemble.targets(feed)[target], axis, 1)


def load_teachers(paths: Sequence[str]) -> list[Model]:
    """The models in these files, with what is known of their shapes.

    Raises:
        UsageError: one cannot be read.
    """
    from graphpress.analysis.shapes import infer_shapes

    try:
        models = [load(path) for path in paths]
    except ModelError as error:
        raise UsageError(error.what, where=f"teacher {error.where}", fix=error.fix) from error
    for model in models:
        infer_shapes(model)
    return models


def check_answers(known: Mapping[str, np.ndarray], readings: Sequence[Reading], model: Model) -> None:
    """Check that teachers answer in the shapes of the student's outputs.

    Raises:
        UsageError: they do not.
    """
    dims = {value.name: dims_of(value) for value in model.graph.outputs}
    for reading in readings:
        shape, own = known[OUTPUT + reading.output].shape, dims[reading.output]
        if not matches(shape, own):
            raise UsageError(
                f"the teachers answer in shape {list(shape)}, the student in {describe(own)}",
                where=reading.output,
                fix="give teachers of the same outputs",
            )


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
