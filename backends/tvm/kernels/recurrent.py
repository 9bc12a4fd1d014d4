"""Recurrent layers: all steps of a sequence in one direction; what they read has been multiplied by its weights.

    RNN     h = tanh(p + R h)
    GRU     z, r = σ(p + R h);  n = tanh(p + R (r ∘ h) + Rb)  or, with the reset behind,  n = tanh(p + r ∘ (R h + Rb));
            h = (1 - z) ∘ n + z ∘ h
    LSTM    i, o, f = σ(p + R h);  c = f ∘ c + i ∘ tanh(p + R h);  h = o ∘ tanh(c)

``p`` are the projections of the inputs, biases added, which a product computes for all steps at once. A step reads the
weights of all gates of a block of units together, so that they stream through the cache once. The state has two
places, of which each step reads one and writes the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.backends.tvm.codegen.builder import Expr, KernelBuilder, Memory
from graphpress.backends.tvm.codegen.functions import sigmoid, tanh
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.codegen.vectors import FLOAT, splat
from graphpress.backends.tvm.kernels.kernel import Pointer
from graphpress.backends.tvm.kernels.pieces import halvings
from graphpress.backends.tvm.kernels.plane import Plane, whole_vectors
from graphpress.backends.tvm.kernels.stages import Position
from graphpress.ops.semantics.recurrent import GATES

RESET = 1
"""The gate of a GRU that decides what it forgets before it looks at its input."""
CANDIDATE = 2
"""The gate of a GRU that proposes the new state."""
UNROLLED = 4
"""Units of the state whose weights are multiplied in one round."""
VECTORS = 2
"""Of units that are computed at a time."""


@dataclass(frozen=True)
class RecurrentLayer:
    """A layer.

    Args:
        operator: ``RNN``, ``GRU`` or ``LSTM``.
        backwards: for each direction, whether it reads from the end.
        units: of the state.
        source: projections ``[steps, sequences, directions · gates · whole vectors of units]``.
        initial: ``[directions, sequences, units]``, by the operand that holds it: ``hidden``, ``cell``.
        results: the same, by the operand that is written: ``every`` for each step, ``hidden_end`` and ``cell_end``.
        resets_behind: a GRU's reset gate multiplies what the state was multiplied to.
    """

    operator: str
    backwards: tuple[bool, ...]
    units: int
    source: Plane
    initial: tuple[tuple[str, Plane], ...]
    results: tuple[tuple[str, Plane], ...]
    resets_behind: bool = False

    @property
    def gates(self) -> int:
        """Rows of weights for each unit."""
        return GATES[self.operator]

    @property
    def operands(self) -> Sequence[Pointer]:
        """Projections, weights, biases of the recurrence, initial states, the state, and the results."""
        fixed = [Pointer(name, FLOAT) for name in ("source", "weights", "bias")]
        others = [name for name, _ in (*self.initial, ("state", None), *self.results)]
        return [*fixed, *(Pointer(name, FLOAT) for name in others)]

    @property
    def resets_before(self) -> bool:
        """Whether a GRU's reset gate multiplies the state before its weights do."""
        return self.operator == "GRU" and not self.resets_behind

    def width(self, isa: Isa) -> int:
        """Units and what fills the last vector."""
        return whole_vectors(self.units, isa.lanes)

    def state_size(self, isa: Isa) -> int:
        """Elements of the state of one sequence in one direction: hidden twice, the cell, and a GRU's reset state."""
        return 4 * self.width(isa)

    def tasks(self, isa: Isa) -> int:
        """A task is a sequence in one direction."""
        return self.source.width * len(self.backwards)

    def task(self, b: KernelBuilder, isa: Isa, memory: dict[str, Memory], task: Expr) -> None:
        """All of its steps."""
        inside = b.let(task % self.tasks(isa))
        sequence, direction = b.let(inside % self.source.width), b.let(inside // self.source.width)
        image = b.let(task // self.tasks(isa))
        _SequenceWriter(self, b, isa, memory, (image, sequence, direction)).write(b.let(task * self.state_size(isa)))


class _SequenceWriter:
    """Writes the code of a task.

    Args:
        layer: what is computed.
        b: takes the statements.
        isa: the instruction set.
        memory: what the operands point to.
        which: image, sequence and direction.
    """

    def __init__(
        self,
        layer: RecurrentLayer,
        b: KernelBuilder,
        isa: Isa,
        memory: Mapping[str, Memory],
        which: tuple[Expr, Expr, Expr],
    ) -> None:
        self.layer, self.b, self.isa, self.memory = layer, b, isa, memory
        self.image, self.sequence, self.direction = which
        self.width, self.lanes = layer.width(isa), isa.lanes
        self.block = VECTORS * self.lanes if self.width % (VECTORS * self.lanes) == 0 else self.lanes
        self.initial, self.results = dict(layer.initial), dict(layer.results)

    def write(self, state: Expr) -> None:
        """Begin with the initial state, take all steps, and keep the last state."""
        steps = self.layer.source.height
        self.cell, self.reset = state + 2 * self.width, state + 3 * self.width
        self._begin("hidden", state)
        self._begin("cell", self.cell)
        with self.b.loop(steps, "step") as step:
            before = self.b.let(state + step % 2 * self.width)
            after = self.b.let(state + (step + 1) % 2 * self.width)
            self._step(self._time(step), before, after)
        self._end("hidden_end", state + steps % 2 * self.width)
        self._end("cell_end", self.cell)

    def _time(self, step: Expr) -> Expr:
        """When a step's input comes."""
        last, ways = self.layer.source.height - 1, self.layer.backwards
        if len(ways) == 1:
            return last - step if ways[0] else step
        return self.b.let(step + self.direction * (last - 2 * step))  # the second of two directions is the one back

    # -- states ---------------------------------------------------------------------------------------------------

    def _begin(self, name: str, target: Expr) -> None:
        """Zeros, or what is given: that may end with the caller's memory, behind which nobody reads."""
        for unit in range(0, self.width, self.lanes):
            self._put(target + unit, splat(0.0, self.lanes))
        if name in self.initial:
            for chunk in halvings(self.layer.units, self.lanes):
                with self.b.loop(chunk.pieces, "vector") as vector:
                    unit = chunk.start + vector * chunk.size
                    at = Position(self.image, self.direction, self.sequence, unit).within(self.initial[name])
                    value = self.b.load(self.memory[name], at, chunk.size)
                    self.b.store(self.memory["state"], target + unit, value, chunk.size)

    def _end(self, name: str, source: Expr) -> None:
        if name in self.results:
            for unit in range(0, self.width, self.lanes):
                at = Position(self.image, self.direction, self.sequence, unit).within(self.results[name])
                self.b.store(self.memory[name], at, self._get(source + unit), self.lanes)

    def _get(self, at: Expr) -> Expr:
        return self.b.load(self.memory["state"], at, self.lanes)

    def _put(self, at: Expr, value: Expr) -> None:
        self.b.store(self.memory["state"], at, value, self.lanes)

    # -- steps ----------------------------------------------------------------------------------------------------

    def _step(self, time: Expr, before: Expr, after: Expr) -> None:
        gates = list(range(self.layer.gates))
        if self.layer.resets_before:
            gates.remove(RESET)
            with self.b.loop(self.width // self.block, "block") as block:
                self._reset(time, before, block)
        with self.b.loop(self.width // self.block, "block") as block:
            sums = self._sums(before, block, gates)
            for vector in range(self.block // self.lanes):
                unit = self.b.let(block * self.block + vector * self.lanes)
                hidden = self.b.let(self._hidden(sums, time, before, unit, vector))
                self._put(after + unit, hidden)
                self._record(time, unit, hidden)

    def _record(self, time: Expr, unit: Expr, hidden: Expr) -> None:
        if "every" in self.results:
            image = self.image * self.layer.source.height + time
            at = Position(image, self.direction, self.sequence, unit).within(self.results["every"])
            self.b.store(self.memory["every"], at, hidden, self.lanes)

    def _hidden(self, sums: Memory, time: Expr, before: Expr, unit: Expr, vector: int) -> Expr:
        """The state of a vector of units after a step."""
        return {"RNN": self._of_rnn, "GRU": self._of_gru, "LSTM": self._of_lstm}[self.layer.operator](
            sums, time, before, unit, vector
        )

    def _of_rnn(self, sums: Memory, time: Expr, before: Expr, unit: Expr, vector: int) -> Expr:
        return tanh(self.b, self._gate(sums, time, unit, vector, 0), self.lanes)

    def _of_lstm(self, sums: Memory, time: Expr, before: Expr, unit: Expr, vector: int) -> Expr:
        b, lanes = self.b, self.lanes
        reads, shows, keeps = (
            b.let(sigmoid(b, b.let(self._gate(sums, time, unit, vector, gate)), lanes)) for gate in range(3)
        )
        new = tanh(b, self._gate(sums, time, unit, vector, 3), lanes)
        cell = b.let(keeps * self._get(self.cell + unit) + reads * new)
        self._put(self.cell + unit, cell)
        return shows * tanh(b, cell, lanes)

    def _of_gru(self, sums: Memory, time: Expr, before: Expr, unit: Expr, vector: int) -> Expr:
        b, lanes = self.b, self.lanes
        keeps = b.let(sigmoid(b, b.let(self._gate(sums, time, unit, vector, 0)), lanes))
        bias = b.load(self.memory["bias"], self.direction * self.width + unit, lanes)
        recurrent = b.load(sums, self._place(CANDIDATE, vector), lanes) + bias
        if self.layer.resets_behind:
            recurrent = recurrent * sigmoid(b, b.let(self._gate(sums, time, unit, vector, RESET)), lanes)
        new = b.let(tanh(b, b.let(self._projected(time, unit, CANDIDATE) + recurrent), lanes))
        return (splat(1.0, lanes) - keeps) * new + keeps * self._get(before + unit)

    def _reset(self, time: Expr, before: Expr, block: Expr) -> None:
        """What a GRU's candidate reads of the state."""
        sums = self._sums(before, block, [RESET])
        for vector in range(self.block // self.lanes):
            unit = self.b.let(block * self.block + vector * self.lanes)
            gate = self.b.let(self._gate(sums, time, unit, vector, RESET))
            self._put(self.reset + unit, sigmoid(self.b, gate, self.lanes) * self._get(before + unit))

    def _gate(self, sums: Memory, time: Expr, unit: Expr, vector: int, gate: int) -> Expr:
        return self._projected(time, unit, gate) + self.b.load(sums, self._place(gate, vector), self.lanes)

    def _projected(self, time: Expr, unit: Expr, gate: int) -> Expr:
        channel = (self.direction * self.layer.gates + gate) * self.width + unit
        at = Position(self.image, time, self.sequence, channel).within(self.layer.source)
        return self.b.load(self.memory["source"], at, self.lanes)

    # -- products -------------------------------------------------------------------------------------------------

    def _sums(self, before: Expr, block: Expr, gates: Sequence[int]) -> Memory:
        """The state by the weights of some gates of a block of units."""
        b, every = self.b, self.layer.gates
        sums = b.registers(every * self.block, FLOAT)
        for at in range(0, every * self.block, self.lanes):
            b.store(sums, at, splat(0.0, self.lanes), self.lanes)
        blocks, inputs = self.width // self.block, self.layer.units
        start = b.let((self.direction * blocks + block) * (inputs * every * self.block))
        rounds = inputs // UNROLLED
        with b.loop(rounds, "round") as number:
            for place in range(UNROLLED):
                self._multiply(sums, before, start, number * UNROLLED + place, gates)
        for place in range(rounds * UNROLLED, inputs):
            self._multiply(sums, before, start, place, gates)
        return sums

    def _multiply(self, sums: Memory, before: Expr, start: Expr, unit: Expr, gates: Sequence[int]) -> None:
        b, lanes = self.b, self.lanes
        element = b.let(splat(b.load(self.memory["state"], before + unit), lanes))
        candidate = element
        if self.layer.resets_before and CANDIDATE in gates:
            candidate = b.let(splat(b.load(self.memory["state"], self.reset + unit), lanes))
        for gate in gates:
            factor = candidate if gate == CANDIDATE else element
            for vector in range(self.block // lanes):
                at = self._place(gate, vector)
                weight = b.load(self.memory["weights"], start + unit * (self.layer.gates * self.block) + at, lanes)
                b.store(sums, at, b.load(sums, at, lanes) + factor * weight, lanes)

    def _place(self, gate: int, vector: int) -> int:
        return gate * self.block + vector * self.lanes


def packed_recurrence(layer: RecurrentLayer, weights: np.ndarray, isa: Isa) -> np.ndarray:
    """Weights of the recurrence in the order in which they are read.

    Args:
        layer: the kernel.
        weights: ``[directions, gates · units, units]``.
        isa: the instruction set.

    Returns:
        Per direction and block of units ``[units that are read, gates, units of the block]``, flat.
    """
    directions, gates, width = len(layer.backwards), layer.gates, layer.width(isa)
    block = VECTORS * isa.lanes if width % (VECTORS * isa.lanes) == 0 else isa.lanes
    filled = np.zeros((directions, gates, width, layer.units), np.float32)
    filled[:, :, : layer.units] = weights.reshape(directions, gates, layer.units, layer.units)
    blocks = filled.reshape(directions, gates, width // block, block, layer.units)
    return np.ascontiguousarray(blocks.transpose(0, 2, 4, 1, 3)).ravel()
