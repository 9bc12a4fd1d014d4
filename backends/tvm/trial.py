"""TVM's loops for an operator are tried before they are trusted: beside ONNX Runtime, on this machine.

TVM's importer knows most operators, but not all of their attributes, and says nothing of those that it leaves out. So
the loops of each node are compiled for this machine, and run on a few feeds that ONNX Runtime accepts: numbers that are
random, halves, where ties are rounded and numbers equal each other, and numbers that are none. Integers are never zero,
by which nobody can divide, and at first small enough for indices.

Where the batch is open, the same loops compute one sample after another: what ONNX Runtime computes of two samples at
once has to be the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from graphpress.backends.tvm.codegen.isa import Isa, newest_isa
from graphpress.backends.tvm.codegen.legalize import LoopProgram, NoLoopsError
from graphpress.backends.tvm.codegen.objects import write_object
from graphpress.backends.tvm.kernels.generic import GenericLoops
from graphpress.backends.tvm.kernels.kernel import function, symbol
from graphpress.backends.tvm.processor import this_processor
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.errors import GraphpressError
from graphpress.ir import from_proto
from graphpress.runtime import Session
from graphpress.scratch import scratch_folder

Feed = Mapping[str, np.ndarray]
SAMPLES = 2
RELATIVE, HALF_RELATIVE = 1e-4, 1e-2
"""Tolerances, of the largest number: of float32 and float64, and of float16."""


def try_loops(program: LoopProgram, model: onnx.ModelProto, axes: Mapping[str, int] | None = None) -> None:
    """Compare loops with ONNX Runtime.

    Args:
        program: the loops.
        model: what they compute.
        axes: by input and output the axis that counts samples, where their number is open; None where it is fixed.

    Raises:
        NoLoopsError: they differ, or nobody can tell.
    """
    _check_outputs(program, model)
    expected_of = _reference(model) if axes is None else _reference_of_samples(model, axes)
    feeds = [(feed, expected) for feed in _feeds(model) if (expected := expected_of(feed)) is not None]
    if not feeds:
        raise NoLoopsError("ONNX Runtime runs it on no made-up input, so that nobody can tell whether they are right")
    compute = _Compiled(program)
    for feed, expected in feeds:
        _compare(compute(feed), expected, "TVM's loops for it compute something else than ONNX Runtime")


def _check_outputs(program: LoopProgram, model: onnx.ModelProto) -> None:
    for tensor, declared in zip(program.outputs, model.graph.output, strict=False):
        kind = declared.type.tensor_type
        size = int(np.prod([dim.dim_value for dim in kind.shape.dim], initial=1))
        if (tensor.dtype, int(np.prod(tensor.shape, initial=1))) != (_dtype(kind), size):
            raise NoLoopsError(f"they give {tensor.dtype} {tensor.shape} for {declared.name}")
    if len(program.outputs) < len(model.graph.output):
        raise NoLoopsError("they lack an output")


def _dtype(kind: onnx.TypeProto.Tensor) -> str:
    return str(helper.tensor_dtype_to_np_dtype(kind.elem_type))


# -- what it should be --------------------------------------------------------------------------------------------


def _reference(model: onnx.ModelProto) -> Callable[[Feed], list[np.ndarray] | None]:
    """ONNX Runtime's results; None for a feed that it refuses."""
    try:
        session = Session(from_proto(model), optimization="none")
    except GraphpressError as error:
        raise NoLoopsError(f"ONNX Runtime cannot say whether they are right: {error.what}") from error

    def run(feed: Feed) -> list[np.ndarray] | None:
        try:
            return list(session.run(feed).values())
        except GraphpressError:
            return None

    return run


def _reference_of_samples(model: onnx.ModelProto, axes: Mapping[str, int]) -> Callable[[Feed], list[np.ndarray] | None]:
    """The same of a sample among others, which must not matter."""
    several = onnx.ModelProto.FromString(model.SerializeToString())
    for value in (*several.graph.input, *several.graph.output):
        if value.name in axes:
            value.type.tensor_type.shape.dim[axes[value.name]].dim_value *= SAMPLES
    run = _reference(several)

    def among_others(feed: Feed, place: int) -> list[np.ndarray] | None:
        results = run({name: _with_another(array, axes.get(name), place) for name, array in feed.items()})
        if results is None:
            return None
        outputs = zip(model.graph.output, results, strict=True)
        return [_sample(array, axes.get(output.name), place) for output, array in outputs]

    def wherever(feed: Feed) -> list[np.ndarray] | None:
        first, last = among_others(feed, 0), among_others(feed, 1)
        if first is not None and last is not None:
            _compare(first, last, "what it computes of a sample depends on the others of the batch")
        return first if last is not None else None

    return wherever


