"""Run and measure a TensorRT engine, with numpy, TensorRT's Python package and the GPU's driver alone.

This file stands by itself, so that it can be copied beside an engine: Python 3.8, no other file of this project. It
calls the driver (``libcuda``) rather than to the CUDA runtime: wherever a GPU works the driver is there, always
under the same name. Outputs whose size only the data decide are refused.

    from engine import Engine
    with Engine("model.plan") as engine:
        outputs = engine.run({"input": array})
        milliseconds = engine.measure({"input": array})
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

PACKAGES = ("tensorrt", "tensorrt_rtx")
DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""Types of TensorRT that numpy has, too."""

WARMUP = 10
REPEATS = 100


class EngineError(RuntimeError):
    """The engine cannot be loaded or run; the message says why and what to do."""


class Port(NamedTuple):
    """An input or output of an engine.

    Args:
        name: as in the model.
        is_input: whether it is read.
        dtype: numpy's type.
        shape: -1 where a dimension is open.
    """

    name: str
    is_input: bool
    dtype: Any
    shape: tuple[int, ...]


class Driver:
    """The GPU's driver: memory, copies, a stream and its clock. All pointers are integers.

    Raises:
        EngineError: there is no driver or no GPU.
    """

    def __init__(self) -> None:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise EngineError(f"there is no NVIDIA driver here ({error}): run this on the device") from error
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        self.stream = int(stream.value or 0)

    def allocate(self, size: int) -> int:
        """So many bytes on the GPU."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return int(pointer.value)

    def free(self, pointer: int) -> None:
        """Give them back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def upload(self, pointer: int, array: np.ndarray) -> None:
        """Copy a contiguous array to the GPU, in the order of the stream."""
        source = ctypes.c_void_p(array.ctypes.data)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(pointer), source, ctypes.c_size_t(array.nbytes), self._queue)

    def download(self, array: np.ndarray, pointer: int) -> None:
        """Copy from the GPU into a contiguous array, in the order of the stream."""
        target = ctypes.c_void_p(array.ctypes.data)
        self._call("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(pointer), ctypes.c_size_t(array.nbytes), self._queue)

    def wait(self) -> None:
        """Until everything in the stream is done."""
        self._call("cuStreamSynchronize", self._queue)

    def mark(self) -> int:
        """An event behind what is in the stream."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        self._call("cuEventRecord", event, self._queue)
        return int(event.value or 0)

    def milliseconds(self, start: int, stop: int) -> float:
        """Time between two events, which are given back."""
        elapsed = ctypes.c_float()
        self._call("cuEventSynchronize", ctypes.c_void_p(stop))
        self._call("cuEventElapsedTime", ctypes.byref(elapsed), ctypes.c_void_p(start), ctypes.c_void_p(stop))
        for event in (start, stop):
            self._call("cuEventDestroy_v2", ctypes.c_void_p(event))
        return float(elapsed.value)

    def close(self) -> None:
        """Give the stream back."""
        self._call("cuStreamDestroy_v2", self._queue)

    @property
    def _queue(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.stream)

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(text))
            detail = (text.value or b"unknown error").decode()
            raise EngineError(f"the GPU's driver says {detail!r} (error {code} of {function})")


class Engine:
    """A loaded engine.

    Args:
        plan: the engine's file, or its bytes.
        trt: TensorRT's package; by default whichever is installed.
        driver: the GPU; by default the first.

    Raises:
        EngineError: there is no TensorRT, no GPU, or the engine is of another version or another GPU.
    """

    def __init__(self, plan: Path | str | bytes, trt: Any = None, driver: Any = None) -> None:
        self._trt = import_tensorrt() if trt is None else trt
        data = plan if isinstance(plan, bytes) else _read(Path(plan))
        self._driver = Driver() if driver is None else driver
        self._messages: list[str] = []
        self._logger = _listener(self._trt, self._messages)
        self._runtime = self._trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self._error("TensorRT cannot load this engine", "build it on this very device, with this TensorRT")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._error("TensorRT cannot prepare this engine", "free memory of the GPU")
        self.ports = self._find_ports()
        self._held: dict[str, tuple[int, int]] = {}

    def run(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            feed: an array for each input by name, of the input's type, of a shape that the engine was built for.

        Raises:
            EngineError: an input is missing or of another type or shape, or the engine fails.
        """
        results = self._prepare(feed)
        self._enqueue()
        for name, array in results.items():
            self._driver.download(array, self._held[name][0])
        self._driver.wait()
        return results

    def measure(self, feed: Mapping[str, Any], repeats: int = REPEATS, warmup: int = WARMUP) -> list[float]:
        """Milliseconds of each of so many runs on the GPU, copies to and from it left out."""
        self._prepare(feed)
        for _ in range(warmup):
            self._enqueue()
        self._driver.wait()
        times = []
        for _ in range(repeats):
            start = self._driver.mark()
            self._enqueue()
            times.append(self._driver.milliseconds(start, self._driver.mark()))
        return times

    def layers(self) -> list[dict[str, Any]]:
        """The engine's layers, as its inspector lists them; with types only if it was built to list them.

        Where shapes are open, types are those for the optimum shapes of the engine's profile.
        """
        inspector = self._engine.create_engine_inspector()
        if self._set_optimum_shapes():
            inspector.execution_context = self._context
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        layers = json.loads(text).get("Layers", [])
        return [layer if isinstance(layer, dict) else {"Name": str(layer)} for layer in layers]

    def close(self) -> None:
        """Give the GPU's memory back."""
        for pointer, _ in self._held.values():
            self._driver.free(pointer)
        self._held.clear()
        self._driver.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find_ports(self) -> list[Port]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return [
            Port(
                name,
                self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT,
                dtype_of(self._engine.get_tensor_dtype(name), name),
                tuple(self._engine.get_tensor_shape(name)),
            )
            for name in names
        ]

    def _set_optimum_shapes(self) -> bool:
        """Whether there are open inputs, and all of them have the shapes now that the engine was tuned for."""
        optimum = {
            port.name: tuple(self._engine.get_tensor_profile_shape(port.name, 0)[1])
            for port in self.ports
            if port.is_input and -1 in port.shape
        }
        return bool(optimum) and all(self._context.set_input_shape(name, shape) for name, shape in optimum.items())

    def _prepare(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Inputs on the GPU, memory for outputs there and here."""
        for name, array in check_feed(self.ports, feed).items():
            if not self._context.set_input_shape(name, array.shape):
                raise self._error(
                    f"the engine takes no input {name!r} of shape {list(array.shape)}",
                    "build it with a profile that holds this shape",
                )
            self._driver.upload(self._reserve(name, array.nbytes), array)
        results = {}
        for port in self.ports:
            if not port.is_input:
                shape = tuple(self._context.get_tensor_shape(port.name))
                if -1 in shape:
                    raise EngineError(f"the size of output {port.name!r} depends on the data: run it with trtexec")
                results[port.name] = np.empty(shape, port.dtype)
                self._reserve(port.name, results[port.name].nbytes)
        for name, (pointer, _) in self._held.items():
            self._context.set_tensor_address(name, pointer)
        return results

    def _reserve(self, name: str, size: int) -> int:
        """Memory on the GPU for a tensor, that of the last run where it is large enough."""
        pointer, held = self._held.get(name, (0, -1))
        if held < size:
            if held >= 0:
                self._driver.free(pointer)
            pointer = self._driver.allocate(size)
            self._held[name] = (pointer, size)
        return pointer

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._driver.stream):
            raise self._error("the engine does not run", "see what TensorRT said")

    def _error(self, what: str, fix: str) -> EngineError:
        detail = f" ({self._messages[-1]})" if self._messages else ""
        return EngineError(f"{what}{detail}: {fix}")


def import_tensorrt(packages: Sequence[str] = PACKAGES) -> Any:
    """TensorRT's package, the first of these that is installed.

    Raises:
        EngineError: none is.
    """
    for name in packages:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError):
            continue
        if hasattr(module, "Runtime"):
            return module
    missing = packages[0] if len(packages) == 1 else f"none of {', '.join(packages)}"
    fixes = {"tensorrt": "on a Jetson, apt install python3-libnvinfer", "tensorrt_rtx": "pip install tensorrt-rtx"}
    verb = "is not" if len(packages) == 1 else "is"
    raise EngineError(f"{missing} {verb} installed: {fixes.get(packages[0], 'install it')}")


def dtype_of(dtype: Any, name: str) -> Any:
    """The type of numpy for one of TensorRT's.

    Raises:
        EngineError: there is none.
    """
    name_of_type = str(getattr(dtype, "name", dtype)).rsplit(".", 1)[-1]
    if name_of_type not in DTYPES:
        raise EngineError(f"{name!r} is {name_of_type}, which numpy does not have: let the model cast it")
    return np.dtype(DTYPES[name_of_type])


def check_feed(ports: Sequence[Port], feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a feed, contiguous, by the names of the inputs.

    Raises:
        EngineError: one is missing, unknown, of another type, or of a shape that the input does not have.
    """
    inputs = {port.name: port for port in ports if port.is_input}
    if unknown := sorted(set(feed) - set(inputs)):
        raise EngineError(f"the engine has no input {unknown[0]!r}: it has {', '.join(sorted(inputs))}")
    if missing := sorted(set(inputs) - set(feed)):
        raise EngineError(f"the input {missing[0]!r} is missing: give an array for it")
    return {name: _checked(port, np.asarray(feed[name])) for name, port in inputs.items()}


def _checked(port: Port, array: np.ndarray) -> np.ndarray:
    if array.dtype != port.dtype:
        raise EngineError(f"{port.name!r} is {array.dtype}, and the engine reads {port.dtype}: convert it")
    fits = len(array.shape) == len(port.shape) and all(
        wanted in (-1, size)
        for wanted, size in zip(port.shape, array.shape)  # noqa: B905  Python 3.8
    )
    if not fits:
        raise EngineError(f"{port.name!r} is {list(array.shape)}, and the engine reads {list(port.shape)}: reshape it")
    return np.ascontiguousarray(array)


def _read(plan: Path) -> bytes:
    try:
        return plan.read_bytes()
    except OSError as error:
        raise EngineError(f"{plan} cannot be read ({error.strerror}): build the engine first") from error


def _listener(trt: Any, messages: list[str]) -> Any:
    """A logger that remembers errors."""
    worst = int(trt.ILogger.Severity.ERROR)

    class Listener(trt.ILogger):  # type: ignore[misc]
        """Keeps the messages of what went wrong."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= worst:
                messages.append(msg.strip())

    return Listener()
