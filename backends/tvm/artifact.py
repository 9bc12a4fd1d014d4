"""A program as a shared library with its weights beside it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.emit import model_source
from graphpress.backends.tvm.kernels.kernel import symbol
from graphpress.backends.tvm.object_files import write_objects
from graphpress.backends.tvm.plan import plan_memory
from graphpress.backends.tvm.program import CallerTensor, Program
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.backends.tvm.weights import gather_weights
from graphpress.cache import NO_CACHE, ContentCache
from graphpress.errors import ModelError

RUNTIME = ("graphpress_runtime.c", "graphpress_runtime.h")


def write_library(program: Program, isa: Isa, out: Path, cache: ContentCache = NO_CACHE) -> Path:
    """Compile and link a program.

    Args:
        program: the steps.
        isa: for what they were lowered.
        out: a folder; ``libmodel.so``, ``weights.bin``, objects and the C sources are written there.
        cache: of compiled kernels.

    Returns:
        The library.

    Raises:
        BackendError: there is no C compiler for the instruction set, or it fails.
    """
    toolchain = find_c_toolchain(isa.triple)
    weights, plan = gather_weights(program), plan_memory(program)
    kernels = {symbol(step.kernel, isa): step.kernel for step in program.steps}
    objects = write_objects(kernels, isa, out, cache)
    weights.write(out / "weights.bin")
    (out / "model.c").write_text(model_source(program, plan, weights, isa))
    for name in RUNTIME:
        (out / name).write_text((resources.files(__package__) / "runtime" / name).read_text())
    sources = ["model.c", "graphpress_runtime.c", *(file.name for file in objects)]
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", "-o", "libmodel.so"]
    toolchain.run([*flags, *sources], out)
    return out / "libmodel.so"


class Library:
    """A compiled model in this process.

    Args:
        folder: of ``write_library``.
        inputs: of the model.
        outputs: of the model.
        threads: that compute.
        images: the largest batch.
    """

    def __init__(
        self,
        folder: Path,
        inputs: Sequence[CallerTensor],
        outputs: Sequence[CallerTensor],
        threads: int = 1,
        images: int = 1,
    ) -> None:
        self._library = ctypes.CDLL(str(folder / "libmodel.so"))
        self._instance = ctypes.c_void_p()
        self._inputs, self._outputs = inputs, outputs
        model = ctypes.c_byte.in_dll(self._library, "graphpress_compiled")
        code = self._library.graphpress_create(
            ctypes.byref(model), str(folder / "weights.bin").encode(), threads, images, ctypes.byref(self._instance)
        )
        if code:
            raise ModelError(f"cannot be loaded (code {code})", where=str(folder), fix="compile it again")

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; the images of the batch are those of the first input."""
        arrays = [np.ascontiguousarray(feed[port.name], port.plane.dtype) for port in self._inputs]
        images = samples(self._inputs, feed)
        shapes = [
            tuple(images * size if axis == 0 else size for axis, size in enumerate(port.shape))
            for port in self._outputs
        ]
        results = [np.empty(shape, port.plane.dtype) for shape, port in zip(shapes, self._outputs, strict=True)]
        code = self._library.graphpress_run(self._instance, images, _pointers(arrays), _pointers(results))
        if code:
            raise ModelError(f"refuses {images} images (code {code})", where="the library", fix="use a smaller batch")
        return {
            port.name: result.astype(port.dtype, copy=False)
            for port, result in zip(self._outputs, results, strict=True)
        }

    def __del__(self) -> None:
        if self._instance:
            self._library.graphpress_destroy(self._instance)


def samples(inputs: Sequence[CallerTensor], feed: Mapping[str, np.ndarray]) -> int:
    """How often the first axis of what is fed holds that of one sample."""
    return max((len(feed[port.name]) // port.shape[0] for port in inputs if port.shape), default=1)


def _pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