def _with_another(array: np.ndarray, axis: int | None, place: int) -> np.ndarray:
    """A sample, and another one in front or behind."""
    if axis is None:
        return array
    pair = [array, np.flip(array)]
    return np.concatenate(pair if place == 0 else pair[::-1], axis)


def _sample(array: np.ndarray, axis: int | None, place: int) -> np.ndarray:
    return array if axis is None else np.split(array, SAMPLES, axis)[place]


def _compare(results: Sequence[np.ndarray], expected: Sequence[np.ndarray], why: str) -> None:
    for result, wanted in zip(results, expected, strict=False):
        if wanted.dtype.kind != "f":
            same = np.array_equal(result, wanted)
        else:
            tolerance = HALF_RELATIVE if wanted.dtype == np.float16 else RELATIVE
            finite = wanted[np.isfinite(wanted)].astype(np.float64)
            scale = float(np.abs(finite).max(initial=1e-6))
            same = np.allclose(result, wanted, rtol=tolerance, atol=tolerance * 0.1 * scale, equal_nan=True)
        if not same:
            raise NoLoopsError(why)


# -- feeds --------------------------------------------------------------------------------------------------------


def _feeds(model: onnx.ModelProto) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of all kinds, those that any operator accepts first."""
    rng = np.random.default_rng(0)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input}
    dtypes = {value.name: _dtype(value.type.tensor_type) for value in model.graph.input}
    initial = [list(tensor.dims) for tensor in model.graph.initializer]
    smallest = min((size for shape in (*shapes.values(), *initial) for size in shape), default=1)
    decides = all(_dtype(value.type.tensor_type) == "bool" for value in model.graph.output)
    for floats in (_uniform, _normal, _halves, *([_no_numbers] if decides else [])):
        for largest in (smallest, 100):
            yield {name: _made_up(rng, shape, dtypes[name], floats, largest) for name, shape in shapes.items()}


def _made_up(
    rng: np.random.Generator,
    shape: Sequence[int],
    dtype: str,
    floats: Callable[[np.random.Generator, Sequence[int]], np.ndarray],
    largest: int,
) -> np.ndarray:
    if dtype.startswith("float"):
        return floats(rng, shape).astype(dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    low = 1 if dtype.startswith("u") else -largest
    numbers = rng.integers(low, max(largest, 2) if low == 1 else largest, shape)
    return np.where(numbers == 0, low, numbers).astype(dtype)


def _uniform(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.random(shape) * 0.9 + 0.05


def _normal(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.standard_normal(shape) * 3


def _halves(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.integers(-6, 7, shape) / 2


def _no_numbers(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], shape)


# -- what it is ---------------------------------------------------------------------------------------------------


class _Compiled:
    """Loops, compiled for this machine and loaded."""

    def __init__(self, program: LoopProgram) -> None:
        isa = _host_isa()
        self.program, self.isa = program, isa
        self.kernels = [GenericLoops(step.nest, (True,) * len(step.tensors)) for step in program.steps]
        functions = {symbol(kernel, isa): function(kernel, isa) for kernel in self.kernels}
        if not functions:
            return
        with scratch_folder() as folder:
            write_object(list(functions.values()), isa, folder / "loops.o")
            find_c_toolchain().run(["-shared", "-o", "loops.so", "loops.o", "-lm"], folder)
            self.library = ctypes.CDLL(str(folder / "loops.so"))

    def __call__(self, feed: Feed) -> list[np.ndarray]:
        """The outputs."""
        memory = {name: np.ascontiguousarray(array) for name, array in {**feed, **self.program.constants}.items()}
        for kernel, step in zip(self.kernels, self.program.steps, strict=True):
            for tensor in step.tensors:
                memory.setdefault(tensor.name, np.zeros(tensor.shape, tensor.dtype))
            pointers = [ctypes.c_void_p(memory[tensor.name].ctypes.data) for tensor in step.tensors]
            getattr(self.library, symbol(kernel, self.isa))(*pointers, 0, kernel.tasks(self.isa))
        return [memory[tensor.name] for tensor in self.program.outputs]


def _host_isa() -> Isa:
    """The newest instruction set of this machine."""
    here = this_processor()
    isa = newest_isa(here.architecture, here.features)
    if isa is None:
        raise NoLoopsError("they cannot be tried on this processor")
    return isa
