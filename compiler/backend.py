"""What a backend is: it turns a finished graph into something a device runs, in two steps.

    prepare    the annotated graph in the forms that the backend works with: what is delivered, and what computes the
               same in ONNX Runtime. Once per candidate: the metric is measured on it, and it is what gets compiled
    compile    files for the device, from that and nothing else

Third parties provide one through the entry point group ``graphpress.backends``: any class with these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from graphpress.cache import NO_CACHE, ContentCache
from graphpress.data import Shapes, shapes_of
from graphpress.ir import Model, Refusal
from graphpress.progress import Progress, Silent
from graphpress.runtime.runner import InProcess, Runner
from graphpress.runtime.session import renew, stand_by
from graphpress.targets import Target

Tuning = Literal["rules", "quick", "deep"]
"""How kernels are chosen: without measuring, or by a little or a lot of it."""
Placement = Literal["beside", "inside"]
"""Where the weights of a library lie: in a file of their own, or in the library."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend works here.

    Args:
        works: it does.
        detail: its version, or the reason why it does not.
        install: the command that would make it available; empty when it is.
    """

    works: bool
    detail: str
    install: str = ""


@dataclass(frozen=True)
class Findings:
    """What is known of an artifact without taking anybody's word for it.

    Args:
        became: in which type each node really computes, by node name; nodes that are unknown are left out.
        notes: sentences for the report: what was checked, and on what.
        refusals: nodes that the device would run otherwise than asked, with the reason and the fix.
        unverified: what only the device itself can tell, and was therefore not checked.
        memory: bytes that a call of one sample needs, by what they hold.
        usage: how the artifact is loaded, where that is not as ``model.onnx``.
    """

    became: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    refusals: Sequence[Refusal] = ()
    unverified: Sequence[str] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    usage: str = ""


@dataclass(frozen=True)
class KernelTime:
    """A kernel of an artifact, timed.

    Args:
        kernel: what it is called.
        nodes: names of the nodes that it computes, the one that is worth most first.
        shape: what it reads and writes, as text.
        setting: what was chosen of it, as text.
        arithmetic: what it multiplies: ``int8``, ``float32``.
        seconds: of one call, on one thread.
        peak: multiply-accumulates that a core does in a second at most, in this arithmetic.
    """

    kernel: str
    nodes: Sequence[str]
    shape: str
    setting: str
    arithmetic: str
    seconds: float
    peak: float


class ShapeRange(NamedTuple):
    """Shapes of an input with open dimensions between which a compiler tunes: min, opt, max."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """A candidate in the forms that its backend works with. None of them is changed afterwards.

    Args:
        annotated: the clean graph with its encodings, as the passes left it.
        delivered: what is written as ``model.onnx``.
        simulation: computes in ONNX Runtime what ``delivered`` computes on the device; the same object where ONNX
            Runtime has the kernels.
        private: what else the backend hands from ``prepare`` to ``compile``; nobody else reads it.
    """

    annotated: Model
    delivered: Model
    simulation: Model
    private: Any = None


def _unknown(_: Shapes) -> bool:
    """Nobody tried: what is asked for is taken to run."""
    return True


@dataclass(frozen=True)
class CompileOptions:
    """What a backend needs to know beside the prepared model.

    Args:
        target: the device.
        threads: threads of a runtime on this machine.
        samples: a few feeds for the model.
        made_up: the samples are drawn at random for want of data: they say nothing of shapes that are usual.
        seen: shapes of all that the user's data feeds, read when they are asked for; None for those of the samples.
        runs: whether the input model runs in ONNX Runtime on made-up values of some shapes.
        ranges: by input with open dimensions, what the user said of its shapes.
        unchanged: where the input model is delivered as it is: its files, the model first, to copy (``copy_model``)
            in place of writing the same model anew; empty otherwise.
        inner_shapes: the input model declares shapes of inner values: what is written does so, too.
        cache: keeps expensive results by content.
        name: what the model is called: the stem of its file.
        tuning: how much a compiler that can may measure to choose its kernels by.
        weights: where those of a library lie, ``beside`` it or ``inside``; whoever makes one heeds it.
        decisions: of the run: choices that rest on measurement are recorded here, and found when it is replayed.
        progress: where long work tells how far it is, and that ends it in time.
        end: moment (``time.monotonic``) by which the backend has to be done; infinite where nothing else could be
            delivered in its place.
    """

    target: Target
    threads: int = 1
    samples: Sequence[Mapping[str, np.ndarray]] = ()
    ranges: Mapping[str, ShapeRange] = field(default_factory=dict)
    unchanged: Sequence[Path] = ()
    made_up: bool = False
    inner_shapes: bool = False
    cache: ContentCache = NO_CACHE
    name: str = "model"
    tuning: Tuning = "rules"
    weights: Placement = "beside"
    decisions: dict[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    end: float = float("inf")
    seen: Callable[[], Sequence[Shapes]] | None = None
    runs: Callable[[Shapes], bool] = _unknown

    @property
    def usual_shapes(self) -> Sequence[Shapes]:
        """Shapes that the model is used with, as far as data tells."""
        if self.seen is not None:
            return self.seen()
        return [] if self.made_up else [shapes_of(feed) for feed in self.samples]


class Artifact(Protocol):
    """A compiled model."""

    @property
    def files(self) -> Sequence[Path]:
        """Everything that was written below the folder, the model first."""
        ...

    @property
    def bytes(self) -> int:
        """Size of the model itself with its data, without what only accompanies it."""
        ...

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once; raises BackendError where that is impossible from this machine."""
        ...

    def findings(self) -> Findings:
        """What each node became, and what is to be said of it."""
        ...


