"""A model ready to run in ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from graphpress.errors import DataError, ModelError, UsageError, reraise_resource_fault
from graphpress.ir import (
    ExternalTensor,
    Model,
    clone,
    save,
    tensors,
    to_proto,
)
from graphpress.ir.external import LARGE_BYTES
from graphpress.ir.files import PROTOBUF_LIMIT, read_message
from graphpress.ir.message_facts import MessageFacts
from graphpress.ir.weights import LARGE_FILE_BYTES, write_apart
from graphpress.memory import give_back_memory
from graphpress.progress import doing
from graphpress.runtime.custom_ops import register
from graphpress.runtime.optimization import OPTIONS, Optimization, limited
from graphpress.runtime.partial import StandIns, runnable_part
from graphpress.runtime.termination import run_options, terminated_after
from graphpress.scratch import scratch_folder

if TYPE_CHECKING:
    import onnxruntime

_UNLOADABLE = "check the model with onnx.checker, or update onnxruntime"
_NO_KERNEL = "give that node a type that a processor computes in (float32), or run the model on its device"

MAX_THREADS = 256
"""ONNX Runtime starts every thread at once, with its own stack."""

KEPT_BYTES = 1 << 28
"""A model with more weights than this is not kept loaded where it has nothing to do."""


@dataclass(frozen=True)
class InputSpec:
    """What a model wants at one input.

    Args:
        name: name of the input.
        dtype: numpy dtype (``object`` for strings).
        dims: one entry an axis: a size, the name of a symbolic size, or None when unnamed; None in place of all this
            when the model does not even say the rank.
        batched: whether the first axis can count samples; a session does not know better.
    """

    name: str
    dtype: np.dtype
    dims: tuple[int | str | None, ...] | None
    batched: bool = True


def is_large(size: int) -> bool:
    """Whether weights of so many bytes should be in memory once at a time."""
    return size > KEPT_BYTES


@runtime_checkable
class StandsBy(Protocol):
    """What can give its memory back between two stretches of use."""

    def stand_by(self) -> None:
        """Give memory back until the next run."""
        ...


def stand_by(*runs: object) -> None:
    """Let each of them that can give its memory back: called where something else is about to be loaded."""
    for run in runs:
        if isinstance(run, StandsBy):
            run.stand_by()


@runtime_checkable
class Renews(Protocol):
    """What can make ready anew, as another process would."""

    def renew(self) -> None:
        """Forget what is loaded; the next run loads it again."""
        ...


def renew(*runs: object) -> None:
    """Let each of them that can load its model anew: no two sessions of a model are equally fast."""
    for run in runs:
        if isinstance(run, Renews):
            run.renew()


class Session:
    """One loaded model.

    Spinning of idle worker threads is off, so that two sessions in one process can be compared on few cores.

    Args:
        model: a model, or the path of an ONNX file.
        threads: worker threads inside an operator.
        optimization: how far ONNX Runtime may rewrite the graph while loading.
        extra_outputs: names of inner values to return as well.
        optimized_path: where to write the graph that really runs, for inspection: without large weights.
        profile: how the path of a profile begins, which ``end_profile`` writes; None for none.
        made_up: of a model with opaque operators, whether numbers are made up for what they compute; else whatever
            depends on them is left out. What they read is returned either way.
        arena: keep the memory of a call for the next, as ONNX Runtime does by default: faster, and twice as much or
            more where results are large.

    Attributes:
        inputs: what the model wants.
        output_names: of what it returns.
        can_stand_by: whether the model is large, and a file: ``stand_by`` gives its memory back.
        load_seconds: how long loading it took.

    Raises:
        ModelError: ONNX Runtime cannot load the model.
        ResourceError: the machine lacks what it takes.
        UsageError: a number of threads that makes no sense.
    """

    def __init__(
        self,
        model: Model | Path | str,
        *,
        threads: int = 1,
        optimization: Optimization = "all",
        extra_outputs: Sequence[str] = (),
        optimized_path: Path | None = None,
        profile: Path | None = None,
        made_up: bool = False,
        arena: bool = True,
    ) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise UsageError(
                f"{threads} threads cannot be run",
                where="--threads",
                fix=f"give a number from 1 to {MAX_THREADS}; more than the cores gains nothing",
            )
        self._name = _name(model)
        options = _options(threads, optimization, optimized_path)
        options.enable_cpu_mem_arena = arena
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        self._stand_ins = StandIns()
        if isinstance(model, Model):
            model, self._stand_ins = runnable_part(model, made_up=made_up)
        self._open = partial(_open, model, extra_outputs, options)
        self._session: onnxruntime.InferenceSession | None
        began = time.perf_counter()
        self._session, facts = self._open()
        self.load_seconds = time.perf_counter() - began
        self._is_file = isinstance(model, (str, Path))
        self.can_stand_by = self._is_file and facts.weight_bytes > KEPT_BYTES
        self._fed = _input_specs(self._session.get_inputs(), facts)
        self.inputs = [spec for spec in self._fed if spec.name not in self._stand_ins.names]
        self.output_names: list[str] = [argument.name for argument in self._session.get_outputs()]

    def run(self, feed: Mapping[str, np.ndarray], *, seconds: float | None = None) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            feed: an array for each input.
            seconds: how long it may take; None for as long as it likes.

        Raises:
            DataError: the feed does not fit the model, or the model fails on it.
            ModelError: it takes longer.
        """
        if self._session is None:
            self._session, _ = self._open()
        options = None if seconds is None else run_options()
        try:
            with terminated_after(seconds, options):
                results = self._session.run(self.output_names, dict(self._stand_ins.complete(feed, self._fed)), options)
        except Exception as error:  # see above
            if options is not None and options.terminate:
                raise ModelError(
                    f"gave no answer within {seconds:g} s", where=self._name, fix="check the trip counts of its loops"
                ) from error
            reraise_resource_fault(error)
            raise DataError(
                f"the model cannot run on this input ({_reason(error)})",
                where=", ".join(f"{name} {list(np.shape(array))}" for name, array in feed.items()),
                fix="check shapes and dtypes of the data against `optimize inspect`",
            ) from error
        return dict(zip(self.output_names, results, strict=True))

    def end_profile(self) -> Path:
        """Write what was profiled so far; of a session that was made with ``profile``."""
        assert self._session is not None
        return Path(self._session.end_profiling())

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as ``run``."""
        return self.run(feed)

    def stand_by(self) -> None:
        """Give the memory of a large model back: the next run loads it again, from its file. A small one stays loaded.

        So does one that was never a file: nobody knows whether it is still what was loaded.
        """
        if self.can_stand_by:
            self._session = None

    def release_between_uses(self) -> None:
        """Let a model stand by whose results are large, though its weights are not: ONNX Runtime keeps their memory."""
        self.can_stand_by = self._is_file

    def renew(self) -> None:
        """Let the next run load the model again, if it is a file, into other memory and other threads."""
        if self._is_file:
            self._session = None


def _open(
    model: Model | Path | str, extra_outputs: Sequence[str], options: Any
) -> tuple[onnxruntime.InferenceSession, MessageFacts]:
    """Load a model.

    Raises:
        ModelError: ONNX Runtime cannot.
        ResourceError: the machine lacks what it takes.
    """
    import onnxruntime

    with doing(f"loading {_name(model)} into ONNX Runtime"), ExitStack() as stack:
        source, facts = _source(model, extra_outputs, lambda: stack.enter_context(scratch_folder()), options)
        disabled = _avoid_faults(facts, options)
        if is_large(facts.weight_bytes):
            give_back_memory()
        try:
            session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
            )
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reraise_resource_fault(error, _name(model))
            raise ModelError(
                f"ONNX Runtime cannot load it ({_reason(error)})",
                where=_name(model),
                fix=_NO_KERNEL if "NOT_IMPLEMENTED" in str(error) else _UNLOADABLE,
            ) from error
    return session, facts


def _options(threads: int, optimization: Optimization, optimized_path: Path | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = OPTIONS[limited(optimization)]
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    register(options)
    if optimized_path is not None:
        _write_graph(options, optimized_path)
    return options


def _write_graph(options: Any, path: Path) -> None:
    """Let the session write the graph that really runs; large weights, which nobody looks at, go nowhere."""
    weights = path.with_name(f"{path.name}.data")
    with suppress(OSError):  # there are no such links here: then they are written
        weights.symlink_to(os.devnull)
    options.optimized_model_filepath = str(path)
    for key, value in {
        "session.disable_prepacking": "1",  # nor is anything computed
        "session.optimized_model_external_initializers_file_name": weights.name,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(LARGE_BYTES),
    }.items():
        options.add_session_config_entry(key, value)


def _avoid_faults(facts: MessageFacts, options: Any) -> list[str]:
    """Rewritings of ONNX Runtime 1.32 that half precision must not meet, beside those that options turn off.

    One fuses a Transpose into a product and then crashes; the other makes integer kernels of a type they don't have,
    where the scales of quantizers are constants in half precision.
    """
    if facts.half_constants and not _has_entry(options, "session.disable_quant_qdq"):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ["MatmulTransposeFusion"] if facts.half else []


def _has_entry(options: Any, key: str) -> bool:
    """Whether the options say something already; to say it twice is told on the terminal."""
    try:
        options.get_session_config_entry(key)
    except RuntimeError:
        return False
    return True


def _source(
    model: Model | Path | str, extra_outputs: Sequence[str], scratch: Callable[[], Path], options: Any
) -> tuple[bytes | str, MessageFacts]:
    """What to give to ONNX Runtime: a path, or bytes (with the folder of the external data named); and facts of it."""
    if not isinstance(model, Model):
        facts = _facts_of(model)
        return str(_apart(Path(model), facts, scratch) or model), facts
    folders = {str(tensor.base_dir) for tensor in tensors(model) if isinstance(tensor, ExternalTensor)}
    in_memory = sum(tensor.nbytes for tensor in tensors(model) if not isinstance(tensor, ExternalTensor))
    must_be_file = len(folders) > 1 or in_memory > PROTOBUF_LIMIT
    if must_be_file or in_memory > (KEPT_BYTES if folders else LARGE_FILE_BYTES):
        with nullcontext() if must_be_file else suppress(OSError):  # no room for it: then there has to be in memory
            file = scratch() / "model.onnx"
            save(_with_outputs(model, extra_outputs), file, encodings=False, apart=LARGE_BYTES)
            return str(file), _facts_of(file)
    proto = to_proto(model, encodings=False)
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(type(proto.graph.output[0])(name=name) for name in extra_outputs if name not in present)
    for folder in folders:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    return bytes(proto.SerializeToString()), MessageFacts.of(proto)


def _apart(path: Path, facts: MessageFacts, scratch: Callable[[], Path]) -> Path | None:
    """A large model with its weights beside it, which are mapped: ONNX Runtime holds others while it packs them."""
    if facts.weight_bytes <= KEPT_BYTES:
        return None
    with suppress(OSError):  # no room for it: then there has to be in memory
        return write_apart(path, scratch(), facts.external)
    return None


def _facts_of(path: Path | str) -> MessageFacts:
    """Facts of a file; none of one that cannot be read, of which ONNX Runtime may say more."""
    try:
        return MessageFacts.of(read_message(path))
    except ModelError:
        return MessageFacts()


def _with_outputs(model: Model, extra_outputs: Sequence[str]) -> Model:
    if not extra_outputs:
        return model
    copy = clone(model)
    by_name = {output.name: output for node in copy.graph for output in node.outputs}
    copy.graph.outputs.extend(by_name[name] for name in extra_outputs if not by_name[name].is_graph_output())
    return copy


def _input_specs(arguments: Sequence[Any], facts: MessageFacts) -> list[InputSpec]:
    """What ONNX Runtime says of the inputs; only the model tells an unknown rank from a scalar."""
    return [
        InputSpec(
            argument.name,
            _DTYPES.get(argument.type, np.dtype(object)),
            None if argument.name in facts.unranked else tuple(argument.shape),
        )
        for argument in arguments
    ]


_DTYPES = {
    f"tensor({name})": np.dtype(numpy_name)
    for name, numpy_name in {
        "float": "float32",
        "double": "float64",
        "float16": "float16",
        "bool": "bool",
        **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    }.items()
}


def _name(model: Model | Path | str) -> str:
    return (model.graph.name or "model") if isinstance(model, Model) else str(model)


def _reason(error: Exception) -> str:
    """The telling part of an ONNX Runtime message."""
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1][:300]
