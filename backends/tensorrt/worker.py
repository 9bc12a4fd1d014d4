"""The process that builds: a request as JSON on its standard input, the result as JSON on its standard output.

TensorRT prints what it likes to standard output, and dies of what it does not like. So the result goes out through a
copy of that descriptor while the descriptor itself leads to standard error, where messages are printed as they come:
if the process dies, the last of them remain.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from graphpress.backends.tensorrt.build import BuildRequest, BuildResult, Message, request_from_json
from graphpress.backends.tensorrt.engine_layers import HEADING, EngineLayer, layers_of_engine, parse_layers
from graphpress.backends.tensorrt.toolchain import INSTALL, Toolchain, find_toolchain, has_gpu
from graphpress.child_process import receive
from graphpress.errors import BackendError, GraphpressError, resource_faults

SEVERITIES: Final = ("internal_error", "error", "warning", "info", "verbose")
REPORTED: Final = ("internal_error", "error", "warning")


def main() -> int:
    """Read a request, build, write the result."""
    request = request_from_json(json.loads(receive()))
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        with resource_faults():
            report: dict[str, Any] = {"result": asdict(Build(find(request.product), request).run())}
    except GraphpressError as error:
        report = {"error": {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}}
    with os.fdopen(output, "w", encoding="utf-8") as stream:
        json.dump(report, stream)
    return 0


def find(product: str) -> Toolchain:
    """The TensorRT to build with.

    Raises:
        BackendError: it is not installed.
    """
    toolchain = find_toolchain(product or None)
    if toolchain is None:
        raise BackendError(f"{product or 'TensorRT'} is not installed here", where="build", fix=INSTALL)
    return toolchain


class Build:
    """One build; everything that TensorRT reads is held until it is done."""

    def __init__(self, toolchain: Toolchain, request: BuildRequest) -> None:
        self.toolchain, self.request, self.trt = toolchain, request, toolchain.module
        self.messages: list[Message] = []
        self.dump = ""
        self.logger = _listener(self.trt, self._on_message)
        self.builder = self._start()
        self.network = self.builder.create_network(toolchain.creation_flags(request.strong))
        self.config = self.builder.create_builder_config()

    def run(self) -> BuildResult:
        """Read the model, set the options, build, and return what came of it."""
        self._check()
        start = time.perf_counter()
        plan = self._plan()
        seconds = time.perf_counter() - start
        if plan is not None and self.request.plan is not None:
            self.request.plan.write_bytes(memoryview(plan))
        return BuildResult(
            built=plan is not None,
            messages=self.messages,
            layers=[] if plan is None else self._layers(plan),
            bytes=0 if plan is None else plan.nbytes,
            seconds=seconds,
            peak_bytes=peak_bytes(),
        )

    # -- messages -----------------------------------------------------------------------------------------------

    def _on_message(self, severity: Any, text: str) -> None:
        name = SEVERITIES[min(int(severity), len(SEVERITIES) - 1)]
        if text.startswith(HEADING):
            self.dump = text
        elif name in REPORTED:
            self._report(Message(name, text))

    def _report(self, message: Message) -> None:
        self.messages.append(message)
        print(f"{message.severity}: {message.text}", file=sys.stderr, flush=True)

    def _layers(self, plan: Any) -> list[EngineLayer]:
        """As the builder listed them; else, on the device itself, as the engine's inspector does."""
        if self.dump:
            return parse_layers(self.dump)
        if self.request.capability or not has_gpu():
            return []
        from graphpress.backends.tensorrt.device.engine import Engine, EngineError

        try:
            with Engine(bytes(memoryview(plan)), self.trt) as engine:
                return layers_of_engine(engine.layers())
        except EngineError as error:
            self._report(Message("warning", f"the engine does not tell its layers: {error}"))
            return []

    # -- steps --------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        request, title = self.request, self.toolchain.title
        where = str(request.model)
        if request.strong and not self.toolchain.strong:
            raise BackendError(
                f"{title} has no strongly typed networks", where=where, fix="build the weakly typed form with flags"
            )
        if request.capability and request.capability not in self.toolchain.capabilities:
            known = ", ".join(self.toolchain.capabilities) or "none"
            raise BackendError(
                f"{title} does not build ahead of time for compute capability {request.capability}",
                where=where,
                fix=f"build on the device, or for one of: {known}",
            )
        if missing := [flag for flag in request.flags if flag not in self.toolchain.flags]:
            raise BackendError(
                f"{title} has no builder flag {missing[0]}", where=where, fix="its networks say every type themselves"
            )

    def _start(self) -> Any:
        """The builder; without a GPU there may be none, which the bindings report as a TypeError."""
        try:
            return self.trt.Builder(self.logger)
        except TypeError as error:
            detail = f": {self.messages[-1].text}" if self.messages else ""
            raise BackendError(
                f"{self.toolchain.title} does not start here ({error}{detail})",
                where=str(self.request.model),
                fix=f"build on the device, or ahead of time: {INSTALL}",
            ) from error

    def _plan(self) -> Any | None:
        if not (self._lower() if self.request.route == "network" else self._parse()):
            return None
        self._configure()
        plan = self.builder.build_serialized_network(self.network, self.config)
        self._keep_timing()
        return plan

    def _parse(self) -> bool:
        """Read the model with TensorRT's own parser, from its file: external data lie beside it."""
        parser = self.trt.OnnxParser(self.network, self.logger)
        parsed = parser.parse_from_file(os.fspath(self.request.model))
        for index in range(parser.num_errors):
            self._report(_parser_message(parser.get_error(index)))
        if parsed and not self.network.num_outputs:
            self._report(Message("error", "the parser read no output: this is no ONNX model"))
        return bool(parsed and self.network.num_outputs)

    def _lower(self) -> bool:
        """Lower the graph operator by operator."""
        from graphpress.backends.tensorrt.network.lower import lower_network
        from graphpress.ir import load

        self.model = load(self.request.model)
        lower_network(self.model, self.trt, self.network, strong=self.request.strong)
        return True

    def _configure(self) -> None:
        trt, config, request = self.trt, self.config, self.request
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if request.capability:
            config.num_compute_capabilities = 1
            config.set_compute_capability(self.toolchain.compute_capability(request.capability), 0)
        for flag in request.flags:
            config.set_flag(getattr(trt.BuilderFlag, flag))
        if request.workspace:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace)
        if request.timing_cache is not None and hasattr(config, "create_timing_cache"):
            kept = request.timing_cache.read_bytes() if request.timing_cache.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(kept), False)
        if request.profile:
            profile = self.builder.create_optimization_profile()
            for name, shapes in sorted(request.profile.items()):
                profile.set_shape(name, *shapes)
            config.add_optimization_profile(profile)

    def _keep_timing(self) -> None:
        if self.request.timing_cache is not None and hasattr(self.config, "get_timing_cache"):
            cache = self.config.get_timing_cache()
            if cache is not None and (kept := cache.serialize()) is not None:
                self.request.timing_cache.write_bytes(memoryview(kept))


def _listener(trt: Any, on_message: Callable[[Any, str], None]) -> Any:
    class Listener(trt.ILogger):  # type: ignore[misc]
        """Passes every message on."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            on_message(severity, msg)

    return Listener()


def _parser_message(error: Any) -> Message:
    """What the parser found; newer versions name the node it is about."""
    node = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    return Message("error", error.desc(), node, operator)


def peak_bytes() -> int:
    """Resident memory of this process at its peak; 0 where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
