"""A compiled model in a process of its own: on this processor where it has the instructions, else in an emulator."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from graphpress.backends.tvm.board.programs import build_program, write_sources
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.emulator import PipedProgram, find_emulator
from graphpress.backends.tvm.processor import runs_natively
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.runtime.compiled import WEIGHTS, batch_of, read_description, sizes_of
from graphpress.scratch import scratch_folder


class ServedModel:
    """Runs a model for another machine; times say nothing of that machine (``Runner``).

    Args:
        folder: with the files of the model.
        isa: for which it was compiled.
        threads: that compute.
    """

    def __init__(self, folder: Path, isa: Isa, threads: int) -> None:
        self._folder, self._isa, self.threads = folder, isa, threads
        self._description = read_description(folder)
        self._emulator = None if runs_natively(isa) else find_emulator(isa)
        self._program: PipedProgram | None = None

    @staticmethod
    def can_run(isa: Isa) -> bool:
        """Whether this machine runs programs of an instruction set, somehow, and there is a compiler for them."""
        return runs_natively(isa) or (find_emulator(isa) is not None and find_c_toolchain(isa.triple).links_statically)

    @property
    def place(self) -> str:
        """The emulator, or this machine."""
        return "this machine" if self._emulator is None else self._emulator.title

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once.

        Raises:
            BackendError: the program ends: of an instruction that the processor lacks, for example.
        """
        self._program = self._program or self._start()
        inputs, outputs = self._description.inputs, self._description.outputs
        arrays = [np.ascontiguousarray(feed[tensor.name], tensor.dtype) for tensor in inputs]
        batch = batch_of(arrays, inputs) if self._description.batched else 1
        sizes = sizes_of(arrays, inputs)
        shapes = [tensor.of_batch(batch, sizes) for tensor in outputs]
        room = [math.prod(shape) * tensor.dtype.itemsize for shape, tensor in zip(shapes, outputs, strict=True)]
        numbers = np.array([batch, *(sizes[size.name] for size in self._description.sizes)], np.int32)
        lengths = np.array([*(array.nbytes for array in arrays), *room], np.int64)
        request = [numbers.tobytes(), lengths.tobytes(), *(array.tobytes() for array in arrays)]
        answer = memoryview(self._program.ask(request, sum(room)))
        results, start = {}, 0
        for tensor, shape, count in zip(outputs, shapes, room, strict=True):
            results[tensor.name] = np.frombuffer(answer[start : start + count], tensor.dtype).reshape(shape)
            start += count
        return results

    def measure(self, feeds: Sequence[Mapping[str, np.ndarray]], *, seconds: float) -> Sequence[float]:
        """Nothing: no clock here says how long the board takes."""
        return ()

    def stand_by(self) -> None:
        """End the program; the next run starts it anew."""
        if self._program is not None:
            self._program.close()
        self._program = None

    renew = stand_by

    def _start(self) -> PipedProgram:
        start = partial(PipedProgram, title=self.place) if self._emulator is None else self._emulator.start
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder())
            write_sources(["serve"], self._description, scratch)
            program = build_program("serve", scratch, self._folder, find_c_toolchain(self._isa.triple), scratch)
            running = start([program, (self._folder / WEIGHTS).resolve(), self.threads])
            weakref.finalize(running, stack.pop_all().close)
        return running
