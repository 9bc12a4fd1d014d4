"""Which settings the kernels of a model get: recorded ones, those of the cache, else what is measured."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from graphpress.backend import CompileOptions, Tuning
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.kernel import Kernel, code_version
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.program import OpenSize, Program, Step
from graphpress.backends.tvm.tuning.bench import fastest
from graphpress.backends.tvm.tuning.knobs import knob_of, problem_of, recorded_setting, turned, with_recorded
from graphpress.cache import ContentCache
from graphpress.deadline import OutOfTimeError
from graphpress.ir import Model
from graphpress.progress import Progress
from graphpress.runtime.environment import machine

K = TypeVar("K", bound=Kernel)

DECISION = "tvm_kernels"
"""Key of the run's decision: settings by ``problem_of``."""


class Effort(NamedTuple):
    """How much is measured.

    Args:
        settings: of each kernel, the rules' own among them.
        rounds: how often the neighbors of the fastest are tried after that.
    """

    settings: int
    rounds: int = 0


EFFORTS: Mapping[Tuning, Effort] = MappingProxyType({"quick": Effort(12), "deep": Effort(48, rounds=2)})
"""Of the levels that measure, the cheapest first."""


def lower_tuned(
    model: Model,
    isa: Isa,
    options: CompileOptions,
    batch_axes: Mapping[str, int] | None = None,
    sizes: Sequence[OpenSize] = (),
) -> tuple[Program, Sequence[str]]:
    """A model as a program whose kernels have the best settings that are known, or can be found.

    Args:
        model: as ``lower`` takes it.
        isa: for what; of this machine where something is to be measured.
        options: how much to measure, and where results are kept.
        batch_axes: as ``lower`` takes them.
        sizes: as ``lower`` takes them.

    Returns:
        The program, and notes for the report.
    """
    tuner = Tuner(isa, options.threads, options.tuning, options.decisions, options.cache)
    rounds = options.target.quantization.rounds_activations
    program = lower(model, isa, options.threads, tuner.chosen, batch_axes, rounds, sizes)
    if options.tuning == "rules":
        return program, []
    tuner.measure(program, options.progress)
    return lower(model, isa, options.threads, tuner.chosen, batch_axes, rounds, sizes), tuner.notes


@dataclass
class Tuner:
    """Chooses settings of kernels.

    Args:
        isa: of this machine.
        threads: among which tasks are shared.
        level: how much to measure; ``rules`` for nothing.
        decisions: of the run, where choices are recorded, and found when it is replayed.
        cache: keeps choices from run to run.
        notes: for the report.
    """

    isa: Isa
    threads: int
    level: Tuning
    decisions: MutableMapping[str, Any]
    cache: ContentCache
    notes: list[str] = field(default_factory=list)

    def chosen(self, kernel: K) -> K:
        """The kernel with the setting that is known to be the best; as it is, where none is."""
        if self.level == "rules" or knob_of(kernel) is None:
            return kernel
        return self._known(kernel) or kernel

    def measure(self, program: Program, progress: Progress) -> None:
        """Time the kernels of a program that no setting is known of, until the user interrupts it or time is up.

        Args:
            program: as the rules have it.
            progress: of this.
        """
        steps = {problem_of(step.kernel): step for step in program.steps if knob_of(step.kernel) is not None}
        unknown = {problem: step for problem, step in steps.items() if self._known(step.kernel) is None}
        left = dict(unknown)
        try:
            for problem, step in progress.track(unknown.items(), f"tuning kernels ({self.level})", len(unknown)):
                self._keep(problem, recorded_setting(self._fastest(step)))
                del left[problem]
        except (KeyboardInterrupt, OutOfTimeError) as stop:
            why = "was interrupted" if isinstance(stop, KeyboardInterrupt) else "ran out of time"
            self.notes.append(f"tuning {why}: {len(left)} of {len(steps)} kernels stay as the rules have them")
        else:
            self.notes.append(f"settings of {len(steps)} kernels were measured ({self.level})")

    def _fastest(self, step: Step) -> Kernel:
        """The fastest of a step's kernel, by as many settings as the level allows, then by those next to the best."""
        kernel, effort = step.kernel, EFFORTS[self.level]
        knob = knob_of(kernel)
        assert knob is not None
        settings = islice(knob.settings(kernel, self.isa, self.threads), effort.settings)
        best = self._best(step, [kernel, *(turned(kernel, setting) for setting in settings)])
        for _ in range(effort.rounds):
            neighbors = knob.neighbors(best, self.isa, self.threads)
            best = self._best(step, [best, *(turned(best, setting) for setting in neighbors)])
        return best

    def _best(self, step: Step, variants: Sequence[Kernel]) -> Kernel:
        return fastest(step, list(dict.fromkeys(variants)), self.isa, self.threads)

    # -- what is known ------------------------------------------------------------------------------------------------

    def _known(self, kernel: K) -> K | None:
        """The kernel with a recorded setting, or one that an earlier run found by at least as much effort."""
        problem = problem_of(kernel)
        if (recorded := self._recorded().get(problem)) is not None:
            return with_recorded(kernel, recorded, self.isa)
        levels = list(EFFORTS)
        for level in levels[levels.index(self.level) :]:
            setting = self.cache.get(*self._key(level, problem))
            if setting is not None and (known := with_recorded(kernel, setting, self.isa)) is not None:
                self._recorded()[problem] = setting
                return known
        return None

    def _keep(self, problem: str, setting: Any) -> None:
        self._recorded()[problem] = setting
        self.cache.put(setting, *self._key(self.level, problem))

    def _recorded(self) -> dict[str, Any]:
        recorded = self.decisions.get(DECISION)
        if not isinstance(recorded, dict):
            recorded = self.decisions[DECISION] = {}
        return recorded

    def _key(self, level: Tuning, problem: str) -> tuple[str, ...]:
        """Everything that decides which setting is the fastest."""
        facts = (code_version(), repr(self.isa), machine()["processor"], str(self.threads))
        return ("tvm kernel", level, *facts, problem)
