"""Running a compiled model: a library that the TVM backend wrote, with numpy in and out.

    with graphpress.runtime.load("resnet18-cpu") as model:
        logits = model.run({"input": images})["logits"]

Neither TVM nor ONNX is needed.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import platform
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

import numpy as np

from graphpress.errors import MEMORY_FIX, NO_MEMORY, BackendError, ModelError, ResourceError, UsageError, did_you_mean

ABI = 1
"""Which functions a library has, and what ``model.json`` and the weights look like."""
LIBRARY, WEIGHTS, DESCRIPTION = "libmodel.so", "weights.bin", "model.json"

MEMORY, FILE, DAMAGED, THREADS, CPU = 2, 3, 4, 5, 6
"""Codes of ``graphpress_codes.h`` that are no fault of this module's."""
AGAIN = "compile it again"

Arrays = Mapping[str, np.ndarray]
"""Arrays by the names of inputs or outputs."""
Sizes = Mapping[str, int]
"""Sizes of a run by the names of dimensions."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a compiled model.

    Args:
        name: as the model has it.
        dtype: of its elements.
        shape: of one sample, where the batch is open; of the largest, where sizes are.
        open: of each open axis, how often it has which size, and without a name what it has beside them.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    open: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of one sample, the largest."""
        return math.prod(self.shape) * self.dtype.itemsize

    def of_batch(self, samples: int, sizes: Sizes = MappingProxyType({})) -> tuple[int, ...]:
        """The shape of so many samples, of some sizes where they are open."""
        extents = list(self.shape)
        for axis, terms in self.open.items():
            extents[axis] = sum(times * sizes.get(name, 1) for name, times in terms.items())
        return (samples * extents[0], *extents[1:]) if extents else ()


@dataclass(frozen=True)
class SizeInfo:
    """A size that each run gives.

    Args:
        name: of the dimension.
        minimum: the smallest.
        maximum: the largest.
    """

    name: str
    minimum: int
    maximum: int


@dataclass(frozen=True)
class Description:
    """What ``model.json`` says.

    Args:
        name: of the model.
        prefix: of its functions.
        abi: version of the interface.
        isa: name of the instruction set.
        architecture: of the processor, as ``uname -m`` prints it.
        batched: whether the first axis takes any number of samples.
        inputs: in the order of the model.
        outputs: in the order of the model.
        sha256: of the library.
        weights_inside: whether the library has its weights in it; else they are a file beside it.
        weights_bytes: of the weights.
        steps: for each its kernels, their symbols in the library, the nodes that it computes, and its tasks.
        sizes: that each run gives.
    """

    name: str
    prefix: str
    abi: int
    isa: str
    architecture: str
    batched: bool
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    sha256: str
    weights_inside: bool
    weights_bytes: int
    steps: Sequence[Mapping[str, Any]]
    sizes: Sequence[SizeInfo] = ()


def read_description(folder: Path) -> Description:
    """The description in a folder.

    Raises:
        ModelError: there is none, it is damaged, or it is of another version.
    """
    file = folder / DESCRIPTION
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["abi"] != ABI:
            fix = f"{AGAIN} with this version of graphpress, or install graphpress {facts['graphpress']}"
            raise ModelError(f"has version {facts['abi']} of the interface; this is {ABI}", where=str(file), fix=fix)
        return Description(
            name=str(facts["name"]),
            prefix=str(facts["prefix"]),
            abi=ABI,
            isa=str(facts["isa"]["name"]),
            architecture=str(facts["isa"]["architecture"]),
            batched=facts["batch"] == "open",
            inputs=[_tensor(entry) for entry in facts["inputs"]],
            outputs=[_tensor(entry) for entry in facts["outputs"]],
            sha256=str(facts["library_sha256"]),
            weights_inside=facts["weights"] == "inside",
            weights_bytes=int(facts["memory"]["weights_bytes"]),
            steps=[dict(step) for step in facts["steps"]],
            sizes=[SizeInfo(str(size["name"]), int(size["minimum"]), int(size["maximum"])) for size in facts["sizes"]],
        )
    except FileNotFoundError:
        fix = "give the folder that `optimize --backend tvm` wrote"
        raise ModelError(f"is no compiled model: it has no {DESCRIPTION}", where=str(folder), fix=fix) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(file), fix=AGAIN) from error


