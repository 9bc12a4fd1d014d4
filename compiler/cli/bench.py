"""``optimize bench MODEL``: its latency on the backends that are here, each side by side with the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from graphpress.cli.options import debug_option, json_option, seconds_option, threads_option
from graphpress.cli.text import echo_json, joined, one_line, say, table
from graphpress.cli.types import FILLED
from graphpress.errors import BackendError, ModelError, UsageError
from graphpress.report import sentences
from graphpress.scratch import scratch_folder

if TYPE_CHECKING:
    from graphpress.backend import Backend
    from graphpress.ir import Model
    from graphpress.runtime import Session
    from graphpress.targets import Target


@dataclass(frozen=True)
class Measurement:
    """One backend's latency.

    Args:
        backend: its name.
        detail: its version, or why it was not measured.
        latency_ms: median of one call; None when it was not measured.
        ratio, low, high: time relative to ONNX Runtime on the same file, with its 95 % interval.
    """

    backend: str
    detail: str
    latency_ms: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@click.command("bench")
@click.argument("model")
@click.option("--backend", type=FILLED, metavar="NAME", help="Measure on this backend alone.")
@click.option(
    "-t",
    "--target",
    type=FILLED,
    metavar="NAME",
    default="cpu",
    show_default=True,
    help="Device whose rules the backends use.",
)
@click.option(
    "-d",
    "--data",
    type=FILLED,
    metavar="FILE",
    help="Time with the first samples of this data instead of made-up inputs.",
)
@threads_option
@seconds_option
@json_option
@debug_option
def bench(model: str, backend: str | None, as_json: bool, **settings: Any) -> None:
    """Measure a model on the backends that are here."""
    from graphpress.manager.registry import load_backend

    instances = {backend: load_backend(backend)} if backend else _every_backend()
    bench = Benchmark(Path(model), **settings)
    results = [
        Measurement(name, one_line(instance))
        if isinstance(instance, UsageError)
        else bench.measure(name, instance, must_work=backend is not None)
        for name, instance in instances.items()
    ]
    echo_json(results) if as_json else say(_text(results, bench))


def _every_backend() -> dict[str, Backend | UsageError]:
    """An instance of each backend, or why its package gives none."""
    from graphpress.manager.registry import backend_names, load_backend

    instances: dict[str, Backend | UsageError] = {}
    for name in backend_names():
        try:
            instances[name] = load_backend(name)
        except UsageError as error:
            instances[name] = error
    return instances


class Benchmark:
    """A model with the reference session it is timed against."""

    def __init__(self, path: Path, *, target: str, data: str | None, threads: int, seconds: float) -> None:
        from graphpress.cli.feeds import samples_for
        from graphpress.ir import load
        from graphpress.runtime import Session
        from graphpress.targets import load_target

        self.target: Target = load_target(target)
        self.model: Model = load(path)
        self.threads, self.seconds = threads, seconds
        self._reference: Session = Session(path, threads=threads)
        self._feed = next(iter(samples_for(self._reference, data)))

    def measure(self, name: str, backend: Backend, *, must_work: bool) -> Measurement:
        """Time the model on a backend.

        Raises:
            BackendError: the backend does not work here and ``must_work`` says that it should.
        """
        state = backend.available()
        if not state.works:
            if must_work:
                raise BackendError(f"backend {name!r} does not work here: {state.detail}", fix=state.install)
            return Measurement(name, state.detail)
        try:
            return self._time(backend, name, state.detail)
        except (BackendError, ModelError, UsageError) as error:  # nothing runs here, it refuses the model or target
            if must_work:
                raise
            return Measurement(name, f"{state.detail}; {error.what}")

    def _time(self, backend: Backend, name: str, detail: str) -> Measurement:
        """In turn with the reference; what runs in a place of its own is timed there alone."""
        from graphpress.backend import CompileOptions, runner_of
        from graphpress.runtime import InProcess, compare_sessions

        options = CompileOptions(self.target, self.threads, [self._feed])
        with scratch_folder() as folder:
            prepared = backend.prepare(self.model, self.target)
            artifact = backend.compile(prepared, options, folder)
            runner = runner_of(artifact, runs_here=True)
            assert runner is not None
            if not isinstance(runner, InProcess):
                times = runner.measure([self._feed], seconds=self.seconds)
                if not times:
                    return Measurement(name, f"{detail}, on {runner.place}, which says nothing of latency")
                return Measurement(name, f"{detail}, on {runner.place}", 1e3 * median(times))
            timing = compare_sessions(self._reference, runner, self._feed, seconds=self.seconds)
        return Measurement(name, detail, timing.b_ms, timing.ratio, timing.low, timing.high)


def _text(results: list[Measurement], bench: Benchmark) -> str:
    threads = sentences.plural(bench.threads, "thread")
    rows = [
        (result.backend, sentences.milliseconds(result.latency_ms), _ratio(result), result.detail) for result in results
    ]
    figures = table(rows, head=("backend", f"latency, {threads}", "time / ONNX Runtime", ""), right=(1,))
    if bench.target.this_machine:
        return figures
    name = bench.target.name
    where = f"measured on this machine, not on {name}: the rules are those of {name}, the times are not"
    return joined([where, "", figures])


def _ratio(result: Measurement) -> str:
    return sentences.UNKNOWN if result.ratio is None else f"{result.ratio:.3f} [{result.low:.3f}, {result.high:.3f}]"
