"""Deliver a C library of kernels that TVM's code generator compiled, beside the ONNX file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphpress.analysis.shapes import concrete_shapes
from graphpress.backend import Artifact, Availability, Backend, CompileOptions, Findings, KernelTime, Prepared
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend, write_model
from graphpress.deadline import OutOfTimeError
from graphpress.errors import BackendError, GraphpressError, ModelError, message_of, reraise_resource_fault
from graphpress.forked import in_a_fork
from graphpress.ir import DataType, Model, Node, Refusal, clone, dims_of, is_standard, label, values_of
from graphpress.ir.qdq import unmaterializable
from graphpress.runtime.compiled import LIBRARY, WEIGHTS, CompiledModel, read_description
from graphpress.runtime.environment import library_versions
from graphpress.scratch import scratch_folder
from graphpress.targets import Target

if TYPE_CHECKING:
    from graphpress.backends.tvm.board.served import ServedModel
    from graphpress.backends.tvm.codegen.isa import Isa
    from graphpress.backends.tvm.program import OpenSize, Program

ON_THE_BOARD = "next: copy the folder to the board, and there run `./verify` and `./bench`"
HALVES = (DataType.FLOAT16, DataType.BFLOAT16)
IN_SINGLE_PRECISION = "to_float32{types=[float16, bfloat16]}"
EXTRA = 'pip install "graphpress[tvm]"'
SLIDING = ("AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool")
"""Operators whose padding lies where a longer input has elements: their sizes have to be known."""
USAGE = 'graphpress.runtime.load("{folder}") in Python, model.h and libmodel.so or libmodel.a in C and C++'


class TvmBackend(Backend):
    """Lowers the annotated graph to kernels of its own and links them into a library that needs libc only."""

    def available(self) -> Availability:
        """It needs TVM to compile, and a C compiler to link."""
        from graphpress.backends.tvm.toolchain import find_c_toolchain

        if find_spec("tvm") is None:
            return Availability(False, "apache-tvm is not installed", EXTRA)
        try:
            find_c_toolchain()
        except BackendError as error:
            return Availability(False, error.what, error.fix)
        return Availability(True, f"apache-tvm {library_versions(('apache-tvm',))['apache-tvm']}")

    def machine_facts(self) -> Mapping[str, str]:
        """Compilers, instruction set, emulator, huge pages."""
        from graphpress.backends.tvm.machine import machine_facts

        return machine_facts()

    def tunes(self, target: Target) -> bool:
        """It times kernels on this machine."""
        return target.this_machine

    def places_weights(self) -> bool:
        """They may go into the library."""
        return True

    def check(self, model: Model, options: CompileOptions) -> Sequence[Refusal]:
        """Encodings that no node can read, and open axes that windows slide over.

        Raises:
            BackendError: the target's processor has none of the instruction sets that there are kernels for, or no C
                compiler here makes libraries for it.
        """
        from graphpress.backends.tvm.processor import isa_of
        from graphpress.backends.tvm.toolchain import find_c_toolchain

        find_c_toolchain(isa_of(options.target).triple)
        return [*unmaterializable(model), *_open_windows(model)]

    def prepare(self, annotated: Model, target: Target) -> Prepared:
        """The ONNX file that comes along is the one for ONNX Runtime, where it computes the same as the library."""
        return OnnxRuntimeBackend().prepare(annotated, target)

    def compile(self, prepared: Prepared, options: CompileOptions, out: Path) -> Artifact:
        """Write the model file, the library, its weights, and what users need of it.

        Raises:
            ModelError: a node has no kernels, or none for sizes that stay open; samples depend on each other, or TVM
                fails.
            BackendError: there is no C compiler, or it fails.
            OutOfTimeError: the moment at which it has to be done has come.
        """
        with _generator_faults():
            return self._compile(prepared, options, out)

    def _compile(self, prepared: Prepared, options: CompileOptions, out: Path) -> Artifact:
        from graphpress.backends.tvm.artifact import LibraryOptions, delivered, write_library
        from graphpress.backends.tvm.lowering.open_axes import OpenSizeError
        from graphpress.backends.tvm.processor import isa_of
        from graphpress.backends.tvm.samples import check_samples
        from graphpress.backends.tvm.specialization import specialize
        from graphpress.backends.tvm.tuning.tuner import lower_tuned

        isa = isa_of(options.target)
        try:
            annotated = in_single_precision(in_standard_operators(prepared.annotated, options.target), options.target)
            special = specialize(annotated, options.ranges)
            if special.is_batched:
                check_samples(prepared.simulation, special.smallest)
            program, notes = lower_tuned(special.model, isa, options, special.batch_axes, special.sizes)
        except OpenSizeError as error:
            raise OpenSizeError(error.what, where=error.where, fix=_fixed_sizes(prepared.annotated)) from error
        notes = [*map(_limit_note, program.sizes), *notes]
        with scratch_folder() as scratch:
            presented = LibraryOptions(options.name, special.is_batched, weights_inside=options.weights == "inside")
            in_a_fork(partial(write_library, program, isa, scratch, options.cache, presented), options.end)
            names = delivered(presented)
            for name in names:
                (out / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(scratch / name, out / name)
        files = [*write_model(prepared, options, out), *(out / name for name in names)]
        artifact = TvmArtifact(files, program, isa, options.threads, notes)
        return artifact if options.target.this_machine else _for_board(artifact, isa, prepared, options)


class TvmArtifact:
    """A library, loaded into this process.

    Args:
        files: the model file, then those that are ``delivered`` of a library.
        program: what the library computes.
        isa: for which it was compiled.
        threads: that compute.
        notes: of the compile, for the report.
    """

    def __init__(self, files: list[Path], program: Program, isa: Isa, threads: int, notes: Sequence[str] = ()) -> None:
        self.files, self.program, self.isa, self._threads, self.notes = files, program, isa, threads, list(notes)
        self._loaded: CompiledModel | None = None

    @property
    def bytes(self) -> int:
        """Size of the library and its weights."""
        return self._size(LIBRARY) + self._size(WEIGHTS)

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once; a batch larger than all before makes room for it.

        Raises:
            BackendError: this processor lacks the instructions.
        """
        if self._loaded is None:
            self._loaded = CompiledModel(self.files[0].parent, self._threads)
        return self._loaded.run(feed)

    def kernel_times(self, feed: Mapping[str, np.ndarray]) -> Sequence[KernelTime]:
        """Each step of the library."""
        from graphpress.backends.tvm.profile import kernel_times

        return kernel_times(self.program, self.files[0].parent, feed, self.isa)

    def renew(self) -> None:
        """Let the next run load the library's weights anew."""
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None

    def findings(self) -> Findings:
        """The arithmetic of each kernel is that of the node which it is named after; its chain is fused into it."""
        from graphpress.backends.tvm.plan import plan_memory
        from graphpress.backends.tvm.profile import arithmetic_of

        became: dict[str, str] = {}
        for step in self.program.steps:
            became.update(dict.fromkeys(step.nodes[1:], "fused"))
            became.update(dict.fromkeys(step.nodes[:1], arithmetic_of(step)))
        generic = self.program.generic
        became.update(dict.fromkeys(generic, "generic"))
        slow = [Refusal(name, f"computed by TVM's own loops, which are slow: {why}") for name, why in generic.items()]
        plan, description = plan_memory(self.program), read_description(self.files[0].parent)
        values = plan.bytes + self._threads * plan.scratch_bytes
        memory = {"weights": description.weights_bytes, "intermediate values": values}
        return Findings(became, self.notes, slow, memory=memory, usage=USAGE)

    def _size(self, name: str) -> int:
        return sum(file.stat().st_size for file in self.files if file.name == name)