def load(folder: str | os.PathLike[str], *, threads: int | None = None, max_batch: int = 1) -> CompiledModel:
    """Load a compiled model.

    Args:
        folder: that the TVM backend wrote.
        threads: that compute; as many as there are processors for this process by default.
        max_batch: samples to make room for; a larger batch makes more when it comes.

    Raises:
        ModelError: a file is missing or damaged, or was written by another version.
        BackendError: it is for another processor.
        ResourceError: memory or threads ran out.
        UsageError: a number is out of range.
    """
    return CompiledModel(Path(folder), _usable_processors() if threads is None else threads, max_batch)


class CompiledModel:
    """A compiled model in this process. Calls from several threads wait for each other.

    Args:
        folder: with its files.
        threads: that compute.
        max_batch: samples to make room for at first.
    """

    def __init__(self, folder: Path, threads: int, max_batch: int = 1) -> None:
        self.description = read_description(folder)
        self.threads, self._max_batch = threads, max_batch
        self._library = _Library(folder, self.description)
        self._lock = threading.Lock()
        self._instance: int | None = self._library.create(threads, max_batch)
        self._destroy = weakref.finalize(self, self._library.destroy, self._instance)

    @property
    def name(self) -> str:
        """Of the model."""
        return self.description.name

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """In the order of the model."""
        return self.description.inputs

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """In the order of the model."""
        return self.description.outputs

    def run(self, feed: Arrays, out: Arrays | None = None) -> dict[str, np.ndarray]:
        """Compute the outputs, by name.

        Args:
            feed: the inputs, by name: of the types that the model has, and of one batch.
            out: arrays without gaps to write outputs to; those that it lacks are made.

        Raises:
            UsageError: a name, type or shape is not the model's, or the model was closed.
            ResourceError: memory ran out.
        """
        return self._run(feed, out or {}, None)

    def profile(self, feed: Arrays) -> list[float]:
        """Seconds that each of the description's steps takes in one run."""
        done_at = (ctypes.c_uint64 * len(self.description.steps))()
        started = time.monotonic_ns()
        self._run(feed, {}, done_at)
        return [(after - before) * 1e-9 for before, after in pairwise([started, *done_at])]

    def close(self) -> None:
        """Give memory and threads back."""
        with self._lock:
            self._instance = None
            self._destroy()

    def __enter__(self) -> CompiledModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, feed: Arrays, out: Arrays, done_at: Any) -> dict[str, np.ndarray]:
        sources, batch, sizes = self._checked(feed)
        results = self._room(out, batch, sizes)
        with self._lock:
            if self._instance is None:
                raise UsageError("was closed", where=f"model {self.name}", fix="load it again")
            if batch > self._max_batch:
                self._make_room(self._instance, batch)
            self._library.run(self._instance, batch, list(sizes.values()), sources, results, done_at)
        return {tensor.name: result for tensor, result in zip(self.outputs, results, strict=True)}

    def _make_room(self, instance: int, batch: int) -> None:
        larger = self._library.share(instance, self.threads, batch)
        self._destroy()
        self._destroy = weakref.finalize(self, self._library.destroy, larger)
        self._instance, self._max_batch = larger, batch

    def _in_range(self, given: Sizes) -> Sizes:
        """Open sizes, in the order of the description."""
        for size in self.description.sizes:
            if not size.minimum <= given[size.name] <= size.maximum:
                what = f"{size.name} is {given[size.name]}; the model takes {size.minimum} to {size.maximum}"
                raise UsageError(what, where=f"model {self.name}", fix="feed less, or compile it with --input-range")
        return {size.name: given[size.name] for size in self.description.sizes}

    def _room(self, out: Arrays, batch: int, sizes: Sizes) -> list[np.ndarray]:
        """Arrays for the outputs in order."""
        self._check_names(out, self.outputs, "output")
        room = [out.get(tensor.name, np.empty(tensor.of_batch(batch, sizes), tensor.dtype)) for tensor in self.outputs]
        for array, tensor in zip(room, self.outputs, strict=True):
            _check(array, tensor, batch, sizes, "output", batched=self.description.batched)
            if not array.flags.carray:
                fix = "use an array of numpy.empty"
                raise UsageError("has gaps, or cannot be written", where=f"output {tensor.name!r}", fix=fix)
        return room

    def _check_names(self, given: Iterable[str], tensors: Sequence[TensorInfo], kind: str) -> None:
        known = [tensor.name for tensor in tensors]
        for name in given:
            if name not in known:
                where = f"model {self.name}"
                raise UsageError(f"there is no {kind} {name!r}", where=where, fix=did_you_mean(name, known))

    def _checked(self, feed: Arrays) -> tuple[list[np.ndarray], int, Sizes]:
        """The inputs in order, each without gaps, the samples and the open sizes that they have."""
        self._check_names(feed, self.inputs, "input")
        known = [tensor.name for tensor in self.inputs]
        for name in known:
            if name not in feed:
                raise UsageError(f"input {name!r} is missing", where=f"model {self.name}", fix="feed all inputs")
        arrays = [np.asarray(feed[name]) for name in known]
        batch = batch_of(arrays, self.inputs) if self.description.batched else 1
        sizes = sizes_of(arrays, self.inputs) if self.description.sizes else {}
        for array, tensor in zip(arrays, self.inputs, strict=True):
            _check(array, tensor, batch, sizes, "input", batched=self.description.batched)
        dense = [array if array.flags.carray else np.require(array, requirements=("C", "ALIGNED")) for array in arrays]
        return dense, batch, self._in_range(sizes)


