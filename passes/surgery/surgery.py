"""Let a function of the user operate on the model as a graph of onnx-graphsurgeon.

The function takes an ``onnx_graphsurgeon.Graph``, changes it or returns another, and knows nothing of graphpress.
What onnx-graphsurgeon cannot hold (metadata, encodings, int4 and float8 tensors, external data) rides beside, as
``graphpress.graphsurgeon.convert`` says. The result is checked: structure, the ONNX checker, the model's inputs.

Operators that nothing here defines (plugins of a runtime) may be inserted, but then nothing here can run the model:
refused where there is data to measure the model on, since nothing would show whether it is still right.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphpress.analysis.shapes import infer_shapes
from graphpress.data.user_code import call_user, code_hash, is_reference, load_object
from graphpress.errors import DataError, ModelError, UsageError
from graphpress.graphsurgeon.convert import from_graphsurgeon, load_graphsurgeon, lost_annotations, to_graphsurgeon
from graphpress.ir import Model, Refusal, TensorProtocol, graphs, label, take_over, verify
from graphpress.ir.foreign import foreign_nodes
from graphpress.ir.skeleton import to_skeleton
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.manager.prepare import prepare
from graphpress.passes.surgery._checker import fault_of

DONE = "graphpress.surgeries"
"""Under this key a model in memory remembers which surgeries it underwent: a run of lossless passes has many rounds."""
MAX_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Surgery(Pass):
    """Lossy unless ``lossless`` is set: judged on the metric like a pass that prunes.

    Args:
        function: ``module:function``, looked for in the working directory first; it is given a graph of
            onnx-graphsurgeon, and changes it or returns another.
        lossless: whether the outputs stay the same, which is then checked numerically instead of on the metric.
    """

    function: str
    lossless: bool = False  # type: ignore[misc]  # the user knows

    name: ClassVar[str] = "surgery"
    gated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not is_reference(self.function):
            raise UsageError(
                f"{self.function!r} names no function", where="surgery", fix="write surgery{function=module:function}"
            )

    def check(self, context: Context) -> None:
        """Raise at once when onnx-graphsurgeon or the function is missing."""
        load_graphsurgeon()
        self._load()

    def run(self, model: Model, context: Context) -> Outcome:
        """Operate, check, and take the result over.

        Raises:
            DataError: the function failed, or what it left is no valid model for the same data.
        """
        if self in model.meta.get(DONE, ()):
            return Outcome()
        result = self._operate(model)
        if not _differ(model, result):
            return Outcome(notes=[f"{self.function} changed nothing"])
        self._check_result(result, model)
        if refusal := self._refuse_unknown(model, result, context):
            return Outcome(refusals=[refusal])
        known = {label(node) for graph in graphs(model) for node in graph}
        notes = [*self._compare_code(context), *_notes(model, result)]
        refusals = [refusal for refusal in prepare(result, {}) if refusal.where not in known]
        take_over(model, result)
        model.meta[DONE] = (*model.meta.get(DONE, ()), self)
        return Outcome(1, refusals, notes)

    def _compare_code(self, context: Context) -> list[str]:
        """Record the digest of the code; a note where a recorded run had other code."""
        digest = code_hash(self._load())
        key = f"surgery.{self.function}"
        same = context.recorded(key, str) in (None, digest)
        context.decisions.setdefault(key, digest)
        return [] if same else [f"the code of {self.function} is not that of the recorded run"]

    def _load(self) -> Any:
        return load_object(self.function, error=UsageError)

    def _operate(self, model: Model) -> Model:
        surgeon = load_graphsurgeon()
        graph = to_graphsurgeon(model)
        with redirect_stdout(sys.stderr):  # standard output may be somebody's JSON
            returned = call_user(self._load(), graph, where=self.function)
        if returned is not None and not isinstance(returned, surgeon.Graph):
            raise DataError(
                f"returned {type(returned).__name__}",
                where=self.function,
                fix="return an onnx_graphsurgeon.Graph, or nothing after changing the one given",
            )
        try:
            return from_graphsurgeon(graph if returned is None else returned, like=model)
        except ModelError as error:
            raise DataError(f"left no valid model: {error.what}", where=self.function, fix=_FIX) from error

    def _check_result(self, result: Model, model: Model) -> None:
        verify(result)
        inputs, before = ([value.name for value in side.graph.inputs] for side in (result, model))
        if inputs != before:
            raise DataError(
                f"changed the inputs of the model from {before} to {inputs}",
                where=self.function,
                fix="keep names and order of the inputs: data is given by them",
            )
        infer_shapes(result)
        fault = fault_of(result)
        if fault and not fault_of(model):
            raise DataError(f"left a model that is not valid ONNX: {fault}", where=self.function, fix=_FIX)

    def _refuse_unknown(self, model: Model, result: Model, context: Context) -> Refusal | None:
        """Why the result is not taken where it can neither be run nor scored, and somebody wants it to be."""
        if context.calibration is None or foreign_nodes(model) or not foreign_nodes(result):
            return None
        return Refusal(
            label(foreign_nodes(result)[0]),
            f"{_operators(result)} can only run on the device: with it, nothing here can hold the model to its data",
            "optimize first, then run surgery alone on the optimized model, without data",
        )


_FIX = "correct the function; graph.cleanup().toposort() at its end removes what nothing reads any more"


def _notes(model: Model, result: Model) -> list[str]:
    notes = lost_annotations(model, result)
    before, after = ([value.name for value in side.graph.outputs] for side in (model, result))
    if before != after:
        notes.append(f"the outputs are now {after}, no longer {before}")
    if foreign_nodes(result):
        notes.append(f"{_operators(result)} can only run on the device: the model was neither run nor scored with it")
    return notes


def _operators(model: Model) -> str:
    """Operators that nothing here defines, with their nodes."""
    nodes = foreign_nodes(model)
    more = f" and {len(nodes) - MAX_SHOWN} more" if len(nodes) > MAX_SHOWN else ""
    return ", ".join(f"{node.op_type} ({label(node)})" for node in nodes[:MAX_SHOWN]) + more


def _differ(first: Model, second: Model) -> bool:
    (before, held), (after, new) = to_skeleton(first), to_skeleton(second)
    same = len(held) == len(new) and all(map(_same, held.values(), new.values()))
    return not same or before != after


def _same(a: TensorProtocol, b: TensorProtocol) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy()))