class BoardArtifact(TvmArtifact):
    """A library for another machine, which runs here in a process of its own, in an emulator if need be.

    Args:
        artifact: the library.
        runner: runs it here.
    """

    def __init__(self, artifact: TvmArtifact, runner: ServedModel) -> None:
        super().__init__(artifact.files, artifact.program, artifact.isa, runner.threads, artifact.notes)
        self.runner = runner

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once, in its place.

        Raises:
            BackendError: the program ends.
        """
        return self.runner.run(feed)

    def renew(self) -> None:
        """Let the next run start it anew."""
        self.runner.stand_by()

    stand_by = renew


def _for_board(artifact: TvmArtifact, isa: Isa, prepared: Prepared, options: CompileOptions) -> TvmArtifact:
    """The library with what goes with it to its board, and who runs it here."""
    from graphpress.backends.tvm.board.bundle import BoardBundle, write_bundle
    from graphpress.backends.tvm.board.served import ServedModel

    folder, threads = artifact.files[0].parent, options.threads
    runner = ServedModel(folder, isa, threads) if ServedModel.can_run(isa) else None
    bundle = BoardBundle(options.target, isa, prepared.annotated, prepared.simulation, options.samples, threads)
    written = write_bundle(folder, bundle, runner)
    artifact.files.extend(written.files)
    artifact.notes.extend([written.note, ON_THE_BOARD])
    return artifact if runner is None else BoardArtifact(artifact, runner)


@contextmanager
def _generator_faults() -> Iterator[None]:
    """What breaks in TVM is an error of the model that made it break."""
    try:
        yield
    except (GraphpressError, OutOfTimeError):
        raise
    except Exception as error:  # TVM's exceptions share no base class
        reraise_resource_fault(error)
        said = (message_of(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"TVM's code generator breaks on it ({said})",
            where="tvm",
            fix="use --backend onnxruntime; --debug shows the traceback, for a report to graphpress",
        ) from error


def _limit_note(size: OpenSize) -> str:
    return f"{size.name} is {size.minimum} to {size.size.maximum} in the library (--input-range sets other limits)"


def _open_windows(model: Model) -> list[Refusal]:
    """Inputs with open dimensions beside the number of samples in a model whose windows slide over such."""
    sliding = next((node for node in model.graph if _slides_over_open(node)), None)
    opened = [value.name or "" for value in model.graph.inputs if None in (dims_of(value) or ())[1:]]
    if sliding is None or not opened:
        return []
    why = f"{sliding.op_type} {label(sliding)} slides over an axis whose size is open"
    return [Refusal(name, why, _fixed_sizes(model)) for name in opened]


def _slides_over_open(node: Node) -> bool:
    return is_standard(node, *SLIDING) and None in (dims_of(node.inputs[0]) or ())[2:]


def _fixed_sizes(model: Model) -> str:
    """The options that fix the sizes of a model that cannot stay open."""
    likely = concrete_shapes(model)
    shapes = [f"{value.name}={'x'.join(map(str, likely[value.name or '']))}" for value in model.graph.inputs]
    return f"{' '.join(f'--input-shape {shape}' for shape in shapes)}, or the sizes that you need"


def in_standard_operators(annotated: Model, target: Target) -> Model:
    """The model, or a copy with operators of the standard instead of those that ONNX Runtime's optimizers write.

    Where other nodes would mean something else in the operator set that this takes, it stays as it is.
    """
    from graphpress.backends.tvm.lowering.contributed import OPSET, expand_contributed, is_contributed
    from graphpress.manager.contract import Context
    from graphpress.manager.recipe import from_text

    if not any(map(is_contributed, annotated.graph)):
        return annotated
    model, context = clone(annotated), Context(target, original=annotated)
    if any(change.run(model, context).refusals for change in from_text(f"raise_opset{{to={OPSET}}}").passes):
        return annotated
    expand_contributed(model)
    return model


def in_single_precision(annotated: Model, target: Target) -> Model:
    """The model, or a copy that computes in float32 what it has in half precision: kernels have no other floats.

    Inputs and outputs keep their types. What has no float32 keeps half precision, for TVM's own loops.
    """
    if not any(value.dtype in HALVES for value in values_of(annotated.graph)):
        return annotated
    from graphpress.manager.contract import Context
    from graphpress.manager.recipe import from_text

    model = clone(annotated)
    for change in from_text(IN_SINGLE_PRECISION).passes:
        change.run(model, Context(target, original=annotated))
    return model