@runtime_checkable
class OffersRunner(Protocol):
    """What an artifact is beside, that runs in another place than this process: on a remote device, in an emulator."""

    @property
    def runner(self) -> Runner:
        """Runs and times it in its place."""
        ...


@runtime_checkable
class TimesNodes(Protocol):
    """What an artifact is beside, whose runtime tells how long each node takes."""

    def node_seconds(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """The time of each node in one call on this machine, by its name; nodes that are unknown are left out."""
        ...


@runtime_checkable
class TimesKernels(Protocol):
    """What an artifact is beside, whose kernels can be timed one by one on this machine."""

    def kernel_times(self, feed: Mapping[str, np.ndarray]) -> Sequence[KernelTime]:
        """All kernels of one call, in order."""
        ...


@runtime_checkable
class TellsOfMachine(Protocol):
    """What a backend is beside, of which tools and features of this machine decide what it can do."""

    def machine_facts(self) -> Mapping[str, str]:
        """What they are, in words, by what each is about; of what is missing, how to get it."""
        ...


def runner_of(artifact: Artifact, *, runs_here: bool) -> Runner | None:
    """Who runs and times an artifact: the runner that it offers, else this process; None where only a device can.

    Args:
        artifact: a compiled model.
        runs_here: what its backend says of the target.
    """
    if isinstance(artifact, OffersRunner):
        return artifact.runner
    if not runs_here:
        return None
    return InProcess(artifact.run, partial(stand_by, artifact), partial(renew, artifact))


class Backend(Protocol):
    """The seam between the compiler and a runtime; what has a body here is what a class that derives from it gets."""

    def available(self) -> Availability:
        """Whether it works here, with the reason and the install command where not."""
        ...

    def runs_here(self, target: Target) -> bool:
        """Whether an artifact for the target runs on this machine, so that its speed can be measured."""
        return target.this_machine

    def check(self, model: Model, options: CompileOptions) -> Sequence[Refusal]:
        """What of an input model the target cannot take at all, found before any work is done; empty when nothing.

        Raises:
            ModelError, UsageError: something is missing that the backend needs to know.
        """
        return ()

    def tunes(self, target: Target) -> bool:
        """Whether it measures, where it is asked to (``CompileOptions.tuning``), to choose kernels for a target."""
        return False

    def places_weights(self) -> bool:
        """Whether it makes libraries that have their weights where it is asked (``CompileOptions.weights``)."""
        return False

    def prepare(self, annotated: Model, target: Target) -> Prepared:
        """The forms of a candidate: its annotations written in what this backend understands.

        ``annotated`` stays as it is. Called once per candidate: what it returns is scored, compiled and reported on.
        """
        ...

    def compile(self, prepared: Prepared, options: CompileOptions, out: Path) -> Artifact:
        """Write the prepared model (``out/model.onnx``) and what the backend makes of it into the folder ``out``.

        Raises:
            ModelError: the target's compiler refuses the model; the message says which node and why.
        """
        ...
