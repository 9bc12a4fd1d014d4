"""How long each kernel of a compiled model takes, beside what a core can do at most.

On one thread: of several, the system may give one the time of another, and then nobody knows which kernel took it.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from graphpress.backend import KernelTime
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import symbol
from graphpress.backends.tvm.kernels.peak import Peak
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.object_files import write_objects
from graphpress.backends.tvm.program import Constant, Program, Source, Step, Stripes
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.backends.tvm.tuning.knobs import knob_of, recorded_setting
from graphpress.cache import NO_CACHE
from graphpress.runtime.compiled import CompiledModel
from graphpress.scratch import scratch_folder

CALLS = 9
"""Of a model, or of the peak's kernel; the first of the model is not looked at."""
LIBRARY = "peak.so"
ROOM = 1024
"""Elements that each operand of the peak's kernel has room for."""
INTEGER, FLOATS = "int8", "float32"


def kernel_times(program: Program, folder: Path, feed: Mapping[str, np.ndarray], isa: Isa) -> list[KernelTime]:
    """Each step of a model, or stripes of several, on one thread, in order: the least of a few calls.

    Args:
        program: what is computed.
        folder: of its library.
        feed: what it is called with.
        isa: of this machine.
    """
    with CompiledModel(folder, threads=1) as model:
        runs = [model.profile(feed) for _ in range(1 + CALLS)][1:]
    seconds = [min(times) for times in zip(*runs, strict=True)]
    return [_kernel_time(scheduled, each, isa) for scheduled, each in zip(program.schedule(), seconds, strict=True)]


def arithmetic_of(step: Step) -> str:
    """What a step multiplies."""
    return INTEGER if getattr(step.kernel, "integer", False) else FLOATS


def _kernel_time(scheduled: Step | Stripes, seconds: float, isa: Isa) -> KernelTime:
    steps = scheduled.steps
    arithmetic = arithmetic_of(steps[0])
    return KernelTime(
        kernel=" + ".join(type(step.kernel).__name__ for step in steps),
        nodes=scheduled.nodes,
        shape=_shape(steps),
        setting="; ".join(filter(None, map(_setting, steps))),
        arithmetic=arithmetic,
        seconds=seconds,
        peak=peak_rate(isa, integer=arithmetic == INTEGER),
    )


def _shape(steps: Sequence[Step]) -> str:
    """What is read and written, and by which windows: ``56x56x64, 3x3 → 28x28x128``."""
    windows = (getattr(step.kernel, "window", None) for step in steps)
    taps = [f"{'x'.join(map(str, window.taps))}{_stride(window.strides)}" for window in windows if window is not None]
    first = steps[0].operands[steps[0].kernel.operands[0].name]
    return f"{', '.join([_extent(first), *taps])} → {_extent(steps[-1].result)}"


def _stride(strides: tuple[int, int]) -> str:
    return "" if strides == (1, 1) else f"/{strides[0]}" if len(set(strides)) == 1 else f"/{strides[0]}x{strides[1]}"


def _extent(source: Source) -> str:
    plane: Plane | None = source.plane
    if plane is None:
        assert isinstance(source, Constant)
        return "x".join(map(str, source.array.shape))
    sizes = (plane.height, plane.width, plane.channels)
    images = f"{source.images}·" if source.images > 1 else ""
    return f"{images}{'x'.join(str(size) for size in sizes)}"


def _setting(step: Step) -> str:
    """What was chosen of a kernel: the tile of a product, the pixels of a depthwise convolution."""
    knob = knob_of(step.kernel)
    if knob is None:
        return ""
    setting = recorded_setting(step.kernel)
    if not isinstance(setting, Mapping):
        return f"{knob.field} {setting}"
    return ", ".join(f"{name} {value}" for name, value in setting.items() if value and value is not True) + "".join(
        f", {name}" for name, value in setting.items() if value is True
    )


@cache
def peak_rate(isa: Isa, *, integer: bool) -> float:
    """Multiply-accumulates that a core of this machine does in a second at most: the best of a few calls."""
    kernel = Peak(isa.dot.activations) if integer else Peak()
    with scratch_folder() as folder:
        name = symbol(kernel, isa)
        objects = write_objects({name: kernel}, isa, folder, NO_CACHE)
        find_c_toolchain(isa.triple).run(["-shared", "-o", LIBRARY, *(file.name for file in objects)], folder)
        library = ctypes.CDLL(str(folder / LIBRARY))  # stays when its file goes
    function = getattr(library, name)
    operands = [np.ones(ROOM, operand.dtype) for operand in kernel.operands]
    pointers = [ctypes.c_void_p(operand.ctypes.data) for operand in operands]
    return kernel.macs(isa) / min(_seconds(function, pointers) for _ in range(CALLS))


def _seconds(function: ctypes._NamedFuncPointer, pointers: Sequence[ctypes.c_void_p]) -> float:
    """Of the clock on the wall: what takes the processor away only makes a call longer."""
    began = time.perf_counter()
    function(*pointers, 0, 1)
    return time.perf_counter() - began