class _Library:
    """The functions of a library, which raise what their codes mean.

    Raises:
        ModelError: it is missing, damaged, or not what its description says.
        BackendError: it is for another architecture.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self._description = description
        self._file = folder / LIBRARY
        self._weights = None if description.weights_inside else folder / WEIGHTS
        here = platform.machine()
        if description.architecture != here:
            what = f"is compiled for {description.architecture}; this processor is {here}"
            raise BackendError(what, where=str(self._file), fix="run it on its device, or compile it for --target cpu")
        try:
            if hashlib.sha256(self._file.read_bytes()).hexdigest() != description.sha256:
                raise ModelError("is damaged, or of another model", where=str(self._file), fix=AGAIN)
            self._loaded = ctypes.CDLL(str(self._file.resolve()))
            self._check()
            self._compute = self._function("profile")  # looked up once: a run's lookups miss the caches it has used up
        except FileNotFoundError as error:
            raise ModelError("is missing", where=str(self._file), fix=AGAIN) from error
        except (OSError, AttributeError) as error:
            raise ModelError(f"cannot be loaded: {error}", where=str(self._file), fix=AGAIN) from error

    def create(self, threads: int, max_batch: int) -> int:
        """A new instance, which reads the weights."""
        created = ctypes.c_void_p()
        numbers = _c_int(threads), _c_int(max_batch)
        weights = None if self._weights is None else os.fsencode(self._weights)
        code = self._function("create")(weights, *numbers, ctypes.byref(created))
        return self._instance(code, created, threads, max_batch)

    def share(self, instance: int, threads: int, max_batch: int) -> int:
        """A new instance with the weights of another."""
        created = ctypes.c_void_p()
        numbers = _c_int(threads), _c_int(max_batch)
        code = self._function("share")(ctypes.c_void_p(instance), *numbers, ctypes.byref(created))
        return self._instance(code, created, threads, max_batch)

    def run(
        self,
        instance: int,
        batch: int,
        sizes: Sequence[int],
        sources: Sequence[np.ndarray],
        results: Sequence[np.ndarray],
        done_at: Any,
    ) -> None:
        """Compute; ``done_at`` takes the times at which steps are done, where it is not None."""
        given = [np.array(sizes, np.int32)] if sizes else []
        pointers = _pointers([*sources, *given]), _pointers(results)
        code = self._compute(ctypes.c_void_p(instance), batch, *pointers, done_at)
        if code:
            self._fail(code, f"a batch of {batch}")

    def destroy(self, instance: int) -> None:
        """End an instance."""
        self._function("destroy")(ctypes.c_void_p(instance))

    def _instance(self, code: int, created: ctypes.c_void_p, threads: int, max_batch: int) -> int:
        if code or created.value is None:
            self._fail(code, f"{threads} threads and a batch of {max_batch}")
        return created.value

    def _check(self) -> None:
        """Whether the library is the one that is described: nothing is written behind the end of a tensor."""
        if self._function("abi")() != ABI:
            raise ModelError("is of another version than its description", where=str(self._file), fix=AGAIN)
        for which, tensors in (("input", self._description.inputs), ("output", self._description.outputs)):
            size = self._function(f"{which}_bytes", ctypes.c_size_t)
            sizes = [size(number) for number in range(len(tensors) + 1)]
            if sizes != [*(tensor.bytes for tensor in tensors), 0]:
                raise ModelError(f"has other {which}s than its description", where=str(self._file), fix=AGAIN)

    def _fail(self, code: int, asked: str) -> NoReturn:
        text = self._function("error_text", ctypes.c_char_p)(code).decode()
        library = str(self._file)
        if code == MEMORY:
            raise ResourceError(NO_MEMORY, where=library, fix=MEMORY_FIX)
        if code == THREADS:
            raise ResourceError(
                f"{text}: {asked}", where=library, fix="allow more processes (ulimit -u), or ask for fewer"
            )
        if code == CPU:
            what = f"is compiled for {self._description.isa}; this processor lacks {', '.join(self._missing())}"
            raise BackendError(what, where=library, fix="compile it for --target cpu on this machine")
        if code in (FILE, DAMAGED):
            file = self._weights or self._file
            raise ModelError(text if file.is_file() else "is missing", where=str(file), fix=AGAIN)
        raise UsageError(f"cannot run {asked}: {text}", where=library, fix="use fewer threads, or a smaller batch")

    def _missing(self) -> list[str]:
        feature = self._function("missing_feature", ctypes.c_char_p)
        return [name.decode() for name in iter(map(feature, count()).__next__, None)]

    def _function(self, name: str, result: Any = ctypes.c_int) -> Any:
        function = self._loaded[f"{self._description.prefix}_{name}"]
        function.restype = result
        return function


def _tensor(entry: Mapping[str, Any]) -> TensorInfo:
    opened = {
        int(axis): {str(name): int(n) for name, n in terms.items()} for axis, terms in entry.get("open", {}).items()
    }
    return TensorInfo(str(entry["name"]), np.dtype(entry["dtype"]), tuple(map(int, entry["shape"])), opened)


def batch_of(arrays: Sequence[np.ndarray], tensors: Sequence[TensorInfo]) -> int:
    """How often the first axis of what is fed holds that of one sample."""
    counts = (len(array) // tensor.shape[0] for array, tensor in zip(arrays, tensors, strict=True) if array.ndim)
    return max(next(counts, 1), 1)


def sizes_of(arrays: Sequence[np.ndarray], tensors: Sequence[TensorInfo]) -> dict[str, int]:
    """The open sizes of what is fed, by name: each as the first axis says that has no other unknown one."""
    known: dict[str, int] = {"": 1}
    axes = [
        (array.shape[axis], terms)
        for array, tensor in zip(arrays, tensors, strict=True)
        for axis, terms in tensor.open.items()
        if axis < array.ndim
    ]
    for _ in axes:
        for extent, terms in axes:
            unknown = [name for name in terms if name not in known]
            if len(unknown) == 1:
                rest = extent - sum(times * known[name] for name, times in terms.items() if name in known)
                known[unknown[0]] = rest // terms[unknown[0]]
    del known[""]
    return known


def _check(array: np.ndarray, tensor: TensorInfo, batch: int, sizes: Sizes, kind: str, *, batched: bool) -> None:
    where = f"{kind} {tensor.name!r}"
    if array.dtype != tensor.dtype:
        raise UsageError(
            f"is {array.dtype}, not {tensor.dtype}", where=where, fix=f"use .astype({tensor.dtype.name!r})"
        )
    if array.shape != tensor.of_batch(batch, sizes):
        wanted = [_axis_text(tensor, axis, batched=batched) for axis in range(len(tensor.shape))]
        what = f"has the shape {list(array.shape)}, not [{', '.join(wanted)}]"
        raise UsageError(what, where=where, fix="give all tensors the same number of samples, and the same sizes")


def _axis_text(tensor: TensorInfo, axis: int, *, batched: bool) -> str:
    if batched and not axis:
        return "batch"
    if (terms := tensor.open.get(axis)) is None:
        return str(tensor.shape[axis])
    return " + ".join(name if times == 1 and name else f"{times} {name}".strip() for name, times in terms.items())


def _pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * (len(arrays) or 1))(*(array.__array_interface__["data"][0] for array in arrays))


def _c_int(number: int) -> int:
    """A number as the library takes it; one that it has no room for is out of range, too."""
    return number if abs(number) < 1 << 31 else -1


def _usable_processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
